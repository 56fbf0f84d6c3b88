//! pre-start: every property and certificate checked, all faults told at once; what the last stop left
//! is cleared; the operator's shell is set up.
//!
//! Runs as root at every start by the Director, never on reboot or when monit restarts: what each start
//! needs is in [`super::container_start`].

use std::path::Path;

use anyhow::Context;
use rustls::pki_types::UnixTime;
use serde_json::json;

use super::records::{self, DrainBegun};
use super::{intent, vcap};
use crate::job::certificate::{self, Validity};
use crate::job::config::{JobConfig, faults_complaint};
use crate::job::installed;
use crate::job::paths::Paths;
use crate::{atomic_file, journal, wrapper};

/// Certificates that end sooner are told at each start.
const EXPIRY_WARNING_SECS: i64 = 30 * 24 * 60 * 60;
/// Where login shells read their set-up.
const PROFILE: &str = "/etc/profile.d/etcd.sh";

/// Checks the job and prepares the start.
pub fn run(paths: &Paths) -> anyhow::Result<()> {
    let now = UnixTime::now();
    let (job, certificates) = check(paths, now)?;
    for validity in &certificates {
        let left_secs = validity.not_after_unix_secs - i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if left_secs < EXPIRY_WARNING_SECS {
            journal::warn(
                "a certificate ends soon",
                &json!({"certificate": validity.role.name(), "not_after": validity.not_after, "next": "docs/certificates.md"}),
            );
        }
    }
    clear_last_stop(paths)?;
    write_profile(Path::new(PROFILE))?;
    journal::info(
        "pre-start checked the job",
        &json!({"instances": job.instances.len(), "link_hash": job.link_hash(), "member": job.name.as_str()}),
    );
    Ok(())
}

/// Properties, certificates and the installed etcd; everything that is wrong with any of them in one error.
fn check(paths: &Paths, now: UnixTime) -> anyhow::Result<(JobConfig, Vec<Validity>)> {
    let rendered = JobConfig::read(&paths.job_json())?;
    let mut faults = Vec::new();
    let job = rendered.job.map_err(|more| faults.extend(more)).ok();
    let certificates = certificate::check(&paths.config(), &rendered.address, now)
        .map_err(|more| faults.extend(more))
        .unwrap_or_default();
    if let Some(job) = &job {
        faults.extend(installed::faults(paths, &job.properties)?);
    }
    match job {
        Some(job) if faults.is_empty() => Ok((job, certificates)),
        _ => Err(faults_complaint(&faults).into()),
    }
}

/// The intent, drain's progress and its mark belong to the stop that is over.
fn clear_last_stop(paths: &Paths) -> anyhow::Result<()> {
    intent::clear(paths).context("clear the intent of the last pre-stop")?;
    atomic_file::remove(&paths.drain_progress()).context("clear the progress of the last drain")?;
    atomic_file::remove(&paths.force_leave()).context("clear the override of the last stop")?;
    // The directory belongs to user vcap: nothing in it is followed, only unlinked.
    records::remove::<DrainBegun>(paths).context("clear the mark of the last drain").or_else(|error| {
        // No disk yet: then there is no mark either.
        if paths.records().exists() { Err(error) } else { Ok(()) }
    })
}

fn write_profile(path: &Path) -> anyhow::Result<()> {
    let Some(directory) = path.parent().filter(|directory| directory.is_dir()) else { return Ok(()) };
    let text = wrapper::profile::render()?;
    atomic_file::write(path, text.as_bytes(), 0o644)
        .with_context(|| format!("write the login shell's set-up to {}", directory.display()))
}

/// Prepares the record directory for root's writers: owned by vcap, as bpm leaves the rest.
pub fn prepare_store(paths: &Paths) -> anyhow::Result<()> {
    std::fs::create_dir_all(paths.data_dir()).context("make the job's directory on the persistent disk")?;
    vcap::own(&paths.data_dir())?;
    Ok(())
}
