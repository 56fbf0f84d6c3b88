use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::thread::JoinHandle;

use simple_dns::rdata::{A, RData, SRV};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

use super::query::Dns;
use super::*;
use crate::datadir::membership::peer_urls;

/// A name server on loopback that knows one zone.
struct Server {
    address: SocketAddr,
    threads: Vec<JoinHandle<()>>,
}

/// What the zone has: `_service._tcp.DOMAIN` with targets, and hosts with addresses.
#[derive(Clone, Default)]
struct Zone {
    targets: Vec<(&'static str, u16, &'static str, u16)>,
    hosts: Vec<(&'static str, Ipv4Addr)>,
    /// Answers over UDP say that they are cut.
    cut: bool,
    fails: bool,
}

/// Ends the threads of a server.
const STOP: &[u8] = b"stop";

impl Server {
    fn of(zone: Zone) -> Self {
        // The port must be free for both.
        let (tcp, udp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
                break (tcp, udp);
            }
        };
        let address = tcp.local_addr().unwrap();
        let over_udp = {
            let zone = zone.clone();
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                loop {
                    let (length, from) = udp.recv_from(&mut buffer).unwrap();
                    if &buffer[..length] == STOP {
                        return;
                    }
                    udp.send_to(&zone.answer(&buffer[..length], zone.cut), from).unwrap();
                }
            })
        };
        let over_tcp = std::thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.unwrap();
                let mut length = [0; 2];
                if stream.read_exact(&mut length).is_err() {
                    return;
                }
                let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut question).unwrap();
                let answer = zone.answer(&question, false);
                stream.write_all(&u16::try_from(answer.len()).unwrap().to_be_bytes()).unwrap();
                stream.write_all(&answer).unwrap();
            }
        });
        Self { address, threads: vec![over_udp, over_tcp] }
    }

    fn dns(&self) -> Dns {
        Dns::Server(self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(STOP, self.address).unwrap();
        drop(std::net::TcpStream::connect(self.address).unwrap());
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

impl Zone {
    fn answer(&self, question: &[u8], cut: bool) -> Vec<u8> {
        let asked = Packet::parse(question).unwrap();
        let mut packet = Packet::new_reply(asked.id());
        let (name, kind) = (asked.questions[0].qname.to_string(), asked.questions[0].qtype);
        packet.questions.push(asked.questions[0].clone());
        let record = |data| ResourceRecord::new(Name::new_unchecked("x").into_owned(), CLASS::IN, 1, data);
        if self.fails {
            *packet.rcode_mut() = RCODE::ServerFailure;
        } else if cut {
            packet.set_flags(PacketFlag::TRUNCATION);
        } else if kind == QTYPE::TYPE(TYPE::SRV) {
            for (of, priority, target, port) in self.targets.iter().filter(|target| target.0 == name) {
                let _ = of;
                let target = Name::new_unchecked(target);
                packet.answers.push(record(RData::SRV(SRV {
                    priority: *priority,
                    weight: 0,
                    port: *port,
                    target,
                })));
            }
        } else if kind == QTYPE::TYPE(TYPE::A) {
            let of = self.hosts.iter().filter(|host| host.0 == name);
            packet.answers.extend(of.map(|(_, address)| record(RData::A(A::from(*address)))));
        }
        if packet.answers.is_empty() && !self.fails && !cut && kind == QTYPE::TYPE(TYPE::SRV) {
            *packet.rcode_mut() = RCODE::NameError;
        }
        packet.build_bytes_vec().unwrap()
    }
}

const TLS: &str = "_etcd-server-ssl._tcp.example.test";

fn three() -> Zone {
    Zone {
        targets: vec![
            (TLS, 0, "c.example.test", 2380),
            (TLS, 0, "A.example.test", 2380),
            (TLS, 0, "b.example.test", 2380),
        ],
        hosts: vec![
            ("a.example.test", Ipv4Addr::new(192, 0, 2, 1)),
            ("b.example.test", Ipv4Addr::new(192, 0, 2, 2)),
            ("c.example.test", Ipv4Addr::new(192, 0, 2, 3)),
        ],
        ..Zone::default()
    }
}

fn discovered(zone: Zone, suffix: Option<&str>, advertised: &str) -> Result<Vec<String>, Unfit> {
    let server = Server::of(zone);
    let own = "mine".parse().unwrap();
    let listed = discover(&server.dns(), "example.test", suffix, &own, &peer_urls(advertised)?)?;
    Ok(listed
        .iter()
        .map(|(name, urls)| {
            format!("{name}={}", urls.iter().map(PeerUrl::as_str).collect::<Vec<_>>().join("+"))
        })
        .collect())
}

#[test]
fn each_record_is_a_member_and_the_own_one_has_its_name() {
    let expected = [
        "0=https://a.example.test:2380",
        "1=https://c.example.test:2380",
        "mine=https://b.example.test:2380",
    ];

    assert_eq!(discovered(three(), None, "https://b.example.test:2380").unwrap(), expected);
    // The same host by its address, as etcd compares them.
    assert_eq!(discovered(three(), None, "https://192.0.2.2:2380").unwrap(), expected);
}

#[test]
fn an_answer_that_is_too_long_for_a_packet_comes_over_tcp() {
    let zone = Zone { cut: true, ..three() };

    assert_eq!(discovered(zone, None, "https://b.example.test:2380").unwrap().len(), 3);
}

#[test]
fn records_without_tls_and_of_a_named_service_are_found_as_well() {
    let plain =
        Zone { targets: vec![("_etcd-server-blue._tcp.example.test", 0, "a.example.test", 1)], ..three() };

    assert_eq!(
        discovered(plain, Some("blue"), "http://a.example.test:1").unwrap(),
        ["mine=http://a.example.test:1"]
    );
}

#[test]
fn what_dns_does_not_say_clearly_is_refused() {
    let mixed = Zone {
        targets: [three().targets, vec![("_etcd-server._tcp.example.test", 0, "a.example.test", 1)]].concat(),
        ..three()
    };
    let lost = Zone { hosts: three().hosts[..2].to_vec(), ..three() };
    let fails = Zone { fails: true, ..three() };
    let none = Zone { targets: Vec::new(), ..three() };
    for (zone, what) in [
        (mixed, "with TLS and without"),
        (lost, "c.example.test: the name has no address"),
        (fails, "ServerFailure"),
        (none, "has no SRV records"),
    ] {
        let unfit = discovered(zone, None, "https://b.example.test:2380").unwrap_err();
        assert!(unfit.to_string().contains(what), "{unfit}");
    }
}
