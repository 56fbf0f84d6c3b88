//! pre-start: every property and certificate checked, all faults told at once; the other instances asked whether
//! they trust it; what the last stop left is cleared; the operator's shell is set up.
//!
//! Runs as root at every start by the Director, never on reboot or when monit restarts: what each start
//! needs is in [`super::container_start`].

use std::path::Path;

use anyhow::Context;
use rustls::pki_types::UnixTime;
use serde_json::json;

use super::records::{self, DrainBegun};
use super::trust::{self, Among, Verdict};
use super::{intent, vcap};
use crate::job::certificate::{self, Doubt};
use crate::job::config::{JobConfig, faults_complaint};
use crate::job::installed;
use crate::job::lifetime::Lifetime;
use crate::job::paths::Paths;
use crate::job::reach::Reach;
use crate::{atomic_file, journal, wrapper};

/// Where login shells read their set-up.
const PROFILE: &str = "/etc/profile.d/etcd.sh";

/// Checks the job and prepares the start.
pub async fn run(paths: &Paths) -> anyhow::Result<()> {
    let (job, doubts) = check(paths, UnixTime::now())?;
    for note in &job.notes {
        journal::warn(
            "a property of a former release",
            &json!({"property": note.name, "told": note.what, "next": "docs/parity.md"}),
        );
    }
    for doubt in &doubts {
        warn(doubt, &job.spec.deployment);
    }
    demand_trust(paths, &job).await?;
    clear_last_stop(paths)?;
    write_profile(Path::new(PROFILE))?;
    journal::info(
        "pre-start checked the job",
        &json!({"instances": job.instances.len(), "link_hash": job.link_hash(), "member": job.name.as_str()}),
    );
    Ok(())
}

/// Properties, certificates and the installed etcd; everything that is wrong with any of them in one error.
fn check(paths: &Paths, now: UnixTime) -> anyhow::Result<(JobConfig, Vec<Doubt>)> {
    let rendered = JobConfig::read(&paths.job_json())?;
    let mut faults = Vec::new();
    let job = rendered.job.map_err(|more| faults.extend(more)).ok();
    let doubts = certificate::check(&paths.config(), &rendered.address, now)
        .map_err(|more| faults.extend(more))
        .unwrap_or_default();
    if let Some(job) = &job {
        faults.extend(installed::faults(paths, &job.properties)?);
    }
    match job {
        Some(job) if faults.is_empty() => Ok((job, doubts)),
        _ => Err(faults_complaint(&faults).into()),
    }
}

fn warn(doubt: &Doubt, deployment: &str) {
    let of = |lifetime: &Lifetime| json!({"certificate": lifetime.certificate, "subject": lifetime.subject, "not_after": lifetime.not_after, "next": lifetime.remedy(deployment)});
    match doubt {
        Doubt::EndsSoon(lifetime) => journal::warn("a certificate ends soon", &of(lifetime)),
        Doubt::Ended(lifetime) => {
            let mut fields = of(lifetime);
            fields["next"] = "drop it from the bundle once nothing shows a certificate of it; docs/certificates.md#rotate-ca".into();
            journal::warn("a CA has ended, another one beside it is good", &fields);
        }
        Doubt::UselessCa { bundle, subject, why } => journal::warn(
            "a certificate in a bundle of CAs is of no use",
            &json!({"certificate": bundle, "subject": subject, "why": why, "next": "docs/certificates.md#bring-your-own"}),
        ),
    }
}

/// The certificates may be good in themselves, and still nobody else's.
async fn demand_trust(paths: &Paths, job: &JobConfig) -> anyhow::Result<()> {
    let reach = Reach::load(paths)?;
    for among in [Among::Members, Among::Clients] {
        let answers = trust::ask(job, &reach, among, job.properties.observe_timeout).await;
        match trust::judge(job.instances.len(), &answers) {
            Verdict::Go => {}
            Verdict::Doubt(strangers) => journal::warn(
                "some instances do not trust this one, or are not trusted",
                &json!({"instances": trust::words(&strangers), "next": "docs/certificates.md#one-step"}),
            ),
            Verdict::Refuse(strangers) => {
                return Err(trust::complaint(among, &job.spec.deployment, &strangers).into());
            }
        }
    }
    Ok(())
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
