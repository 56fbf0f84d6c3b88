use super::*;
use crate::datadir::raft::{ConfChange, ConfState, EntryId, HardState};
use crate::datadir::snap::Choice;
use crate::datadir::stored_member::StoredMember;
use crate::datadir::verdict::Severity;
use crate::datadir::wal::{Change, Gap, Position, Segment, Summary};

const AT: Position = Position { segment: Segment { sequence: 0, first_index: 0 }, offset: 8 };

fn id(index: u64) -> EntryId {
    EntryId { term: 2, index }
}

fn member(id: u64) -> StoredMember {
    StoredMember { id, peer_urls: vec![format!("http://m{id}:2380")], ..StoredMember::default() }
}

fn facts(consistent_index: u64, storage_version: Option<&str>, members: &[u64]) -> Facts {
    Facts {
        consistent_index,
        term: Some(2),
        cluster_version: Some("3.5.0".to_owned()),
        storage_version: storage_version.map(str::to_owned),
        members: Some(members.iter().map(|id| (MemberId(*id), member(*id))).collect()),
        ..Facts::default()
    }
}

/// A log of entries 1 to 20, the first of which add members 1 and 2.
fn log() -> LogFacts {
    let add = |number: u64| Change {
        id: id(number),
        at: AT,
        what: What::Membership(ConfChange {
            kind: ChangeKind::Add,
            member_id: MemberId(number),
            member: Some(member(number)),
        }),
    };
    let summary = Summary {
        owner: None,
        first: Some(id(1)),
        last: Some(id(20)),
        entries: 20,
        state: HardState { term: 2, vote: 1, commit: 18 },
        snapshots: vec![SnapshotMark { id: EntryId::default(), conf_state: None }],
        changes: vec![add(1), add(2)],
        omitted: 0,
        gap: None,
        tail: Tail::Clean { at: AT, remains: None },
    };
    LogFacts { summary, choice: Choice::default(), store: Some(V2Store::default()) }
}

/// The same log, purged: it begins behind a snapshot of index 10.
fn purged() -> LogFacts {
    let mut log = log();
    let state = ConfState { voters: vec![1, 2], learners: vec![] };
    let mark = SnapshotMark { id: id(10), conf_state: Some(state) };
    log.summary.first = Some(id(8));
    log.summary.changes = Vec::new();
    log.summary.snapshots = vec![mark.clone()];
    log.choice.chosen = Some(("2-a.snap".to_owned(), mark));
    log.store =
        Some(V2Store { members: [1, 2].map(|id| (MemberId(id), member(id))).into(), ..V2Store::default() });
    log
}

fn told(facts: &Facts, log: &LogFacts) -> Vec<(Severity, String)> {
    let findings = between(facts, log, &BTreeSet::from([77]), "member/wal");
    findings.into_iter().map(|finding| (finding.severity, finding.what)).collect()
}

type Case = (&'static str, Facts, LogFacts, Option<(Severity, &'static str)>);

#[test]
fn backend_log_and_snapshot_must_reach_each_other() {
    use Severity::{Damage, Warning};
    let of = |change: &dyn Fn(&mut LogFacts)| {
        let mut log = purged();
        change(&mut log);
        log
    };
    let without_snapshot = of(&|log| log.choice.chosen = None);
    #[rustfmt::skip]
    let cases: Vec<Case> = vec![
        ("all well",                facts(20, None, &[1, 2]), log(),    None),
        ("purged",                  facts(20, None, &[1, 2]), purged(), None),
        ("commit lags",             facts(20, None, &[1, 2]), of(&|log| log.summary.state.commit = 11), None),
        ("backend lags",            facts(10, None, &[1, 2]), purged(), None),
        ("backend beyond the log",  facts(21, None, &[1, 2]), purged(), Some((Damage, "the backend holds the entries up to index 21, but the log ends with index 20"))),
        ("commit beyond the log",   facts(20, None, &[1, 2]), of(&|log| log.summary.state.commit = 21), Some((Damage, "the entries up to index 21 are agreed on, but the log ends with index 20"))),
        ("only a snapshot",         facts(10, None, &[1, 2]), of(&|log| (log.summary.first, log.summary.last, log.summary.state.commit) = (None, None, 10)), None),
        ("backend too old",         facts(9, None, &[1, 2]),  purged(), Some((Damage, "the backend ends at index 9, but the snapshot that a start begins with is of index 10, and its database is missing"))),
        ("a database was received", facts(9, None, &[1, 2]),  of(&|log| { let mark = log.choice.chosen.as_mut().unwrap(); mark.1.id = id(77); log.summary.last = Some(id(90)); }), None),
        ("no snapshot file",        facts(20, None, &[]),     without_snapshot.clone(), Some((Damage, "the log begins with index 8, but a start needs it from index 1 on"))),
        ("3.7 needs none",          facts(20, Some("3.7.0"), &[1, 2]), without_snapshot, None),
        ("a gap that matters",      facts(20, None, &[1, 2]), of(&|log| log.summary.gap = Some(Gap { at: AT, last: 12, found: 14 })), Some((Damage, "after index 12 comes index 14: the entries in between are missing"))),
        ("a gap that does not",     facts(20, None, &[1, 2]), of(&|log| log.summary.gap = Some(Gap { at: AT, last: 8, found: 10 })), None),
        ("another term",            Facts { term: Some(3), ..facts(20, None, &[1, 2]) }, purged(), Some((Warning, "the backend was written in term 3, the log says term 2"))),
        ("a log that breaks off",   facts(99, None, &[1]),    of(&|log| log.summary.tail = Tail::Broken { at: AT, why: crate::datadir::wal::Fault::Malformed { offset: 8 } }), None),
    ];
    for (case, facts, log, expected) in cases {
        let expected: Vec<_> =
            expected.into_iter().map(|(severity, what)| (severity, what.to_owned())).collect();
        assert_eq!(told(&facts, &log), expected, "{case}");
    }
}

/// Up to 3.5 the old store counts and from 3.6 on the backend: what differs comes back at the upgrade.
#[test]
fn members_that_differ_are_told_with_what_it_means() {
    let differ = "the members are not the same everywhere: ";
    let only = |whose: &str, id: u64| format!("{differ}only {whose} has {id} at http://m{id}:2380");
    #[rustfmt::skip]
    let cases = [
        (facts(20, None, &[1, 2]),               log(),    None),
        (facts(20, None, &[]),                   log(),    None),
        (facts(20, None, &[1, 2, 3]),            log(),    Some(only("the backend", 3))),
        (facts(20, None, &[1, 2, 3]),            purged(), Some(only("the backend", 3))),
        (facts(20, None, &[1]),                  purged(), Some(only("the old store", 2))),
        (facts(20, Some("3.6.0"), &[1]),         purged(), Some(only("the old store", 2))),
        (facts(20, Some("3.7.0"), &[1, 2]),      purged(), None),
        (facts(20, Some("3.7.0"), &[1, 2]),      log(),    None),
        (facts(20, Some("3.7.0"), &[1]),         purged(), Some(format!("{differ}only the log has voter 2"))),
        // Applied up to the first entry only.
        (facts(1, None, &[1]),                   log(),    None),
    ];
    for (index, (facts, log, expected)) in cases.into_iter().enumerate() {
        let found = told(&facts, &log);
        let expected: Vec<_> = expected.into_iter().map(|what| (Severity::Warning, what)).collect();
        assert_eq!(found, expected, "case {index}");
    }
}

#[test]
fn the_member_itself_and_its_versions() {
    let what =
        |facts: &Facts| own(facts, MemberId(1)).into_iter().map(|finding| finding.what).collect::<Vec<_>>();
    assert_eq!(what(&facts(9, None, &[1, 2])), Vec::<String>::new());
    assert_eq!(what(&facts(9, None, &[])), Vec::<String>::new());
    assert_eq!(what(&facts(9, None, &[2])), ["this member, 1, is not among the members"]);
    let removed = Facts { removed: BTreeSet::from([MemberId(1)]), ..facts(9, None, &[2]) };
    assert_eq!(what(&removed), ["this member, 1, was removed from its cluster"]);
    assert_eq!(what(&facts(9, Some("3.6.0"), &[1])), Vec::<String>::new());
    assert_eq!(
        what(&facts(9, Some("3.7.0"), &[1])),
        ["the cluster's version is 3.5.0, the backend's layout that of 3.7.0"]
    );
}
