//! What etcd is started with: the job's properties and, for an empty disk, the members it begins with.

use std::collections::{BTreeMap, BTreeSet};

use super::decide::plan::Bootstrap;
use crate::etcd::config::{EtcdConfig, InitialState, KeyPair};
use crate::etcd::id::{ClientUrl, MemberName, PeerUrl};
use crate::etcd::member::Member;
use crate::etcd::tls::{Files, Role};
use crate::etcd::version::EtcdVersion;
use crate::job::config::JobConfig;
use crate::job::paths::Paths;
use crate::job::properties::MetricsProtocol;

/// Where the members come from.
#[derive(Debug, Clone, Copy)]
pub enum Initial<'a> {
    /// From the disk. etcd ignores the initial cluster then but still checks its syntax, so the own entry
    /// alone stands there (docs/contract.md#etcd-config).
    OnDisk,
    /// A cluster that is created now.
    New(&'a Bootstrap),
    /// A running cluster with these members, this one included.
    Joined(&'a [Member]),
}

/// What an etcd of this version is started with.
pub fn configuration(
    job: &JobConfig,
    paths: &Paths,
    version: EtcdVersion,
    initial: Initial<'_>,
) -> anyhow::Result<EtcdConfig> {
    let (own, properties) = (job.own(), &job.properties);
    Ok(EtcdConfig {
        version,
        name: job.name.clone(),
        data_dir: paths.data_dir(),
        wal_dir: paths.wal_dir().map(std::path::Path::to_path_buf),
        listen_peer_urls: BTreeSet::from([PeerUrl::https(
            &job.peer_listen_ip().to_string(),
            properties.peer_port,
        )]),
        listen_client_urls: BTreeSet::from([ClientUrl::https(
            &job.client_listen_ip().to_string(),
            properties.client_port,
        )]),
        listen_metrics_urls: properties.metrics_port.map(|port| metrics_url(job, port)).into_iter().collect(),
        initial_advertise_peer_urls: BTreeSet::from([own.peer_url.clone()]),
        advertise_client_urls: BTreeSet::from([own.client_url.clone()]),
        initial_cluster: initial_cluster(job, initial)?,
        initial_cluster_state: match initial {
            Initial::New(_) => InitialState::New,
            Initial::OnDisk | Initial::Joined(_) => InitialState::Existing,
        },
        initial_cluster_token: match initial {
            Initial::New(bootstrap) => bootstrap.token.to_string(),
            Initial::OnDisk | Initial::Joined(_) => String::new(),
        },
        server: Files::of(&paths.config(), Role::Server),
        peer: Files::of(&paths.config(), Role::Peer),
        jwt: KeyPair { public: paths.jwt_public_key(), private: paths.jwt_private_key() },
        settings: properties.etcd.clone(),
    })
}

/// Only for this VM unless an address is given: what is measured tells about keys and clients.
fn metrics_url(job: &JobConfig, port: u16) -> ClientUrl {
    let address =
        job.properties.metrics_listen_address.unwrap_or_else(|| job.private_listen_ip()).to_string();
    match job.properties.metrics_protocol {
        MetricsProtocol::Https => ClientUrl::https(&address, port),
        MetricsProtocol::Http => ClientUrl::http(&address, port),
    }
}

/// etcd compares the URLs with those of the running members, entry by entry, and takes names for labels: a
/// member that never started has none, and a dead one may have ours. So others are labelled by their ids.
fn initial_cluster(
    job: &JobConfig,
    initial: Initial<'_>,
) -> anyhow::Result<BTreeMap<MemberName, BTreeSet<PeerUrl>>> {
    let own = &job.own().peer_url;
    Ok(match initial {
        Initial::OnDisk => BTreeMap::from([(job.name.clone(), BTreeSet::from([own.clone()]))]),
        Initial::New(bootstrap) => bootstrap
            .members
            .iter()
            .map(|(instance, url)| Ok((instance.0.parse()?, BTreeSet::from([url.clone()]))))
            .collect::<anyhow::Result<_>>()?,
        Initial::Joined(members) => members
            .iter()
            .map(|member| {
                let label =
                    if member.listens_at(own) { job.name.clone() } else { member.id.to_string().parse()? };
                Ok((label, member.peer_urls.clone()))
            })
            .collect::<anyhow::Result<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::id::MemberId;

    fn member(id: u64, name: Option<&str>, url: &PeerUrl) -> Member {
        Member {
            id: MemberId(id),
            name: name.map(str::to_owned),
            peer_urls: BTreeSet::from([url.clone()]),
            client_urls: BTreeSet::new(),
            is_learner: false,
        }
    }

    /// The predecessors printed `=https://…` for a member without a name, which etcd refuses; and a dead
    /// entry with our name would have merged with ours.
    #[test]
    fn every_member_is_in_a_joiners_list_under_a_label_of_its_own() {
        let job = crate::job::config::tests::config(|_| {}).unwrap();
        let own = job.own().peer_url.clone();
        let (unstarted, dead) = (PeerUrl::https("x", 2380), PeerUrl::https("y", 2380));
        let members =
            [member(1, None, &unstarted), member(2, Some(job.name.as_str()), &dead), member(3, None, &own)];

        let list = initial_cluster(&job, Initial::Joined(&members)).unwrap();

        assert_eq!(list.len(), 3);
        assert_eq!(list[&job.name], BTreeSet::from([own]));
        assert_eq!(list[&"1".parse().unwrap()], BTreeSet::from([unstarted]));
        assert_eq!(list[&"2".parse().unwrap()], BTreeSet::from([dead]));
    }
}
