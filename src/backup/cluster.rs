//! The cluster that is backed up, as this program reaches it: through job `etcd` of the same VM, or through endpoints
//! that somebody typed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use serde_json::Value;

use crate::etcd::client::{EtcdClient, EtcdError, Membership, Status};
use crate::etcd::connect::Target;
use crate::etcd::id::{ClientUrl, ClusterId};
use crate::etcd::tls::{Files, Identity, Protocol};
use crate::job::config::JobConfig;
use crate::job::paths::Paths;
use crate::job::reach::{self, Reach};
use crate::report::Complaint;

/// A member has so long to answer a call.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A follower that has applied all but so much is as good as the leader: what etcd does within some milliseconds.
const LAG_MAX: u64 = 1_000;
/// What stands in the name of a property that may be a secret. Rather one too many is left out.
const SECRET_WORDS: [&str; 6] = ["tls.", "key", "password", "secret", "users", "extra_config"];

/// How to reach the members.
#[derive(Clone)]
pub struct Cluster {
    targets: Vec<Target>,
    /// `None`: without TLS.
    tls: Option<Arc<ClientConfig>>,
    /// The BOSH deployment, if it is one.
    pub deployment: Option<String>,
    /// The properties of job etcd that are no secrets.
    pub properties: BTreeMap<String, Value>,
}

/// A member that answers.
pub struct Answering {
    /// Where it is.
    pub target: Target,
    /// The connection.
    pub client: EtcdClient,
    /// What it said.
    pub status: Status,
}

/// Why nobody can be asked for a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoMember {
    /// None answers.
    #[error("no member of etcd answers: {}", list(.0))]
    NoAnswer(Vec<(Target, EtcdError)>),
    /// All that answer are learners.
    #[error("only learners answer, which do not have everything yet")]
    Learners,
    /// They are not of one cluster.
    #[error("members of different clusters answer: {one} and {other}")]
    TwoClusters {
        /// One of them.
        one: ClusterId,
        /// Another.
        other: ClusterId,
    },
}

fn list(failures: &[(Target, EtcdError)]) -> String {
    let told = failures.iter().map(|(target, error)| format!("{}:{} {error}", target.name, target.port));
    told.collect::<Vec<_>>().join("; ")
}

impl NoMember {
    /// The same for an operator.
    pub fn complaint(&self) -> Complaint {
        let what = self.to_string();
        match self {
            Self::NoAnswer(_) => Complaint::try_again(
                what,
                "a snapshot is a copy of what a running member has",
                "look at `etcd-status`, and repeat it when a member is up; docs/recover.md for a cluster that stays down",
            ),
            Self::Learners => Complaint::try_again(
                what,
                "the backup would miss changes",
                "repeat it when a voter answers: `etcdctl member list` shows them",
            ),
            Self::TwoClusters { .. } => Complaint::refused(
                what,
                "a backup of either may be the wrong one",
                "name one member with --etcd; docs/contract.md#wrong-cluster says how that comes to be",
            ),
        }
    }
}

impl Cluster {
    /// The one that job `etcd` of this VM is in; the own member comes first.
    pub fn of_job(paths: &Paths) -> Result<Self, Complaint> {
        let job = JobConfig::load(&paths.job_json())?;
        let reach = Reach::load(paths).map_err(|error| {
            Complaint::failed(
                error.to_string(),
                "etcd gives snapshots only to its administrator, by certificate",
                "run it as root on a VM with job etcd, or name a member with --etcd, --etcd-cacert, --etcd-cert and --etcd-key",
            )
        })?;
        let targets = std::iter::once(reach::own_etcd(&job)).chain(job.others().map(reach::etcd));
        Ok(Self {
            targets: targets.collect(),
            tls: Some(reach.grpc),
            deployment: Some(job.spec.deployment.clone()),
            properties: without_secrets(&paths.job_json()),
        })
    }

    /// When etcd takes no more, if it was deployed by job etcd: the property, or etcd's own 2 GiB.
    pub fn quota_bytes(&self) -> Option<u64> {
        const ETCDS_OWN: u64 = 2 << 30;
        self.deployment.as_ref()?;
        let told = self.properties.get("quota_backend_bytes").and_then(Value::as_u64);
        Some(told.filter(|bytes| *bytes > 0).unwrap_or(ETCDS_OWN))
    }

    /// The one with these client URLs; certificates as etcdctl takes them.
    pub fn at(endpoints: &[ClientUrl], files: Option<&Files>) -> Result<Self, Complaint> {
        let secure = endpoints.iter().any(ClientUrl::is_https);
        let tls = match files {
            None if secure => {
                return Err(Complaint::refused(
                    "an endpoint with https needs a certificate",
                    "etcd gives snapshots only to its administrator, by certificate",
                    "add --etcd-cacert, --etcd-cert and --etcd-key",
                ));
            }
            None => None,
            Some(files) => {
                let identity = Identity::load(files).map_err(|error| {
                    Complaint::failed(
                        error.to_string(),
                        "without it no member can be asked",
                        "look at --etcd-cacert, --etcd-cert and --etcd-key",
                    )
                })?;
                Some(identity.client(&identity, Protocol::Grpc))
            }
        };
        let target = |url: &ClientUrl| Target::named(url.host(), url.port());
        Ok(Self {
            targets: endpoints.iter().map(target).collect(),
            tls: tls.filter(|_| secure),
            deployment: None,
            properties: BTreeMap::new(),
        })
    }

    /// A connection to one member.
    pub async fn connect(&self, target: &Target) -> Result<EtcdClient, EtcdError> {
        match &self.tls {
            Some(tls) => EtcdClient::connect(target, tls.clone(), ANSWER_WITHIN).await,
            None => EtcdClient::connect_plain(target, ANSWER_WITHIN).await,
        }
    }

    /// Whether the first of them leads: of a job's, that is the own one.
    pub async fn first_leads(&self) -> bool {
        let Some(first) = self.targets.first() else { return false };
        let asked = async {
            let mut client = self.connect(first).await?;
            client.status().await
        };
        asked.await.is_ok_and(|status| status.leader == Some(status.member_id))
    }

    /// All members that answer, in the order they are listed, and the failures of the others.
    pub async fn answering(&self) -> (Vec<Answering>, Vec<(Target, EtcdError)>) {
        let asked = self.targets.iter().map(|target| async move {
            let asked = async {
                let mut client = self.connect(target).await?;
                let status = client.status().await?;
                Ok(Answering { target: target.clone(), client, status })
            };
            asked.await.map_err(|error| (target.clone(), error))
        });
        let mut answers = Vec::new();
        let mut failures = Vec::new();
        for answer in futures_util::future::join_all(asked).await {
            match answer {
                Ok(answer) => answers.push(answer),
                Err(failure) => failures.push(failure),
            }
        }
        (answers, failures)
    }

    /// The member a snapshot is best taken of.
    pub async fn source(&self) -> Result<(Answering, Membership), NoMember> {
        let (mut answers, mut failures) = self.answering().await;
        if let Some([one, other]) = two_clusters(answers.iter().map(|answer| answer.status.cluster_id)) {
            return Err(NoMember::TwoClusters { one, other });
        }
        let learners = !answers.is_empty();
        while let Some(best) = best(answers.iter().map(|answer| &answer.status)) {
            let mut answering = answers.swap_remove(best);
            match answering.client.local_members().await {
                Ok(members) => return Ok((answering, members)),
                Err(error) => failures.push((answering.target, error)),
            }
        }
        Err(if learners && failures.is_empty() { NoMember::Learners } else { NoMember::NoAnswer(failures) })
    }
}

fn two_clusters(ids: impl Iterator<Item = ClusterId>) -> Option<[ClusterId; 2]> {
    let mut first = None;
    ids.into_iter().find_map(|id| match first.get_or_insert(id) {
        one if *one == id => None,
        one => Some([*one, id]),
    })
}

/// Which of them gives the best snapshot: a follower that does not lag, so that the leader's disk and network are left
/// alone; else who has applied most. Never a learner.
fn best<'a>(members: impl Iterator<Item = &'a Status> + Clone) -> Option<usize> {
    let voters = members.enumerate().filter(|(_, status)| !status.is_learner);
    let furthest = voters.clone().map(|(_, status)| status.raft_applied_index).max()?;
    let rank = |status: &Status| {
        let follows = status.leader.is_some_and(|leader| leader != status.member_id);
        let near = status.raft_applied_index + LAG_MAX >= furthest;
        let healthy = near && status.errors.is_empty();
        (healthy && follows, healthy, status.raft_applied_index)
    };
    voters.max_by_key(|(_, status)| rank(status)).map(|(place, _)| place)
}

/// The job's properties, as they were rendered, but for those that may be secrets. Nothing if they cannot be read: a
/// backup is worth more than what stands beside it.
fn without_secrets(job_json: &PathBuf) -> BTreeMap<String, Value> {
    let read = std::fs::read(job_json).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    let properties = read.and_then(|job| job.get("properties")?.as_object().cloned()).unwrap_or_default();
    let plain = |(name, value): &(String, Value)| {
        !value.is_null() && !SECRET_WORDS.iter().any(|word| name.contains(word))
    };
    properties.into_iter().filter(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::id::MemberId;

    fn member(id: u64, leader: u64, applied: u64) -> Status {
        Status {
            version: "3.6.16".to_owned(),
            member_id: MemberId(id),
            cluster_id: ClusterId(1),
            leader: Some(leader).filter(|leader| *leader != 0).map(MemberId),
            raft_term: 1,
            raft_index: applied,
            raft_applied_index: applied,
            db_size_bytes: 0,
            db_in_use_bytes: 0,
            is_learner: false,
            errors: vec![],
        }
    }

    #[test]
    fn a_follower_that_does_not_lag_is_preferred_to_the_leader() {
        let learner = || Status { is_learner: true, ..member(3, 1, 9_000) };
        let alarmed = || Status { errors: vec!["etcdserver: no leader".to_owned()], ..member(2, 1, 9_000) };
        for (members, wanted) in [
            (vec![member(1, 1, 9_000), member(2, 1, 8_990)], Some(1)),
            (vec![member(1, 1, 9_000), member(2, 1, 7_000)], Some(0)),
            (vec![member(1, 1, 9_000), alarmed()], Some(0)),
            (vec![member(1, 1, 9_000), learner()], Some(0)),
            // Without a leader who has most.
            (vec![member(1, 0, 9_000), member(2, 0, 9_001)], Some(1)),
            (vec![learner()], None),
            (vec![], None),
        ] {
            assert_eq!(best(members.iter()), wanted, "{members:?}");
        }
    }

    #[test]
    fn properties_in_a_manifest_have_no_secrets() {
        let directory = tempfile::tempdir().unwrap();
        let job = directory.path().join("job.json");
        let text = r#"{"properties": {"client_port": 2379, "jwt.private_key": "secret", "tls.peer.ca": "x",
            "users": ["secret"], "wal_dir": null}}"#;
        crate::atomic_file::write(&job, text.as_bytes(), 0o600).unwrap();

        assert_eq!(without_secrets(&job), BTreeMap::from([("client_port".to_owned(), 2379.into())]));
        assert!(without_secrets(&directory.path().join("none")).is_empty());
    }
}
