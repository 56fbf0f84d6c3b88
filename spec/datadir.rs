//! What real etcd leaves on a disk, and whose disk we say it is.

#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]
#![allow(dead_code, reason = "several specs share the support")]
#![expect(clippy::disallowed_methods, reason = "damage is written as a crash leaves it")]

#[path = "support/etcd.rs"]
mod etcd;

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use etcd::{CLIENT_URL, Etcd, PATIENCE, PEER_URL, Start, etcd_of, number, own_address};
use etcd_release::datadir::bolt::{Corruption, PageFault};
use etcd_release::datadir::wal::Fault;
use etcd_release::datadir::{Damage, Found, Identity, classify, in_use};
use etcd_release::etcd::id::{ClusterId, MemberId};
use nix::sys::signal::Signal;
use tempfile::TempDir;

/// A single member of the series we ship, in an own directory.
struct Member {
    root: TempDir,
}

impl Member {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    fn data_dir(&self) -> PathBuf {
        self.root.path().join("etcd")
    }

    fn start(&self, more: &[&str]) -> Etcd {
        Etcd::start(&Start::alone("3.6", &self.data_dir()).with(more))
    }

    /// A member that has some keys and was stopped.
    fn with_data() -> Self {
        let member = Self::new();
        let etcd = member.start(&[]);
        etcd.etcdctl(&["put", "a", "1"], b"");
        etcd.end(Signal::SIGTERM);
        member
    }

    fn identity(&self) -> Identity {
        match classify(&self.data_dir(), None).unwrap() {
            Found::Data(identity) => identity,
            other => panic!("{other:?}"),
        }
    }

    fn damage(&self) -> Damage {
        match classify(&self.data_dir(), None).unwrap() {
            Found::Damaged { why, .. } => why,
            other => panic!("{other:?}"),
        }
    }

    fn db(&self) -> PathBuf {
        self.data_dir().join("member/snap/db")
    }

    fn wal(&self) -> Vec<PathBuf> {
        let mut files = listed(&self.data_dir().join("member/wal"), "wal");
        files.sort();
        files
    }
}

fn listed(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

#[test]
fn the_disk_tells_the_ids_that_etcd_told_after_a_stop_and_after_a_kill() {
    let member = Member::new();
    assert_eq!(classify(&member.data_dir(), None).unwrap(), Found::Empty);
    let etcd = member.start(&[]);
    etcd.etcdctl(&["put", "a", "1"], b"");
    let list = etcd.etcdctl(&["member", "list"], b"");
    let own = MemberId(number(&list["members"][0]["ID"]));
    let cluster = ClusterId(number(&list["header"]["cluster_id"]));
    let learner_url = format!("http://{}:2380", own_address());
    let added = etcd.etcdctl(&["member", "add", "m2", "--learner", "--peer-urls", &learner_url], b"");
    let learner = MemberId(number(&added["member"]["ID"]));
    assert!(in_use(&member.data_dir()).unwrap());
    // etcd writes the version of its layout a few seconds after it began to serve.
    let deadline = Instant::now() + PATIENCE;
    while etcd.version().unwrap()["storage"] != "3.6.0" {
        assert!(Instant::now() < deadline, "no storage version: {}", etcd.version().unwrap());
    }

    etcd.end(Signal::SIGTERM);

    assert!(!in_use(&member.data_dir()).unwrap());
    let identity = member.identity();
    assert_eq!((identity.member_id, identity.cluster_id), (own, cluster));
    assert_eq!(identity.voters, Some(BTreeSet::from([own])));
    let by_id = |id| identity.members.iter().find(|member| member.id == id).unwrap();
    assert_eq!(by_id(own).name.as_deref(), Some("m1"));
    assert_eq!(by_id(own).client_urls.first().unwrap().as_str(), CLIENT_URL);
    assert!(by_id(learner).is_learner);
    assert_eq!(by_id(learner).name, None);
    assert_eq!(by_id(learner).peer_urls.first().unwrap().as_str(), learner_url);
    assert_eq!(identity.members.len(), 2);
    assert_eq!(identity.cluster_version.as_deref(), Some("3.6.0"));
    assert_eq!(identity.storage_version.as_deref(), Some("3.6.0"));
    assert!(identity.consistent_index > 3 && !identity.removed);

    let etcd = member.start(&[]);
    etcd.etcdctl(&["put", "b", "2"], b"");
    etcd.end(Signal::SIGKILL);
    assert!(!in_use(&member.data_dir()).unwrap());
    assert_eq!((member.identity().member_id, member.identity().cluster_id), (own, cluster));
}

#[test]
fn a_start_that_failed_before_the_log_leaves_a_partial_disk() {
    let member = Member::new();
    let nobody = own_address();
    let cluster = format!("m1={PEER_URL},m2=http://{nobody}:2380");
    let more = ["--initial-cluster", cluster.as_str(), "--initial-cluster-state", "existing"];

    Etcd::spawn(&Start::alone("3.6", &member.data_dir()).with(&more)).ended();

    assert!(member.db().is_file());
    let found = classify(&member.data_dir(), None).unwrap();
    assert!(matches!(found, Found::Partial { .. }), "{found:?}");
}

#[test]
fn a_lost_file_is_damage() {
    let member = Member::with_data();
    let aside = member.root.path().join("kept");

    fs::rename(member.db(), &aside).unwrap();
    assert_eq!(member.damage(), Damage::DbMissing);
    fs::write(member.db(), b"").unwrap();
    assert_eq!(member.damage(), Damage::DbBlank);
    fs::rename(&aside, member.db()).unwrap();
    member.identity();

    fs::rename(&member.wal()[0], &aside).unwrap();
    assert!(matches!(member.damage(), Damage::WalMissing { consistent_index: 4.., .. }));
}

#[test]
fn a_broken_backend_is_damage_and_one_broken_header_is_not() {
    let member = Member::with_data();
    // A second life: the header before the newest one knows the members, too.
    let etcd = member.start(&[]);
    etcd.etcdctl(&["put", "a", "2"], b"");
    etcd.end(Signal::SIGTERM);
    let whole = member.identity();
    let original = fs::read(member.db()).unwrap();
    let page_size = u64::from(u32::from_le_bytes(original[24..28].try_into().unwrap()));

    for page in [0, 1] {
        overwrite(&member.db(), page * page_size + 20, &[0xff; 40]);
        // The header that is left may be one transaction older.
        let left = member.identity();
        assert_eq!((left.member_id, left.voters), (whole.member_id, whole.voters.clone()), "header {page}");
        fs::write(member.db(), &original).unwrap();
    }

    overwrite(&member.db(), 20, &[0xff; 40]);
    overwrite(&member.db(), page_size + 20, &[0xff; 40]);
    assert!(matches!(member.damage(), Damage::Db(Corruption::NoMeta { .. })));

    fs::write(member.db(), &original).unwrap();
    OpenOptions::new().write(true).open(member.db()).unwrap().set_len(2 * page_size).unwrap();
    assert!(matches!(member.damage(), Damage::Db(Corruption::Page { fault: PageFault::CutOff { .. }, .. })));

    let blank_pages = vec![0; original.len() - 2 * usize::try_from(page_size).unwrap()];
    fs::write(member.db(), &original).unwrap();
    overwrite(&member.db(), 2 * page_size, &blank_pages);
    assert!(matches!(member.damage(), Damage::Db(Corruption::Page { .. })));
}

#[test]
fn a_broken_log_is_damage() {
    let member = Member::with_data();
    let file = member.wal()[0].clone();
    let original = fs::read(&file).unwrap();
    let fault = || match member.damage() {
        Damage::Wal { fault, .. } => fault,
        other => panic!("{other:?}"),
    };

    // A byte of the ids: the frames begin at 0 and 16, the record 8 bytes into the frame.
    overwrite(&file, 16 + 8 + 12, &[original[36] ^ 1]);
    assert!(matches!(fault(), Fault::BadCrc { offset: 16, .. }));
    fs::write(&file, &original[..20]).unwrap();
    assert!(matches!(fault(), Fault::Torn { offset: 16, bytes: 8, left: 4 }));
    fs::write(&file, &original[..16]).unwrap();
    assert!(matches!(fault(), Fault::NoRecord { offset: 16, .. }));
    fs::write(&file, b"").unwrap();
    assert!(matches!(fault(), Fault::NoRecord { offset: 0, .. }));
    fs::write(&file, vec![0; original.len()]).unwrap();
    assert!(matches!(fault(), Fault::NoRecord { offset: 0, .. }));
    // A torn end is what a crash leaves and etcd repairs.
    fs::write(&file, &original[..200]).unwrap();
    member.identity();
}

#[test]
fn a_log_of_several_files_with_snapshots_is_data_until_a_needed_file_is_gone() {
    let member = Member::new();
    let etcd = member.start(&["--snapshot-count=20"]);
    let value = vec![b'x'; 1 << 20];
    while member.wal().len() < 3 {
        etcd.etcdctl(&["put", "large"], &value);
    }
    etcd.end(Signal::SIGTERM);
    let snapshots = listed(&member.data_dir().join("member/snap"), "snap");
    let (whole, wal) = (member.identity(), member.wal());

    let kept = member.root.path().join("kept");
    fs::rename(&wal[0], &kept).unwrap();
    assert_eq!(member.identity(), whole, "etcd purges old files as well");
    fs::rename(&kept, &wal[0]).unwrap();

    fs::rename(&wal[2], &kept).unwrap();
    fs::rename(&wal[1], member.root.path().join("second")).unwrap();
    fs::rename(&kept, &wal[2]).unwrap();
    assert!(!snapshots.is_empty(), "a snapshot behind the hole makes no difference");
    assert!(matches!(member.damage(), Damage::WalGap { .. }));

    fs::remove_file(member.db()).unwrap();
    assert_eq!(member.damage(), Damage::DbMissing);
}

#[test]
fn a_restored_member_has_its_new_identity() {
    let member = Member::new();
    let etcd = member.start(&[]);
    etcd.etcdctl(&["put", "a", "1"], b"");
    let snapshot = member.root.path().join("snapshot.db");
    etcd.etcdctl(&["snapshot", "save", snapshot.to_str().unwrap()], b"");
    etcd.end(Signal::SIGTERM);
    let before = member.identity();
    let restored = Member::new();
    let status = Command::new(etcd_of("3.6", "etcdutl"))
        .args(["snapshot", "restore", snapshot.to_str().unwrap(), "--name", "r1", "--data-dir"])
        .arg(restored.data_dir())
        .args(["--initial-cluster", &format!("r1={PEER_URL}"), "--initial-advertise-peer-urls", PEER_URL])
        .args(["--initial-cluster-token", "restored"])
        .status()
        .expect("etcdutl starts");

    assert!(status.success());
    let after = restored.identity();
    let expected = MemberId::bootstrapped(&BTreeSet::from([PEER_URL.parse().unwrap()]), "restored");
    assert_eq!(after.member_id, expected);
    assert_eq!(after.cluster_id, ClusterId::bootstrapped(&BTreeSet::from([expected])));
    assert_eq!(after.voters, Some(BTreeSet::from([expected])));
    assert_ne!(after.cluster_id, before.cluster_id);
}
