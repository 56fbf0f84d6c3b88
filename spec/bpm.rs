//! Processes under bpm, in containers of `etcd-local`'s own and in those of real runc: what they see and may do, how
//! they start and stop, and the real etcd in them. The rules are bpm's, docs/local-director.md#bpm.
//!
//! The rooms: what a container is in `bpm/container.rs`, starts and stops in `bpm/power.rs`, etcd in `bpm/cluster.rs`.
//! Where runc cannot run, its half says SKIPPED and why (`bpm/runc.rs`).
#![allow(missing_docs, unreachable_pub, reason = "a test target has no public items")]
#![allow(dead_code, reason = "it uses a part of what specs share")]
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "specs write fixtures, and fail where they stop"
)]

#[path = "bpm/cluster.rs"]
mod cluster;
#[path = "bpm/container.rs"]
mod container;
#[path = "local/lab.rs"]
mod lab;
#[path = "bpm/power.rs"]
mod power;
#[path = "bpm/runc.rs"]
mod runc;
mod support;

use std::collections::BTreeMap;
use std::fs;

use etcd_release::local::bpm::vcap::Vcap;
use serde_json::{Value, json};

const OURS: &str = "namespaces";
const RUNC: &str = "runc";

/// Keys of a process that runs a script in bash.
fn bash(script: &str) -> Value {
    json!({"executable": "/bin/bash", "args": ["-c", script]})
}

fn with(mut keys: Value, more: &Value) -> String {
    keys.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    keys.to_string()
}

/// `/proc/PID/status` by name.
fn status(pid: i32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    text.lines()
        .filter_map(|line| line.split_once(":\t"))
        .map(|(name, value)| (name.to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect()
}

/// User vcap, no capability at all, no way to more, and behind a filter where runc sets one.
fn assert_confined(status: &BTreeMap<String, String>, runner: &str) {
    let Vcap { user, group } = Vcap::find().unwrap();
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status[set], "0000000000000000", "{set}");
    }
    assert_eq!(status["Uid"], format!("{user} {user} {user} {user}"));
    assert_eq!(status["Gid"], format!("{group} {group} {group} {group}"));
    assert_eq!(status["NoNewPrivs"], "1");
    if runner == RUNC {
        assert_eq!(status["CapBnd"], "0000000000000000");
        assert_eq!(status["Seccomp"], "2");
    }
}
