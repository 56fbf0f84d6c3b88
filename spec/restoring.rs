//! Restoring from a store: what comes out is what etcd itself answers at that revision, and what is broken is named
//! before anything is touched.

#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]
#![allow(dead_code, reason = "several specs share the support")]
#![allow(clippy::disallowed_methods, reason = "damage is written as it would be found")]

#[path = "support/etcd.rs"]
mod etcd;
#[path = "support/scene.rs"]
mod scene;

use std::time::Duration;

use etcd::SERIES;
use etcd::base64;
use etcd_release::backup::layout::full_manifest;
use etcd_release::backup::seal::sealed;
use scene::{Scene, act, failed, keys_at, leases, number_of, started, succeeded};
use serde_json::{Value, json};

#[test]
fn every_revision_is_restored_as_etcd_itself_answers_it() {
    let scene = Scene::new();
    act(&scene.etcd, 1, 150);
    scene.save();
    scene.followed(|etcd| act(etcd, 2, 400));
    let set = scene.set();
    let (first, last) = (set.full.revisions.last, set.last_revision());
    assert!(set.deltas.len() > 3, "{:?}", set.deltas);

    // The ends, the cuts between two deltas, and some between.
    let cut = set.deltas[1].last;
    let between = |part: i64| first + (last - first) * part / 7;
    for (number, revision) in [first, cut, cut + 1, between(2), between(5), last].into_iter().enumerate() {
        let (data_dir, output) = scene.restore(&format!("at-{number}"), &["--to", &revision.to_string()]);
        let told = succeeded(&output);
        assert!(told.contains(&format!("revision  {revision}")), "{told}");

        let restored = started(&data_dir);

        assert_eq!(keys_at(&restored, 0), keys_at(&scene.etcd, revision), "at {revision}");
        // The past is there as well.
        let before = first.midpoint(revision);
        assert_eq!(keys_at(&restored, before), keys_at(&scene.etcd, before), "{before} in {revision}");
        let header = &restored.call("maintenance/hash", &json!({}))["header"]["revision"];
        assert_eq!(number_of(header), revision);
        restored.stop();
    }

    // Nothing has expired or was forgotten.
    let (data_dir, output) = scene.restore("latest", &["--json"]);
    let told: Value = serde_json::from_str(&succeeded(&output)).unwrap();
    assert_eq!(told["objects"], json!(1 + set.deltas.len()));
    let restored = started(&data_dir);
    assert_eq!(leases(&restored), leases(&scene.etcd));
    // It goes on as any other: the next write has the next revision.
    restored.put("after", b"restore");
    assert_eq!(number_of(&restored.call("maintenance/hash", &json!({}))["header"]["revision"]), last + 1);
}

/// What is compacted, deleted or superseded decides which records etcd's own hash leaves out.
#[test]
fn a_deep_verification_compares_the_hash_that_every_series_tells() {
    for series in SERIES {
        let scene = Scene::of(series);
        act(&scene.etcd, 7, 30);
        let compare = |what: &str| {
            scene.save();
            let told = succeeded(&scene.backup(&["verify", "--deep"]));
            let full = scene.set().full;
            // At the very revision up to which everything is compacted, old ones tell no hash, and newer ones that of
            // the moment before the compaction.
            let comparable = full.hash.is_some_and(|hash| hash.compacted.max(0) == full.revisions.compacted);
            assert!(
                comparable || full.revisions.last == full.revisions.compacted,
                "{series} {what}: {full:?}"
            );
            if comparable {
                assert!(told.contains("its keys have the hash that etcd told"), "{series} {what}: {told}");
            }
            let keys = keys_at(&scene.etcd, 0).len();
            let many = ["and are as many", "are as many as etcd told"].iter().any(|text| told.contains(text));
            assert!(many && told.contains(&format!("({keys} keys, ")), "{series} {what}: {told}");
        };
        compare("never compacted");
        scene.etcd.compact(scene.revision().cast_unsigned() / 2);
        compare("compacted in the middle");
        act(&scene.etcd, 8, 30);
        scene.etcd.put("deleted", b"1");
        scene.etcd.delete("deleted");
        scene.etcd.compact(scene.revision().cast_unsigned());
        compare("compacted at a deletion");
        act(&scene.etcd, 9, 20);
        compare("written since");
        scene.etcd.call("kv/deleterange", &json!({"key": base64(b"\0"), "range_end": base64(b"\0")}));
        compare("all deleted");
        scene.etcd.compact(scene.revision().cast_unsigned());
        compare("nothing left");
    }
}

#[test]
fn another_number_of_keys_than_etcd_counted_is_a_fault() {
    let scene = Scene::new();
    act(&scene.etcd, 7, 30);
    scene.save();
    let mut full = scene.set().full;
    let counted = full.keys.unwrap();
    full.keys = Some(counted + 1);
    full.hash = None;
    std::fs::write(scene.object(&full_manifest(&full.set)), sealed(&full)).unwrap();

    let told = failed(&scene.backup(&["verify", "--deep"]));

    assert!(told.contains(&format!("there are {counted} keys")), "{told}");
    assert!(told.contains(&format!("where etcd counted {}", counted + 1)), "{told}");
}

#[test]
fn a_time_means_what_had_arrived_by_then() {
    let scene = Scene::new();
    scene.etcd.put("before", b"1");
    scene.save();
    let mut between = String::new();
    let mut revision = 0;
    scene.followed(|etcd| {
        etcd.put("wanted", b"1");
        // Two writes that no clock can mix up.
        std::thread::sleep(Duration::from_millis(1500));
        (between, revision) = (jiff::Timestamp::now().to_string(), scene.revision());
        std::thread::sleep(Duration::from_millis(1500));
        etcd.put("mistake", b"1");
    });

    let (data_dir, output) = scene.restore("then", &["--to", &between]);

    succeeded(&output);
    let restored = started(&data_dir);
    assert_eq!(keys_at(&restored, 0), keys_at(&scene.etcd, revision));
    assert_eq!(keys_at(&restored, 0).len(), 2);
}

#[test]
fn what_is_broken_is_named_and_nothing_is_touched() {
    let scene = Scene::new();
    act(&scene.etcd, 3, 50);
    scene.etcd.compact(scene.revision().cast_unsigned() - 20);
    scene.save();
    let deep = succeeded(&scene.backup(&["verify", "--deep"]));
    assert!(deep.contains("its keys have the hash that etcd told"), "{deep}");
    let older = scene.set();
    act(&scene.etcd, 4, 20);
    scene.save();
    scene.followed(|etcd| act(etcd, 5, 150));
    let set = scene.set();
    assert!(set.deltas.len() >= 3, "{:?}", set.deltas);
    let object_of =
        |stem: &str| set.names.iter().find(|name| name.starts_with(&format!("{stem}.delta"))).unwrap();
    let deep = succeeded(&scene.backup(&["verify", "--deep"]));
    assert!(deep.contains("its keys have the hash that etcd told"), "{deep}");
    assert!(succeeded(&scene.backup(&["list"])).contains(&jiff::Timestamp::now().to_string()[..13]));

    for (object, intact_set, intact) in [
        (&set.full.object.name, older.set(), older.full.revisions.last),
        (object_of(&set.deltas[1].stem), set.set(), set.deltas[0].last),
        (object_of(&set.deltas.last().unwrap().stem), set.set(), set.deltas[set.deltas.len() - 2].last),
    ] {
        let path = scene.object(object);
        let whole = std::fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0x10;
        std::fs::write(&path, damaged).unwrap();

        for how in [&["verify"][..], &["verify", "--deep"]] {
            let told = failed(&scene.backup(how));
            assert!(told.contains(object), "{told}");
        }
        for more in [&["--dry-run"][..], &[]] {
            let (data_dir, output) = scene.restore("never", more);
            let told = failed(&output);
            assert!(told.contains(object), "{told}");
            assert!(told.contains(&format!("--set {intact_set} --to {intact}")), "{told}");
            assert!(!data_dir.exists());
        }
        // What is offered works.
        let offered = ["--set", intact_set.as_str(), "--to", &intact.to_string(), "--dry-run"];
        succeeded(&scene.restore("offered", &offered).1);

        std::fs::write(&path, whole).unwrap();
    }
    // Nothing is left of all that, and a directory with data is never replaced.
    let left: Vec<String> = std::fs::read_dir(scene.root.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "data" && name != "store")
        .collect();
    assert_eq!(left, Vec::<String>::new());
    let (data_dir, output) = scene.restore("used", &[]);
    succeeded(&output);
    let (_, again) = scene.restore("used", &[]);
    assert!(!again.status.success());
    started(&data_dir).stop();
}

/// What raises a revision is a record without a key, which etcd tells nobody of.
#[test]
fn a_backup_of_a_cluster_whose_revision_was_raised_has_no_key_too_many() {
    let scene = Scene::new();
    scene.etcd.put("kept", b"1");
    scene.save();
    let (data_dir, output) = scene.restore("raised", &["--bump-revision", "1000", "--mark-compacted"]);
    succeeded(&output);
    let raised = started(&data_dir);

    succeeded(&scene.backup(&["save", "--etcd", &format!("http://{}:2379", raised.address)]));

    let told = succeeded(&scene.backup(&["verify", "--deep"]));
    assert!(told.contains("(1 keys, "), "{told}");
    let file = scene.root.path().join("keys.jsonl");
    succeeded(&scene.backup(&["export", file.to_str().unwrap(), "--to", "latest"]));
    let exported = std::fs::read_to_string(file).unwrap();
    let keys = exported.lines().filter(|line| line.contains(r#""value":"#)).count();
    assert_eq!(keys, 1, "{exported}");
}
