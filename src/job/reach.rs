//! How this instance reaches itself and the others: which address, which name, which certificate.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::ClientConfig;

use super::config::{JobConfig, Peer};
use super::paths::Paths;
use crate::etcd::connect::Target;
use crate::etcd::tls::{Files, Identity, Protocol, Role, TlsFileError};

/// The job's identities and the client configurations made of them.
#[derive(Debug, Clone)]
pub struct Reach {
    /// Shown by the launcher's listener.
    pub peer: Identity,
    /// Common name `root`.
    pub admin: Identity,
    /// To etcd's client port, as administrator.
    pub grpc: Arc<ClientConfig>,
    /// To etcd's peer port and to the other launchers, as peer.
    pub as_peer: Arc<ClientConfig>,
    /// To a launcher, as administrator: what operators' tools and hooks use.
    pub as_admin: Arc<ClientConfig>,
    /// To the pages of etcd's client port (`/metrics`), as administrator.
    pub http_as_admin: Arc<ClientConfig>,
}

impl Reach {
    /// Loads the job's certificates.
    pub fn load(paths: &Paths) -> Result<Self, TlsFileError> {
        let load = |role| Identity::load(&Files::of(&paths.config(), role));
        let (server, peer, admin) = (load(Role::Server)?, load(Role::Peer)?, load(Role::Admin)?);
        Ok(Self {
            grpc: admin.client(&server, Protocol::Grpc),
            as_peer: peer.client(&peer, Protocol::Http1),
            as_admin: admin.client(&peer, Protocol::Http1),
            http_as_admin: admin.client(&server, Protocol::Http1),
            peer,
            admin,
        })
    }
}

/// The own etcd's client listener, without a detour through DNS.
pub fn own_etcd(job: &JobConfig) -> Target {
    Target {
        dial: dialled(job.client_listen_ip(), job).to_string(),
        port: job.properties.client_port,
        name: job.spec.address.clone(),
    }
}

/// The own launcher's listener, without a detour through DNS.
pub fn own_launcher(job: &JobConfig) -> Target {
    Target {
        dial: dialled(job.peer_listen_ip(), job).to_string(),
        port: job.properties.launcher_port,
        name: job.spec.address.clone(),
    }
}

/// Another instance's etcd, as clients reach it.
pub fn etcd(peer: &Peer) -> Target {
    Target::named(peer.client_url.host(), peer.client_url.port())
}

/// Another instance's etcd, as peers reach it.
pub fn peer_port(peer: &Peer) -> Target {
    Target::named(peer.peer_url.host(), peer.peer_url.port())
}

/// Another instance's launcher.
pub fn launcher(peer: &Peer) -> Target {
    Target::named(&peer.address, peer.launcher_port)
}

/// 0.0.0.0 can be listened on, not dialled.
fn dialled(listen: IpAddr, job: &JobConfig) -> IpAddr {
    if listen.is_unspecified() { job.spec.ip } else { listen }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_own_listeners_are_dialled_by_address_and_checked_by_name() {
        let job = crate::job::config::tests::config(|value| {
            value["properties"]["client_listen_address"] = json!("0.0.0.0");
        })
        .unwrap();

        assert_eq!(
            own_etcd(&job),
            Target { dial: "127.1.2.3".into(), port: 2379, name: "a.etcd.default.etcd.bosh".into() }
        );
        assert_eq!(own_launcher(&job).port, 2382);
    }

    #[test]
    fn others_are_dialled_by_the_name_they_must_show() {
        let job = crate::job::config::tests::config(|_| {}).unwrap();
        let other = job.others().next().unwrap();

        assert_eq!(peer_port(other), Target::named("b.etcd.default.etcd.bosh", 2380));
        assert_eq!(etcd(other), Target::named("b.etcd.default.etcd.bosh", 2379));
        assert_eq!(launcher(other), Target::named("b.etcd.default.etcd.bosh", 2382));
    }
}
