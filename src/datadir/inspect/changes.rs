//! The membership in the old store, where it differs from the database's, and its changes in the log.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::raft::ChangeKind;
use super::super::stored_member::StoredMember;
use super::super::v2store::V2Store;
use super::super::wal::{Summary, What};
use super::backend::BackendFacts;
use super::log::Read;
use super::{LISTED_MAX, MemberRow};
use crate::etcd::id::MemberId;

/// A membership, as the old store has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Membership {
    /// The index of the last change of the log in it.
    pub index: u64,
    /// The members.
    pub members: Vec<MemberRow>,
    /// Ids that were removed, at most [`LISTED_MAX`].
    pub removed: Vec<MemberId>,
    /// The version the members have agreed on.
    pub cluster_version: Option<String>,
    /// Whether users have written with the old API: etcd from 3.6 on refuses to start then.
    pub has_user_data: bool,
}

/// Where the two memberships differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Which member.
    pub member: MemberId,
    /// How.
    pub what: String,
    /// What follows from it.
    pub matters: String,
}

/// A change of the membership, as the log has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChangeRow {
    /// The entry's index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// What it does: `add`, `add-learner`, `promote`, `remove`, `update`, or the number of a kind that no
    /// raft has.
    pub kind: String,
    /// To whom.
    pub member: MemberId,
    /// The name it brings; empty if none.
    pub name: String,
    /// The peer URLs it brings.
    pub peer_urls: Vec<String>,
    /// Whether it is agreed on for all that this disk knows. One that is may still have been passed over,
    /// when it did not fit the members.
    pub committed: bool,
    /// The file it stands in.
    pub file: String,
    /// Where its record begins.
    pub offset: u64,
}

/// The old store as of the last entry that is agreed on, and where it differs from the database when both
/// are of the same entry.
pub(super) fn compare(
    read: &Read,
    backend: Option<&BackendFacts>,
    applied: u64,
) -> (Option<Membership>, Vec<Difference>) {
    let Some((from, store)) = &read.store else { return (None, Vec::new()) };
    let oldest_kept = read.facts.changes.first().map_or(u64::MAX, |change| change.id.index);
    if read.facts.omitted > 0 && oldest_kept > from + 1 {
        return (None, Vec::new());
    }
    let (mut store, mut index) = (store.clone(), *from);
    let mut advance = |store: &mut V2Store, to: u64| {
        for change in &read.facts.changes {
            if change.id.index > index && change.id.index <= to {
                store.apply(&change.what);
                index = change.id.index;
            }
        }
        index
    };
    advance(&mut store, applied);
    let compared = |store: &V2Store| backend.map(|backend| differences(store, backend)).unwrap_or_default();
    let mut differences = compared(&store);
    let index = advance(&mut store, read.facts.state.commit.max(applied));
    // 3.4 writes members down without the index of their entry: what agrees later in the log never differed.
    let mut later = store.clone();
    let then = compared(&later);
    differences.retain(|difference| then.contains(difference));
    for change in read.facts.changes.iter().filter(|change| change.id.index > index) {
        later.apply(&change.what);
    }
    let then = compared(&later);
    differences.retain(|difference| then.contains(difference));
    let membership = Membership {
        index,
        members: store.members.values().map(MemberRow::from).collect(),
        removed: store.removed.iter().copied().take(LISTED_MAX).collect(),
        cluster_version: store.cluster_version,
        has_user_data: store.has_user_data,
    };
    (Some(membership), differences)
}

pub(super) fn differences(store: &V2Store, backend: &BackendFacts) -> Vec<Difference> {
    let follows_backend = backend.minor().is_some_and(|minor| minor >= 6);
    let then = |upgrade: &str| {
        if follows_backend {
            "etcd from 3.6 on goes by the database: nothing follows as long as it stays there".to_owned()
        } else {
            format!("etcd up to 3.5 goes by the old store; with the step to 3.6 {upgrade}")
        }
    };
    let rows: BTreeMap<_, _> = backend.members.iter().map(|row| (row.id, row)).collect();
    let mut found = Vec::new();
    let mut differ = |member: MemberId, what: String, upgrade: &str| {
        found.push(Difference { member, what, matters: then(upgrade) });
    };
    for (id, stored) in &store.members {
        match rows.get(id) {
            None => differ(*id, "is in the old store only".to_owned(), "the member is gone"),
            Some(row) => {
                if sorted(&stored.peer_urls) != sorted(&row.peer_urls) {
                    let what = format!(
                        "has peer URLs {} in the old store, {} in the database",
                        urls(stored),
                        row.peer_urls.join(", ")
                    );
                    differ(*id, what, "its peers look for it at the database's");
                }
                if stored.is_learner != row.learner {
                    let (old, new) =
                        if row.learner { ("a voter", "a learner") } else { ("a learner", "a voter") };
                    let what = format!("is {old} in the old store, {new} in the database");
                    differ(*id, what, &format!("it is {new}, and the quorum changes"));
                }
            }
        }
    }
    for row in &backend.members {
        if !store.members.contains_key(&row.id) {
            let was = if store.removed.contains(&row.id) {
                "was removed, and is still in the database"
            } else {
                "is in the database only"
            };
            differ(row.id, was.to_owned(), "it comes back and counts for the quorum");
        }
    }
    found
}

fn urls(member: &StoredMember) -> String {
    member.peer_urls.join(", ")
}

fn sorted(urls: &[String]) -> Vec<&String> {
    let mut urls: Vec<_> = urls.iter().collect();
    urls.sort_unstable();
    urls
}

/// Every change of the membership. What the database holds is agreed on, even if the log does not say so.
pub(super) fn listed(facts: &Summary, applied: u64) -> Vec<ChangeRow> {
    let agreed = facts.state.commit.max(applied);
    let rows = facts.changes.iter().filter_map(|change| {
        let What::Membership(membership) = &change.what else { return None };
        let member = membership.member.clone().unwrap_or_default();
        Some(ChangeRow {
            index: change.id.index,
            term: change.id.term,
            kind: match membership.kind {
                ChangeKind::Add => "add".to_owned(),
                ChangeKind::AddLearner => "add-learner".to_owned(),
                ChangeKind::Promote => "promote".to_owned(),
                ChangeKind::Remove => "remove".to_owned(),
                ChangeKind::Update => "update".to_owned(),
                ChangeKind::Unknown(number) => number.to_string(),
            },
            member: membership.member_id,
            name: member.name,
            peer_urls: member.peer_urls,
            committed: change.id.index <= agreed,
            file: change.at.segment.to_string(),
            offset: change.at.offset,
        })
    });
    rows.collect()
}
