//! `run-errand`.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow};

use super::{Scripts, Session, identities};
use crate::local::director::{Director, is_service};
use crate::local::model::Identity;
use crate::local::preparation::Prepared;
use crate::local::sandbox;
use crate::local::slug::Slug;
use crate::local::state::Deployment;
use crate::local::waves;
use crate::report::Complaint;
use crate::table::Table;

/// What a person typed after `run-errand`.
#[derive(Debug, Clone)]
pub struct Errand {
    /// Name of the job, or of the instance group.
    pub name: String,
    /// Which instances; all that have the job if not given.
    pub slug: Option<Slug>,
    /// Keep the machine of an errand's own instance group.
    pub keep_alive: bool,
}

/// How an errand went on one instance.
struct Outcome {
    identity: Identity,
    code: i32,
    stdout: String,
    stderr: String,
}

/// Runs an errand with what was deployed last; templates are not rendered again on running instances.
pub fn run(session: &Session, typed: &Errand) -> Result<()> {
    let deployment = session.open()?;
    session.console.line(&format!("Using deployment '{}'\n", deployment.record().name))?;
    let _lock = session.lock(&format!("errand '{}'", typed.name))?;
    let (prepared, _) = session.prepare_last(&deployment)?;
    let (job, candidates) = candidates(&prepared, &typed.name, &identities(&deployment))?;
    let chosen: Vec<Identity> =
        Slug::choose(typed.slug.as_ref(), &candidates)?.into_iter().cloned().collect();
    let mut outcomes = Vec::new();
    session.task("Running errand", &deployment, Scripts::default(), |director| {
        outcomes = run_on(director, &deployment, &prepared, &job, &chosen, typed.keep_alive)?;
        Ok(())
    })?;
    let failed = outcomes.iter().find(|outcome| outcome.code != 0).map(|outcome| outcome.code);
    session.console.table(&table(&outcomes))?;
    match failed {
        None => Ok(()),
        Some(code) if code > 128 => Err(anyhow!("Errand '{}' was canceled (exit code {code})", typed.name)),
        Some(code) => Err(anyhow!("Errand '{}' completed with error (exit code {code})", typed.name)),
    }
}

/// The job behind an errand's name, and the instances that have it. A job's name wins over a group's.
fn candidates(prepared: &Prepared, name: &str, all: &[Identity]) -> Result<(String, Vec<Identity>)> {
    let has_run = |identity: &Identity, job: &str| {
        prepared.rendered.get(&identity.id).is_some_and(|rendered| {
            rendered
                .jobs
                .iter()
                .any(|one| one.name == job && one.files.iter().any(|file| file.path == "bin/run"))
        })
    };
    let of_job: Vec<Identity> = all.iter().filter(|identity| has_run(identity, name)).cloned().collect();
    if !of_job.is_empty() {
        return Ok((name.to_owned(), of_job));
    }
    let group = prepared.manifest.group(name).filter(|group| !is_service(prepared, &group.name));
    for job in group.iter().flat_map(|group| &group.jobs) {
        let of_group: Vec<Identity> = all
            .iter()
            .filter(|identity| identity.group == name && has_run(identity, &job.name))
            .cloned()
            .collect();
        if !of_group.is_empty() {
            return Ok((job.name.clone(), of_group));
        }
    }
    Err(Complaint::failed(
        format!("Errand '{name}' doesn't exist"),
        "an errand is a job with bin/run, or an instance group with lifecycle: errand",
        "the manifest names the jobs of each group",
    )
    .into())
}

fn run_on(
    director: &Director<'_>,
    deployment: &Deployment,
    prepared: &Prepared,
    job: &str,
    chosen: &[Identity],
    keep_alive: bool,
) -> Result<Vec<Outcome>> {
    let outcomes = std::sync::Mutex::new(Vec::new());
    waves::run(chosen, chosen.len(), |identity| {
        let own_machine = !is_service(prepared, &identity.group);
        let has_vm = deployment.instance(&identity.id).is_some_and(|known| known.has_vm);
        if own_machine && !has_vm {
            director.start_errand_instance(prepared, identity)?;
        } else if !has_vm {
            return Err(Complaint::failed(
                format!("Instance(s) '{identity}' is stopped, unable to run errand. Maybe start vm?"),
                "errands run on machines",
                "`etcd-local start` makes them again",
            )
            .into());
        }
        let outcome = director.task.step("Running errand", &identity.to_string(), |_| {
            execute(&deployment.instance_directory(identity), identity, job)
        })?;
        outcomes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(outcome);
        if own_machine && !keep_alive { director.delete_errand_instance(identity) } else { Ok(()) }
    })?;
    let mut outcomes = outcomes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    outcomes.sort_by_key(|outcome| outcome.identity.index);
    Ok(outcomes)
}

fn execute(instance: &crate::local::layout::InstanceDir, identity: &Identity, job: &str) -> Result<Outcome> {
    let output = errand_command(instance, job).output().with_context(|| format!("run errand {job}"))?;
    let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or_default());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Outcome {
        identity: identity.clone(),
        code,
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    })
}

fn errand_command(instance: &crate::local::layout::InstanceDir, job: &str) -> Command {
    let program = format!("/var/vcap/jobs/{job}/bin/run");
    let mut command = sandbox::noted_command(instance, &instance.running_scripts(), &program);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/").stdin(Stdio::null());
    command.process_group(0);
    command
}

fn table(outcomes: &[Outcome]) -> Table {
    Table {
        title: String::new(),
        content: "errand(s)",
        header: vec!["Instance", "Exit Code", "Stdout", "Stderr"],
        rows: outcomes
            .iter()
            .map(|outcome| {
                vec![
                    outcome.identity.slug(),
                    outcome.code.to_string(),
                    outcome.stdout.clone(),
                    outcome.stderr.clone(),
                ]
            })
            .collect(),
        count: None,
    }
}
