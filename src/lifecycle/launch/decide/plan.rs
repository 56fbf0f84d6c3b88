//! What to do, with everything that doing it needs.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::step::Step;
use crate::etcd::id::{ClusterId, MemberId, PeerUrl};
use crate::etcd::member::Member;
use crate::job::properties::BootstrapMethod;
use crate::lifecycle::launch::attestation::{ClusterToken, InstanceId, Nonces};
use crate::lifecycle::launch::records::{BootPhase, BootstrapRecord, RECORD_VERSION, RestoreRequest};

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Plan {
    /// Stay up, serve `/state`, observe again: a person must decide.
    Refuse,
    /// Stay up, serve `/state`, observe again: the cause lies outside or passes.
    Wait(Wait),
    /// Check all data that is there; the next observation knows what was found.
    Validate,
    /// Start etcd on the data that is there.
    Start(Start),
    /// Create a new cluster together with all instances of the link.
    Bootstrap(Bootstrap),
    /// Become a new member of a running cluster.
    Join(Join),
    /// Go on with a join: the entry exists and never started.
    ResumeJoin(ResumeJoin),
    /// Remove the dead entry of this instance, then join as a new member.
    Replace(Replace),
    /// Move the data aside; the next observation finds an empty disk and joins.
    Rejoin(Aside),
    /// Move damaged data aside; the next observation finds an empty disk.
    MoveAside(Aside),
    /// Write a restored data directory.
    Restore(Restore),
}

/// Waiting, and what to do meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wait {
    /// Whether this disk still lacks the nonce it will be attested with.
    pub nonce: NonceDuty,
}

/// Whether a nonce is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NonceDuty {
    /// Nothing to write.
    Keep,
    /// The disk never had a member and has no nonce yet: write one, then observe again at once.
    Write,
}

/// Start etcd on the data that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Start {
    /// The cluster on the disk.
    pub cluster_id: ClusterId,
    /// The member on the disk.
    pub member_id: MemberId,
    /// What is still to be checked first.
    pub validation: Validation,
    /// Whether the member is a learner, says the cluster or, if nobody serves, this disk.
    pub promotion: Promotion,
    /// Whether this disk's first boot still says that etcd never had a log here.
    pub first_boot: FirstBootNote,
}

/// What is still to be checked when etcd is about to start. Where it did not end gracefully the plan is
/// [`Plan::Validate`] first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Validation {
    /// etcd ended gracefully here: whatever is seen at once.
    Sanity,
    /// Nothing: it was checked, or is not to be.
    Done,
}

/// Whether a learner is to become a voter once it has caught up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Promotion {
    /// It is a voter, or nothing says otherwise.
    No,
    /// It is a learner.
    Promote,
}

/// Whether the bootstrap record must be brought up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirstBootNote {
    /// There is no record, or it is up to date.
    Keep,
    /// The record says `prepared` although there is data.
    Complete,
}

/// Create a new cluster together with all instances of the link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bootstrap {
    /// This instance, which is also its member's name.
    pub instance: InstanceId,
    /// etcd's `initial-cluster-token`.
    pub token: ClusterToken,
    /// All first members, for etcd's `initial-cluster`.
    pub members: BTreeMap<InstanceId, PeerUrl>,
    /// The nonces that made the token.
    pub nonces: Nonces,
    /// How this member's data comes about.
    pub method: BootstrapMethod,
    /// The id this member will have.
    pub member_id: MemberId,
    /// The id the cluster will have.
    pub cluster_id: ClusterId,
    /// What is in the way.
    pub clear: Option<Aside>,
}

impl Bootstrap {
    /// The plan that a record of a first boot describes, for one of its instances.
    pub fn from_record(
        instance: &InstanceId,
        record: &BootstrapRecord,
        clear: Option<Aside>,
    ) -> Option<Self> {
        Some(Self {
            instance: instance.clone(),
            token: record.token.clone(),
            members: record.members.clone(),
            nonces: record.nonces.clone(),
            method: record.method,
            member_id: record.member_id(instance)?,
            cluster_id: record.cluster_id(),
            clear,
        })
    }

    /// The record to write before anything else.
    pub fn record(&self) -> BootstrapRecord {
        BootstrapRecord {
            version: RECORD_VERSION,
            token: self.token.clone(),
            nonces: self.nonces.clone(),
            members: self.members.clone(),
            method: self.method,
            phase: BootPhase::Prepared,
        }
    }

    /// etcd's `initial-cluster`: `name=url` pairs, joined by commas.
    pub fn initial_cluster(&self) -> String {
        let pairs: Vec<String> = self.members.iter().map(|(name, url)| format!("{name}={url}")).collect();
        pairs.join(",")
    }
}

/// Become a new member of a running cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Join {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Its members now; `initial-cluster` is made of the list that `member add` answers.
    pub members: Vec<Member>,
    /// The URL to add.
    pub peer_url: PeerUrl,
    /// What is in the way.
    pub clear: Option<Aside>,
}

/// Go on with a join whose entry exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResumeJoin {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Its members, the own entry included.
    pub members: Vec<Member>,
    /// The own entry.
    pub member_id: MemberId,
    /// Its URL.
    pub peer_url: PeerUrl,
    /// Whether it is a learner.
    pub promotion: Promotion,
    /// What is in the way.
    pub clear: Option<Aside>,
}

/// Remove the dead entry of this instance, then join as a new member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replace {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The dead entry.
    pub remove: MemberId,
    /// The members that stay.
    pub survivors: BTreeSet<MemberId>,
    /// The URL to add again.
    pub peer_url: PeerUrl,
    /// What is in the way.
    pub clear: Option<Aside>,
}

/// Move the content of the data directory aside; nothing is ever deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Aside {
    /// Why, as it appears in the directory's name.
    pub reason: AsideReason,
    /// Whether the records belong to that data and go with it.
    pub records: RecordsToo,
}

/// Why data is moved aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AsideReason {
    /// The cluster removed the member.
    Removed,
    /// A restored cluster replaced it.
    Replaced,
    /// It cannot be used.
    Damaged,
    /// A start that died early.
    Partial,
    /// A restore takes its place.
    Restored,
}

impl AsideReason {
    /// As it appears in the directory's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Replaced => "replaced",
            Self::Damaged => "damaged",
            Self::Partial => "partial",
            Self::Restored => "restored",
        }
    }
}

/// Whether records go aside with the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordsToo {
    /// They belong to the data.
    Move,
    /// They are about what comes next.
    Keep,
}

/// Get data back from a backup or a surviving disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Restore {
    /// What a request asks for: the data lies ready, and every member of the set waits for it.
    Place {
        /// The request.
        request: RestoreRequest,
        /// What is in the way.
        clear: Option<Aside>,
    },
    /// The newest backup, because `auto_restore` is on and the only member there ever was has no data any more. It is
    /// brought and proven while nothing is touched, and ends in a request like an operator's.
    Bring {
        /// As `etcd-backup list` names it.
        backup: String,
        /// The cluster of the damaged disk, if that still tells it.
        replaces: Option<ClusterId>,
    },
}

impl Plan {
    /// Its stable name, as in logs, `status.json` and `/state`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Wait(_) => "wait",
            Self::Validate => "validate",
            Self::Start(_) => "start",
            Self::Bootstrap(_) => "bootstrap",
            Self::Join(_) => "join",
            Self::ResumeJoin(_) => "resume-join",
            Self::Replace(_) => "replace",
            Self::Rejoin(_) => "rejoin",
            Self::MoveAside(_) => "move-aside",
            Self::Restore(_) => "restore",
        }
    }

    /// Whether it changes the cluster's membership: one such plan at a time, and it is decided again once
    /// the mutex is held (docs/contract.md#mutex).
    pub fn needs_mutex(&self) -> bool {
        self.steps().contains(&Step::TakeMutex)
    }

    /// Its steps, in order. Everything is written down before it is done, and whatever cannot be taken
    /// back comes after what says that it may have happened. After the last step of a plan that does
    /// not start etcd: observe again.
    pub fn steps(&self) -> Vec<Step> {
        match self {
            Self::Refuse => vec![],
            Self::Wait(wait) => match wait.nonce {
                NonceDuty::Keep => vec![],
                NonceDuty::Write => vec![Step::WriteNonce],
            },
            // The mark comes first: this disk has data, whatever becomes of it.
            Self::Validate => vec![Step::WriteInitialisedMark, Step::Validate],
            Self::Start(start) => start_steps(start),
            Self::Bootstrap(plan) => [
                clear_steps(plan.clear.as_ref()),
                vec![Step::WriteBootstrapRecord],
                match plan.method {
                    BootstrapMethod::Static => vec![],
                    BootstrapMethod::Seeded => vec![Step::SeedData],
                },
                vec![
                    Step::WriteConfiguration,
                    Step::RemoveExitRecord,
                    Step::Spawn,
                    Step::WriteInitialisedMark,
                    Step::CompleteBootstrapRecord,
                ],
            ]
            .concat(),
            Self::Join(plan) => [
                vec![Step::TakeMutex, Step::ProbePeers],
                clear_steps(plan.clear.as_ref()),
                add_steps(),
                joined_steps(Promotion::Promote),
            ]
            .concat(),
            Self::ResumeJoin(plan) => [
                vec![Step::TakeMutex],
                clear_steps(plan.clear.as_ref()),
                vec![Step::WriteJoinAnswer],
                joined_steps(plan.promotion),
            ]
            .concat(),
            Self::Replace(plan) => [
                vec![Step::TakeMutex, Step::ProbePeers],
                clear_steps(plan.clear.as_ref()),
                vec![Step::MemberRemove],
                add_steps(),
                joined_steps(Promotion::Promote),
            ]
            .concat(),
            Self::Rejoin(aside) | Self::MoveAside(aside) => clear_steps(Some(aside)),
            Self::Restore(Restore::Place { clear, .. }) => {
                [clear_steps(clear.as_ref()), vec![Step::RestoreData, Step::WriteRestoreRecord]].concat()
            }
            Self::Restore(Restore::Bring { .. }) => vec![Step::BringBackup, Step::WriteRestoreRequest],
        }
    }
}

fn start_steps(start: &Start) -> Vec<Step> {
    // The mark comes first: this disk has data, whatever becomes of etcd.
    let mut steps = vec![Step::WriteInitialisedMark];
    match start.first_boot {
        FirstBootNote::Keep => {}
        FirstBootNote::Complete => steps.push(Step::CompleteBootstrapRecord),
    }
    match start.validation {
        Validation::Sanity => steps.push(Step::Validate),
        Validation::Done => {}
    }
    steps.extend([Step::WriteConfiguration, Step::RemoveExitRecord, Step::Spawn]);
    match start.promotion {
        Promotion::No => {}
        Promotion::Promote => steps.extend([Step::Promote, Step::WriteJoinPromoted]),
    }
    steps.push(Step::AnnouncePeerUrl);
    steps
}

fn clear_steps(aside: Option<&Aside>) -> Vec<Step> {
    match aside {
        None => vec![],
        Some(aside) => match aside.records {
            RecordsToo::Keep => vec![Step::MoveAside],
            RecordsToo::Move => vec![Step::MoveAside, Step::RetireRecords],
        },
    }
}

fn add_steps() -> Vec<Step> {
    vec![Step::WriteJoinIntent, Step::MemberAdd, Step::WriteJoinAnswer]
}

fn joined_steps(promotion: Promotion) -> Vec<Step> {
    let mut steps = vec![
        Step::WriteConfiguration,
        Step::RemoveExitRecord,
        Step::Spawn,
        Step::WriteInitialisedMark,
        Step::WriteJoinStarted,
    ];
    match promotion {
        Promotion::No => {}
        Promotion::Promote => steps.extend([Step::Promote, Step::WriteJoinPromoted]),
    }
    steps.push(Step::ReleaseMutex);
    steps
}
