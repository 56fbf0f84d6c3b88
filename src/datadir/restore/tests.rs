use std::fs;
use std::path::PathBuf;

use super::*;
use crate::datadir::bolt::write::{WriteError, Writer};
use crate::datadir::membership::{initial_cluster, peer_urls};
use crate::datadir::{Found, classify};

/// A bucket and its entries.
type Bucket = (&'static str, Vec<(Vec<u8>, Vec<u8>)>);

struct Lab {
    root: tempfile::TempDir,
    membership: Membership,
}

fn revision(main: i64) -> Vec<u8> {
    [&main.to_be_bytes()[..], b"_", &[0; 8]].concat()
}

fn buckets() -> Vec<Bucket> {
    vec![
        ("alarm", vec![(vec![0x08, 0xa1, 0x01, 0x10, 0x01], Vec::new())]),
        (
            "cluster",
            vec![
                (b"clusterVersion".to_vec(), b"3.6.0".to_vec()),
                (b"downgrade".to_vec(), br#"{"target-version":"3.5.0","enabled":true}"#.to_vec()),
            ],
        ),
        ("key", (2..200).map(|main| (revision(main), vec![7; 100])).collect()),
        (
            "members",
            vec![(b"a1".to_vec(), br#"{"id":161,"peerURLs":["http://old:1"],"name":"old"}"#.to_vec())],
        ),
        ("members_removed", vec![(b"d4".to_vec(), b"removed".to_vec())]),
        (
            "meta",
            vec![
                (b"consistent_index".to_vec(), 9000_u64.to_be_bytes().to_vec()),
                (b"finishedCompactRev".to_vec(), revision(50)),
                (b"scheduledCompactRev".to_vec(), revision(60)),
                (b"storageVersion".to_vec(), b"3.6.0".to_vec()),
                (b"unknown".to_vec(), b"kept".to_vec()),
            ],
        ),
    ]
}

impl Lab {
    fn new() -> Self {
        let listed = initial_cluster::parse("a=https://a:1,b=https://b:1").unwrap();
        let own = "a".parse().unwrap();
        let membership = Membership::found(&listed, "t", &own, &peer_urls("https://a:1").unwrap()).unwrap();
        Self { root: tempfile::tempdir().unwrap(), membership }
    }

    fn snapshot(&self, buckets: &[Bucket]) -> PathBuf {
        let path = self.root.path().join("snapshot.db");
        let mut writer = Writer::new(File::create(&path).unwrap(), 4096).unwrap();
        for (name, entries) in buckets {
            let fill = |bucket: &mut crate::datadir::bolt::write::Filling<'_>| {
                entries.iter().try_for_each(|(key, value)| bucket.put(key, value))
            };
            writer.bucket::<WriteError>(name.as_bytes(), fill).unwrap();
        }
        writer.finish().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend(snapshot_file::hash(&bytes));
        fs::write(&path, bytes).unwrap();
        path
    }

    fn restore(
        &self,
        snapshot: &Path,
        change: impl FnOnce(&mut Restoring<'_>),
    ) -> Result<Restored, RestoreError> {
        let data_dir = self.data_dir();
        let mut restoring = Restoring {
            snapshot,
            membership: &self.membership,
            data_dir: &data_dir,
            wal_dir: None,
            hash: HashRule::Demanded,
            bump: None,
            target_version: None,
            run: Run::Real,
        };
        change(&mut restoring);
        restore(&restoring, &mut |_, _| {})
    }

    fn data_dir(&self) -> PathBuf {
        self.root.path().join("data")
    }

    fn value(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        let db = Db::open(File::open(self.data_dir().join("member/snap/db")).unwrap()).unwrap();
        db.bucket(bucket.as_bytes()).unwrap()?.get(key.as_bytes()).unwrap()
    }
}

#[test]
fn the_membership_is_replaced_and_everything_else_stays() {
    let lab = Lab::new();
    let snapshot = lab.snapshot(&buckets());

    let restored = lab.restore(&snapshot, |_| {}).unwrap();

    let Found::Data(identity) = classify(&lab.data_dir(), None).unwrap() else { panic!("no data") };
    assert_eq!((identity.member_id, identity.cluster_id), (restored.member_id, restored.cluster_id));
    assert_eq!(identity.voters.unwrap().len(), 2);
    assert!(lab.value("members", "a1").is_none() && lab.value("members_removed", "d4").is_none());
    assert_eq!(lab.value("meta", "consistent_index").unwrap(), 2_u64.to_be_bytes());
    assert_eq!(lab.value("meta", "term").unwrap(), 1_u64.to_be_bytes());
    assert_eq!(lab.value("meta", "unknown").unwrap(), b"kept");
    assert_eq!(lab.value("meta", "scheduledCompactRev").unwrap(), revision(60));
    assert_eq!(lab.value("cluster", "clusterVersion").unwrap(), b"3.6.0");
    let db = Db::open(File::open(lab.data_dir().join("member/snap/db")).unwrap()).unwrap();
    assert_eq!(db.bucket(b"key").unwrap().unwrap().entries(1000).unwrap(), buckets()[2].1);
    assert_eq!((restored.revision, restored.compacted, restored.hash), (199, 60, HashCheck::Verified));
    assert_eq!(restored.replaced[0].to_string(), "a1");
    let text = restored.to_string();
    assert!(text.contains("alarm     NOSPACE of member a1"), "{text}");
}

#[test]
fn a_dry_run_says_the_same_and_makes_nothing() {
    let lab = Lab::new();
    let snapshot = lab.snapshot(&buckets());
    let bumped = |restoring: &mut Restoring<'_>| restoring.bump = Some(1000);

    let dry = lab
        .restore(&snapshot, |restoring| {
            bumped(restoring);
            restoring.run = Run::Dry;
        })
        .unwrap();
    assert!(!lab.data_dir().exists());
    let real = lab.restore(&snapshot, bumped).unwrap();

    assert_eq!(Restored { dry_run: false, ..dry }, real);
    assert_eq!((real.revision, real.raised_from, real.compacted), (1199, Some(199), 1199));
    assert_eq!(lab.value("meta", "scheduledCompactRev").unwrap(), revision(1199));
    let db = Db::open(File::open(lab.data_dir().join("member/snap/db")).unwrap()).unwrap();
    assert_eq!(db.bucket(b"key").unwrap().unwrap().last().unwrap().unwrap(), (revision(1199), Vec::new()));
}

#[test]
fn what_cannot_be_trusted_is_refused_and_leaves_nothing_behind() {
    let lab = Lab::new();
    let snapshot = lab.snapshot(&buckets());
    let good = fs::read(&snapshot).unwrap();
    let put = |bytes: &[u8]| fs::write(&snapshot, bytes).unwrap();

    let mut flipped = good.clone();
    flipped[3 * 4096 + 100] ^= 1;
    put(&flipped);
    assert!(matches!(lab.restore(&snapshot, |_| {}), Err(RestoreError::WrongHash { .. })));
    // So much is wrong that it is no database, but the hash says it first.
    put(&[&[0; 8192][..], &good[8192..]].concat());
    assert!(matches!(lab.restore(&snapshot, |_| {}), Err(RestoreError::WrongHash { .. })));
    let bare = &good[..good.len() - 32];
    put(bare);
    assert!(matches!(lab.restore(&snapshot, |_| {}), Err(RestoreError::NoHash { .. })));
    put(&[7; 8192]);
    let skipped = |restoring: &mut Restoring<'_>| restoring.hash = HashRule::Skipped;
    assert!(matches!(lab.restore(&snapshot, skipped), Err(RestoreError::Unreadable { .. })));
    put(b"");
    assert!(matches!(lab.restore(&snapshot, skipped), Err(RestoreError::Unreadable { .. })));
    let leftover = lab.data_dir().exists().then(|| fs::read_dir(lab.data_dir()).unwrap().count());
    assert!(leftover.is_none_or(|count| count == 0));

    put(bare);
    assert_eq!(lab.restore(&snapshot, skipped).unwrap().hash, HashCheck::Skipped);
    assert!(matches!(lab.restore(&snapshot, skipped), Err(RestoreError::Seed(SeedError::Occupied { .. }))));
}

#[test]
fn versions_are_lowered_for_an_older_etcd_and_never_raised() {
    // (target, cluster version, storage version, whether a downgrade stays noted)
    let rows = [
        ("3.5.0", Some("3.5.0"), None, false),
        ("3.4.9", Some("3.4.0"), None, false),
        ("3.6.4", Some("3.6.0"), Some("3.6.0"), false),
    ];
    for (target, cluster, storage, downgrade) in rows {
        let lab = Lab::new();
        let snapshot = lab.snapshot(&buckets());
        let restored = lab
            .restore(&snapshot, |restoring| restoring.target_version = Some(target.parse().unwrap()))
            .unwrap();

        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        assert_eq!(lab.value("cluster", "clusterVersion").map(text).as_deref(), cluster, "{target}");
        assert_eq!(lab.value("meta", "storageVersion").map(text).as_deref(), storage, "{target}");
        assert_eq!(lab.value("cluster", "downgrade").is_some(), downgrade, "{target}");
        assert_eq!(restored.cluster_version.as_deref(), cluster, "{target}");
    }
    let lab = Lab::new();
    let snapshot = lab.snapshot(&buckets());
    let raise = |restoring: &mut Restoring<'_>| restoring.target_version = Some(EtcdVersion::new(3, 7, 0));
    assert!(matches!(lab.restore(&snapshot, raise), Err(RestoreError::NotLower { .. })));
}

/// A snapshot of 3.4 has neither versions nor a compaction, and maybe no key.
#[test]
fn a_snapshot_that_says_little_is_restored_as_well() {
    let lab = Lab::new();
    let snapshot = lab.snapshot(&[("key", Vec::new()), ("meta", Vec::new())]);

    let restored = lab.restore(&snapshot, |restoring| restoring.bump = Some(10)).unwrap();

    assert_eq!((restored.revision, restored.raised_from), (11, Some(1)));
    assert_eq!(restored.cluster_version, None);
    let high = |restoring: &mut Restoring<'_>| {
        restoring.bump = Some(u64::MAX);
        restoring.run = Run::Dry;
    };
    assert!(matches!(lab.restore(&snapshot, high), Err(RestoreError::RevisionTooHigh { .. })));
}
