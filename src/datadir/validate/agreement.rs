//! Whether backend, log and snapshot file belong together: a pure comparison of what each of them says.

use std::collections::{BTreeMap, BTreeSet};

use super::backend::{FILE, Facts};
use super::findings::{Details, Effect};
use super::log::{LogFacts, Readers};
use crate::datadir::raft::{ChangeKind, SnapshotMark};
use crate::datadir::stored_member::StoredMember;
use crate::datadir::v2store::V2Store;
use crate::datadir::verdict::Finding;
use crate::datadir::wal::{Tail, What};
use crate::etcd::id::MemberId;
use crate::etcd::version::EtcdVersion;

/// The first minor release that takes the membership from the backend, and the first that reads no snapshot file.
const BACKEND_DECIDES: u16 = 6;
const NO_SNAPSHOT_FILES: u16 = 7;

/// The releases that last wrote the directory, as far as it tells.
fn minor(facts: &Facts) -> Option<u16> {
    facts.storage_version.as_ref()?.parse::<EtcdVersion>().ok().map(|version| version.minor)
}

/// Who reads the snapshot files.
pub(super) fn readers(facts: Option<&Facts>) -> Readers {
    let minor = facts.and_then(minor);
    if minor.is_some_and(|minor| minor >= NO_SNAPSHOT_FILES) { Readers::Nobody } else { Readers::UpTo36 }
}

/// What the backend says about the member itself and about versions: needs nothing but the backend.
pub(super) fn own(facts: &Facts, own: MemberId) -> Vec<Finding> {
    let mut findings = Vec::new();
    let next = "ask the cluster: 'etcdctl member list' on another member";
    if facts.removed.contains(&own) {
        let what = format!("this member, {own}, was removed from its cluster");
        let why = "etcd starts, finds that it was removed, and ends";
        findings.push(
            Effect::Runs.finding(FILE, what).in_place("bucket 'members_removed'").matters(why).next(next),
        );
    } else if facts.members.as_ref().is_some_and(|members| !members.is_empty() && !members.contains_key(&own))
    {
        let what = format!("this member, {own}, is not among the members");
        let why = "it was removed, or the entry is lost";
        findings.push(Effect::Runs.finding(FILE, what).in_place("bucket 'members'").matters(why).next(next));
    }
    let parsed = |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<EtcdVersion>().ok());
    if let (Some(cluster), Some(storage)) = (parsed(&facts.cluster_version), parsed(&facts.storage_version))
        && (cluster.major != storage.major || cluster.minor.abs_diff(storage.minor) > 1)
        && cluster.line() != (3, 0)
    {
        let what = format!("the cluster's version is {cluster}, the backend's layout that of {storage}");
        let why = "no release of etcd opens both: versions move by one minor release at a time";
        findings.push(Effect::Ends.finding(FILE, what).matters(why));
    }
    findings
}

/// What the log, the snapshot files and the backend say about each other.
pub(super) fn between(
    facts: &Facts,
    log: &LogFacts,
    received: &BTreeSet<u64>,
    wal_name: &str,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let summary = &log.summary;
    // A log that cannot be read to its end was told, and says nothing about what is missing.
    if matches!(summary.tail, Tail::Broken { .. } | Tail::Empty) {
        return findings;
    }
    let mark = |mark: Option<&SnapshotMark>| mark.map_or(0, |mark| mark.id.index);
    let newest_mark = mark(summary.newest_snapshot());
    let begins_with = if readers(Some(facts)) == Readers::Nobody {
        newest_mark
    } else {
        mark(log.choice.chosen.as_ref().map(|(_, mark)| mark))
    };
    let last = summary.last.map_or(0, |id| id.index).max(newest_mark);
    findings.extend(reaches(facts.consistent_index, summary.state.commit, last, wal_name));
    findings.extend(begins(facts, log, begins_with, received, wal_name));
    if let Some(term) = facts.term.filter(|term| *term > summary.state.term) {
        let what =
            format!("the backend was written in term {term}, the log says term {}", summary.state.term);
        findings.push(Effect::Runs.finding(FILE, what).in_place("bucket 'meta', key 'term'"));
    }
    findings.extend(members(facts, log));
    findings
}

/// Whether the log reaches as far as others rely on.
fn reaches(consistent_index: u64, commit: u64, last: u64, wal_name: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if commit > last {
        let what =
            format!("the entries up to index {commit} are agreed on, but the log ends with index {last}");
        findings.push(Effect::Ends.finding(wal_name, what));
    }
    if consistent_index > last {
        let what = format!(
            "the backend holds the entries up to index {consistent_index}, but the log ends with index {last}"
        );
        let why = "etcd would give these indexes to new entries, and pass over them as done already";
        findings.push(Effect::ServesWrong.finding(wal_name, what).matters(why));
    }
    findings
}

/// Whether the log begins early enough for the snapshot that a start begins with, and the backend goes with it.
fn begins(
    facts: &Facts,
    log: &LogFacts,
    begins_with: u64,
    received: &BTreeSet<u64>,
    wal_name: &str,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let summary = &log.summary;
    if let Some(gap) = summary.gap_after(begins_with) {
        let what =
            format!("after index {} comes index {}: the entries in between are missing", gap.last, gap.found);
        let file = format!("{wal_name}/{}", gap.at.segment);
        findings.push(Effect::Ends.finding(&file, what).at(gap.at.offset));
    }
    if let Some(first) = summary.first.filter(|first| first.index > begins_with.saturating_add(1)) {
        let what = format!(
            "the log begins with index {}, but a start needs it from index {} on",
            first.index,
            begins_with.saturating_add(1)
        );
        findings.push(Effect::Ends.finding(wal_name, what));
    }
    if begins_with > facts.consistent_index && !received.contains(&begins_with) {
        let what = format!(
            "the backend ends at index {}, but the snapshot that a start begins with is of index {begins_with}, and its \
             database is missing",
            facts.consistent_index
        );
        findings.push(Effect::Ends.finding(FILE, what));
    }
    findings
}

/// Whether everybody has the same members, at the index that the backend holds.
fn members(facts: &Facts, log: &LogFacts) -> Option<Finding> {
    let in_backend = facts.members.as_ref().filter(|members| !members.is_empty())?;
    // Some of the changes are not known.
    if log.summary.omitted > 0 {
        return None;
    }
    let minor = minor(facts);
    let differences = if readers(Some(facts)) == Readers::Nobody {
        voters_differ(facts, log)?
    } else {
        let mut found = stores_differ(in_backend, &old_store(facts.consistent_index, log)?);
        // 3.4 writes members down without the index of their entry: what agrees later in the log never differed.
        for later in [log.summary.state.commit, log.summary.last.map_or(0, |id| id.index)] {
            if later > facts.consistent_index {
                let then = stores_differ(in_backend, &old_store(later, log)?);
                found.retain(|difference| then.contains(difference));
            }
        }
        found
    };
    if differences.is_empty() {
        return None;
    }
    let what = format!("the members are not the same everywhere: {}", differences.join("; "));
    let finding = if minor.is_some_and(|minor| minor >= BACKEND_DECIDES) {
        let why = "etcd takes the members from the backend; the log disagrees";
        Effect::Runs
            .finding(FILE, what)
            .matters(why)
            .next("compare with 'etcdctl member list' on another member")
    } else {
        let why = "etcd up to 3.5 goes by the old store, 3.6 by the backend: the upgrade would change the membership, \
                   and members that were removed would come back";
        Effect::AfterUpgrade.finding(FILE, what).matters(why).next(
            "run 3.5.26 or later on every member first: it repairs the backend (docs/contract.md#versions)",
        )
    };
    Some(finding.in_place("bucket 'members'"))
}

/// Where the backend and the old store differ.
fn stores_differ(in_backend: &BTreeMap<MemberId, StoredMember>, old: &V2Store) -> Vec<String> {
    let describe = |id: &MemberId, urls: &[String], is_learner: bool| {
        let mut urls = urls.to_vec();
        urls.sort_unstable();
        format!("{id} at {}{}", urls.join(", "), if is_learner { " (learner)" } else { "" })
    };
    let of_old: BTreeSet<_> =
        old.members.iter().map(|(id, member)| describe(id, &member.peer_urls, member.is_learner)).collect();
    let of_backend: BTreeSet<_> =
        in_backend.iter().map(|(id, member)| describe(id, &member.peer_urls, member.is_learner)).collect();
    let only = |one: &BTreeSet<String>, other: &BTreeSet<String>, whose: &str| {
        one.difference(other).map(|member| format!("only {whose} has {member}")).collect::<Vec<_>>()
    };
    [only(&of_backend, &of_old, "the backend"), only(&of_old, &of_backend, "the old store")].concat()
}

/// The old store as it was at this index: that of the snapshot file and what the log changed since.
fn old_store(index: u64, log: &LogFacts) -> Option<V2Store> {
    let from = log.choice.chosen.as_ref().map_or(0, |(_, mark)| mark.id.index);
    // The snapshot is newer than the backend: a database that was received takes its place.
    if from > index {
        return None;
    }
    let mut store = log.store.clone()?;
    for change in log.summary.changes.iter().filter(|change| (from + 1..=index).contains(&change.id.index)) {
        store.apply(&change.what);
    }
    Some(store)
}

/// Where raft's own voters and learners, as the log has them, are not those of the backend.
fn voters_differ(facts: &Facts, log: &LogFacts) -> Option<Vec<String>> {
    let index = facts.consistent_index;
    let mark = log.summary.snapshots.iter().rev().find(|mark| mark.id.index <= index)?;
    let mut found: BTreeMap<MemberId, bool> = match &mark.conf_state {
        Some(state) => {
            let of = |ids: &[u64], is_learner| {
                ids.iter().map(|id| (MemberId(*id), is_learner)).collect::<Vec<_>>()
            };
            [of(&state.voters, false), of(&state.learners, true)].concat().into_iter().collect()
        }
        None if mark.id.index == 0 => BTreeMap::new(),
        // etcd 3.4 does not write them.
        None => return None,
    };
    for change in
        log.summary.changes.iter().filter(|change| (mark.id.index + 1..=index).contains(&change.id.index))
    {
        if let What::Membership(change) = &change.what {
            match change.kind {
                ChangeKind::Add | ChangeKind::Promote => _ = found.insert(change.member_id, false),
                ChangeKind::AddLearner => _ = found.insert(change.member_id, true),
                ChangeKind::Remove => _ = found.remove(&change.member_id),
                ChangeKind::Update | ChangeKind::Unknown(_) => {}
            }
        }
    }
    let in_backend: BTreeMap<_, _> =
        facts.members.iter().flatten().map(|(id, member)| (*id, member.is_learner)).collect();
    let kind = |is_learner: &bool| if *is_learner { "learner" } else { "voter" };
    let lacks = |one: &BTreeMap<MemberId, bool>, other: &BTreeMap<MemberId, bool>, whose: &str| {
        one.iter()
            .filter(|(id, is_learner)| other.get(id) != Some(is_learner))
            .map(|(id, is_learner)| format!("only {whose} has {} {id}", kind(is_learner)))
            .collect::<Vec<_>>()
    };
    Some([lacks(&in_backend, &found, "the backend"), lacks(&found, &in_backend, "the log")].concat())
}

#[cfg(test)]
mod tests;
