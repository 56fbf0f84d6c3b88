//! What happens behind a full snapshot, and behind the next one.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;

use etcd_release::backup::delta::Record;
use etcd_release::backup::step::Step;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::etcd::{Etcd, Start, base64, number};
use super::job::Job;
use super::shop::Shop;
use super::{eventually, revision};

/// What etcd has now, by key: value, version, first and last revision, lease.
pub(super) type State = BTreeMap<Vec<u8>, (Vec<u8>, i64, i64, i64, i64)>;

pub(super) fn state(etcd: &Etcd) -> State {
    let all = etcd.etcdctl(&["get", "", "--prefix"], b"");
    let text = |pair: &Value, name: &str| pair[name].as_str().unwrap_or_default().to_owned();
    let int = |pair: &Value, name: &str| i64::try_from(number(&pair[name])).unwrap();
    let pairs = all["kvs"].as_array().cloned().unwrap_or_default();
    let pairs = pairs.iter().map(|pair| {
        // Both sides in base64: that is enough to compare.
        let rest = (text(pair, "value").into_bytes(), int(pair, "version"), int(pair, "create_revision"));
        let place = (int(pair, "mod_revision"), int(pair, "lease"));
        (text(pair, "key").into_bytes(), (rest.0, rest.1, rest.2, place.0, place.1))
    });
    pairs.collect()
}

/// The state that a chain of records makes, from nothing.
fn replayed(records: &[Record]) -> State {
    let mut state = State::new();
    for record in records {
        for change in &record.changes {
            let key = base64(&change.key).into_bytes();
            if change.deleted {
                state.remove(&key);
            } else {
                let value = base64(&change.value).into_bytes();
                let place = (record.revision, change.lease);
                state.insert(key, (value, change.version, change.create_revision, place.0, place.1));
            }
        }
    }
    state
}

/// Everything that happens behind the first full snapshot is in deltas, revision by revision, through restarts of etcd
/// and of the job, killed where it hurts most. A compaction that was faster than the job brings a new full.
#[test]
fn deltas_continue_whatever_dies_in_between() {
    deltas_continue("3.6");
}

/// The same with the oldest etcd.
#[test]
fn deltas_of_the_oldest_series_continue_as_well() {
    deltas_continue("3.4");
}

fn deltas_continue(series: &'static str) {
    let (shop, directory) = (Shop::new(), tempfile::tempdir().unwrap());
    let start = Start::alone(series, &directory.path().join("data"));
    let etcd = Etcd::start(&start);
    let none = json!({});

    let job = Job::start(&shop, &etcd, "a", &none, Some(&Step::DeltaUploaded.fail_point()));
    assert_eq!(shop.reaches(1)[0].last(), 1, "{series}");
    etcd.put("first", b"1");
    assert_eq!(job.ended().signal(), Some(9));
    assert_eq!(shop.sets()[0].last(), 1, "an object without its manifest counts");

    let job = Job::start(&shop, &etcd, "a", &none, None);
    etcd.call("lease/grant", &json!({"TTL": 600, "ID": 77}));
    etcd.call("kv/put", &json!({"key": base64(b"leased"), "value": base64(b"v"), "lease": 77}));
    let put = |key: &str| json!({"requestPut": {"key": base64(key.as_bytes()), "value": base64(b"txn")}});
    etcd.call("kv/txn", &json!({"success": [put("a"), put("b"), put("c")]}));
    etcd.call("kv/deleterange", &json!({"key": base64(b"a"), "range_end": base64(b"c")}));
    for round in 0..200 {
        etcd.put(&format!("key-{}", round % 30), &vec![b'v'; round * 90]);
    }
    shop.reaches(revision(&etcd));

    // etcd is killed and comes back; the job looks for it.
    let address = etcd.address;
    etcd.end(Signal::SIGKILL);
    job.says("the watch broke");
    let etcd = Etcd::start(&Start { address, ..start.clone() });
    etcd.put("after", b"restart");
    let sets = shop.reaches(revision(&etcd));
    assert_eq!(sets.len(), 1, "{series}: {}", job.told());

    let records: Vec<Record> =
        sets[0].deltas.iter().flat_map(|delta| shop.records(delta, directory.path())).collect();
    assert!(records.iter().map(|record| record.revision).eq(2..=revision(&etcd)), "{series}");
    assert_eq!(replayed(&records), state(&etcd), "{series}");
    let leases: Vec<_> =
        records.iter().flat_map(|record| &record.leases).map(|lease| (lease.id, lease.seconds)).collect();
    assert_eq!(leases, [(77, 600)], "{series}");
    assert_eq!(records.iter().map(|record| record.changes.len()).max(), Some(3));

    // What is not in the store yet gets there at the end.
    job.signal(Signal::SIGTERM);
    assert!(job.ended().success());
    for round in 0..20 {
        etcd.put("unseen", &[round]);
    }
    etcd.compact(u64::try_from(revision(&etcd)).unwrap());
    etcd.put("unseen", b"after");
    let job = Job::start(&shop, &etcd, "b", &none, None);
    let sets = eventually("a second set", || Some(shop.sets()).filter(|sets| sets.len() == 2));
    assert!(job.told().contains("deltas cannot go on"), "{}", job.told());
    assert_eq!(sets[1].last(), revision(&etcd), "{series}");
}

/// Sets follow each other under writes, and the old one reaches what the new one begins with; the instance that is
/// active is killed, and the other goes on.
#[test]
fn sets_touch_each_other_and_another_instance_takes_over() {
    let (shop, directory) = (Shop::new(), tempfile::tempdir().unwrap());
    let etcd = Etcd::start(&Start::alone("3.6", &directory.path().join("data")));
    let often = json!({"schedule": "*/2 * * * * *", "retention.keep_last": 100});

    let first = Job::start(&shop, &etcd, "first", &often, None);
    first.says("this instance takes the backups now");
    let second = Job::start(&shop, &etcd, "second", &often, None);
    let mut written = 0;
    let mut write = || {
        for _ in 0..50 {
            written += 1;
            etcd.put(&format!("key-{}", written % 100), &[b'v'; 500]);
        }
    };
    eventually("three sets", || {
        write();
        (shop.sets().len() >= 3).then_some(())
    });
    assert!(!second.told().contains("this instance takes the backups now"));
    first.signal(Signal::SIGKILL);
    first.ended();
    let before = shop.sets().len();
    second.says("this instance takes the backups now");
    eventually("sets of the other instance", || {
        write();
        (shop.sets().len() >= before + 2).then_some(())
    });
    let sets = shop.reaches(revision(&etcd));

    let touching: Vec<(i64, i64)> = sets
        .windows(2)
        .map(|two| (two[0].last(), two[1].full["revisions"]["last"].as_i64().unwrap()))
        .collect();
    // Killed between the new set and the end of the old one, the first leaves a gap there: docs/contract.md#deltas.
    let whole = touching.iter().enumerate().filter(|(place, _)| *place + 2 != before);
    assert!(whole.map(|(_, pair)| pair).all(|(old, new)| old >= new), "{touching:?}\n{}", second.told());
}
