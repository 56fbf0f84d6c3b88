use std::os::unix::fs::symlink;

use proptest::prelude::*;
use tempfile::TempDir;

use super::super::fixture::{Form, backend, blank_wal_file, bolt_file, put, wal_file};
use super::super::in_use;
use super::*;
use crate::etcd::id::{ClusterId, MemberId};

const DB: &str = "member/snap/db";
const FIRST: &str = "member/wal/0000000000000000-0000000000000000.wal";
const SECOND: &str = "member/wal/0000000000000001-0000000000000010.wal";
const THIRD: &str = "member/wal/0000000000000002-0000000000000020.wal";

/// A directory with these files.
fn disk(files: &[(&str, &[u8])]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        put(root.path(), name, bytes);
    }
    root
}

fn class(root: &TempDir) -> Found {
    classify(root.path(), None).unwrap()
}

fn why(files: &[(&str, &[u8])]) -> String {
    match class(&disk(files)) {
        Found::Damaged { why, .. } => why.to_string(),
        other => panic!("{other:?}"),
    }
}

fn wal() -> Vec<u8> {
    wal_file(0, 0xa1, 0xcc)
}

#[test]
fn a_members_data_tells_whose_it_is() {
    let root = disk(&[(DB, &backend(7, 500)), (FIRST, &wal())]);

    let Found::Data(identity) = class(&root) else { panic!("{:?}", class(&root)) };

    assert_eq!((identity.member_id, identity.cluster_id), (MemberId(0xa1), ClusterId(0xcc)));
    assert_eq!(identity.voters, Some(BTreeSet::from([MemberId(0xa1), MemberId(0xb2)])));
    assert_eq!(identity.members.len(), 3);
    assert_eq!(identity.members[0].name.as_deref(), Some("m161"));
    assert_eq!(identity.members[0].peer_urls.first().unwrap().as_str(), "https://161.test:2380");
    assert_eq!(identity.cluster_version.as_deref(), Some("3.6.0"));
    assert_eq!(identity.storage_version.as_deref(), Some("3.6.0"));
    assert_eq!((identity.consistent_index, identity.removed), (7, false));
}

#[test]
fn the_backend_knows_that_its_own_member_was_removed() {
    let root = disk(&[(DB, &backend(7, 1)), (FIRST, &wal_file(0, 0xd4, 0xcc))]);
    assert!(matches!(class(&root), Found::Data(Identity { removed: true, .. })));
}

#[test]
fn a_backend_younger_than_its_first_commit_has_no_voters_yet() {
    let root = disk(&[(DB, &bolt_file(&[])), (FIRST, &wal())]);
    assert!(matches!(class(&root), Found::Data(Identity { voters: None, consistent_index: 0, .. })));
}

#[test]
fn a_member_nobody_can_read_hides_the_voters_not_the_data() {
    for stored in ["{", r#"{"id":178,"peerURLs":[]}"#, r#"{"id":-1}"#] {
        let members = [("members", Form::Inline, vec![(b"a1".to_vec(), stored.as_bytes().to_vec())])];
        let root = disk(&[(DB, &bolt_file(&members)), (FIRST, &wal())]);
        assert!(matches!(class(&root), Found::Data(Identity { voters: None, .. })), "{stored}");
    }
}

#[test]
fn urls_of_other_kinds_do_not_hide_a_member() {
    let stored = r#"{"id":161,"peerURLs":["unix://x:1","http://a:1"],"clientURLs":null,"new":{}}"#;
    let members = [("members", Form::Inline, vec![(b"a1".to_vec(), stored.as_bytes().to_vec())])];
    let root = disk(&[(DB, &bolt_file(&members)), (FIRST, &wal())]);

    let Found::Data(identity) = class(&root) else { panic!("{:?}", class(&root)) };

    assert_eq!(identity.voters, Some(BTreeSet::from([MemberId(0xa1)])));
    assert_eq!(identity.members[0].peer_urls, BTreeSet::from(["http://a:1".parse().unwrap()]));
}

#[test]
fn a_disk_without_data_is_empty() {
    let missing = tempfile::tempdir().unwrap();
    assert_eq!(classify(&missing.path().join("no/such"), None).unwrap(), Found::Empty);
    assert_eq!(class(&disk(&[])), Found::Empty);
    let records: [(&str, &[u8]); 3] =
        [("aside/2026/member/snap/db", b"old"), (".launcher/nonce.json", b"{}"), ("lost+found/x", b"")];
    assert_eq!(class(&disk(&records)), Found::Empty);

    let tree = disk(&[]);
    for directory in ["member/snap", "member/wal", "member/other"] {
        std::fs::create_dir_all(tree.path().join(directory)).unwrap();
    }
    assert_eq!(class(&tree), Found::Empty);
}

#[test]
fn what_a_failed_join_leaves_is_partial() {
    let fresh = bolt_file(&[
        ("key", Form::Inline, vec![]),
        ("members", Form::Inline, vec![]),
        ("meta", Form::Inline, vec![]),
    ]);
    let cases: [&[(&str, &[u8])]; 5] = [
        &[(DB, &fresh)],
        &[(DB, b"")],
        &[(DB, &fresh), ("member/wal.tmp/0000000000000000-0000000000000000.wal", &wal())],
        &[(DB, &fresh), ("member/wal/0.tmp", b"")],
        &[("member/snap/db.tmp.1", b"x")],
    ];
    for (index, files) in cases.into_iter().enumerate() {
        assert!(
            matches!(class(&disk(files)), Found::Partial { .. }),
            "case {index}: {:?}",
            class(&disk(files))
        );
    }
}

#[test]
fn names_of_others_make_it_foreign() {
    let data: [(&str, &[u8]); 3] = [(DB, &backend(7, 1)), (FIRST, &wal()), ("pgdata/x", b"")];
    assert_eq!(class(&disk(&data)), Found::Foreign { names: vec!["pgdata".to_owned()] });
    assert_eq!(
        class(&disk(&[("member/notes", b"x")])),
        Found::Foreign { names: vec!["member/notes".to_owned()] }
    );
    assert!(matches!(class(&disk(&[("aside", b"a file")])), Found::Foreign { .. }));

    let many: Vec<String> = (0..50).map(|number| format!("x{number:02}")).collect();
    let files: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), &b""[..])).collect();
    assert_eq!(class(&disk(&files)), Found::Foreign { names: many[..20].to_vec() });
}

#[test]
fn links_and_special_files_are_foreign_and_never_followed() {
    let real = disk(&[("data/member/snap/db", &backend(7, 1)), (&format!("data/{FIRST}"), &wal())]);
    for place in ["data", "data/member", "data/member/snap", "data/member/wal", "data/member/snap/db"] {
        let root = disk(&[("data/member/snap/db", &backend(7, 1)), (&format!("data/{FIRST}"), &wal())]);
        std::fs::rename(root.path().join(place), root.path().join("gone")).unwrap();
        symlink(real.path().join(place), root.path().join(place)).unwrap();

        for data_dir in ["data", "data/", "data/."] {
            let found = classify(&root.path().join(data_dir), None).unwrap();
            assert!(matches!(found, Found::Foreign { .. }), "{place}: {found:?}");
        }
    }
    let log = disk(&[(DB, &backend(7, 1)), ("log/x", b"")]);
    symlink(real.path().join("data/member/wal"), log.path().join("log/link")).unwrap();
    let found = classify(log.path(), Some(&log.path().join("log/link"))).unwrap();
    assert_eq!(found, Found::Foreign { names: vec!["log/link (not a directory)".to_owned()] });

    let pipe = disk(&[(FIRST, &wal()), ("member/snap/tmp", b"")]);
    nix::unistd::mkfifo(&pipe.path().join(DB), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(class(&pipe), Found::Foreign { .. }));
    assert!(!in_use(pipe.path()).unwrap());
}

#[test]
fn damage_is_told_with_file_and_place() {
    let used = backend(7, 1);
    let mut headers = used.clone();
    headers[..8192].fill(0);
    let mut torn = wal();
    torn[36] ^= 1;
    let snapshot = "member/snap/0000000000000002-0000000000000009.snap";
    insta::assert_snapshot!(why(&[(FIRST, &wal())]), @"the write-ahead log is there, but the database member/snap/db is missing");
    insta::assert_snapshot!(why(&[(FIRST, &wal()), (snapshot, b"")]), @"the write-ahead log is there, but the database member/snap/db is missing");
    insta::assert_snapshot!(why(&[(FIRST, &wal()), (DB, b"")]), @"the write-ahead log is there, but the database member/snap/db is an empty file");
    insta::assert_snapshot!(why(&[(DB, &used)]), @"member/snap/db holds data (up to raft index 7), but member/wal has no write-ahead log (*.wal): etcd would start a new cluster on top of the old data");
    insta::assert_snapshot!(why(&[(DB, &backend(0, 1))]), @"member/snap/db holds data (up to raft index 0), but member/wal has no write-ahead log (*.wal): etcd would start a new cluster on top of the old data");
    insta::assert_snapshot!(why(&[(DB, &backend(0, 0)), (snapshot, b"")]), @"neither a database with data nor a write-ahead log is there, only remains of them: member/snap/0000000000000002-0000000000000009.snap");
    insta::assert_snapshot!(why(&[(snapshot, b"")]), @"neither a database with data nor a write-ahead log is there, only remains of them: member/snap/0000000000000002-0000000000000009.snap");
    insta::assert_snapshot!(why(&[("member/wal/x.wal.broken", b"")]), @"neither a database with data nor a write-ahead log is there, only remains of them: member/wal/x.wal.broken");
    insta::assert_snapshot!(why(&[(FIRST, &wal()), (DB, &headers)]), @"member/snap/db: neither of the two headers in pages 0 and 1 is valid (24576 bytes in the file)");
    insta::assert_snapshot!(why(&[(FIRST, &wal()), (DB, &used[..8192])]), @"member/snap/db: page 2 at byte 8192: lies behind byte 8192, where the file ends");
    insta::assert_snapshot!(why(&[(FIRST, &torn), (DB, &used)]), @"member/wal/0000000000000000-0000000000000000.wal: the record at byte 16 has checksum f2f1a19a where its data gives 2fb40b22");
    insta::assert_snapshot!(why(&[(FIRST, b""), (DB, &used)]), @"member/wal/0000000000000000-0000000000000000.wal: ends at byte 0, where its checksum record should be");
    insta::assert_snapshot!(why(&[("member/wal/copy.wal", &wal()), (DB, &used)]), @"no file of the write-ahead log has a usable name: member/wal/copy.wal");
    insta::assert_snapshot!(why(&[(FIRST, &wal()), (SECOND, &wal_file(1, 0xb2, 0xcc)), (DB, &used)]), @"the write-ahead log is of two members: member/wal/0000000000000000-0000000000000000.wal is of member a1 in cluster cc, member/wal/0000000000000001-0000000000000010.wal of member b2 in cluster cc");
    insta::assert_snapshot!(why(&[(FIRST, &wal()), (THIRD, &wal()), (DB, &backend(40, 1))]), @"the write-ahead log has a gap between 0000000000000000-0000000000000000.wal and 0000000000000002-0000000000000020.wal");
    // Etcd reads all files there are, also those before a snapshot.
    insta::assert_snapshot!(why(&[(FIRST, &wal()), (THIRD, &wal()), (DB, &backend(40, 1)), ("member/snap/0000000000000002-0000000000000025.snap", b"")]), @"the write-ahead log has a gap between 0000000000000000-0000000000000000.wal and 0000000000000002-0000000000000020.wal");
    insta::assert_snapshot!(why(&[(SECOND, &wal()), (DB, &used)]), @"the write-ahead log begins with 0000000000000001-0000000000000010.wal, but the data ends at raft index 7: the entries in between are gone");
    insta::assert_snapshot!(why(&[(FIRST, &wal()), (DB, &used), (snapshot, b"")]), @"member/snap/db ends at raft index 7, but the newest snapshot file is of index 9 and its database member/snap/0000000000000009.snap.db is missing");
    let index = bolt_file(&[("meta", Form::Inline, vec![(b"consistent_index".to_vec(), vec![1])])]);
    insta::assert_snapshot!(why(&[(FIRST, &wal()), (DB, &index)]), @"member/snap/db: its bucket 'meta' has a consistent_index that is not eight bytes long");
}

/// Whose damaged data it was decides who may give it back (docs/contract.md#damaged).
#[test]
fn damaged_data_tells_whose_it_was_as_far_as_it_can_be_read() {
    let used = backend(40, 1);
    let torn = |byte: usize| {
        let mut log = wal();
        log[byte] ^= 1;
        log
    };
    let remains = |files: &[(&str, &[u8])]| match class(&disk(files)) {
        Found::Damaged { remains, .. } => remains,
        other => panic!("{other:?}"),
    };
    let ids = Remains { cluster_id: Some(ClusterId(0xcc)), member_id: Some(MemberId(0xa1)), voters: None };
    let voters = || Some(BTreeSet::from([MemberId(0xa1), MemberId(0xb2)]));
    let other = wal_file(1, 0xb2, 0xcc);

    assert_eq!(remains(&[(FIRST, &wal())]), ids, "no database");
    assert_eq!(remains(&[(FIRST, &wal()), (DB, &[0; 9000])]), ids, "a broken database");
    assert_eq!(
        remains(&[(FIRST, &wal()), (THIRD, &wal()), (DB, &used)]),
        Remains { voters: voters(), ..ids.clone() },
        "a gap in the log"
    );
    assert_eq!(
        remains(&[(FIRST, &wal()), (SECOND, &torn(36)), (DB, &used)]),
        Remains { voters: voters(), ..ids },
        "a broken file of the log beside a sound one"
    );
    for (log, what) in [(torn(36), "a broken log"), (vec![], "an empty one")] {
        let of_the_database = Remains { voters: voters(), ..Remains::default() };
        assert_eq!(remains(&[(FIRST, &log), (DB, &used)]), of_the_database, "{what}");
    }
    let of_two = remains(&[(FIRST, &wal()), (SECOND, &other), (DB, &used)]);
    assert_eq!(of_two.cluster_id, None, "a log of two members belongs to neither");
}

/// etcd killed between making its log and writing the members of a first boot waits for a leader for ever
/// when it is started again: found by killing the launcher just after it started etcd.
#[test]
fn a_log_without_an_entry_and_a_backend_without_content_is_partial() {
    let (blank, begun) = (blank_wal_file(0xa1, 0xc), wal_file(0, 0xa1, 0xc));
    let of = |log: &[u8], keys| class(&disk(&[(FIRST, log), (DB, &backend(0, keys))]));

    assert!(matches!(of(&blank, 0), Found::Partial { .. }), "{:?}", of(&blank, 0));
    // One entry, or one key, and it is somebody's data.
    assert!(matches!(of(&begun, 0), Found::Data(_)), "{:?}", of(&begun, 0));
    assert!(matches!(of(&blank, 1), Found::Data(_)), "{:?}", of(&blank, 1));
}

#[test]
fn what_looks_like_damage_but_is_not() {
    #[rustfmt::skip]
    let cases = [
        ("old files were purged",
            vec![(SECOND, wal()), (THIRD, wal()), (DB, backend(40, 1))]),
        ("the leader's database has come, and is not yet in place",
            vec![(FIRST, wal()), (DB, backend(7, 1)), ("member/snap/0000000000000009.snap.db", vec![]),
                 ("member/snap/0000000000000002-0000000000000009.snap", vec![])]),
        ("quarantined and unfinished files",
            vec![(FIRST, wal()), (DB, backend(7, 1)), ("member/wal/x.wal.broken", vec![]), ("member/wal/0.tmp", vec![]),
                 ("member/wal/copy.wal", vec![]), ("member/notes", vec![])]),
    ];
    for (what, files) in cases {
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        assert!(matches!(class(&disk(&files)), Found::Data(_)), "{what}: {:?}", class(&disk(&files)));
    }
}

#[test]
fn a_log_of_its_own_place_is_read_there_and_nowhere_else() {
    let name = "0000000000000000-0000000000000000.wal";
    let inside = disk(&[(DB, &backend(7, 1)), (&format!("log/{name}"), &wal()), ("log.tmp/x", b"")]);
    let outside = disk(&[(name, &wal()), ("lost+found/x", b"")]);
    let plain = disk(&[(DB, &backend(7, 1))]);
    let default = disk(&[(DB, &backend(7, 1)), (FIRST, &wal())]);
    let at = |root: &TempDir, wal_dir: &Path| classify(root.path(), Some(wal_dir)).unwrap();

    assert!(matches!(at(&inside, &inside.path().join("log")), Found::Data(_)));
    assert!(matches!(class(&inside), Found::Foreign { .. }), "the property was taken away");
    assert!(matches!(at(&plain, outside.path()), Found::Data(_)));
    assert!(matches!(at(&plain, &plain.path().join("log")), Found::Damaged { .. }));
    assert!(matches!(at(&default, &default.path().join("member/wal")), Found::Data(_)));
    let moved = Found::Foreign { names: vec![FIRST.to_owned()] };
    assert_eq!(at(&default, &default.path().join("log")), moved, "the property came later");
}

/// Killed in the moment in which it tried whether it may write, a member that had never run was refused as somebody
/// else's data.
#[test]
fn the_file_by_which_etcd_tries_a_directory_is_nobodys_data() {
    let root = TempDir::new().unwrap();
    std::fs::write(root.path().join(".touch"), "").unwrap();
    assert!(matches!(classify(root.path(), None).unwrap(), Found::Empty));

    std::fs::create_dir(root.path().join(".touch2")).unwrap();
    assert!(matches!(classify(root.path(), None).unwrap(), Found::Foreign { .. }));
}

#[test]
fn the_data_is_in_use_while_another_holds_the_exclusive_lock() {
    use nix::fcntl::{Flock, FlockArg};
    let root = disk(&[(DB, b"")]);
    assert!(!in_use(root.path()).unwrap());
    assert!(!in_use(disk(&[]).path()).unwrap());

    let file = std::fs::File::open(root.path().join(DB)).unwrap();
    let held = Flock::lock(file, FlockArg::LockExclusive).unwrap();
    assert!(in_use(root.path()).unwrap());

    drop(held);
    assert!(!in_use(root.path()).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn arbitrary_bytes_in_any_file_never_panic(
        db in proptest::collection::vec(any::<u8>(), 0..9000),
        log in proptest::collection::vec(any::<u8>(), 0..600),
        usable_db: bool,
        usable_log: bool,
    ) {
        let db = if usable_db { backend(7, 30) } else { db };
        let log = if usable_log { wal() } else { log };
        let found = class(&disk(&[(DB, &db), (FIRST, &log)]));
        prop_assert_eq!(matches!(found, Found::Data(_)), usable_db && usable_log);
    }

    #[test]
    fn a_changed_backend_never_panics(changes in proptest::collection::vec((0..8_usize, 0..256_usize, any::<u8>()), 1..30)) {
        let mut db = backend(7, 30);
        for (page, at, byte) in changes {
            if let Some(place) = db.get_mut(page * 4096 + at) {
                *place = byte;
            }
        }
        class(&disk(&[(DB, &db), (FIRST, &wal())]));
    }
}
