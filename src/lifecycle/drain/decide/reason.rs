//! Why a row of the stop table applied, in words.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::etcd::id::{ClusterId, MemberId};
use crate::lifecycle::drain::hold::{Harmless, Waited};
use crate::lifecycle::drain::observation::Absence;
use crate::lifecycle::launch::attestation::InstanceId;
use crate::report::Complaint;

/// Why a row applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "of", rename_all = "kebab-case")]
pub enum Reason {
    /// A person must decide.
    Refusal(StopRefusal),
    /// Something is done, or waited for.
    Cause(Cause),
}

/// Why a stop is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "refusal", rename_all = "kebab-case")]
pub enum StopRefusal {
    /// This member is the only voter: its data is the last copy.
    LastCopy,
    /// Without this member the others could not decide anything.
    OthersMissing {
        /// How many of the others are alive.
        alive: usize,
        /// How many others there are.
        of: usize,
        /// The others that are not alive.
        missing: BTreeSet<MemberId>,
    },
    /// Nobody can be asked to remove this member.
    NoQuorumToAsk {
        /// What each instance said.
        said: BTreeMap<InstanceId, String>,
    },
    /// Stopping this member, although it comes back, would cost the quorum.
    QuorumWouldGo {
        /// The other voters that are not alive.
        missing: BTreeMap<MemberId, Absence>,
        /// Whether somebody was waited for.
        waited: Waited,
    },
    /// A plan that this version of the release does not carry out.
    NotYet {
        /// The entry that would be removed.
        member_id: MemberId,
        /// Why it would be.
        because: String,
    },
}

/// Why something is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
pub enum Cause {
    /// drain.json names a plan that is not finished.
    CalledAgain,
    /// drain was called again, and there is nothing to go on with.
    NothingBegun,
    /// The whole deployment goes.
    DeploymentGoes,
    /// No cluster answers, and this disk has no member.
    NothingHere,
    /// The cluster does not list this instance.
    NotListed {
        /// The cluster.
        cluster_id: ClusterId,
    },
    /// The entry is a learner or never started: nobody counts on it.
    NeverVoted {
        /// The cluster.
        cluster_id: ClusterId,
        /// The entry.
        member_id: MemberId,
    },
    /// The others keep a live quorum.
    OthersSuffice {
        /// How many of them are alive.
        alive: usize,
        /// How many they are.
        of: usize,
    },
    /// The instance comes back with its data.
    ComesBack,
    /// The hold rule lets it go.
    Harmless(Harmless),
    /// Somebody without whom this member cannot stop is on the way back.
    Recovering {
        /// Who.
        members: BTreeSet<MemberId>,
    },
    /// BOSH did not say what becomes of the instance, and there is one voter.
    OneVoter,
    /// BOSH did not say what becomes of the instance.
    NotTold,
    /// An operator touched `force-leave`.
    Forced,
}

impl Reason {
    /// One line, without a full stop.
    pub fn sentence(&self) -> String {
        match self {
            Self::Refusal(refusal) => refusal.complaint().what,
            Self::Cause(cause) => cause.sentence(),
        }
    }

    /// What, why and next, where a stop is refused.
    pub fn complaint(&self) -> Option<Complaint> {
        match self {
            Self::Refusal(refusal) => Some(refusal.complaint()),
            Self::Cause(_) => None,
        }
    }
}

impl Cause {
    fn sentence(&self) -> String {
        match self {
            Self::CalledAgain => "an earlier call left something to go on with".to_owned(),
            Self::NothingBegun => "no earlier call of this boot left anything to go on with".to_owned(),
            Self::DeploymentGoes => {
                "the whole deployment is deleted: every member stops, the data stays on the disks".to_owned()
            }
            Self::NothingHere => "this disk has no member, and no cluster answers that could list one".to_owned(),
            Self::NotListed { cluster_id } => format!("cluster {cluster_id} does not list this instance"),
            Self::NeverVoted { cluster_id, member_id } => {
                format!("member {member_id} of cluster {cluster_id} is a learner or never started")
            }
            Self::OthersSuffice { alive, of } => format!("{alive} of the {of} other voters are alive"),
            Self::ComesBack => "the instance comes back with its data".to_owned(),
            Self::Harmless(Harmless::NotServing) => {
                "this member does not serve, so stopping it makes nothing worse".to_owned()
            }
            Self::Harmless(Harmless::NoQuorum) => {
                "the cluster has no quorum, so stopping this member makes nothing worse".to_owned()
            }
            Self::Harmless(Harmless::OthersAlive) => "all other voters are alive".to_owned(),
            Self::Harmless(Harmless::QuorumWithout) => "the others have quorum without this member".to_owned(),
            Self::Recovering { members } => {
                format!("without this member the quorum would go, and {} is on the way back", ids(members))
            }
            Self::OneVoter => {
                "BOSH did not say what becomes of this instance (bosh create-env never does), and it is the only voter"
                    .to_owned()
            }
            Self::NotTold => "BOSH did not say that this instance goes".to_owned(),
            Self::Forced => {
                "force-leave was touched on this VM: the stop goes on, the membership stays as it is".to_owned()
            }
        }
    }
}

impl StopRefusal {
    /// What happened, why it matters, what to do next.
    pub fn complaint(&self) -> Complaint {
        let (what, why, next) = self.parts();
        Complaint::refused(what, why, format!("{next}; docs/contract.md#{}", self.anchor()))
    }

    /// Where docs/contract.md tells the rule.
    pub const fn anchor(&self) -> &'static str {
        match self {
            Self::QuorumWouldGo { .. } => "hold",
            Self::LastCopy
            | Self::OthersMissing { .. }
            | Self::NoQuorumToAsk { .. }
            | Self::NotYet { .. } => "stop",
        }
    }

    fn parts(&self) -> (String, String, String) {
        match self {
            Self::LastCopy => (
                "this member is the cluster's only voter, and its data would go with it".to_owned(),
                "it is the last copy".to_owned(),
                "add instances first, and remove this one in a second deploy; to give the data up, --skip-drain"
                    .to_owned(),
            ),
            Self::OthersMissing { alive, of, missing } => (
                format!(
                    "without this member {alive} of {of} voters would be alive, which is no quorum; missing: {}",
                    ids(missing)
                ),
                "the cluster would stop serving and nobody could change its membership any more".to_owned(),
                format!(
                    "start the missing ones, or remove one that is gone for good first: {}",
                    missing
                        .iter()
                        .map(|id| format!("etcdctl member remove {id}"))
                        .collect::<Vec<_>>()
                        .join(" or ")
                ),
            ),
            Self::NoQuorumToAsk { said } => (
                format!("no cluster answers that could remove this member{}", answers(said)),
                "a member that is deleted while it is listed counts against the quorum when the others come back"
                    .to_owned(),
                "bring the others back first; to give this member up all the same, --skip-drain".to_owned(),
            ),
            Self::QuorumWouldGo { missing, waited } => quorum_would_go(missing, *waited),
            Self::NotYet { member_id, because } => (
                format!(
                    "this instance goes for good ({because}), but this version of the release does not remove members"
                ),
                "a member that is deleted while it is listed counts against the quorum".to_owned(),
                format!(
                    "deploy a later version of this release, or remove it by hand and stop it with --skip-drain: etcdctl member remove {member_id}"
                ),
            ),
        }
    }
}

fn quorum_would_go(missing: &BTreeMap<MemberId, Absence>, waited: Waited) -> (String, String, String) {
    let patience = match waited {
        Waited::No => "",
        Waited::TimedOut => " (hold_timeout is over)",
    };
    let names: Vec<String> = missing
        .iter()
        .map(|(id, absence)| match &absence.instance {
            Some(instance) => format!("{id} on {instance}"),
            None => id.to_string(),
        })
        .collect();
    let repair = missing.values().find_map(|absence| absence.instance.as_ref());
    let repair = repair.map_or_else(
        || "start the missing member".to_owned(),
        |instance| format!("repair only {instance} first, with --no-converge"),
    );
    (
        format!("stopping this member would cost the quorum: {} is not alive{patience}", names.join(", ")),
        "the cluster would stop serving until one of them is back".to_owned(),
        format!(
            "{repair}; or keep this one out of the deploy with `bosh ignore`; or accept the outage with --skip-drain"
        ),
    )
}

fn ids(members: &BTreeSet<MemberId>) -> String {
    members.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn answers(said: &BTreeMap<InstanceId, String>) -> String {
    if said.is_empty() {
        return String::new();
    }
    let said: Vec<String> = said.iter().map(|(instance, said)| format!("{instance}: {said}")).collect();
    format!(" ({})", said.join("; "))
}
