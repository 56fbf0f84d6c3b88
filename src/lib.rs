//! The job scripts of the etcd BOSH release, and the director for one machine.
//!
//! The doors are in `src/bin`; each parses its arguments, calls a room below and prints.
//! `observe → decide → act`: decisions are pure functions over plain data, effects live in thin
//! shells around them. The rules and where they come from are told in `docs/contract.md`.

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "unit tests write fixtures, which need no durability")
)]

// What people and supervisors read.
pub mod journal;
pub mod report;
pub mod table;

// Small foundations.
pub mod atomic_file;
pub mod fail_point;

/// What BOSH rendered: properties, links, spec, certificates and paths.
pub mod job;

/// etcd seen from outside: ids, membership, quorum, client, configuration, process.
pub mod etcd;

/// One room per BOSH moment: launch, drain and the hook scripts.
pub mod lifecycle;

/// One look at the whole cluster.
pub mod status;

/// The data directory seen from the disk.
pub mod datadir;

/// The tool for data directories: its flags, and what people read.
pub mod datadir_tool;

/// Backups: the store, what lies in it, how it gets there and how data comes back from it.
pub mod backup;

/// What fuzzing calls, for bytes that somebody else has written.
#[cfg(any(test, fuzzing))]
pub mod foreign;

/// The etcdctl wrapper: finds the real tool, sets mutual TLS, execs it.
pub mod wrapper;

/// The director for one machine: manifest, links, templates, instances.
pub mod local;
