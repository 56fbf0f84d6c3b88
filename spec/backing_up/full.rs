//! Full snapshots.

use std::os::unix::process::ExitStatusExt;

use etcd_release::backup::step::Step;
use etcd_release::datadir::bolt::Db;
use etcd_release::datadir::snapshot_file::{Checked, check};
use serde_json::json;

use super::endpoint;
use super::etcd::{Etcd, SERIES, Start, number};
use super::shop::Shop;

/// Every series of etcd gives snapshots whose last revision is read as they pass by: what the database says that is
/// read at leisure, and what etcd itself says.
#[test]
fn a_full_snapshot_is_what_etcd_sent_and_tells_its_revisions() {
    for series in SERIES {
        let (shop, directory) = (Shop::new(), tempfile::tempdir().unwrap());
        let etcd = Etcd::start(&Start::alone(series, &directory.path().join("data")));

        // A cluster without a key is at revision 1.
        let empty = shop.saved(&etcd);
        assert_eq!(empty["revisions"], json!({"compacted": 0, "last": 1}), "{series}");

        for number in 0..300 {
            etcd.put(&format!("key-{}", number % 40), &vec![b'v'; number * 40 % 9_000]);
        }
        etcd.delete("key-1");
        etcd.compact(200);
        etcd.put("after", b"compaction");
        let full = shop.saved(&etcd);

        let hash = etcd.call("maintenance/hash", &json!({}));
        let last = number(&hash["header"]["revision"]);
        assert_eq!(full["revisions"]["last"], json!(last), "{series}");
        assert_eq!(full["revisions"]["compacted"], json!(200), "{series}");
        assert_eq!(full["cluster"]["etcd"].as_str().map(|version| &version[..3]), Some(series));
        assert_eq!(full["cluster"]["members"].as_array().map(Vec::len), Some(1));
        assert_eq!(
            (full["hash"]["revision"].clone(), full["hash"]["compacted"].clone()),
            (json!(last), json!(200))
        );

        let content = shop.content(&full["object"], &directory.path().join("snapshot.db"));
        assert_eq!(content.len() as u64, full["object"]["content_bytes"].as_u64().unwrap());
        assert_eq!(check(&content, &mut |_| {}), Checked::Intact, "{series}");
        let db = Db::over(content.as_slice()).unwrap();
        let (key, _) = db.bucket(b"key").unwrap().unwrap().last().unwrap().unwrap();
        assert_eq!(key[..8], last.to_be_bytes(), "{series}");
    }
}

/// Deletions that were compacted leave pages with larger keys than any that counts.
#[test]
fn revisions_whose_keys_are_gone_count_as_well() {
    let (shop, directory) = (Shop::new(), tempfile::tempdir().unwrap());
    let etcd = Etcd::start(&Start::alone("3.6", &directory.path().join("data")));
    for number in 0..200 {
        etcd.put(&format!("key-{number}"), b"value");
    }
    for number in 0..200 {
        etcd.delete(&format!("key-{number}"));
    }
    etcd.compact(401);

    let full = shop.saved(&etcd);

    assert_eq!(full["revisions"], json!({"compacted": 401, "last": 401}));
}

/// Killed at any step, or without a store that takes it: nothing is listed that cannot be restored, and the next one
/// succeeds beside what is left.
#[test]
fn what_is_interrupted_is_no_backup() {
    let (shop, directory) = (Shop::new(), tempfile::tempdir().unwrap());
    let etcd = Etcd::start(&Start::alone("3.6", &directory.path().join("data")));
    etcd.put("key", &vec![7; 100_000]);

    let save = |at: Step| {
        let endpoint = endpoint(&etcd);
        let mut save = shop.backup(&["save", "--etcd", &endpoint]);
        save.env("ETCD_TOOLS_FAIL_POINT", at.fail_point()).output().unwrap()
    };
    assert_eq!(save(Step::FullUploaded).status.signal(), Some(9));
    let left = shop.files();
    assert!(left.keys().all(|name| !name.ends_with(".json")) && !left.is_empty(), "{left:?}");
    assert!(shop.sets().is_empty() && shop.listed().contains("not finished: "), "{}", shop.listed());

    assert_eq!(save(Step::FullListed).status.signal(), Some(9));
    assert_eq!(shop.files().keys().filter(|name| name.ends_with("/full.json")).count(), 1);

    // Nobody answers: the next time may be better.
    let address = etcd.address;
    etcd.stop();
    let output = shop.save(&format!("http://{address}:2379"));
    assert_eq!(output.status.code(), Some(4));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("no member of etcd answers") && told.contains("connection refused"), "{told}");
    assert_eq!(shop.files().keys().filter(|name| name.ends_with("/full.json")).count(), 1);
}
