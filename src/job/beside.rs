//! What job `etcd` needs to know of job `etcd-backup` on the same VM.

use std::path::Path;

use serde::Deserialize;

/// Where job `etcd-backup` keeps its backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BesideStore {
    /// There is no such job, or bpm does not show it.
    None,
    /// In a directory, which only that job is shown.
    Directory,
    /// Behind an address, which everybody on the VM can ask. Also whatever cannot be read: asking tells what is wrong.
    Remote,
}

#[derive(Deserialize)]
struct Job {
    properties: Properties,
}

#[derive(Deserialize)]
struct Properties {
    #[serde(rename = "store.url")]
    url: String,
}

/// Looks into that job's `job.json`.
pub fn store_beside(job_json: &Path) -> BesideStore {
    let Ok(text) = std::fs::read(job_json) else {
        return if job_json.exists() { BesideStore::Remote } else { BesideStore::None };
    };
    match serde_json::from_slice::<Job>(&text) {
        Ok(job) if job.properties.url.starts_with("file:") => BesideStore::Directory,
        Ok(_) | Err(_) => BesideStore::Remote,
    }
}
