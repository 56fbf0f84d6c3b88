//! Can the others reach this instance where the cluster is about to list it? Asked before it is added:
//! afterwards a wrong name or certificate would be a dead member (docs/contract.md#probe).
//!
//! For the question the launcher opens its own peer port, on which etcd does not listen yet, with the peer
//! certificate and its own `/state`; whoever is asked fetches that page and looks who answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use serde::{Deserialize, Serialize};

use super::attestation::{InstanceId, PeerState};
use crate::etcd::connect::{ConnectError, Target};
use crate::etcd::http;
use crate::etcd::id::PeerUrl;

/// What a launcher is asked on its listener, with `?instance=ID&url=URL`.
pub const PAGE: &str = "/probe";

/// The clocks of two members may differ by this much before it is worth a line: etcd warns from here on.
pub const CLOCK_DRIFT_MAX: Duration = Duration::from_secs(1);

/// What happened when an instance tried to reach another at its peer URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Outcome {
    /// The instance itself answered.
    Reached,
    /// The handshake failed: etcd's would as well.
    NotTrusted {
        /// What the TLS library said.
        why: String,
    },
    /// No answer, or another one.
    NotReached {
        /// Why.
        why: String,
    },
}

/// A launcher's answer to [`PAGE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// What happened.
    pub outcome: Outcome,
    /// Its clock, in milliseconds since 1970.
    pub at_unix_ms: u64,
}

/// What follows from all answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing speaks against it; these had trouble, which may be their own.
    Go {
        /// Who, and what happened.
        doubts: BTreeMap<InstanceId, String>,
    },
    /// Nobody reached it.
    Wait {
        /// Who tried, and what happened.
        by: BTreeMap<InstanceId, String>,
    },
    /// A certificate is refused: waiting mends nothing.
    Refuse {
        /// Who refused, and why.
        by: BTreeMap<InstanceId, String>,
    },
}

/// Tries to reach `instance` at `url`, as its peer would.
pub async fn attempt(
    instance: &InstanceId,
    url: &PeerUrl,
    as_peer: Arc<ClientConfig>,
    limit: Duration,
) -> Outcome {
    let target = Target::named(url.host(), url.port());
    match http::get(&target, "/state", as_peer, limit).await {
        Ok(answer) => match serde_json::from_slice::<PeerState>(&answer.body) {
            Ok(state) if state.instance == *instance => Outcome::Reached,
            Ok(state) => Outcome::NotReached { why: format!("{} answers there", state.instance) },
            Err(_) => Outcome::NotReached { why: "something else answers there".to_owned() },
        },
        Err(ConnectError::Tls(why) | ConnectError::Untrusted(why)) => Outcome::NotTrusted { why },
        Err(error) => Outcome::NotReached { why: error.to_string() },
    }
}

/// Asks the launcher at `launcher` to try; `None` if it cannot say: no answer, or an older release.
pub async fn ask(
    launcher: &Target,
    instance: &InstanceId,
    url: &PeerUrl,
    as_peer: Arc<ClientConfig>,
    limit: Duration,
) -> Option<Probed> {
    let page = format!("{PAGE}?instance={instance}&url={}", url.as_str());
    let answer = http::get(launcher, &page, as_peer, limit).await.ok()?;
    serde_json::from_slice(&answer.body).ok()
}

/// Instance and URL of a question, from the query of [`PAGE`].
pub fn question(query: &str) -> Option<(InstanceId, PeerUrl)> {
    let (instance, url) = query.strip_prefix("instance=")?.split_once("&url=")?;
    Some((InstanceId::from(instance), url.parse().ok()?))
}

/// One that reached it is enough, since DNS of the others may lag; one refused certificate is too much.
/// When nobody can say anything, nothing is known against it.
pub fn judge(answers: &BTreeMap<InstanceId, Outcome>) -> Verdict {
    let mut refused = BTreeMap::new();
    let mut missed = BTreeMap::new();
    for (instance, outcome) in answers {
        match outcome {
            Outcome::Reached => {}
            Outcome::NotTrusted { why } => {
                refused.insert(instance.clone(), why.clone());
            }
            Outcome::NotReached { why } => {
                missed.insert(instance.clone(), why.clone());
            }
        }
    }
    if !refused.is_empty() {
        Verdict::Refuse { by: refused }
    } else if !missed.is_empty() && missed.len() == answers.len() {
        Verdict::Wait { by: missed }
    } else {
        Verdict::Go { doubts: missed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(outcomes: &[Outcome]) -> BTreeMap<InstanceId, Outcome> {
        ["b", "c", "d"].iter().map(|name| InstanceId::from(*name)).zip(outcomes.iter().cloned()).collect()
    }

    #[test]
    fn one_that_reached_it_is_enough_and_one_refused_certificate_too_much() {
        let refused = Outcome::NotTrusted { why: "unknown issuer".to_owned() };
        let missed = Outcome::NotReached { why: "DNS".to_owned() };
        let of = |outcomes: &[Outcome]| match judge(&answers(outcomes)) {
            Verdict::Go { .. } => "go",
            Verdict::Wait { .. } => "wait",
            Verdict::Refuse { .. } => "refuse",
        };
        assert_eq!(of(&[]), "go");
        assert_eq!(of(&[Outcome::Reached]), "go");
        assert_eq!(of(&[Outcome::Reached, missed.clone()]), "go");
        assert_eq!(of(&[missed.clone(), missed.clone()]), "wait");
        assert_eq!(of(&[Outcome::Reached, missed, refused.clone()]), "refuse");
        let Verdict::Refuse { by } = judge(&answers(&[Outcome::Reached, refused])) else { panic!("refused") };
        assert_eq!(by[&InstanceId::from("c")], "unknown issuer");
    }

    #[test]
    fn a_question_is_read_as_it_is_asked_and_anything_else_is_none() {
        let url = PeerUrl::https("a.etcd.default.etcd.bosh", 2380);
        assert_eq!(
            question(&format!("instance=a-1&url={}", url.as_str())),
            Some((InstanceId::from("a-1"), url))
        );
        for wrong in ["", "instance=a", "url=https://a:2380", "instance=a&url=nonsense"] {
            assert_eq!(question(wrong), None, "{wrong}");
        }
    }
}
