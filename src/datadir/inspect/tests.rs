use std::fs;

use super::super::bolt::Place;
use super::super::bolt::pages::Visitor;
use super::super::v2store::V2Store;
use super::log::{Repair, TailFacts};
use super::start::{DbFacts, Facts, LogState, foresee};
use super::*;

/// A directory that real etcd has written (spec/fixtures/datadir).
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/fixtures/datadir").join(name).join("data")
}

const ALL: Options = Options { conf_changes: ConfChanges::Listed, running: Running::Refuse };

fn of(name: &str) -> Inspection {
    inspect(&fixture(name), None, ALL).unwrap()
}

/// Without its first line, the directory.
fn page_of(name: &str) -> String {
    let page = page(&of(name));
    page.split_once('\n').unwrap().1.to_owned()
}

#[test]
fn a_learner_s_directory_on_one_page() {
    insta::assert_snapshot!(page_of("3.5-three-learner"), @"
    class       data of a member
    member      e87fd1845691fa14 of cluster 5a1369c91e3409d4
    members     256250e3c0aa9a20 m1, peers http://127.147.51.74:2380, clients http://127.0.0.1:2379
                7c0e1a2848caade2 m2, peers http://127.148.51.74:2380, clients http://127.0.0.1:2379
                e87fd1845691fa14 m4, peers http://127.150.51.74:2380, clients http://127.0.0.1:2379, learner
    old store   the same members, last changed by entry 78
    removed     b6d020abe2cd10fc
    versions    cluster 3.5.0, storage none (before 3.6)
    log         entries 1 to 82 in 1 file of 7168 bytes, term 3, agreed on up to 82
    snapshot    none: a start reads the log from its first entry
    database    up to entry 82 of term 3
    revision    68, never compacted
    keys        17; 73 records, 8 of removals, 941 bytes
    file        32768 bytes in pages of 4096: 4 in use, 4 free, 0 never used
    leases      none
    auth        off
    change      1 (term 1) add 256250e3c0aa9a20 http://127.147.51.74:2380
    change      2 (term 1) add 7c0e1a2848caade2 http://127.148.51.74:2380
    change      3 (term 1) add b6d020abe2cd10fc http://127.149.51.74:2380
    change      76 (term 3) remove b6d020abe2cd10fc
    change      77 (term 3) add-learner e87fd1845691fa14 http://127.150.51.74:2380
    a start     goes on as learner e87fd1845691fa14 of cluster 5a1369c91e3409d4: 2 of 2 voters must run, 0 entries to apply
    ");
}

#[test]
fn a_directory_with_everything_on_one_page() {
    insta::assert_snapshot!(page_of("3.6-everything"), @"
    class       data of a member
    member      b71f75320dc06a6c of cluster 1c45a069f3a1d796
    members     b71f75320dc06a6c m1, peers http://127.0.0.1:2380, clients http://127.0.0.1:2379
    old store   the same members, last changed by entry 4
    versions    cluster 3.6.0, storage 3.6.0
    log         entries 1 to 161 in 1 file of 18432 bytes, term 2, agreed on up to 161
    snapshot    none: a start reads the log from its first entry
    database    up to entry 161 of term 2
    revision    137, compacted at 57
    keys        20; 112 records, 16 of removals, 1401 bytes
    file        45056 bytes in pages of 4096: 6 in use, 5 free, 0 never used
    leases      3: 7 (3600 s), 4d2 (60000 s), 7ffffffffffffff0 (7200 s)
    auth        on, users reader (reader), root (root), roles reader, root
    alarms      NOSPACE by b71f75320dc06a6c
    change      1 (term 1) add b71f75320dc06a6c http://127.0.0.1:2380
    a start     goes on as member b71f75320dc06a6c of cluster 1c45a069f3a1d796: 1 of 1 voter must run, 0 entries to apply
    ");
}

#[test]
fn members_urls_and_changes_are_told_for_programs_too() {
    let told = serde_json::to_value(of("3.5-three-learner")).unwrap();
    assert_eq!(told["version"], 1);
    assert_eq!(told["class"]["kind"], "data");
    assert_eq!(told["member_id"], "e87fd1845691fa14");
    assert_eq!(told["backend"]["members"][2]["learner"], true);
    assert_eq!(told["v2_store"]["members"], told["backend"]["members"]);
    assert_eq!(told["conf_changes"][3]["kind"], "remove");
    assert_eq!(told["conf_changes"][4]["kind"], "add-learner");
    assert_eq!(told["start"]["kind"], "member");

    let short = Options { conf_changes: ConfChanges::Omitted, ..ALL };
    let told = serde_json::to_value(inspect(&fixture("3.5-three-learner"), None, short).unwrap()).unwrap();
    assert_eq!(told.get("conf_changes"), None);
}

/// Passwords are hashed in the database; not even the hash leaves it.
#[test]
fn no_password_is_told() {
    let told = serde_json::to_string(&of("3.6-everything")).unwrap();
    assert!(told.contains("\"reader\""));
    assert!(!told.contains("$2a$"), "{told}");
}

#[test]
fn keys_are_counted_without_being_remembered() {
    // Those of facts.json: what etcdctl counts.
    for (name, live, revision) in [
        ("3.6-everything", 20, 137),
        ("3.5-bumped", 21, 1138),
        ("3.5-three-voter", 17, 68),
        ("3.6-fresh", 0, 1),
    ] {
        let backend = of(name).backend.unwrap();
        assert_eq!((backend.keys.live, backend.revision), (Some(live), revision), "{name}");
    }
}

#[test]
fn while_a_compaction_is_unfinished_nobody_knows_how_many_keys_there_are() {
    let mut fold = backend::Fold::after(0);
    let place = Place { page: 0, offset: 0 };
    fold.bucket(b"meta", place);
    fold.entry(b"scheduledCompactRev", &[0, 0, 0, 0, 0, 0, 0, 9, b'_', 0, 0, 0, 0, 0, 0, 0, 0], place);
    let facts = fold.facts();
    assert_eq!((facts.keys.live, facts.revision, facts.compaction.finished), (None, 9, 0));
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path();
    for name in ["snap/db", "wal/0000000000000000-0000000000000000.wal"] {
        let path = copy.join("member").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(fixture("3.6-everything").join("member").join(name), path).unwrap();
    }
    let db = copy.join("member/snap/db");
    fs::write(&db, vec![0; 50_000]).unwrap();
    let told = inspect(copy, None, ALL).unwrap();
    assert!(matches!(told.class, Class::Damaged { .. }));
    assert_eq!(told.backend, None);
    assert_eq!(told.unreadable[0].file, "member/snap/db");
    assert_eq!(told.start, Start::Ends { because: "the database cannot be read".to_owned() });
    assert_eq!(told.v2_store.unwrap().members.len(), 1, "the log still tells");

    fs::remove_dir_all(copy.join("member")).unwrap();
    fs::create_dir_all(copy.join(".launcher")).unwrap();
    fs::write(copy.join(".launcher/join.json"), "{}").unwrap();
    let told = inspect(copy, None, ALL).unwrap();
    assert_eq!((told.class, told.start), (Class::Empty, Start::Empty));
    assert_eq!(told.records, ["join.json"]);
}

#[test]
fn data_that_is_open_is_left_alone_unless_reading_is_asked_for() {
    use nix::fcntl::{Flock, FlockArg};

    let directory = tempfile::tempdir().unwrap();
    let snap = directory.path().join("member/snap");
    fs::create_dir_all(&snap).unwrap();
    fs::copy(fixture("3.6-fresh").join("member/snap/db"), snap.join("db")).unwrap();
    let file = fs::File::open(snap.join("db")).unwrap();
    let _etcd = Flock::lock(file, FlockArg::LockExclusiveNonblock).unwrap();

    let refused = inspect(directory.path(), None, ALL);
    assert!(matches!(refused, Err(Error::Locked { .. })), "{refused:?}");
    let read = inspect(directory.path(), None, Options { running: Running::Read, ..ALL }).unwrap();
    assert!(matches!(read.start, Start::NewClusterOnOldData { .. }), "{:?}", read.start);
}

fn sound() -> Facts {
    let id = MemberId;
    Facts {
        class: Class::Data,
        owner: Some((id(1), ClusterId(9))),
        db: DbFacts::Readable { consistent_index: 40, records: 7 },
        log: Some(LogState {
            first_index: Some(1),
            last_index: Some(42),
            snapshot_index: 30,
            received: false,
            gap: None,
            tail: TailFacts::Clean { file: "0.wal".to_owned(), offset: 800, remains: None },
        }),
        voters: vec![id(1), id(2), id(3)],
        learners: vec![id(4)],
        removed: vec![id(5)],
    }
}

fn with(change: impl FnOnce(&mut Facts, &mut LogState)) -> Facts {
    let mut facts = sound();
    let mut log = facts.log.take().unwrap();
    change(&mut facts, &mut log);
    facts.log = Some(log);
    facts
}

fn db(consistent_index: u64) -> DbFacts {
    DbFacts::Readable { consistent_index, records: 0 }
}

fn torn(repair: Repair) -> TailFacts {
    TailFacts::Torn { file: "0.wal".to_owned(), offset: 800, why: "is torn".to_owned(), repair }
}

#[test]
fn what_a_start_would_do_follows_from_a_few_facts() {
    let broken = TailFacts::Broken { file: "0.wal".to_owned(), offset: 8, why: "bad".to_owned() };
    let damaged = Class::Damaged { why: "two logs".to_owned() };
    let without_log = |db| Facts { log: None, db, ..sound() };
    let member = |id, replayed, repair| Start::Member {
        member: MemberId(id),
        cluster: ClusterId(9),
        voters: 3,
        quorum: 2,
        learner: id == 4,
        replayed,
        repair,
    };
    let ends = |because: &str| Start::Ends { because: because.to_owned() };
    #[rustfmt::skip]
    let rows = [
        ("sound",                      sound(),                                                     member(1, 2, None)),
        ("a learner",                  with(|f, _| f.owner = Some((MemberId(4), ClusterId(9)))),    member(4, 2, None)),
        ("a torn end",                 with(|_, l| l.tail = torn(Repair::Harmless)),                member(1, 2, Some(Repair::Harmless))),
        ("a torn middle",              with(|_, l| l.tail = torn(Repair::Loses { offset: 900 })),   member(1, 2, Some(Repair::Loses { offset: 900 }))),
        ("no entry behind a snapshot", with(|f, l| { (l.first_index, l.last_index) = (None, None); f.db = db(30); }), member(1, 0, None)),
        ("a received database",        with(|f, l| { f.db = db(20); l.received = true; }),          member(1, 22, None)),
        ("removed",                    with(|f, _| f.removed.push(MemberId(1))),                    Start::Removed { member: MemberId(1) }),
        ("empty",                      Facts { class: Class::Empty, ..without_log(DbFacts::Missing) }, Start::Empty),
        ("partial",                    Facts { class: Class::Partial { what: String::new() }, ..sound() }, Start::OnRemains),
        ("foreign",                    Facts { class: Class::Foreign { names: vec![] }, ..sound() }, Start::Foreign),
        ("a used database alone",      without_log(db(40)),                                         Start::NewClusterOnOldData { consistent_index: 40 }),
        ("a broken database alone",    without_log(DbFacts::Unreadable),                            ends("the database cannot be read")),
        ("remains",                    without_log(DbFacts::Missing),                               Start::OnRemains),
        ("a broken log",               with(|_, l| l.tail = broken),                                ends("0.wal, byte 8: bad")),
        ("a broken database",          with(|f, _| f.db = DbFacts::Unreadable),                     ends("the database cannot be read")),
        ("no database",                with(|f, l| { f.db = DbFacts::Missing; l.snapshot_index = 0; }), ends("the log is there, and the database is missing")),
        ("a snapshot, no database",    with(|f, _| f.db = DbFacts::Missing),                        ends("the database is missing, and the snapshot file asks for it: etcd panics")),
        ("an old database",            with(|f, _| f.db = db(20)),                                  ends("the database ends at index 20, before the snapshot of index 30: etcd panics")),
        ("missing entries",            with(|_, l| l.gap = Some((33, 36))),                         ends("the log lacks the entries between 33 and 36")),
        ("a log that begins late",     with(|_, l| l.first_index = Some(32)),                       ends("the log begins with entry 32, and no snapshot reaches up to it")),
        ("a log that ends early",      with(|_, l| l.last_index = Some(39)),                        Start::PassesOverWrites { last_index: 39, consistent_index: 40 }),
        ("an unnamed log",             with(|f, _| f.owner = None),                                 ends("the log does not say whose it is")),
        ("other damage",               with(|f, _| f.class = damaged),                              ends("two logs")),
    ];
    for (name, facts, expected) in rows {
        assert_eq!(foresee(&facts), expected, "{name}");
    }
}

#[test]
fn where_the_two_memberships_differ_the_step_to_3_6_is_told() {
    let member = |id, url: &str, learner| StoredMember {
        id,
        peer_urls: vec![url.to_owned()],
        is_learner: learner,
        ..StoredMember::default()
    };
    let mut store = V2Store::default();
    for known in [member(1, "a", false), member(2, "b", true), member(3, "c", false), member(4, "d", false)] {
        store.members.insert(known.member_id(), known);
    }
    store.removed.insert(MemberId(6));
    let rows = [
        member(1, "a", false),
        member(2, "b", false),
        member(3, "x", false),
        member(5, "e", false),
        member(6, "f", false),
    ];
    let mut backend =
        BackendFacts { members: rows.iter().map(MemberRow::from).collect(), ..BackendFacts::default() };

    let found = changes::differences(&store, &backend);
    let told: Vec<_> = found.iter().map(|one| format!("{} {}", one.member, one.what)).collect();
    assert_eq!(
        told,
        [
            "2 is a learner in the old store, a voter in the database",
            "3 has peer URLs c in the old store, x in the database",
            "4 is in the old store only",
            "5 is in the database only",
            "6 was removed, and is still in the database",
        ]
    );
    assert_eq!(
        found[4].matters,
        "etcd up to 3.5 goes by the old store; with the step to 3.6 it comes back and counts for the quorum"
    );

    backend.storage_version = Some("3.6.0".to_owned());
    let found = changes::differences(&store, &backend);
    assert!(found.iter().all(|one| one.matters.starts_with("etcd from 3.6 on goes by the database")));
}
