//! Questions to a DNS server: SRV records, and addresses.
//!
//! The system's resolver knows addresses only, so the SRV question is asked here: one packet over UDP, and over TCP
//! if the answer is too long.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};

use super::Target;

/// How long one server may take for one answer: what resolvers grant.
const PATIENCE: Duration = Duration::from_secs(5);
/// A packet may get lost.
const ATTEMPTS: usize = 2;
/// Longer answers over UDP are cut by servers, and asked for over TCP.
const UDP_BYTES_MAX: usize = 4096;
const RESOLV_CONF: &str = "/etc/resolv.conf";
const PORT: u16 = 53;

/// Whom to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dns {
    /// This server, for everything.
    Server(SocketAddr),
    /// The servers of resolv.conf; addresses come from the system, which also reads its own list of hosts.
    System,
}

impl Dns {
    /// The server at `ADDRESS` or `ADDRESS:PORT`; `None` if it is neither.
    pub fn at(text: &str) -> Option<Self> {
        let address = text.parse().ok().or_else(|| Some(SocketAddr::new(text.parse().ok()?, PORT)));
        address.map(Self::Server)
    }

    /// The SRV records of a name; none if there is no such name.
    pub fn targets(&self, name: &str) -> io::Result<Vec<Target>> {
        self.ask(name, TYPE::SRV, |data| match data {
            RData::SRV(srv) => Some(Target {
                priority: srv.priority,
                host: srv.target.to_string().trim_end_matches('.').to_ascii_lowercase(),
                port: srv.port,
            }),
            _ => None,
        })
    }

    /// The addresses of a host. It is an error if there are none.
    pub fn addresses(&self, host: &str) -> io::Result<BTreeSet<IpAddr>> {
        if let Ok(address) = host.parse() {
            return Ok(BTreeSet::from([address]));
        }
        let found: BTreeSet<IpAddr> = match self {
            Self::System => (host, 0).to_socket_addrs()?.map(|address| address.ip()).collect(),
            Self::Server(_) => {
                let mut found = self.ask(host, TYPE::A, address)?;
                found.extend(self.ask(host, TYPE::AAAA, address)?);
                found.into_iter().collect()
            }
        };
        if found.is_empty() { Err(io::Error::other("the name has no address")) } else { Ok(found) }
    }

    fn servers(&self) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::Server(server) => Ok(vec![*server]),
            Self::System => match fs::read_to_string(RESOLV_CONF) {
                Ok(text) => Ok(name_servers(&text)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(name_servers("")),
                Err(error) => Err(io::Error::new(error.kind(), format!("{RESOLV_CONF}: {error}"))),
            },
        }
    }

    fn ask<T>(&self, name: &str, kind: TYPE, pick: impl Fn(&RData<'_>) -> Option<T>) -> io::Result<Vec<T>> {
        let mut id = [0; 2];
        SystemRandom::new()
            .fill(&mut id)
            .map_err(|_| io::Error::other("the system has no random numbers"))?;
        let id = u16::from_be_bytes(id);
        let question = question(id, name, kind)?;
        let mut last = io::Error::other("there is no name server to ask");
        for server in self.servers()?.iter().cycle().take(self.servers()?.len() * ATTEMPTS) {
            let told = over_udp(*server, &question)
                .and_then(|answer| understand(&answer, id, &pick))
                .and_then(|answer| match answer {
                    Answer::Records(records) => Ok(records),
                    Answer::TooLong => match understand(&over_tcp(*server, &question)?, id, &pick)? {
                        Answer::Records(records) => Ok(records),
                        Answer::TooLong => Err(io::Error::other("the answer is too long for the server")),
                    },
                });
            match told {
                Ok(records) => return Ok(records),
                Err(error) => last = io::Error::new(error.kind(), format!("name server {server}: {error}")),
            }
        }
        Err(last)
    }
}

enum Answer<T> {
    Records(Vec<T>),
    TooLong,
}

/// The servers of a resolv.conf; without any it is the one on this machine, as resolvers take it.
fn name_servers(text: &str) -> Vec<SocketAddr> {
    let told: Vec<SocketAddr> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.trim().parse().ok())
        .map(|address| SocketAddr::new(address, PORT))
        .collect();
    if told.is_empty() { vec![SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))] } else { told }
}

fn question(id: u16, name: &str, kind: TYPE) -> io::Result<Vec<u8>> {
    let malformed = |_| io::Error::new(io::ErrorKind::InvalidInput, "it is no name that DNS can have");
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).map_err(malformed)?;
    packet.questions.push(Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
    packet.build_bytes_vec().map_err(malformed)
}

fn understand<T>(answer: &[u8], id: u16, pick: &impl Fn(&RData<'_>) -> Option<T>) -> io::Result<Answer<T>> {
    let garbled = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let packet = Packet::parse(answer).map_err(|error| garbled(format!("its answer is garbled: {error}")))?;
    if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) {
        return Err(garbled("it answers another question".to_owned()));
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Ok(Answer::TooLong);
    }
    match packet.rcode() {
        RCODE::NoError => {
            Ok(Answer::Records(packet.answers.iter().filter_map(|record| pick(&record.rdata)).collect()))
        }
        RCODE::NameError => Ok(Answer::Records(Vec::new())),
        code => Err(garbled(format!("it answers {code:?}"))),
    }
}

fn address(data: &RData<'_>) -> Option<IpAddr> {
    match data {
        RData::A(found) => Some(IpAddr::from(found.address.to_be_bytes())),
        RData::AAAA(found) => Some(IpAddr::from(found.address.to_be_bytes())),
        _ => None,
    }
}

fn over_udp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    // Connected, so that nobody else's packets are read.
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(question)?;
    let mut answer = vec![0; UDP_BYTES_MAX];
    let length = socket.recv(&mut answer).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "no answer in time"),
        _ => error,
    })?;
    answer.truncate(length);
    Ok(answer)
}

fn over_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_names_the_servers_and_its_absence_the_own_machine() {
        let text = "# nameserver 192.0.2.9\nsearch a.test\nnameserver 192.0.2.1\n nameserver\t2001:db8::1\nnameserver nonsense\n";

        assert_eq!(
            name_servers(text),
            ["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse::<SocketAddr>().unwrap()]
        );
        assert_eq!(name_servers(""), ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn a_server_is_an_address_with_or_without_a_port() {
        assert_eq!(Dns::at("192.0.2.1"), Some(Dns::Server("192.0.2.1:53".parse().unwrap())));
        assert_eq!(Dns::at("[::1]:5300"), Some(Dns::Server("[::1]:5300".parse().unwrap())));
        assert_eq!(Dns::at("::1"), Some(Dns::Server("[::1]:53".parse().unwrap())));
        assert_eq!(Dns::at("dns.test"), None);
    }
}
