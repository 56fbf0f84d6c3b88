use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::datadir::membership::{initial_cluster, peer_urls};
use crate::datadir::{Found, classify};

fn three() -> Membership {
    let listed = initial_cluster::parse("a=https://a:1,b=https://b:1,c=https://c:1").unwrap();
    Membership::found(&listed, "t", &"b".parse().unwrap(), &peer_urls("https://b:1").unwrap()).unwrap()
}

fn seed(data_dir: &Path, wal_dir: Option<&Path>) -> Result<Seeded, SeedError> {
    populate(&Seeding { membership: &three(), data_dir, wal_dir, db: None })
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_seeded_directory_is_data_of_the_member_that_was_computed() {
    let root = tempfile::tempdir().unwrap();
    let data_dir = root.path().join("new/etcd");
    let membership = three();

    let seeded = seed(&data_dir, None).unwrap();

    let Found::Data(identity) = classify(&data_dir, None).unwrap() else { panic!("no data") };
    assert_eq!((identity.member_id, identity.cluster_id), (seeded.member_id, seeded.cluster_id));
    assert_eq!(seeded.member_id, membership.own().id);
    assert_eq!(identity.voters.unwrap(), membership.members().iter().map(|member| member.id).collect());
    assert_eq!(identity.consistent_index, 3);
    assert_eq!(names(&data_dir), ["member"]);
    for (path, mode) in
        [("member", 0o700), ("member/snap", 0o700), ("member/wal", 0o700), ("member/snap/db", 0o600)]
    {
        let found = fs::metadata(data_dir.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{path}");
    }
}

#[test]
fn what_the_launcher_keeps_beside_the_data_stays_and_remains_of_a_killed_seeding_go() {
    let root = tempfile::tempdir().unwrap();
    let data_dir = root.path();
    for directory in [".launcher", "aside/2026", "lost+found", "member/snap", "member/wal", ".seeding/snap"] {
        fs::create_dir_all(data_dir.join(directory)).unwrap();
    }
    fs::write(data_dir.join(".launcher/nonce"), "1").unwrap();
    fs::write(data_dir.join(".seeding/snap/db"), "half").unwrap();

    seed(data_dir, None).unwrap();

    assert_eq!(names(data_dir), [".launcher", "aside", "lost+found", "member"]);
    assert!(matches!(classify(data_dir, None).unwrap(), Found::Data(_)));
    assert_eq!(fs::read(data_dir.join(".launcher/nonce")).unwrap(), b"1");
}

#[test]
fn a_log_in_a_directory_of_its_own_is_placed_there() {
    let root = tempfile::tempdir().unwrap();
    let (data_dir, wal_dir) = (root.path().join("data"), root.path().join("log"));
    fs::create_dir_all(wal_dir.join("lost+found")).unwrap();

    seed(&data_dir, Some(&wal_dir)).unwrap();

    assert!(matches!(classify(&data_dir, Some(&wal_dir)).unwrap(), Found::Data(_)));
    assert_eq!(names(&wal_dir), ["0000000000000000-0000000000000000.wal", "lost+found"]);
    assert_eq!(names(&data_dir.join("member")), ["snap"]);
}

#[test]
fn a_directory_with_anything_of_somebody_else_is_refused_and_not_touched() {
    let rows: [(&[&str], &str); 5] = [
        (&["notes.txt"], "it holds notes.txt"),
        (&["member/snap/db"], "nothing in it"),
        (&["member/snap/0000000000000001-0000000000000003.snap"], "remains"),
        (&["member/wal/0000000000000000-0000000000000000.wal"], "damaged data"),
        (&["member/stranger"], "member/stranger"),
    ];
    for (files, what) in rows {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let before = names(root.path());

        let error = seed(root.path(), None).expect_err(what);

        assert!(error.to_string().contains(what), "{error}");
        assert_eq!(error.complaint().exit, crate::report::Exit::Refused);
        assert_eq!(names(root.path()), before);
        assert!(files.iter().all(|file| root.path().join(file).exists()));
    }
    let root = tempfile::tempdir().unwrap();
    seed(root.path(), None).unwrap();
    let error = seed(root.path(), None).unwrap_err();
    assert!(error.to_string().contains(&format!("it holds member {}", three().own().id)), "{error}");
}

#[test]
fn a_second_seeding_of_the_same_place_is_refused_while_the_first_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let first = Place::take(root.path(), None).unwrap();

    assert!(matches!(seed(root.path(), None), Err(SeedError::Busy { .. })));

    first.give_up();
    seed(root.path(), None).unwrap();
}

#[test]
fn a_database_from_init_is_taken_and_one_with_entries_is_not() {
    let root = tempfile::tempdir().unwrap();
    let (blank, one, other) =
        (root.path().join("blank.db"), root.path().join("one"), root.path().join("other"));
    init(&blank).unwrap();
    let membership = three();
    let with = |db: &Path, data_dir: &Path| {
        populate(&Seeding { membership: &membership, data_dir, wal_dir: None, db: Some(db) })
    };

    with(&blank, &one).unwrap();
    assert!(matches!(classify(&one, None).unwrap(), Found::Data(_)));

    let used = one.join("member/snap/db");
    assert!(matches!(with(&used, &other), Err(SeedError::NotBlank { bucket: "members", .. })));
    fs::write(root.path().join("text"), "no database").unwrap();
    assert!(matches!(with(&root.path().join("text"), &other), Err(SeedError::Unreadable { .. })));
    assert!(!other.exists());
}

#[test]
fn init_overwrites_nothing_and_leaves_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let output = root.path().join("blank.db");

    init(&output).unwrap();
    let bytes = fs::read(&output).unwrap();

    assert!(matches!(init(&output), Err(SeedError::Exists { .. })));
    assert_eq!(fs::read(&output).unwrap(), bytes);
    assert_eq!(names(root.path()), ["blank.db"]);
    assert_eq!(fs::metadata(&output).unwrap().permissions().mode() & 0o777, 0o600);
    let link = root.path().join("link");
    std::os::unix::fs::symlink("/nowhere", &link).unwrap();
    assert!(matches!(init(&link), Err(SeedError::Exists { .. })));
}
