//! Would the others and this instance still trust each other with the certificates of this deploy? Asked by
//! pre-start: a CA that is replaced in one step takes members out of the cluster one by one, and the first of
//! them is where to stop (docs/certificates.md#one-step).
//!
//! Why not in the launcher: it starts again after a crash or a reboot with files that were good before, and
//! nothing may stand in its way then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use crate::etcd::connect::{ConnectError, Target};
use crate::etcd::http;
use crate::job::config::JobConfig;
use crate::job::reach::{self, Reach};
use crate::report::Complaint;

/// What a handshake with another instance came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handshake {
    /// Each accepted the other.
    Trusted,
    /// One of them knows no CA that signed the other's certificate.
    Untrusted(String),
    /// Nobody answered, or something else is wrong: no evidence.
    Unknown,
}

impl Handshake {
    fn of<T>(answer: Result<T, ConnectError>) -> Self {
        match answer {
            Ok(_) => Self::Trusted,
            Err(ConnectError::Untrusted(why)) => Self::Untrusted(why),
            Err(
                ConnectError::Refused
                | ConnectError::Timeout(_)
                | ConnectError::Dns(_)
                | ConnectError::Tls(_)
                | ConnectError::Network(_),
            ) => Self::Unknown,
        }
    }
}

/// What follows from all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Start.
    Go,
    /// Start, although these are not trusted or do not trust: with the rest there is a quorum.
    Doubt(BTreeMap<String, String>),
    /// Do not start: with these instances gone the rest is no quorum, and they may be one.
    Refuse(BTreeMap<String, String>),
}

/// `answers` by instance; `size` is the number of instances in the link, this one included.
pub fn judge(size: usize, answers: &BTreeMap<String, Handshake>) -> Verdict {
    let strangers: BTreeMap<String, String> = answers
        .iter()
        .filter_map(|(instance, answer)| match answer {
            Handshake::Untrusted(why) => Some((instance.clone(), why.clone())),
            Handshake::Trusted | Handshake::Unknown => None,
        })
        .collect();
    let friends = answers.values().filter(|answer| **answer == Handshake::Trusted).count();
    if strangers.is_empty() {
        Verdict::Go
    } else if friends + 1 > size / 2 {
        Verdict::Doubt(strangers)
    } else {
        Verdict::Refuse(strangers)
    }
}

/// Which certificates a handshake is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Among {
    /// `tls.peer`.
    Members,
    /// `tls.server` and `tls.admin`.
    Clients,
}

impl Among {
    fn properties(self) -> &'static str {
        match self {
            Self::Members => "tls.peer",
            Self::Clients => "tls.server and tls.admin",
        }
    }
}

/// Asks every other instance at once, each within `limit`.
pub async fn ask(
    job: &JobConfig,
    reach: &Reach,
    among: Among,
    limit: Duration,
) -> BTreeMap<String, Handshake> {
    let mut questions = tokio::task::JoinSet::new();
    for peer in job.others() {
        let doors: Vec<(Target, &'static str, Arc<ClientConfig>)> = match among {
            // The launcher is there while etcd is not; etcd's port is for one that cannot be asked.
            Among::Members => vec![
                (reach::launcher(peer), "/readyz", reach.as_peer.clone()),
                (reach::peer_port(peer), "/members", reach.as_peer.clone()),
            ],
            Among::Clients => vec![(reach::etcd(peer), "/version", reach.http_as_admin.clone())],
        };
        let instance = peer.instance.clone();
        questions.spawn(async move {
            let mut answer = Handshake::Unknown;
            for (target, page, tls) in doors {
                answer = Handshake::of(http::get(&target, page, tls, limit).await);
                if answer != Handshake::Unknown {
                    break;
                }
            }
            (instance, answer)
        });
    }
    questions.join_all().await.into_iter().collect()
}

/// Why this instance is not started.
pub fn complaint(among: Among, deployment: &str, strangers: &BTreeMap<String, String>) -> Complaint {
    Complaint::refused(
        format!(
            "with {} of this deploy, this instance and {} do not trust each other",
            among.properties(),
            words(strangers)
        ),
        match among {
            Among::Members => {
                "this member would be cut off from the cluster, and every further one that is deployed as well; it is not started, the others go on with what they have"
            }
            Among::Clients => {
                "clients that trust the other members would not trust this one, nor it them, and every further one that is deployed as well; it is not started, the others go on with what they have"
            }
        },
        format!(
            "deploy the certificates that were there before, then replace the CA in three deploys; if no client needs the cluster meanwhile, `bosh -d {deployment} stop --skip-drain`, deploy, and `bosh -d {deployment} start`; docs/certificates.md#one-step"
        ),
    )
}

/// `a (why), b (why)`.
pub fn words(strangers: &BTreeMap<String, String>) -> String {
    strangers.iter().map(|(instance, why)| format!("{instance} ({why})")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_refused_only_where_those_that_do_not_trust_it_may_be_the_quorum() {
        use Handshake::{Trusted, Unknown};
        let stranger = || Handshake::Untrusted("UnknownIssuer".to_owned());
        let of = |size: usize, answers: &[Handshake]| {
            let names = ["b", "c", "d", "e"].iter().map(|name| (*name).to_owned());
            match judge(size, &names.zip(answers.iter().cloned()).collect()) {
                Verdict::Go => "go",
                Verdict::Doubt(_) => "doubt",
                Verdict::Refuse(_) => "refuse",
            }
        };

        assert_eq!(of(1, &[]), "go");
        assert_eq!(of(3, &[Trusted, Trusted]), "go");
        // A first deploy, or all were stopped: nobody is there.
        assert_eq!(of(3, &[Unknown, Unknown]), "go");
        // The CA was replaced in one step, and this is the first.
        assert_eq!(of(3, &[stranger(), stranger()]), "refuse");
        assert_eq!(of(3, &[stranger(), Unknown]), "refuse");
        assert_eq!(of(2, &[stranger()]), "refuse");
        assert_eq!(of(5, &[stranger(), stranger(), stranger(), Trusted]), "refuse");
        // Half-way through: the way to a quorum is on.
        assert_eq!(of(3, &[Trusted, stranger()]), "doubt");
        assert_eq!(of(5, &[Trusted, Trusted, stranger(), stranger()]), "doubt");
    }

    #[test]
    fn the_refusal_tells_which_certificates_who_and_the_way_back() {
        let strangers =
            BTreeMap::from([("etcd-b".to_owned(), "invalid peer certificate: UnknownIssuer".to_owned())]);

        insta::assert_snapshot!(complaint(Among::Members, "orders", &strangers), @r"
        with tls.peer of this deploy, this instance and etcd-b (invalid peer certificate: UnknownIssuer) do not trust each other
          why:  this member would be cut off from the cluster, and every further one that is deployed as well; it is not started, the others go on with what they have
          next: deploy the certificates that were there before, then replace the CA in three deploys; if no client needs the cluster meanwhile, `bosh -d orders stop --skip-drain`, deploy, and `bosh -d orders start`; docs/certificates.md#one-step
        ");
    }
}
