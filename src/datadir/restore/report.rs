//! What was restored, for a person and for a program.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::facts::Facts;
use super::{Restoring, Run, plan};
use crate::datadir::seed::Changes;
use crate::etcd::id::{ClusterId, MemberId, MemberName, PeerUrl};

/// What was restored, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// The layout of this document: 1. Fields are added, never changed.
    pub version: u32,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// The member's id.
    pub member_id: MemberId,
    /// Its new cluster's.
    pub cluster_id: ClusterId,
    /// All members of that.
    pub members: Vec<RestoredMember>,
    /// The members of the old cluster: they are gone.
    pub replaced: Vec<MemberId>,
    /// Where it is.
    pub data_dir: PathBuf,
    /// Bytes of the database.
    pub bytes: u64,
    /// What is known of the file's hash.
    pub hash: HashCheck,
    /// The revision with which the cluster begins.
    pub revision: i64,
    /// The revision of the snapshot, if it was raised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raised_from: Option<i64>,
    /// Up to which revision the past is compacted; 0 if it never was.
    pub compacted: i64,
    /// The version of the cluster, as etcd will find it; none in snapshots of 3.4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_version: Option<String>,
    /// Alarms of members that are gone. They hold in the new cluster until they are disarmed.
    pub alarms: Vec<Alarm>,
}

/// One of the new members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestoredMember {
    /// Its id.
    pub id: MemberId,
    /// Its name.
    pub name: MemberName,
    /// Where its peers reach it.
    pub peer_urls: BTreeSet<PeerUrl>,
}

/// An alarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alarm {
    /// Who raised it.
    pub member_id: MemberId,
    /// `NOSPACE`, `CORRUPT`, or the number of one that is not known here.
    pub kind: String,
}

/// What is known of a file's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HashCheck {
    /// It is that of the pages.
    Verified,
    /// Nobody looked.
    Skipped,
}

impl Restored {
    pub(super) fn of(
        restoring: &Restoring<'_>,
        facts: &Facts,
        changes: &Changes,
        hash: HashCheck,
        bytes: u64,
    ) -> Self {
        let membership = restoring.membership;
        let raised = restoring.bump.and_then(|by| plan::raised(facts, by).ok());
        let members = membership.members().iter().map(|founder| RestoredMember {
            id: founder.id,
            name: founder.name.clone(),
            peer_urls: founder.peer_urls.clone(),
        });
        let lowered = changes.cluster.get("clusterVersion").cloned().flatten();
        let lowered = lowered.and_then(|text| String::from_utf8(text).ok());
        Self {
            version: 1,
            dry_run: restoring.run == Run::Dry,
            member_id: membership.own().id,
            cluster_id: membership.cluster_id(),
            members: members.collect(),
            replaced: facts.members.clone(),
            data_dir: restoring.data_dir.to_path_buf(),
            bytes,
            hash,
            revision: raised.unwrap_or(facts.revision),
            raised_from: raised.map(|_| facts.revision),
            compacted: raised.unwrap_or(facts.compacted),
            cluster_version: lowered.or_else(|| facts.cluster_version.map(|version| version.to_string())),
            alarms: facts.alarms.clone(),
        }
    }
}

impl fmt::Display for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { member_id, cluster_id, data_dir, .. } = self;
        let is = if self.dry_run { "would be" } else { "is" };
        write!(f, "member {member_id} of cluster {cluster_id} {is} in {}", data_dir.display())?;
        for (index, member) in self.members.iter().enumerate() {
            let head = if index == 0 { "members" } else { "" };
            let urls: Vec<&str> = member.peer_urls.iter().map(PeerUrl::as_str).collect();
            write!(f, "\n  {head:<9} {} {} {}", member.id, member.name, urls.join(","))?;
        }
        write!(f, "\n  database  {} bytes, ", self.bytes)?;
        f.write_str(match self.hash {
            HashCheck::Verified => "hash verified",
            HashCheck::Skipped => {
                "hash not looked at: run `etcd-datadir validate --mode full` before etcd starts"
            }
        })?;
        write!(f, "\n  revision  {}", self.revision)?;
        if let Some(before) = self.raised_from {
            write!(f, ", raised from {before}")?;
        }
        if self.compacted > 0 {
            write!(f, ", compacted up to {}", self.compacted)?;
        }
        if let Some(version) = &self.cluster_version {
            write!(f, "\n  version   {version}")?;
        }
        for Alarm { member_id, kind } in &self.alarms {
            write!(
                f,
                "\n  alarm     {kind} of member {member_id}, which is gone. It holds until you look into it and run `etcdctl alarm disarm`"
            )?;
        }
        Ok(())
    }
}
