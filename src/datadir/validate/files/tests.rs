use std::fs::Permissions;

use super::*;
use crate::datadir::fixture::put;

#[test]
fn what_etcd_cannot_open_and_what_others_may_read_is_told() {
    let root = tempfile::tempdir().unwrap();
    let at = root.path();
    for name in ["member/snap/db", "member/snap/1-1.snap", "member/wal/0-0.wal", "member/wal/0.tmp"] {
        put(at, name, b"");
    }
    let mode = |name: &str, mode| fs::set_permissions(at.join(name), Permissions::from_mode(mode)).unwrap();
    for directory in ["", "member", "member/snap", "member/wal"] {
        mode(directory, 0o700);
    }
    for file in ["member/snap/db", "member/wal/0-0.wal"] {
        mode(file, 0o600);
    }
    // etcd's own umask decides here.
    mode("member/snap/1-1.snap", 0o644);
    let wal = at.join("member/wal");
    assert_eq!(check(at, &wal).unwrap(), vec![]);

    mode("member", 0o750);
    mode("member/snap/db", 0o400);
    mode("member/wal/0-0.wal", 0o604);
    let told: Vec<_> = check(at, &wal)
        .unwrap()
        .into_iter()
        .map(|finding| format!("{}: {}", finding.file, finding.what))
        .collect();
    assert_eq!(
        told,
        [
            "member: its mode is 0750, etcd's own is 0700",
            "member/snap/db: its mode is 0400: its own owner may not read and write it",
            "member/wal/0-0.wal: its mode is 0604, etcd's own is 0600",
        ]
    );
    assert_eq!(check(&at.join("none"), &wal).unwrap(), vec![]);
}
