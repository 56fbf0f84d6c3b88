//! Backups of running clusters: full snapshots and deltas of real etcd, in a store that is a directory.

#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]
#![allow(clippy::case_sensitive_file_extension_comparisons, reason = "names are as we write them")]
#![allow(dead_code, unreachable_pub, reason = "several specs share the support")]

#[path = "backing_up/deltas.rs"]
mod deltas;
#[path = "backing_up/deployment.rs"]
mod deployment;
#[path = "support/etcd.rs"]
mod etcd;
#[path = "backing_up/faults.rs"]
mod faults;
#[path = "backing_up/full.rs"]
mod full;
#[path = "backing_up/job.rs"]
mod job;
#[path = "backing_up/killed.rs"]
mod killed;
#[path = "support/s3.rs"]
mod s3;
#[path = "backing_up/shop.rs"]
mod shop;
mod support;
#[path = "backing_up/trouble.rs"]
mod trouble;
#[path = "support/wire.rs"]
mod wire;

use std::thread;
use std::time::{Duration, Instant};

use etcd::{Etcd, PATIENCE, base64, number};
use serde_json::json;

fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        thread::park_timeout(Duration::from_millis(50));
    }
}

fn revision(etcd: &Etcd) -> i64 {
    let status = etcd.call("kv/range", &json!({"key": base64(b"x")}));
    i64::try_from(number(&status["header"]["revision"])).unwrap()
}

fn endpoint(etcd: &Etcd) -> String {
    format!("http://{}:2379", etcd.address)
}
