//! Whether somebody already answers where a new cluster is about to be made.
//!
//! Only a refused connection proves that nobody is there (docs/contract.md#bootstrap). Whoever accepts one is
//! somebody; with certificates it is also asked for `GET /members`, which a peer port answers without a quorum as
//! well (docs/contract.md#healthy), so that the refusal can name the cluster.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use crate::datadir::membership::peer_urls;
use crate::etcd::connect::Target;
use crate::etcd::http;
use crate::etcd::id::PeerUrl;
use crate::etcd::tls::{Files, Identity, Protocol};
use crate::lifecycle::block_on;
use crate::report::Complaint;

/// How long one address may take: a member on the same network takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where nobody may answer.
#[derive(Debug, Args)]
pub(super) struct Vacancy {
    /// Refuse if anybody answers at one of these URLs (peer URLs of all members, with commas)
    #[arg(long, value_name = "URLS")]
    check_endpoints: Option<String>,
    /// With --check-endpoints: CA bundle, to name the cluster that answers [env: `ETCDCTL_CACERT`]
    #[arg(long, value_name = "FILE", requires = "check_endpoints")]
    cacert: Option<PathBuf>,
    /// With --check-endpoints: certificate [env: `ETCDCTL_CERT`]
    #[arg(long, value_name = "FILE", requires = "check_endpoints")]
    cert: Option<PathBuf>,
    /// With --check-endpoints: private key [env: `ETCDCTL_KEY`]
    #[arg(long, value_name = "FILE", requires = "check_endpoints")]
    key: Option<PathBuf>,
}

/// What was found behind a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Door {
    /// The connection was refused: nobody listens.
    Closed,
    /// Somebody does.
    Open {
        /// The id of the cluster, if it told.
        cluster: Option<String>,
    },
    /// It cannot be said.
    Unknown {
        /// Why not.
        why: String,
    },
}

impl Vacancy {
    /// Fails unless it is known that nobody answers.
    pub(super) fn check(&self) -> Result<()> {
        let Some(list) = &self.check_endpoints else { return Ok(()) };
        let urls = peer_urls(list).map_err(|unfit| unfit.complaint())?;
        let identity = self.files().map(|files| Identity::load(&files)).transpose()?;
        for url in urls {
            judge(&url, look(&url, identity.as_ref()))?;
        }
        Ok(())
    }

    fn files(&self) -> Option<Files> {
        let or_variable = |flag: &Option<PathBuf>, name| flag.clone().or_else(|| variable(name));
        Some(Files {
            ca: or_variable(&self.cacert, "ETCDCTL_CACERT")?,
            certificate: or_variable(&self.cert, "ETCDCTL_CERT")?,
            key: or_variable(&self.key, "ETCDCTL_KEY")?,
        })
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the variables that etcdctl and its wrapper have, told in --help"
)]
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn judge(url: &PeerUrl, door: Door) -> Result<(), Complaint> {
    match door {
        Door::Closed => Ok(()),
        Door::Open { cluster } => {
            let who = cluster.map_or_else(|| "somebody".to_owned(), |id| format!("a member of cluster {id}"));
            Err(Complaint::refused(
                format!("{who} answers at {url}"),
                "a second cluster on the addresses of a running one splits its clients; nothing was written",
                "add this member to the running cluster instead, or stop every member of it first",
            ))
        }
        Door::Unknown { why } => Err(Complaint::try_again(
            format!("it is not known whether somebody answers at {url}: {why}"),
            "only a refused connection proves that no cluster runs there; nothing was written",
            "bring the machine or its name back, or leave the URL out if it is gone for good",
        )),
    }
}

fn look(url: &PeerUrl, identity: Option<&Identity>) -> Door {
    let addresses: Vec<SocketAddr> = match (url.host(), url.port()).to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) => return Door::Unknown { why: error.to_string() },
    };
    let (mut refused, mut silent) = (false, None);
    for address in addresses {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(_) => return Door::Open { cluster: identity.and_then(|identity| cluster(url, identity)) },
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => refused = true,
            Err(error) => silent = Some(format!("{address}: {error}")),
        }
    }
    // One address that refuses does not make good another that is silent.
    match (silent, refused) {
        (Some(why), _) => Door::Unknown { why },
        (None, true) => Door::Closed,
        (None, false) => Door::Unknown { why: "the name has no address".to_owned() },
    }
}

/// The id of the cluster that answers, if it does over TLS and lets this identity in.
fn cluster(url: &PeerUrl, identity: &Identity) -> Option<String> {
    let target = Target::named(url.host(), url.port());
    let tls = identity.client(identity, Protocol::Http1);
    let asked = block_on(async { Ok(http::get(&target, "/members", tls, PATIENCE).await?) });
    asked.ok().and_then(|answer| answer.cluster_id)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::report::Exit;

    fn checked(list: &str) -> Result<()> {
        Vacancy { check_endpoints: Some(list.to_owned()), cacert: None, cert: None, key: None }.check()
    }

    fn exit(result: &Result<()>) -> Option<Exit> {
        result.as_ref().err()?.downcast_ref::<Complaint>().map(|complaint| complaint.exit)
    }

    #[test]
    fn only_refused_connections_let_a_cluster_be_made() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = format!("https://127.0.0.1:{port}");
        // The same port of another loopback address: the listener keeps others from taking it everywhere.
        let closed = format!("https://127.0.0.2:{port}");

        assert_eq!(exit(&checked(&closed)), None);
        assert_eq!(exit(&checked(&format!("{closed},{open}"))), Some(Exit::Refused));
        assert!(Vacancy { check_endpoints: None, cacert: None, cert: None, key: None }.check().is_ok());
    }

    #[test]
    fn what_is_not_known_is_not_taken_for_closed() {
        let url: PeerUrl = "https://a.test:2380".parse().unwrap();

        let silent = judge(&url, Door::Unknown { why: "timed out".to_owned() }).unwrap_err();
        let named = judge(&url, Door::Open { cluster: Some("c1".to_owned()) }).unwrap_err();

        assert_eq!(silent.exit, Exit::TryAgain);
        assert!(
            named.to_string().contains("a member of cluster c1 answers at https://a.test:2380"),
            "{named}"
        );
    }
}
