//! `delete-deployment`.

use std::fs;

use anyhow::{Context, Result};

use super::{Scripts, Session};
use crate::atomic_file;
use crate::local::address::Registry;
use crate::local::model::NetworkMode;
use crate::local::state::Deployment;
use crate::local::{network, preparation};
use crate::report::Complaint;

/// Stops and removes all instances. Disks are moved aside, generated variables stay where they are: both
/// may be wanted again.
pub fn run(session: &Session, scripts: Scripts) -> Result<()> {
    if let (true, Some(name)) = (scripts.force, &session.deployment)
        && Deployment::open(&session.state, name)?.is_none()
    {
        return session.console.line(&format!("Deployment '{name}' doesn't exist, nothing to delete"));
    }
    let deployment = session.open()?;
    let name = deployment.record().name;
    if deployment.record().instances.iter().any(|instance| instance.ignored) {
        return Err(Complaint::refused(
            format!("You are trying to delete deployment '{name}', which contains ignored instance(s)"),
            "an operator wants them left alone",
            "`etcd-local instances --details` shows them, `etcd-local unignore GROUP/ID` ends that",
        )
        .into());
    }
    session.console.line(&format!("Using deployment '{name}'\n"))?;
    session.console.confirm()?;
    let _lock = session.lock("delete-deployment")?;
    let kept = session.state.orphaned_disks(&name);
    session.task("Deleting deployment", &deployment, scripts, |director| {
        director.delete_deployment()?;
        forget(&deployment)
    })?;
    if kept.exists() {
        session
            .console
            .line(&format!("Disks are kept in {}; remove them when nobody needs them", kept.display()))?;
    }
    Ok(())
}

fn forget(deployment: &Deployment) -> Result<()> {
    let directory = deployment.directory();
    let record = deployment.record();
    if record.network == NetworkMode::Namespaces {
        record.subnets.iter().try_for_each(|subnet| network::clear(*subnet))?;
    }
    Registry::default().release(directory, &record.subnets)?;
    for file in [directory.manifest(), preparation::shared_links_file(directory)] {
        atomic_file::remove(&file).with_context(|| format!("remove {}", file.display()))?;
    }
    for emptied in ["instances", "disks"].map(|name| directory.path().join(name)) {
        match fs::remove_dir(&emptied) {
            // Something nobody knows of lies there: it stays.
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            removed => removed.with_context(|| format!("remove {}", emptied.display()))?,
        }
    }
    // Last: as long as it is there, the command can be repeated.
    atomic_file::remove(&directory.record()).context("remove the record of the deployment")
}
