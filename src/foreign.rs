//! One function for each kind of bytes that somebody else has written, but for those of a data directory, which are in
//! [`crate::datadir::fuzz`]: for any bytes none may panic, and what was understood is written and understood again as the
//! same.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::backup::config::JobStore;
use crate::backup::{layout, manifest, seal};
use crate::etcd::http::Answer;
use crate::etcd::tls::{certificates_in, common_name};
use crate::etcd::{active_peers, id};
use crate::job::config::JobConfig;
use crate::job::lifetime::Lifetime;
use crate::lifecycle::drain::next_state;
use crate::lifecycle::launch::attestation::PeerState;
use crate::lifecycle::launch::record_files::NonceFile;
use crate::lifecycle::launch::records::{
    BootstrapRecord, ExitRecord, JoinRecord, RestoreProgress, RestoreRecord, RestoreRequest,
};
use crate::lifecycle::records::{Record, of_version};
use crate::local::manifest::Manifest;
use crate::local::monit;

/// What an agent tells the scripts of a stop: the variables and the argument, one a line.
pub fn next_state(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    let mut told = std::collections::BTreeMap::new();
    for name in [
        "BOSH_VM_NEXT_STATE",
        "BOSH_INSTANCE_NEXT_STATE",
        "BOSH_DEPLOYMENT_NEXT_STATE",
        "BOSH_JOB_STATE",
        "BOSH_JOB_NEXT_STATE",
    ] {
        told.extend(lines.next().map(|line| (name, line.to_owned())));
    }
    let variable = |name: &'static str| told.get(name).cloned();
    let _ = (next_state::intent(variable), next_state::disk(variable), next_state::call(lines.next()));
}

/// `job.json`, as this release's templates or those of another one rendered it.
pub fn job_config(bytes: &[u8]) {
    let _ = JobConfig::of(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = JobStore::of_job(text);
    }
}

/// What another launcher answers on `/state`.
pub fn launcher_state(bytes: &[u8]) {
    again::<PeerState>(serde_json::from_slice(bytes).ok());
}

/// The records on a disk, which may be another one's.
pub fn records(bytes: &[u8]) {
    record::<NonceFile>(bytes);
    record::<BootstrapRecord>(bytes);
    record::<JoinRecord>(bytes);
    record::<ExitRecord>(bytes);
    record::<RestoreRequest>(bytes);
    record::<RestoreRecord>(bytes);
    record::<RestoreProgress>(bytes);
}

fn record<R: Record>(bytes: &[u8]) {
    let Ok(file) = serde_json::from_slice::<Value>(bytes) else { return };
    let Ok(record) = of_version::<R>(file, R::VERSION) else { return };
    let written = serde_json::to_value(&record).expect("a record is JSON");
    let read: R = serde_json::from_value(written.clone()).expect("what was written is read");
    assert_eq!(serde_json::to_value(&read).expect("a record is JSON"), written);
}

/// Manifests of a store: the hash of themselves is made to fit, or nothing behind it would ever be reached.
pub fn manifests(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = (seal::opened::<manifest::Full>(bytes), layout::read(&text));
    again::<manifest::Full>(serde_json::from_slice(bytes).ok());
    again::<manifest::Delta>(serde_json::from_slice(bytes).ok());
    again::<manifest::Verification>(serde_json::from_slice(bytes).ok());
}

fn again<T: Serialize + DeserializeOwned + PartialEq + Debug>(read: Option<T>) {
    let Some(read) = read else { return };
    let written = serde_json::to_vec(&read).expect("it is JSON");
    assert_eq!(serde_json::from_slice::<T>(&written).expect("what was written is read"), read);
}

/// What etcd answers over HTTP.
pub fn metrics(bytes: &[u8]) {
    let _ = active_peers::page(&Answer { status: 200, cluster_id: None, body: bytes.to_vec() });
    let text = String::from_utf8_lossy(bytes);
    let _ = (text.parse::<id::ClusterId>(), text.parse::<id::PeerUrl>(), text.parse::<id::MemberName>());
}

/// Files of certificates.
pub fn certificates(bytes: &[u8]) {
    for certificate in certificates_in(bytes).unwrap_or_default() {
        let _ = (Lifetime::of("", &certificate), common_name(&certificate));
    }
}

/// What a deployer writes: manifests, and the monit files of jobs.
pub fn deployments(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = (Manifest::parse(text), monit::config::parse(text));
}

#[cfg(test)]
mod tests;
