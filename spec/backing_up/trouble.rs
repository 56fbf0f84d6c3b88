//! Verifications that are interrupted, and a store that takes nothing.

use std::fs::{self, File};
use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::etcd::{Etcd, Start};
use super::job::Job;
use super::shop::Shop;
use super::{eventually, revision};

/// The newest set is restored by a schedule; whoever ends in the middle of that leaves nothing, and who is killed leaves
/// it to the next one.
#[test]
fn the_newest_set_is_restored_to_prove_it_and_nothing_is_left_of_that() {
    let (shop, directory) = (Shop::new(), tempfile::tempdir().unwrap());
    let etcd = Etcd::start(&Start::alone("3.6", &directory.path().join("data")));
    for key in 0..24 {
        etcd.put(&format!("key-{key}"), &vec![b'v'; 1 << 20]);
    }
    let each_second = json!({"verification.schedule": "* * * * * *", "verification.deep": true});
    let scratch = shop.0.path().join("jobs/verification");
    let restores = || {
        eventually("a restore that goes on", || {
            fs::read_dir(&scratch).ok()?.next()?.ok().map(|entry| entry.path())
        })
    };

    let job = Job::start(&shop, &etcd, "first", &each_second, None);
    eventually(&format!("a deep verification: {}", job.told()), || {
        let notes = shop.files().into_iter().filter(|(name, _)| name.contains("verified-"));
        let note = |path: &PathBuf| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
        notes.map(|(_, path)| note(&path)).find(|note| note["deep"] == true)
    });
    job.says("backup verified");
    restores();
    job.signal(Signal::SIGTERM);
    assert!(job.ended().success());
    assert!(!scratch.exists());

    let job = Job::start(&shop, &etcd, "second", &each_second, None);
    restores();
    job.signal(Signal::SIGKILL);
    job.ended();
    // What a child leaves that died with it.
    fs::create_dir_all(scratch.join("left")).unwrap();
    let never = json!({"verification.schedule": ""});
    let job = Job::start(&shop, &etcd, "third", &never, None);
    job.says("this instance takes the backups now");
    assert!(!scratch.exists());
}

/// A store that takes nothing holds etcd back, not our memory; when it takes something again, all of it is there.
#[test]
fn a_store_that_is_gone_costs_no_memory_and_no_revision() {
    const WRITTEN: usize = if cfg!(feature = "long") { 1 << 30 } else { 96 << 20 };
    let (shop, directory) = (Shop::new(), tempfile::tempdir().unwrap());
    let etcd = Etcd::start(&Start::alone("3.6", &directory.path().join("data")));
    let job = Job::start(&shop, &etcd, "a", &json!({"delta_bytes": 1 << 20, "compression": "none"}), None);
    shop.reaches(1);
    etcd.put("before", b"1");
    shop.reaches(2);
    let before = job.most_memory();

    // Where the directory was is a file.
    let (place, aside) = (shop.place(), shop.0.path().join("aside"));
    fs::rename(&place, &aside).unwrap();
    File::create(&place).unwrap();
    for number in 0..WRITTEN >> 20 {
        etcd.put(&format!("key-{}", number % 8), &vec![u8::try_from(number % 251).unwrap(); 1 << 20]);
    }
    job.says("a delta could not be uploaded");
    let with_backlog = job.most_memory();
    fs::remove_file(&place).unwrap();
    fs::rename(&aside, &place).unwrap();

    let sets = shop.reaches(revision(&etcd));
    assert_eq!(sets.len(), 1, "{}", job.told());
    let all = job.most_memory();
    assert!(all < 56 << 20, "{before} bytes before, {with_backlog} with a backlog, {all} at the end");
    println!("memory: {before} before, {with_backlog} with a backlog, {all} after {WRITTEN} bytes");
}
