//! A server of the S3 protocol behind a wire that breaks in every way.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use etcd_release::backup::catalog::{Catalog, catalog};
use etcd_release::backup::store::Store;
use serde_json::json;
use tempfile::TempDir;

use super::etcd::{Etcd, Start};
use super::job::Job;
use super::s3::{KEY, S3, SECRET};
use super::shop::Shop;
use super::wire::{Fault, Wire};
use super::{eventually, revision};

/// What is in the store, asked for without the wire.
struct Straight {
    store: Store,
    job_config: TempDir,
}

impl Straight {
    fn to(s3: &S3) -> Self {
        let job_config = tempfile::tempdir().unwrap();
        let properties = properties(&format!("http://{}", s3.address()));
        let text = json!({"version": 1, "properties": properties}).to_string();
        #[expect(clippy::disallowed_methods, reason = "files of a test need no durability")]
        std::fs::write(job_config.path().join("job.json"), text).unwrap();
        Self { store: Store::open(&S3::config("faulty", s3.address())).unwrap(), job_config }
    }

    fn catalog(&self) -> Catalog {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(catalog(&self.store)).unwrap()
    }

    /// Everything that is listed is read back.
    fn is_whole(&self, when: &str) {
        let listed = self.catalog();
        assert!(listed.unreadable.is_empty(), "{when}: {:?}", listed.unreadable);
        assert!(listed.sets.iter().all(|set| set.broken.is_none()), "{when}: {:?}", listed.sets);
        let output = Command::new(env!("CARGO_BIN_EXE_etcd-backup"))
            .args(["verify", "--all", "--job-config"])
            .arg(self.job_config.path().join("job.json"))
            .env_clear()
            .output()
            .unwrap();
        assert!(output.status.success(), "{when}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn properties(endpoint: &str) -> serde_json::Value {
    json!({
        "store.url": "s3://bucket/faulty", "store.endpoint": endpoint, "store.path_style": true,
        "store.region": "us-east-1", "store.access_key_id": KEY, "store.secret_access_key": SECRET,
        "schedule": "*/5 * * * * *", "delta_period": "500ms", "delta_bytes": 65536, "compression": "none",
        "retention.keep_last": 3, "retention.keep_hourly": 0, "retention.keep_daily": 0, "retention.keep_weekly": 0, "retention.keep_monthly": 0,
    })
}

/// Wrong credentials, a bucket that is gone, errors, bodies that are cut, silence, a slow line: what is listed is whole
/// all the time, what waits is bounded, and when the store is back all of it gets there without anybody's help.
#[test]
fn whatever_a_store_does_nothing_broken_is_listed_and_all_of_it_gets_there_in_the_end() {
    /// Some of these may be attempts at the same object.
    const HITS: usize = 6;
    let Some(s3) = S3::start() else { return };
    let (straight, wire) = (Straight::to(&s3), Wire::to(s3.address()));
    let (shop, directory) = (Shop::new(), tempfile::tempdir().unwrap());
    let etcd = Etcd::start(&Start::alone("3.6", &directory.path().join("data")));
    let job = Job::start(&shop, &etcd, "a", &properties(&format!("http://{}", wire.address())), None);
    let reaches = |revision: i64, when: &str| {
        eventually(&format!("revision {revision} is in the store ({when}): {}", job.told()), || {
            straight.catalog().sets.into_iter().next().filter(|set| set.last_revision() >= revision)
        })
    };
    etcd.put("before", b"1");
    reaches(revision(&etcd), "before");
    let before = job.most_memory();

    for fault in [
        Fault::Status(403),
        Fault::Status(404),
        Fault::Status(500),
        Fault::Status(503),
        Fault::Refused,
        Fault::RequestCut(100),
        Fault::RequestCut(3000),
        Fault::AnswerCut(1),
        Fault::AnswerCut(150),
        Fault::Silent,
        Fault::Slow(2 << 20),
        Fault::LateLists(Duration::from_secs(3)),
    ] {
        let when = format!("{fault:?}");
        wire.breaks(fault, usize::MAX);
        // One that is silent or slow is asked once in a long while.
        let once = matches!(fault, Fault::Silent | Fault::Slow(_) | Fault::LateLists(_));
        let hits = if once { 1 } else { HITS };
        let mut number = 0;
        eventually(&format!("{hits} times of {when}: {}", job.told()), || {
            for _ in 0..5 {
                number += 1;
                etcd.put(&format!("key-{}", number % 20), &[b'v'; 1500]);
            }
            (wire.hits() >= hits).then_some(())
        });
        straight.is_whole(&when);
        if let Fault::LateLists(_) = fault {
            // Through several sets, which the job itself sees late.
            let mut newest = BTreeSet::new();
            eventually(&format!("three more sets: {}", job.told()), || {
                etcd.put("late", b"1");
                newest.extend(straight.catalog().sets.first().map(|set| set.set().clone()));
                (newest.len() > 3).then_some(())
            });
            straight.is_whole(&when);
            assert!(wire.hidden() > 10, "{} names were late", wire.hidden());
        }
        if once && fault != Fault::Silent {
            reaches(revision(&etcd), &when);
        }
        wire.breaks(Fault::None, 0);
        reaches(revision(&etcd), &when);
        straight.is_whole(&when);
    }
    let after = job.most_memory();
    assert!(after < before + (32 << 20), "{before} bytes before, {after} after");
    assert!(!job.told().contains(SECRET));
}
