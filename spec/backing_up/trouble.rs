//! Verifications that are interrupted, and a store that takes nothing.

use std::fs::{self, File};
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
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

    // Killed, it takes the child with it that restores, also one that is held.
    let job = Job::start(&shop, &etcd, "second", &each_second, None);
    let child = eventually("a restore that is held in the middle", || {
        let child = child_of(job.child.id())?;
        // It may have ended just now.
        kill(Pid::from_raw(child), Signal::SIGSTOP).ok()?;
        let is_held = eventually("it is held, or has ended", || match state(child) {
            Some('T') => Some(true),
            None | Some('Z') => Some(false),
            Some(_) => None,
        });
        is_held.then_some(child)
    });
    assert!(scratch.exists());
    job.signal(Signal::SIGKILL);
    job.ended();
    eventually("the end of what it started", || matches!(state(child), None | Some('Z')).then_some(()));
    // What a child leaves that died with it.
    fs::create_dir_all(scratch.join("left")).unwrap();
    let never = json!({"verification.schedule": ""});
    let job = Job::start(&shop, &etcd, "third", &never, None);
    job.says("this instance takes the backups now");
    assert!(!scratch.exists());
}

/// State and parent of a process, as the kernel tells them.
fn process(pid: i32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // A program's name may contain anything.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn state(pid: i32) -> Option<char> {
    process(pid).map(|(state, _)| state)
}

fn child_of(parent: u32) -> Option<i32> {
    let all = fs::read_dir("/proc").unwrap();
    let mut pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.find(|pid| process(*pid).is_some_and(|(_, of)| of == parent))
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
