//! What the launcher refuses, each with a name, a text and an anchor in docs/contract.md.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use uuid::Uuid;

use crate::etcd::id::{ClusterId, MemberId, PeerUrl};
use crate::etcd::version::Incompatible;
use crate::lifecycle::launch::attestation::InstanceId;
use crate::lifecycle::launch::bring::AGAIN_AFTER;
use crate::report::Complaint;

/// Why a person must decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "refusal", rename_all = "kebab-case")]
pub enum Refusal {
    /// etcd already runs on this data.
    AlreadyRunning {
        /// Its process id, where it could be found.
        pid: Option<u32>,
    },
    /// The persistent disk is not mounted.
    Unmounted,
    /// Somebody else's files are in the data directory.
    Foreign {
        /// Their names.
        names: BTreeSet<String>,
    },
    /// The binary does not fit.
    WrongVersion {
        /// What it does not fit.
        with: FitsNot,
        /// How.
        why: Incompatible,
    },
    /// The cluster removed this member, and `on_removed_member` says to ask.
    Removed {
        /// The cluster.
        cluster_id: ClusterId,
        /// The member on this disk.
        member_id: MemberId,
    },
    /// Another cluster than the one on this disk has quorum.
    WrongCluster {
        /// The cluster on this disk.
        own: ClusterId,
        /// The other ones, and who runs them.
        others: Answering,
    },
    /// Alone this member would have quorum at once, while others run another cluster.
    LoneVoter {
        /// The cluster on this disk.
        own: ClusterId,
        /// The other ones, and who runs them.
        others: Answering,
    },
    /// The data is damaged and nobody can give it back.
    Damaged {
        /// What is wrong.
        why: String,
        /// Why it is not restored.
        no_restore: NoRestore,
    },
    /// Two clusters answer on the link.
    TwoClusters {
        /// Which, and who runs them.
        clusters: Answering,
    },
    /// Somebody else runs a member under this instance's peer URL.
    UrlInUse {
        /// The URL.
        url: PeerUrl,
        /// The member.
        member_id: MemberId,
        /// Its cluster.
        cluster_id: ClusterId,
    },
    /// A first deploy of a deployment that has backups.
    BackupExists {
        /// The newest.
        newest: String,
    },
    /// Others cannot make a TLS connection to this instance's URL with the certificates of peers.
    NotTrusted {
        /// The URL.
        url: PeerUrl,
        /// Who tried, and what the handshake said.
        by: BTreeMap<InstanceId, String>,
    },
    /// The data could not be checked, which says nothing about it.
    NotChecked {
        /// What happened.
        why: String,
    },
    /// Data has to be moved aside, and the disk has no room for the copy that takes its place.
    NoRoom {
        /// Size of the data that would stay aside, in bytes.
        aside_bytes: u64,
        /// What is free, in bytes.
        free_bytes: u64,
    },
    /// A restore was asked for, and its data is not where it should lie.
    RestoreWithoutData {
        /// The request.
        request: Uuid,
        /// Where it should lie.
        directory: String,
    },
    /// The backup that was to be restored unasked could not be made into data.
    NotRestored {
        /// As the store names it.
        backup: String,
        /// What `etcd-backup` said.
        why: String,
    },
}

/// Clusters, and which instances run them.
pub type Answering = BTreeMap<ClusterId, BTreeSet<InstanceId>>;

/// What the binary does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "with", rename_all = "kebab-case")]
pub enum FitsNot {
    /// The data on the disk.
    Data,
    /// The running cluster.
    Cluster {
        /// Which.
        cluster_id: ClusterId,
    },
}

/// Why damaged data is not restored unasked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "no_restore", rename_all = "kebab-case")]
pub enum NoRestore {
    /// `auto_restore` is off.
    NotAsked,
    /// There were or should be more members: their data may be newer than any backup.
    NotAlone,
    /// Somebody answers, or cannot be asked.
    SomebodyThere {
        /// Who.
        instance: InstanceId,
    },
    /// There is no backup to restore.
    NoBackup {
        /// What the store said.
        why: String,
    },
    /// The disk belongs to another cluster than the one that answers.
    OtherCluster {
        /// On the disk.
        own: ClusterId,
        /// Answering.
        others: Answering,
    },
}

impl Refusal {
    /// Whether no answer of another instance could change it.
    pub(super) const fn is_about_this_disk_alone(&self) -> bool {
        match self {
            Self::AlreadyRunning { .. }
            | Self::Unmounted
            | Self::Foreign { .. }
            | Self::WrongVersion { with: FitsNot::Data, .. } => true,
            Self::WrongVersion { with: FitsNot::Cluster { .. }, .. }
            | Self::Removed { .. }
            | Self::WrongCluster { .. }
            | Self::LoneVoter { .. }
            | Self::Damaged { .. }
            | Self::TwoClusters { .. }
            | Self::UrlInUse { .. }
            | Self::BackupExists { .. }
            | Self::NotTrusted { .. }
            | Self::NotChecked { .. }
            | Self::NoRoom { .. }
            | Self::RestoreWithoutData { .. }
            | Self::NotRestored { .. } => false,
        }
    }

    /// What happened, why it matters, what to do next.
    pub fn complaint(&self) -> Complaint {
        let (what, why, next) = self.parts();
        Complaint::refused(what, why, format!("{next}; docs/contract.md#{}", self.anchor()))
    }

    /// Where docs/contract.md tells the rule.
    pub const fn anchor(&self) -> &'static str {
        match self {
            Self::AlreadyRunning { .. } => "never-twice",
            Self::Unmounted | Self::Foreign { .. } | Self::NoRoom { .. } => "files",
            Self::WrongVersion { .. } => "versions",
            Self::Removed { .. } => "removed",
            Self::WrongCluster { .. } | Self::LoneVoter { .. } | Self::TwoClusters { .. } => "wrong-cluster",
            Self::Damaged { .. } => "damaged",
            Self::UrlInUse { .. } => "replace",
            Self::BackupExists { .. } => "bootstrap",
            Self::NotTrusted { .. } => "probe",
            Self::NotChecked { .. } => "validate",
            Self::RestoreWithoutData { .. } => "restore",
            Self::NotRestored { .. } => "auto-restore",
        }
    }

    fn parts(&self) -> (String, String, String) {
        match self {
            Self::AlreadyRunning { pid } => (
                match pid {
                    Some(pid) => format!("etcd already runs on this data, as process {pid}"),
                    None => "another process holds this data's lock".to_owned(),
                },
                "two processes on one data directory destroy it".to_owned(),
                "end that process, then this one goes on by itself".to_owned(),
            ),
            Self::Unmounted => (
                "the persistent disk is not mounted at /var/vcap/store".to_owned(),
                "data written below the mount point would be lost when the disk comes back".to_owned(),
                "`bosh cloud-check` finds and attaches missing disks".to_owned(),
            ),
            Self::Foreign { names } => (
                format!(
                    "the data directory holds names that neither etcd nor this release wrote: {}",
                    list(names)
                ),
                "they may be somebody's data, so nothing was touched".to_owned(),
                "look at them on the VM below /var/vcap/store/etcd and move them elsewhere".to_owned(),
            ),
            Self::WrongVersion { with, why } => wrong_version(*with, why),
            Self::Removed { cluster_id, member_id } => (
                format!("cluster {cluster_id} no longer lists member {member_id}, which is on this disk"),
                "a removed id can never come back; on_removed_member is refuse, so the data was left alone"
                    .to_owned(),
                "to join as a new member with this data moved aside, deploy with on_removed_member: rejoin"
                    .to_owned(),
            ),
            Self::WrongCluster { own, others } => (
                format!("the disk belongs to cluster {own}, but {} has quorum", answering(others)),
                "one address would answer with two different histories".to_owned(),
                "find out which side has the data you want: `etcd-status` shows who runs what, and the disk was not touched"
                    .to_owned(),
            ),
            Self::LoneVoter { own, others } => (
                format!(
                    "the disk's cluster {own} has this member as its only voter, but {} answers on the link",
                    answering(others)
                ),
                "alone it would have quorum at once, and clients would find two clusters".to_owned(),
                "find out which side has the data you want: `etcd-status` shows who runs what, and the disk was not touched"
                    .to_owned(),
            ),
            Self::Damaged { why, no_restore } => damaged(why, no_restore),
            Self::TwoClusters { clusters } => (
                format!("the disk is empty and two clusters answer: {}", answering(clusters)),
                "joining either could be joining the wrong one".to_owned(),
                "stop the instances of the cluster that should not be there, then this one goes on by itself"
                    .to_owned(),
            ),
            Self::UrlInUse { url, member_id, cluster_id } => (
                format!("member {member_id} of cluster {cluster_id} is alive at {url}, which is this instance's URL"),
                "a second member under one URL takes the other's messages".to_owned(),
                "find the etcd that runs there and stop it; if it is a VM that BOSH lost, `bosh cloud-check` shows it"
                    .to_owned(),
            ),
            Self::BackupExists { newest } => (
                format!("all disks are empty, but a backup of this deployment exists: {newest}"),
                "an empty cluster in place of one that had data is rarely what is wanted".to_owned(),
                format!("to get the data back {RESTORE}; to start without it deploy with bootstrap_cluster: again"),
            ),
            Self::NotTrusted { url, by } => (
                format!(
                    "no TLS connection to this instance at {url}: {}",
                    list(by.iter().map(|(instance, why)| format!("{instance} says {why}")))
                ),
                "the cluster could not talk to this member, which would count against quorum all the same; it was not added"
                    .to_owned(),
                "compare certificate, CA and names of tls.peer on these instances (`openssl x509 -noout -text`)"
                    .to_owned(),
            ),
            Self::NotChecked { why } => (
                format!("the data could not be checked: {why}"),
                "on damaged data etcd would end or serve something wrong, so it is not started unchecked; the check is tried again, and nothing was changed"
                    .to_owned(),
                "run `etcd-datadir validate --mode full` on this instance and read what it says; to start etcd unchecked, `touch /var/vcap/data/etcd/skip-validation`"
                    .to_owned(),
            ),
            Self::NoRoom { aside_bytes, free_bytes } => (
                format!(
                    "{aside_bytes} bytes of data would have to stay on the disk beside their successor, and {free_bytes} are free"
                ),
                "nothing is deleted unasked, and etcd with a full disk stops the member; nothing was changed".to_owned(),
                "remove what nobody needs below /var/vcap/store/etcd/aside, or deploy with a larger persistent_disk"
                    .to_owned(),
            ),
            Self::RestoreWithoutData { request, directory } => without_data(*request, directory),
            Self::NotRestored { backup, why } => not_restored(backup, why),
        }
    }
}

/// How to get data back from a backup.
pub(super) const RESTORE: &str = "restore the cluster with `etcd-backup restore-cluster` (docs/restore.md)";

fn without_data(request: Uuid, directory: &str) -> (String, String, String) {
    (
        format!("the data of restore {request} is not in {directory}"),
        "there is nothing to put in the place of the old data, which was not touched".to_owned(),
        "run errand restore again, it makes the data anew; or remove /var/vcap/store/etcd/.launcher/restore-request.json, then etcd starts on the old data"
            .to_owned(),
    )
}

fn not_restored(backup: &str, why: &str) -> (String, String, String) {
    (
        format!("backup {backup} could not be restored: {why}"),
        "auto_restore takes the newest state that there is or none, and puts nothing in place that is not proven; the disk was not touched"
            .to_owned(),
        format!(
            "mend what it says, it is tried again every {} minutes; or choose a point yourself: {RESTORE}",
            AGAIN_AFTER.as_secs() / 60
        ),
    )
}

fn wrong_version(with: FitsNot, why: &Incompatible) -> (String, String, String) {
    let whose = match with {
        FitsNot::Data => "the data on the disk".to_owned(),
        FitsNot::Cluster { cluster_id } => format!("cluster {cluster_id}"),
    };
    let what = match why {
        Incompatible::TooOld { binary, found } => {
            format!("etcd {binary} is too old for {whose}, which is at {found}")
        }
        Incompatible::TooNew { binary, found } => {
            format!("etcd {binary} is too new for {whose}, which is at {found}")
        }
        Incompatible::PatchFirst { binary, found, least } => {
            format!("{whose} still has a member on etcd {found}; the step to {binary} needs {least} first")
        }
        Incompatible::OldRequest { binary, index } => {
            format!(
                "the log on the disk holds, at raft index {index}, a request as etcd 3.5 wrote it, which etcd {binary} does not read"
            )
        }
    };
    let why_it_matters = match why {
        Incompatible::TooOld { .. } | Incompatible::TooNew { .. } => {
            "etcd would end at once, or members would refuse each other; the data was not touched"
        }
        Incompatible::PatchFirst { .. } => {
            "older patches leave membership data that the new release reads wrongly; the data was not touched"
        }
        Incompatible::OldRequest { .. } => {
            "it would end with a panic at every start; the data was not touched"
        }
    };
    (what, why_it_matters.to_owned(), why.supported_path())
}

fn damaged(why: &str, no_restore: &NoRestore) -> (String, String, String) {
    let reason = match no_restore {
        NoRestore::NotAsked => "auto_restore is off".to_owned(),
        NoRestore::NotAlone => {
            "there were or should be more members, whose data may be newer than any backup".to_owned()
        }
        NoRestore::SomebodyThere { instance } => format!("{instance} is there or cannot be asked"),
        NoRestore::NoBackup { why } => format!("there is no backup to restore: {why}"),
        NoRestore::OtherCluster { own, others } => {
            format!("the disk belongs to cluster {own}, while {} answers", answering(others))
        }
    };
    (
        format!("the data cannot be used: {why}"),
        format!("etcd would end or lose what it acknowledged; it is not replaced unasked, because {reason}"),
        format!(
            "bring the other members back first; if none has the data, {RESTORE}; `etcd-datadir validate --mode full` tells all that is wrong"
        ),
    )
}

/// `a, b`.
pub(super) fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

/// `cluster 1 (a, b) and cluster 2 (c)`.
pub(super) fn answering(clusters: &Answering) -> String {
    clusters
        .iter()
        .map(|(cluster, instances)| format!("cluster {cluster} ({})", list(instances)))
        .collect::<Vec<_>>()
        .join(" and ")
}
