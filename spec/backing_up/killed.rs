//! The job killed behind each of its steps, under writes: no set is ever broken, and the next one goes on.

use std::fs::{self, File};
use std::net::IpAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use etcd_release::backup::step::Step;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::deltas::state;
use super::etcd::{Etcd, PEER_URL, Start, ask, base64};
use super::job::Job;
use super::revision;
use super::shop::Shop;

/// An upload of long ago that was interrupted.
const LONG_AGO: &str = "v1/20200101T000000Z-00000000";

/// Properties with which a step comes soon.
fn soon(step: Step) -> Value {
    match step {
        Step::Elected
        | Step::DeltaCut
        | Step::DeltaUploaded
        | Step::DeltaListed
        | Step::WorkEnded
        | Step::LeaseReturned => json!({}),
        Step::FullUploaded | Step::FullListed | Step::OldSetRead | Step::OldSetClosed => {
            json!({"schedule": "* * * * * *"})
        }
        // An upload in several parts.
        Step::FullSent => json!({"schedule": "* * * * * *", "compression": "none"}),
        Step::SetProven | Step::ProofNoted => json!({"verification.schedule": "* * * * * *"}),
        Step::SetUnlisted | Step::ObjectRemoved | Step::UnfinishedRemoved => json!({
            "schedule": "* * * * * *", "retention.keep_last": 1, "retention.keep_hourly": 0,
            "retention.keep_daily": 0, "retention.keep_weekly": 0, "retention.keep_monthly": 0,
        }),
    }
}

/// Whether the revisions of a moment may be in no set afterwards: docs/contract.md#deltas.
fn may_lose_the_moment(step: Step) -> bool {
    matches!(step, Step::FullListed | Step::OldSetRead)
}

#[test]
fn whatever_step_it_was_killed_behind_the_next_one_goes_on() {
    let killed = Step::ALL.map(|step| {
        let name = step.name().to_owned();
        thread::Builder::new().name(name).spawn(move || goes_on_behind(step)).unwrap()
    });
    let ended = Step::ALL.into_iter().zip(killed.map(thread::JoinHandle::join));
    let failed: Vec<Step> = ended.filter_map(|(step, ended)| ended.is_err().then_some(step)).collect();
    assert!(failed.is_empty(), "it did not behind {failed:?}");
}

fn goes_on_behind(step: Step) {
    let (shop, directory) = (Shop::new(), tempfile::tempdir().unwrap());
    let etcd = Etcd::start(&Start::alone("3.6", &directory.path().join("data")));
    if step == Step::FullSent {
        (0..24).for_each(|key| etcd.put(&format!("large-{key}"), &vec![b'v'; 1 << 20]));
    }
    etcd.put("first", b"1");
    shop.saved(&etcd);
    if step == Step::UnfinishedRemoved {
        leave_unfinished(&shop);
    }

    let (address, enough) = (etcd.address, AtomicBool::new(false));
    thread::scope(|scope| {
        let writer = scope.spawn(|| write(address, &enough));
        // However it ends, or it would be waited for.
        let _guard = Guard(&enough);

        let job = Job::start(&shop, &etcd, "killed", &soon(step), Some(&step.fail_point()));
        if matches!(step, Step::WorkEnded | Step::LeaseReturned) {
            job.says("\"following\"");
            job.signal(Signal::SIGTERM);
        }
        assert_eq!(job.ended().signal(), Some(9), "{step}");
        nothing_is_broken(step, &shop);
        fits(step, &shop, &etcd);

        let mut calm = soon(step);
        calm["schedule"] = json!("0 0 1 1 *");
        let job = Job::start(&shop, &etcd, "next", &calm, None);
        job.says("\"following\"");
        shop.reaches(revision(&etcd));
        enough.store(true, Ordering::Relaxed);
        assert!(writer.join().unwrap() > 0, "{step}: nothing was written meanwhile");
        shop.reaches(revision(&etcd));
        job.signal(Signal::SIGTERM);
        assert!(job.ended().success(), "{step}");
    });

    nothing_is_broken(step, &shop);
    nothing_is_left_out(step, &shop, &etcd, directory.path());
    restored_it_is_what_etcd_answers(step, &shop, &etcd, &directory.path().join("restored"));
    nothing_stays_for_ever(step, &shop, &etcd);
}

struct Guard<'a>(&'a AtomicBool);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Writes until it is enough; how often.
fn write(address: IpAddr, enough: &AtomicBool) -> u64 {
    let mut written = 0;
    while !enough.load(Ordering::Relaxed) {
        let (key, value) = (format!("key-{}", written % 40), format!("value {written}"));
        let put = json!({"key": base64(key.as_bytes()), "value": base64(value.as_bytes())});
        ask(address, None, "kv/put", &put).unwrap();
        written += 1;
        thread::park_timeout(Duration::from_millis(20));
    }
    written
}

fn leave_unfinished(shop: &Shop) {
    let folder = shop.place().join(LONG_AGO);
    fs::create_dir_all(&folder).unwrap();
    for name in ["delta-00000000000000000001-00000000000000000002-00000000.delta.zst", "full.db.zst"] {
        File::create(folder.join(name)).unwrap();
    }
    all_of_it_was_days_ago(&folder);
}

fn all_of_it_was_days_ago(folder: &Path) {
    let then = SystemTime::now() - Duration::from_hours(72);
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            File::options().append(true).open(entry.path()).unwrap().set_modified(then).unwrap();
        } else {
            all_of_it_was_days_ago(&entry.path());
        }
    }
}

fn list(shop: &Shop) -> Value {
    let output = shop.backup(&["list", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// It died where the step says.
fn fits(step: Step, shop: &Shop, etcd: &Etcd) {
    let listed = list(shop);
    let count = |name: &str| listed[name].as_array().unwrap().len();
    let files = shop.files();
    let files = |with: &str| files.keys().filter(|name| name.contains(with)).count();
    let leases = || etcd.call("lease/leases", &json!({}))["leases"].as_array().map_or(0, Vec::len);

    let unfinished = match step {
        Step::FullSent | Step::FullUploaded | Step::SetUnlisted | Step::UnfinishedRemoved => 1..=1,
        // A set without a delta is gone with its only object.
        Step::ObjectRemoved => 0..=1,
        _ => 0..=0,
    };
    assert!(unfinished.contains(&count("unfinished")), "{step}: {listed}");
    let sets = match step {
        Step::FullListed | Step::OldSetRead | Step::OldSetClosed => 2..=2,
        // Besides the newest there are those that go next, and one that reaches further for a moment stays for that.
        Step::SetUnlisted | Step::ObjectRemoved | Step::UnfinishedRemoved => 1..=usize::MAX,
        _ => 1..=1,
    };
    assert!(sets.contains(&count("sets")), "{step}: {listed}");
    let deltas = (files(".delta"), files("delta-") - files(".delta"));
    match step {
        Step::Elected | Step::DeltaCut => assert_eq!(deltas, (0, 0), "{step}"),
        Step::DeltaUploaded => assert_eq!(deltas, (1, 0), "{step}"),
        Step::DeltaListed => assert_eq!(deltas, (1, 1), "{step}"),
        Step::SetProven => assert_eq!(files("verified-"), 0, "{step}"),
        Step::ProofNoted => assert_eq!(files("verified-"), 1, "{step}"),
        Step::UnfinishedRemoved => assert_eq!(files(LONG_AGO), 1, "{step}"),
        Step::LeaseReturned => assert_eq!(leases(), 0, "{step}"),
        Step::WorkEnded => assert_eq!(leases(), 1, "{step}"),
        _ => {}
    }
}

/// Every set that is listed can be read, to its end.
fn nothing_is_broken(step: Step, shop: &Shop) {
    let listed = list(shop);
    assert_eq!(listed["unreadable"], json!([]), "{step}");
    let sets = listed["sets"].as_array().unwrap();
    assert!(!sets.is_empty() && sets.iter().all(|set| set["broken"].is_null()), "{step}: {listed}");
    let output = shop.backup(&["verify", "--all", "--no-record"]).output().unwrap();
    assert!(output.status.success(), "{step}: {}", String::from_utf8_lossy(&output.stderr));
}

/// All that was written is in a set, revision by revision, and no revision lies between two sets.
fn nothing_is_left_out(step: Step, shop: &Shop, etcd: &Etcd, scratch: &Path) {
    let sets = shop.sets();
    let newest = sets.last().unwrap();
    let begins = |set: &super::shop::Set| set.full["revisions"]["last"].as_i64().unwrap();
    let records = newest.deltas.iter().flat_map(|delta| shop.records(delta, scratch));
    let revisions: Vec<i64> = records.map(|record| record.revision).collect();
    assert!(revisions.iter().copied().eq(begins(newest) + 1..=revision(etcd)), "{step}: {revisions:?}");
    for two in sets.windows(2) {
        let touch = two[0].last() >= begins(&two[1]);
        assert!(touch || may_lose_the_moment(step), "{step}: {} then {}", two[0].last(), begins(&two[1]));
    }
}

fn restored_it_is_what_etcd_answers(step: Step, shop: &Shop, etcd: &Etcd, data_dir: &Path) {
    let cluster = format!("m1={PEER_URL}");
    let output = shop
        .backup(&["restore", "--to", "latest", "--name", "m1", "--initial-cluster-token", "restored"])
        .args(["--initial-cluster", &cluster, "--data-dir"])
        .arg(data_dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "{step}: {}", String::from_utf8_lossy(&output.stderr));
    let restored = Etcd::start(&Start::alone("3.6", data_dir));
    assert_eq!(revision(&restored), revision(etcd), "{step}");
    assert!(state(&restored) == state(etcd), "{step}: another state was restored");
}

/// What was interrupted is removed with its time: then there is one set, and nothing else.
fn nothing_stays_for_ever(step: Step, shop: &Shop, etcd: &Etcd) {
    all_of_it_was_days_ago(&shop.place());
    let newest = shop.saved(etcd);
    for command in [&["verify"][..], &["prune", "--keep-last", "1"]] {
        let output = shop.backup(command).output().unwrap();
        assert!(output.status.success(), "{step}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let folder = format!("v1/{}", newest["set"].as_str().unwrap());
    let files: Vec<String> = shop.files().into_keys().collect();
    let [object, manifest, note] = &files[..] else { panic!("{step}: {files:?}") };
    assert_eq!(newest["object"]["name"], json!(object), "{step}");
    assert_eq!(*manifest, format!("{folder}/full.json"), "{step}");
    assert!(note.starts_with(&format!("{folder}/verified-")), "{step}: {files:?}");
    assert_eq!(fs::read_dir(shop.place().join("v1")).unwrap().count(), 1, "{step}: empty directories");
}
