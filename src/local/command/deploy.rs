//! `deploy`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Scripts, Session, absolute, needs_root};
use crate::local::change::{Asked, DiskFate};
use crate::local::interpolation::{self, Interpolated, Sources};
use crate::local::preparation;
use crate::local::state::Deployment;
use crate::local::update::Pace;
use crate::report::Complaint;

/// What a person typed after `deploy`.
#[derive(Debug, Clone)]
pub struct Deploy {
    /// The base manifest.
    pub manifest: PathBuf,
    /// Ops files, in order.
    pub ops_files: Vec<PathBuf>,
    /// Variables, `name=value`.
    pub vars: Vec<String>,
    /// Files with variables, in order.
    pub vars_files: Vec<PathBuf>,
    /// Where generated variables are kept, instead of the state directory.
    pub vars_store: Option<PathBuf>,
    /// Make all machines anew.
    pub recreate: bool,
    /// Copy persistent disks to new ones.
    pub recreate_persistent_disks: bool,
    /// Leave pre-stop and drain out.
    pub skip_drain: bool,
    /// How many at a time.
    pub pace: Pace,
    /// Where built packages are, instead of `.build/packages` of the release.
    pub packages: Option<PathBuf>,
}

/// Deploys.
pub fn run(session: &Session, typed: &Deploy) -> Result<()> {
    needs_root()?;
    let release = preparation::release_of(&typed.manifest)?;
    let sources = |vars_store: PathBuf| Sources {
        bosh: PathBuf::from("bosh"),
        manifest: typed.manifest.clone(),
        ops_files: typed.ops_files.clone(),
        vars: typed.vars.clone(),
        vars_files: typed.vars_files.clone(),
        vars_store,
    };
    let name = preparation::deployment_name(&sources(PathBuf::new()))?;
    if let Some(expected) = session.deployment.as_ref().filter(|expected| **expected != name) {
        return Err(Complaint::failed(
            format!("Expected manifest to specify deployment name '{expected}' but was '{name}'"),
            "-d and the manifest must speak of the same deployment",
            "leave -d out, or change the manifest's name with an ops file",
        )
        .into());
    }
    session.console.line(&format!("Using deployment '{name}'\n"))?;
    session.console.confirm()?;
    let _lock = session.lock(&format!("deploy of '{name}'"))?;
    let deployment = match Deployment::open(&session.state, &name)? {
        Some(deployment) => deployment,
        None => Deployment::begin(&session.state, &name, session.network.unwrap_or_default()),
    };
    session.check_network(&deployment)?;
    note_choices(session, typed, &deployment, &release)?;
    let store = deployment.record().vars_store;
    if let Some(directory) = store.parent() {
        std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    }
    session.task(
        "Updating deployment",
        &deployment,
        Scripts { skip_drain: typed.skip_drain, force: false },
        |director| {
            let stage = "Preparing deployment";
            let Interpolated { yaml, manifest } =
                director
                    .task
                    .step(stage, "Preparing deployment", |_| interpolation::interpolate(&sources(store)))?;
            let prepared = director.task.step(stage, "Rendering templates", |_| {
                let catalog = preparation::catalog(&release)?;
                preparation::prepare(&session.state, &deployment, manifest, Path::new("ruby"), &catalog)
            })?;
            let disk = if typed.recreate_persistent_disks { DiskFate::Renew } else { DiskFate::Keep };
            director.converge(
                &prepared,
                &|_| Asked { recreate: typed.recreate, disk, ..Asked::default() },
                typed.pace,
            )?;
            director.record_success(&prepared, &yaml)
        },
    )
}

fn note_choices(session: &Session, typed: &Deploy, deployment: &Deployment, release: &Path) -> Result<()> {
    let packages = match (&typed.packages, environment("ETCD_LOCAL_PACKAGES")) {
        (Some(packages), _) => absolute(packages)?,
        (None, Some(packages)) => absolute(Path::new(&packages))?,
        (None, None) => release.join(".build/packages"),
    };
    let vars_store = match &typed.vars_store {
        Some(store) => absolute(store)?,
        None => deployment.directory().vars_store(),
    };
    deployment.change(|record| {
        release.clone_into(&mut record.release);
        (record.packages, record.vars_store) = (packages, vars_store);
    })?;
    session.choose_cycle(deployment)?;
    session.choose_runner(deployment)
}

#[expect(clippy::disallowed_methods, reason = "the one variable that etcd-local reads, told in --help")]
fn environment(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
