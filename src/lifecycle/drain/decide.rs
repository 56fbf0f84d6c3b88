//! The stop table: first match wins. Told in docs/contract.md#stop; a test compares the row numbers.

use serde::Serialize;

use super::hold::{Hold, describe, hold};
use super::observation::{Call, Cluster, Life, OnDisk, Override, OwnEntry, Script, StopSeen, keep_quorum};
use crate::etcd::id::MemberId;
use crate::lifecycle::intent::Next;
use crate::report::Complaint;

/// Which row applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// 0: a dynamic drain asks again.
    CheckStatus = 0,
    /// 1: the whole deployment goes.
    DeploymentGoes = 1,
    /// 2: the last voter would go for good.
    LastVoter = 2,
    /// 3: this instance does not vote.
    NotAVoter = 3,
    /// 4: the rest keeps quorum.
    Leaves = 4,
    /// 5: the rest would not keep quorum.
    WouldTakeQuorum = 5,
    /// 6: the instance and its data stay.
    Stays = 6,
    /// 7: no Director, one voter.
    AloneWithoutIntent = 7,
    /// 8: no Director, the disk goes, more voters.
    LeavesWithoutIntent = 8,
    /// 9: no Director, anything else.
    WithoutIntent = 9,
}

impl Row {
    /// All rows, in order.
    pub const ALL: [Self; 10] = [
        Self::CheckStatus,
        Self::DeploymentGoes,
        Self::LastVoter,
        Self::NotAVoter,
        Self::Leaves,
        Self::WouldTakeQuorum,
        Self::Stays,
        Self::AloneWithoutIntent,
        Self::LeavesWithoutIntent,
        Self::WithoutIntent,
    ];

    /// Its number in the table.
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl Serialize for Row {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.number())
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Plan {
    /// Say what drain got to before.
    Continue,
    /// Stop; membership and leadership untouched.
    Stay,
    /// Stop; leadership moves first, membership untouched.
    HandOver,
    /// Wait for others to come back, then look again.
    Hold {
        /// Who is missing.
        missing: Vec<String>,
        /// The first of them.
        dead: MemberId,
    },
    /// Remove the entry of a member that does not vote, if there is one.
    RemoveEntry {
        /// The entry.
        member: Option<MemberId>,
    },
    /// Move leadership, remove this voter through a survivor, confirm.
    Leave {
        /// This member.
        member: MemberId,
    },
    /// Do not stop.
    Refuse(Refusal),
}

impl Plan {
    /// Its stable name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Continue => "continue",
            Self::Stay => "stay",
            Self::HandOver => "hand-over",
            Self::Hold { .. } => "hold",
            Self::RemoveEntry { .. } => "remove-entry",
            Self::Leave { .. } => "leave",
            Self::Refuse(_) => "refuse",
        }
    }
}

/// Why a stop is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "refusal", rename_all = "kebab-case")]
pub enum Refusal {
    /// The last copy would go.
    LastVoter,
    /// The rest would have no quorum.
    RestWithoutQuorum {
        /// Voters that do not answer.
        missing: Vec<String>,
        /// A dead voter whose removal would free this one.
        dead: Option<MemberId>,
    },
    /// Nobody answers with a member list, so nobody can remove a member.
    NobodyAnswers {
        /// What each said instead.
        why: String,
    },
    /// A stop for a while would take the quorum.
    StopTakesQuorum {
        /// Voters that do not answer.
        missing: Vec<String>,
        /// The first of them.
        dead: MemberId,
    },
    /// Another member is being added, removed or stopped, and has not finished for `hold_timeout`.
    MutexHeld,
}

impl Refusal {
    /// Whether an election, or a voter that is back in a moment, may be all there is to it.
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::RestWithoutQuorum { .. } | Self::NobodyAnswers { .. })
    }

    /// What an operator reads.
    pub fn complaint(&self) -> Complaint {
        let force = "touch /var/vcap/sys/run/etcd/force-leave on this instance, or deploy with --skip-drain, if the loss is accepted";
        match self {
            Self::LastVoter => Complaint::refused(
                "this is the last voting member, and its data would go with it",
                "it holds the last copy of everything that was written",
                format!(
                    "add instances first and remove this one in a second deploy; or {force}; docs/drain.md#last-voter"
                ),
            ),
            Self::RestWithoutQuorum { missing, dead } => Complaint::refused(
                format!("without this member the rest has no quorum; not answering: {}", missing.join(", ")),
                "the cluster would refuse every write, and could not even remove a member",
                match dead {
                    Some(dead) => format!(
                        "bring it back, or remove it for good with `etcdctl member remove {dead}`, then deploy again; or {force}; docs/drain.md#quorum"
                    ),
                    None => format!("bring it back, then deploy again; or {force}; docs/drain.md#quorum"),
                },
            ),
            Self::NobodyAnswers { why } => Complaint::refused(
                format!("no member answers with a member list, so this one cannot leave: {why}"),
                "removed from BOSH but not from the cluster, it would count against quorum for ever",
                format!(
                    "`etcd-status` shows who is down; bring a quorum back, then deploy again; or {force}; docs/drain.md#quorum"
                ),
            ),
            Self::StopTakesQuorum { missing, dead } => Complaint::refused(
                format!("stopping this member would take the quorum; not answering: {}", missing.join(", ")),
                "no write would succeed until it is back",
                format!(
                    "repair only the missing one (`bosh restart GROUP/ID --no-converge`, or deploy with the others ignored); if it is gone for good, `etcdctl member remove {dead}`, then deploy again; to stop the whole cluster on purpose, `bosh stop --skip-drain`; docs/drain.md#held"
                ),
            ),
            Self::MutexHeld => Complaint::refused(
                "another member is being added, removed or stopped, and does not finish",
                "two at once could take the quorum",
                format!(
                    "`etcd-status` shows who it is; let it finish, then deploy again; or {force}; docs/drain.md#mutex"
                ),
            ),
        }
    }
}

/// What was decided, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// The row.
    pub row: Row,
    /// What to do.
    pub plan: Plan,
    /// Why, in a sentence.
    pub because: String,
}

/// Applies the table.
pub fn decide(seen: &StopSeen) -> Decision {
    let decision = |row, plan, because: &str| Decision { row, plan, because: because.to_owned() };
    if seen.call == Call::CheckStatus {
        return decision(Row::CheckStatus, Plan::Continue, "a dynamic drain asks again");
    }
    let Some(intent) = seen.intent else { return without_intent(seen) };
    if intent.deployment == Next::Delete {
        return decision(
            Row::DeploymentGoes,
            Plan::Stay,
            "the whole deployment goes: all members stop at once, and their disks stay as they are",
        );
    }
    let vm_and_data_go = intent.vm == Next::Delete && !seen.own_disk;
    if intent.instance == Next::Delete || vm_and_data_go || disk_goes(seen) {
        return leaving(seen, None);
    }
    staying(seen, Row::Stays)
}

/// Without a Director's word (create-env, an old Director, `--skip-drain` of pre-stop) only drain knows
/// anything, and create-env says of every stop that the disk goes.
fn without_intent(seen: &StopSeen) -> Decision {
    if !disk_goes(seen) {
        return staying(seen, Row::WithoutIntent);
    }
    let alone = match &seen.cluster {
        Cluster::Serves { own: OwnEntry::Voter(_), others, .. } => others.is_empty(),
        // Unseen, it may be one of many: leaving is then refused below, never guessed.
        Cluster::NoQuorum { .. } => matches!(seen.on_disk, OnDisk::OnlyVoter(_)),
        Cluster::Serves { .. } => false,
    };
    if alone {
        return Decision {
            row: Row::AloneWithoutIntent,
            plan: Plan::Stay,
            because: "the only voter, and no Director says that it goes for good".to_owned(),
        };
    }
    leaving(seen, Some(Row::LeavesWithoutIntent))
}

fn disk_goes(seen: &StopSeen) -> bool {
    seen.disk.now_mib.is_some_and(|mib| mib > 0) && seen.disk.next_mib == Some(0)
}

/// Rows 2 to 5, or all of them as row 8.
fn leaving(seen: &StopSeen, all_as: Option<Row>) -> Decision {
    let decision = |row: Row, plan: Plan, because: &str| Decision {
        row: all_as.unwrap_or(row),
        plan: forced(seen, plan),
        because: because.to_owned(),
    };
    let (own, others) = match &seen.cluster {
        // Nothing is lost with an empty disk; its entry, if there is one, is cleared by eviction.
        Cluster::NoQuorum { .. } if seen.on_disk == OnDisk::NoMember => {
            return decision(
                Row::NotAVoter,
                Plan::RemoveEntry { member: None },
                "nobody answers with a member list, and this disk has no member",
            );
        }
        // Nobody answers because there is nobody else.
        Cluster::NoQuorum { .. } if matches!(seen.on_disk, OnDisk::OnlyVoter(_)) => {
            return decision(Row::LastVoter, Plan::Refuse(Refusal::LastVoter), "it is the last voter");
        }
        Cluster::NoQuorum { why } => {
            let refusal = Refusal::NobodyAnswers { why: why.clone() };
            return decision(
                Row::WouldTakeQuorum,
                Plan::Refuse(refusal),
                "nobody answers with a member list",
            );
        }
        Cluster::Serves { own, others, .. } => (*own, others),
    };
    match own {
        OwnEntry::Voter(_) if others.is_empty() => {
            decision(Row::LastVoter, Plan::Refuse(Refusal::LastVoter), "it is the last voter")
        }
        OwnEntry::NotListed => {
            decision(Row::NotAVoter, Plan::RemoveEntry { member: None }, "the member list does not have it")
        }
        // Not ours, and perhaps alive: eviction judges it, which asks for more than one look.
        OwnEntry::Stranger(_) => decision(
            Row::NotAVoter,
            Plan::RemoveEntry { member: None },
            "the member list does not have the member on its disk, but another one under its URL, which is left to eviction",
        ),
        OwnEntry::NeverStarted(id) => {
            decision(Row::NotAVoter, Plan::RemoveEntry { member: Some(id) }, "its entry never started")
        }
        OwnEntry::Learner(id) => {
            decision(Row::NotAVoter, Plan::RemoveEntry { member: Some(id) }, "it is a learner")
        }
        OwnEntry::Voter(member) if keep_quorum(others) => {
            decision(Row::Leaves, Plan::Leave { member }, "it goes for good, and the rest keeps quorum")
        }
        OwnEntry::Voter(_) => {
            let missing: Vec<_> = others.iter().filter(|voter| voter.life != Life::Alive).collect();
            let refusal = Refusal::RestWithoutQuorum {
                missing: missing.iter().map(|voter| describe(voter)).collect(),
                dead: missing.first().map(|voter| voter.id),
            };
            decision(Row::WouldTakeQuorum, Plan::Refuse(refusal), "the rest would not keep quorum")
        }
    }
}

/// Rows 6 and 9: the hold rule speaks in pre-stop; in drain the process is no longer watched, so drain
/// only hands over.
fn staying(seen: &StopSeen, row: Row) -> Decision {
    let decision =
        |plan: Plan, because: &str| Decision { row, plan: forced(seen, plan), because: because.to_owned() };
    if seen.script == Script::Drain {
        return decision(Plan::HandOver, "the instance and its data stay");
    }
    match hold(&seen.cluster) {
        Hold::Go { because } => decision(Plan::HandOver, because),
        Hold::Hold { missing, dead } => {
            decision(Plan::Hold { missing, dead }, "a missing voter is on its way back")
        }
        Hold::Fail { missing, dead } => {
            decision(Plan::Refuse(Refusal::StopTakesQuorum { missing, dead }), "the quorum would be gone")
        }
    }
}

/// `force-leave` turns whatever stands in the way into a plain stop; it never removes a member.
fn forced(seen: &StopSeen, plan: Plan) -> Plan {
    match (seen.forced, plan) {
        (Override::ForceLeave, Plan::Refuse(_) | Plan::Hold { .. }) => Plan::HandOver,
        (_, plan) => plan,
    }
}

#[cfg(test)]
mod tests;
