//! What the launcher waits for, each with a name, a text and an anchor in docs/contract.md.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::claim::Claim;
use super::refusal::{RESTORE, list};
use super::step::Step;
use crate::etcd::id::{ClusterId, MemberId, PeerUrl};
use crate::job::properties::BootstrapMethod;
use crate::lifecycle::launch::attestation::{DiskClass, InstanceId, LinkHash};
use crate::lifecycle::launch::observation::Unreachable;
use crate::report::Complaint;

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "waiting", rename_all = "kebab-case")]
pub enum Waiting {
    /// The errand makes the data of a restore out of this disk.
    RestorePreparing {
        /// The request.
        request: Uuid,
    },
    /// Another instance restores the cluster; this one joins it then.
    RestoreElsewhere {
        /// The request.
        request: Uuid,
        /// Which instance.
        source: InstanceId,
        /// What it says.
        said: String,
    },
    /// Other members of the set do not have the restore request yet.
    RestoreOthers {
        /// The request.
        request: Uuid,
        /// Who, and what they have instead.
        missing: BTreeMap<InstanceId, String>,
    },
    /// What the next step rests on has been seen once and must be seen twice.
    Confirming {
        /// What.
        claim: Claim,
        /// The name of the plan that follows.
        then: &'static str,
    },
    /// A drain has begun here: until pre-start, nothing joins a cluster.
    Draining {
        /// The name of the plan that is put off.
        then: &'static str,
    },
    /// The dead entry of this instance cannot be replaced without risk.
    NotSafe {
        /// The cluster.
        cluster_id: ClusterId,
        /// The entry.
        member_id: MemberId,
        /// Why not.
        why: Unsafe,
    },
    /// Nobody knows whether a backup exists.
    BackupUnknown {
        /// What the store said.
        why: String,
    },
    /// Nobody has data, and this deploy may not create a cluster.
    NotAskedToBootstrap {
        /// Who could not be asked, and why.
        silent: BTreeMap<InstanceId, Unreachable>,
    },
    /// Not every instance attests that its disk never had a member.
    Attestations {
        /// Who does not, and why.
        missing: BTreeMap<InstanceId, Missing>,
    },
    /// This disk has no nonce yet; it is written now.
    OwnNonce,
    /// This disk is empty, but it had a member once.
    LostData {
        /// How that is known.
        known_from: KnownFrom,
    },
    /// Somebody has data, but no cluster serves.
    NoQuorum {
        /// Who has data or answers without a leader.
        who: BTreeMap<InstanceId, String>,
        /// Who cannot be asked.
        silent: BTreeMap<InstanceId, Unreachable>,
    },
    /// Another instance joins, leaves, is replaced or stops: one at a time.
    MutexHeld {
        /// The name of the plan that is put off.
        then: &'static str,
    },
    /// The cluster does not take the change now.
    NotAccepted {
        /// The step.
        step: Step,
        /// What etcd said.
        why: String,
    },
    /// Members that were asked cannot reach this instance at its URL.
    NotReached {
        /// The URL.
        url: PeerUrl,
        /// Who tried, and what happened.
        by: BTreeMap<InstanceId, String>,
    },
    /// A first boot names this disk, but its members cannot be seen yet.
    FirstBootUnseen {
        /// Who runs it.
        by: InstanceId,
    },
    /// A first boot waits for this disk, but this deploy may not take part in one.
    FirstBootNeedsFlag {
        /// Who runs it.
        by: InstanceId,
    },
}

/// Why a dead entry cannot be replaced now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "unsafe", rename_all = "kebab-case")]
pub enum Unsafe {
    /// The leader was not asked, or its metrics did not tell.
    LivenessUnknown,
    /// Without it the others would not have quorum, or could not add a member afterwards.
    OthersMissing {
        /// The voters that the leader is not connected to.
        missing: Vec<MemberId>,
    },
    /// The entry has further URLs, which are not ours.
    OtherUrls {
        /// Those URLs.
        urls: Vec<PeerUrl>,
    },
}

/// Why an instance does not attest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "missing", rename_all = "kebab-case")]
pub enum Missing {
    /// Its launcher has not answered yet.
    Pending,
    /// Its launcher cannot be asked.
    Silent {
        /// Why not.
        why: Unreachable,
    },
    /// Its disk is not an empty one.
    Disk {
        /// What it is.
        class: DiskClass,
    },
    /// Its disk is empty, and it says nothing about whether it always was.
    NoNonce,
    /// It was rendered from another list of instances.
    OtherLink {
        /// Its fingerprint.
        theirs: LinkHash,
        /// Ours.
        ours: LinkHash,
    },
    /// It would make its member in another way.
    OtherMethod {
        /// Its way.
        theirs: BootstrapMethod,
    },
    /// Another instance answers at its address.
    SomebodyElse {
        /// Which.
        claims: InstanceId,
    },
    /// It has the same nonce as another instance: one disk is a copy of the other.
    SameNonce,
    /// Its etcd runs or cannot be asked whether it does.
    PeerPort {
        /// What its peer port said.
        said: String,
    },
}

impl Missing {
    /// A few words.
    pub fn words(&self) -> String {
        match self {
            Self::Pending => "has not answered yet".to_owned(),
            Self::Silent { why } => why.to_string(),
            Self::Disk { class: DiskClass::Data } => "has data".to_owned(),
            Self::Disk { class } => format!("its disk is {class}"),
            Self::NoNonce => "its disk is empty, but had a member once".to_owned(),
            Self::OtherLink { theirs, ours } => {
                format!("was deployed with another list of instances ({theirs}, here {ours})")
            }
            Self::OtherMethod { theirs } => format!(
                "was deployed with bootstrap_method: {}",
                match theirs {
                    BootstrapMethod::Static => "static",
                    BootstrapMethod::Seeded => "seeded",
                }
            ),
            Self::SomebodyElse { claims } => format!("{claims} answers at its address"),
            Self::SameNonce => "its disk is a copy of another instance's".to_owned(),
            Self::PeerPort { said } => format!("its peer port: {said}"),
        }
    }
}

/// Who ends a wait. `/state` tells it to the scripts of this VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Until {
    /// This launcher, within seconds.
    OwnProgress,
    /// Other instances, when they come up or recover.
    Others,
    /// Another deploy or an errand: nobody else can.
    Operator,
}

/// How it is known that an empty disk had a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KnownFrom {
    /// The VM's `initialised` mark.
    Mark,
    /// The records on the disk itself.
    Records,
}

impl Waiting {
    /// What happened, why it matters, what to do next.
    pub fn complaint(&self) -> Complaint {
        let (what, why, next) = self.parts();
        Complaint::try_again(what, why, format!("{next}; docs/contract.md#{}", self.anchor()))
    }

    /// Where docs/contract.md tells the rule.
    pub const fn anchor(&self) -> &'static str {
        match self {
            Self::RestorePreparing { .. } | Self::RestoreElsewhere { .. } | Self::RestoreOthers { .. } => {
                "restore"
            }
            Self::Confirming { .. } => "twice",
            Self::Draining { .. } => "stop",
            Self::NotSafe { .. } => "replace",
            Self::BackupUnknown { .. }
            | Self::NotAskedToBootstrap { .. }
            | Self::Attestations { .. }
            | Self::OwnNonce
            | Self::LostData { .. }
            | Self::FirstBootUnseen { .. }
            | Self::FirstBootNeedsFlag { .. } => "bootstrap",
            Self::NoQuorum { .. } => "no-quorum",
            Self::MutexHeld { .. } => "mutex",
            Self::NotAccepted { .. } => "quorum",
            Self::NotReached { .. } => "probe",
        }
    }

    /// Who ends it.
    pub fn until(&self) -> Until {
        match self {
            Self::Confirming { .. }
            | Self::OwnNonce
            | Self::MutexHeld { .. }
            | Self::NotAccepted { .. }
            | Self::NotReached { .. } => Until::OwnProgress,
            Self::NotAskedToBootstrap { silent } if silent.is_empty() => Until::Operator,
            Self::FirstBootNeedsFlag { .. } | Self::LostData { .. } | Self::BackupUnknown { .. } => {
                Until::Operator
            }
            Self::RestorePreparing { .. }
            | Self::RestoreElsewhere { .. }
            | Self::RestoreOthers { .. }
            | Self::Draining { .. }
            | Self::NotSafe { .. }
            | Self::NotAskedToBootstrap { .. }
            | Self::Attestations { .. }
            | Self::NoQuorum { .. }
            | Self::FirstBootUnseen { .. } => Until::Others,
        }
    }

    fn parts(&self) -> (String, String, String) {
        match self {
            Self::RestorePreparing { request } => restore_preparing(*request),
            Self::RestoreElsewhere { request, source, said } => restore_elsewhere(*request, source, said),
            Self::RestoreOthers { request, missing } => restore_others(*request, missing),
            Self::Confirming { claim, then } => (
                format!("'{then}' is due, after a second look: {}", claim_words(claim)),
                "one look can meet an election or a restart, and this step cannot be taken back".to_owned(),
                "nothing: the second look follows by itself".to_owned(),
            ),
            Self::Draining { then } => (
                format!("'{then}' is put off: this instance is being drained"),
                "an instance that leaves must not come back by itself".to_owned(),
                "nothing while BOSH stops it; if the stop was given up, `bosh restart` this instance"
                    .to_owned(),
            ),
            Self::NotSafe { cluster_id, member_id, why } => not_safe(*cluster_id, *member_id, why),
            Self::BackupUnknown { why } => (
                format!(
                    "all disks are empty, and the backup store does not say whether a backup exists: {why}"
                ),
                "an empty cluster in place of one that had data is rarely what is wanted".to_owned(),
                "repair the store's access, or deploy with bootstrap_cluster: again to start without it"
                    .to_owned(),
            ),
            Self::NotAskedToBootstrap { silent } => (
                format!("nobody has data, and this deploy may not create a cluster{}", and_silent(silent)),
                "a cluster is created only when asked for: empty disks can also mean that data was lost"
                    .to_owned(),
                format!("for a first deploy add -o deployment/operations/bootstrap.yml; else {RESTORE}"),
            ),
            Self::Attestations { missing } => (
                format!(
                    "the first boot waits for {} of the link's instances: {}",
                    missing.len(),
                    list(missing.iter().map(|(instance, why)| format!("{instance} {}", why.words())))
                ),
                "a cluster is created only when every instance says that its disk never had a member"
                    .to_owned(),
                "on a first deploy the others follow; else repair what each of them says above".to_owned(),
            ),
            Self::OwnNonce => (
                "this disk gets the number it will be known by".to_owned(),
                "the first boot tells disks apart by it".to_owned(),
                "nothing: the next look follows at once".to_owned(),
            ),
            Self::LostData { known_from } => (
                format!(
                    "this disk is empty but had a member once, says {}",
                    match known_from {
                        KnownFrom::Mark => "the mark on the VM",
                        KnownFrom::Records => "the record on the disk",
                    }
                ),
                "a new cluster would hide that data was lost".to_owned(),
                match known_from {
                    KnownFrom::Mark => {
                        format!("{RESTORE}; if the data may go, `bosh recreate` this instance")
                    }
                    KnownFrom::Records => format!(
                        "{RESTORE}; if the data may go, move /var/vcap/store/etcd/.launcher on this VM elsewhere"
                    ),
                },
            ),
            Self::NoQuorum { who: with_data, silent } => (
                format!("there is data, but no cluster serves: {}{}", who(with_data), and_silent(silent)),
                "only members that still have their data can bring quorum back".to_owned(),
                format!("start the instances that have data; if too few are left, {RESTORE}"),
            ),
            Self::MutexHeld { then } => mutex_held(then),
            Self::NotAccepted { step, why } => not_accepted(*step, why),
            Self::NotReached { url, by } => not_reached(url, by),
            Self::FirstBootUnseen { by } => (
                format!(
                    "{by} takes part in a first boot that names this disk, but its members cannot be seen yet"
                ),
                "only the running members tell whether this disk is still waited for".to_owned(),
                format!("if it lasts, look why etcd does not run on {by}"),
            ),
            Self::FirstBootNeedsFlag { by } => (
                format!(
                    "{by} takes part in a first boot that waits for this disk, but this deploy may not create a cluster"
                ),
                "bootstrap_cluster was on when that first boot began and is off now".to_owned(),
                "deploy once more with -o deployment/operations/bootstrap.yml".to_owned(),
            ),
        }
    }
}

/// Why a restore makes its members wait.
const TWO_CLUSTERS: &str = "a member of the old cluster that went on serving would make it two clusters";

fn restore_preparing(request: Uuid) -> (String, String, String) {
    (
        format!("restore {request} is made out of the data on this disk"),
        "what is copied must not change meanwhile".to_owned(),
        "nothing while the errand runs; if it ended, run it again, or let the request expire".to_owned(),
    )
}

fn restore_elsewhere(request: Uuid, source: &InstanceId, said: &str) -> (String, String, String) {
    (
        format!(
            "{source} restores the cluster ({request}), and this instance will join it; {source}: {said}"
        ),
        TWO_CLUSTERS.to_owned(),
        format!(
            "nothing while it goes on; if {source} is stuck, run errand restore again, or let the request expire: then this member starts on its own data"
        ),
    )
}

fn restore_others(request: Uuid, missing: &BTreeMap<InstanceId, String>) -> (String, String, String) {
    (
        format!("restore {request} waits until every member of its set waits for it: {}", who(missing)),
        TWO_CLUSTERS.to_owned(),
        "run errand restore on all instances, or let the request expire".to_owned(),
    )
}

fn mutex_held(then: &str) -> (String, String, String) {
    (
        format!("'{then}' waits: another instance of the cluster joins, leaves or stops"),
        "membership changes one at a time, else two could each take what the other counts on".to_owned(),
        "nothing: its turn comes by itself, at the latest half a minute after the other one died".to_owned(),
    )
}

fn not_accepted(step: Step, why: &str) -> (String, String, String) {
    (
        format!("the cluster does not take '{step}' now: {why}"),
        "etcd refuses changes that could cost its quorum, also for five seconds after members connected"
            .to_owned(),
        "nothing for a moment; if it lasts, `etcd-status` shows which member is missing: start it, or remove it for good with `etcdctl member remove`"
            .to_owned(),
    )
}

fn not_reached(url: &PeerUrl, by: &BTreeMap<InstanceId, String>) -> (String, String, String) {
    (
        format!("members cannot reach this instance at {url}: {}", who(by)),
        "a member that others cannot reach counts against quorum all the same; it was not added".to_owned(),
        "look at DNS, routes and firewalls between those instances".to_owned(),
    )
}

fn not_safe(cluster_id: ClusterId, member_id: MemberId, why: &Unsafe) -> (String, String, String) {
    let (reason, next) = match why {
        Unsafe::LivenessUnknown => (
            "the leader does not tell whether it is dead".to_owned(),
            "repair the connection to the leader".to_owned(),
        ),
        Unsafe::OthersMissing { missing } => {
            (format!("the leader also misses {}", list(missing)), "start those members first".to_owned())
        }
        Unsafe::OtherUrls { urls } => (
            format!("it also has the URLs {}", list(urls)),
            format!("if it is this instance's, remove it: etcdctl member remove {member_id}"),
        ),
    };
    (
        format!(
            "cluster {cluster_id} lists this instance as member {member_id}, whose data is gone, but it is not replaced: {reason}"
        ),
        "removing a member while others are missing can cost the quorum".to_owned(),
        next,
    )
}

fn claim_words(claim: &Claim) -> String {
    match claim {
        Claim::OwnIdAbsent { cluster_id, member_id } => {
            format!("cluster {cluster_id} does not list member {member_id}")
        }
        Claim::ReplacedBy { cluster_id } => format!("cluster {cluster_id} replaced the one on this disk"),
        Claim::OwnUrlAbsent { cluster_id } => {
            format!("cluster {cluster_id} does not list this instance's URL")
        }
        Claim::EntryDead { cluster_id, member_id } => {
            format!("cluster {cluster_id} sees member {member_id} dead")
        }
        Claim::EntryAlive { cluster_id, member_id } => {
            format!("cluster {cluster_id} sees member {member_id} alive, which does not run here")
        }
        Claim::DamagedAlone | Claim::EmptyAlone => "nobody else answers".to_owned(),
    }
}

fn who(instances: &BTreeMap<InstanceId, String>) -> String {
    list(instances.iter().map(|(instance, said)| format!("{instance} ({said})")))
}

fn silences(silent: &BTreeMap<InstanceId, Unreachable>) -> String {
    list(silent.iter().map(|(instance, why)| format!("{instance} ({why})")))
}

fn and_silent(silent: &BTreeMap<InstanceId, Unreachable>) -> String {
    if silent.is_empty() { String::new() } else { format!("; silent: {}", silences(silent)) }
}
