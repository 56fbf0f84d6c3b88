//! A release as it lies in its directory: jobs with their specs and templates, packages by name.
//!
//! What `bosh create-release` and the Director's upload would refuse is refused here, all of it at once.
//! docs/local-director.md#job-spec

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

use super::manifest::Manifest;
use super::section::{Section, mistake, parse};
use crate::report::Complaint;

/// The version of a release that was never packed.
pub const DEV_VERSION: &str = "0+dev.1";

/// The releases a deployment uses, by name.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    releases: BTreeMap<String, Release>,
}

/// A release.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// Its name, from `config/final.yml`.
    pub name: String,
    /// Its version, as templates see it in `spec.release.version`.
    pub version: String,
    /// Where it lies; none for a release that this director plays itself.
    pub directory: Option<PathBuf>,
    /// Its jobs by name.
    pub jobs: BTreeMap<String, Job>,
    /// Its packages by name.
    pub packages: BTreeMap<String, Package>,
}

/// A job of a release.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Job {
    /// Its name, equal to the directory's.
    pub name: String,
    /// Text of the `monit` file, before rendering.
    pub monit: String,
    /// Templates by source path.
    pub templates: Vec<Template>,
    /// Names of the packages it needs.
    pub packages: Vec<String>,
    /// Links it provides.
    pub provides: Vec<LinkProvided>,
    /// Links it consumes.
    pub consumes: Vec<LinkConsumed>,
    /// Properties by dotted name.
    pub properties: Vec<Property>,
}

/// A template of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Path below the job's `templates/`.
    pub source: String,
    /// Path below `/var/vcap/jobs/JOB/` after rendering.
    pub destination: String,
    /// Text, before rendering.
    pub text: String,
}

/// A link that a job provides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkProvided {
    /// Its name.
    pub name: String,
    /// Its type: any text, compared as it is.
    pub link_type: String,
    /// Properties that are shared through it, by dotted name.
    pub properties: Vec<String>,
}

/// A link that a job consumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkConsumed {
    /// Its name.
    pub name: String,
    /// Its type.
    pub link_type: String,
    /// Whether the job can do without.
    pub optional: bool,
}

/// A property that a job declares.
#[derive(Debug, Clone, PartialEq)]
pub struct Property {
    /// Dotted name.
    pub name: String,
    /// Default; null counts as none.
    pub default: Option<Value>,
}

/// A package of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Packages it is compiled with.
    pub dependencies: Vec<String>,
}

impl Catalog {
    /// Adds a release; one of the same name is replaced.
    pub fn add(&mut self, release: Release) {
        self.releases.insert(release.name.clone(), release);
    }

    /// The release of that name.
    pub fn release(&self, name: &str) -> Option<&Release> {
        self.releases.get(name)
    }

    /// The job of that name in that release.
    pub fn job(&self, release: &str, job: &str) -> Result<&Job> {
        let Some(known) = self.release(release) else {
            return Err(anyhow!(Complaint::failed(
                format!("release '{release}' is not on this machine"),
                "its jobs cannot be rendered",
                "deploy from inside that release's directory, or remove its jobs with an ops file",
            )));
        };
        known.jobs.get(job).ok_or_else(|| mistake(format!("Job '{job}' not found in release '{release}'")))
    }

    /// Fails unless every job of the manifest is known.
    pub fn check(&self, manifest: &Manifest) -> Result<()> {
        let mut uses = manifest.instance_groups.iter().flat_map(|group| &group.jobs);
        uses.try_for_each(|used| self.job(&used.release, &used.name).map(|_| ()))
    }
}

impl Release {
    /// A release without templates, whose jobs this director plays itself (`bpm`, `bosh-dns`).
    pub fn played(name: &str, jobs: &[&str]) -> Self {
        let jobs =
            jobs.iter().map(|job| ((*job).to_owned(), Job { name: (*job).to_owned(), ..Job::default() }));
        Self {
            name: name.to_owned(),
            version: DEV_VERSION.to_owned(),
            directory: None,
            jobs: jobs.collect(),
            packages: BTreeMap::new(),
        }
    }

    /// Reads the release in `directory` (the one with `config/final.yml`); tells all faults at once.
    pub fn open(directory: &Path) -> Result<Self> {
        let name = release_name(directory)?;
        let mut faults = Vec::new();
        let packages = packages(directory, &mut faults)?;
        let mut jobs = BTreeMap::new();
        for job_directory in directories(&directory.join("jobs"))? {
            let job = Job::read(&job_directory, &mut faults)?;
            for package in job.packages.iter().filter(|package| !packages.contains_key(*package)) {
                faults.push(format!(
                    "Expected to find package '{package}' since it's a dependency of job '{}'",
                    job.name
                ));
            }
            jobs.insert(job.name.clone(), job);
        }
        if !faults.is_empty() {
            return Err(anyhow!(Complaint::failed(
                format!("release '{name}' has {} fault(s):\n  - {}", faults.len(), faults.join("\n  - ")),
                "neither `bosh create-release` nor a Director takes such a release",
                "correct the specs named above and deploy again",
            )));
        }
        Ok(Self {
            name,
            version: DEV_VERSION.to_owned(),
            directory: Some(directory.to_owned()),
            jobs,
            packages,
        })
    }
}

impl Job {
    /// Whether the job is an errand: something to run rather than to keep running.
    pub fn is_errand(&self) -> bool {
        self.templates.iter().any(|template| template.destination == "bin/run")
    }

    fn read(directory: &Path, faults: &mut Vec<String>) -> Result<Self> {
        let name = file_name(directory);
        let document = yaml_file(&directory.join("spec"))?;
        let spec = Section::new(format!("the spec of job '{name}'"), &document)?;
        let own = spec.text("name")?;
        if own != name {
            faults.push(format!("Job directory '{name}' does not match job name '{own}' in spec"));
        }
        let monit = match fs::read_to_string(directory.join("monit")) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                faults.push(format!("Job '{name}' is missing monit file"));
                String::new()
            }
            Err(error) => return Err(error).with_context(|| format!("read monit of job '{name}'")),
        };
        Ok(Self {
            monit,
            templates: templates(&spec, directory, &name, faults)?,
            packages: spec.texts("packages")?,
            provides: provided(&spec, &name, faults)?,
            consumes: consumed(&spec, &name, faults)?,
            properties: properties(&spec, &name, faults),
            name,
        })
    }
}

fn templates(
    spec: &Section<'_>,
    directory: &Path,
    job: &str,
    faults: &mut Vec<String>,
) -> Result<Vec<Template>> {
    let mut templates = Vec::new();
    for (source, destination) in spec.mapping("templates")?.into_iter().flatten() {
        let Some(destination) = destination.as_str() else {
            faults.push(format!("template '{source}' of job '{job}' has no text as its destination"));
            continue;
        };
        match fs::read_to_string(directory.join("templates").join(source)) {
            Ok(text) => {
                templates.push(Template {
                    source: source.clone(),
                    destination: destination.to_owned(),
                    text,
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                faults.push(format!("Missing template file '{source}' for job '{job}'"));
            }
            Err(error) => {
                return Err(error).with_context(|| format!("read template '{source}' of job '{job}'"));
            }
        }
    }
    Ok(templates)
}

fn properties(spec: &Section<'_>, job: &str, faults: &mut Vec<String>) -> Vec<Property> {
    let Some(declared) = spec.get("properties").filter(|properties| !properties.is_null()) else {
        return Vec::new();
    };
    let Value::Object(declared) = declared else {
        faults.push(format!("Job '{job}' has invalid properties spec format"));
        return Vec::new();
    };
    let default = |definition: &Value| definition.get("default").filter(|value| !value.is_null()).cloned();
    declared
        .iter()
        .map(|(name, definition)| Property { name: name.clone(), default: default(definition) })
        .collect()
}

fn provided(spec: &Section<'_>, job: &str, faults: &mut Vec<String>) -> Result<Vec<LinkProvided>> {
    let mut links: Vec<LinkProvided> = Vec::new();
    for link in link_items(spec, "provides", job, faults)? {
        let (name, link_type) = (link.text("name")?, link.text("type")?);
        if link.get("optional").is_some() {
            faults.push(format!(
                "Link '{name}' of type '{link_type}' is a provides link, not allowed to have 'optional' key"
            ));
        }
        if links.iter().any(|other| other.name == name) {
            faults.push(format!("Job '{job}' specifies duplicate provides link with name '{name}'"));
        }
        links.push(LinkProvided { properties: link.texts("properties")?, name, link_type });
    }
    Ok(links)
}

fn consumed(spec: &Section<'_>, job: &str, faults: &mut Vec<String>) -> Result<Vec<LinkConsumed>> {
    let mut links: Vec<LinkConsumed> = Vec::new();
    for link in link_items(spec, "consumes", job, faults)? {
        let (name, link_type) = (link.text("name")?, link.text("type")?);
        if links.iter().any(|other| other.name == name) {
            faults.push(format!("Job '{job}' specifies duplicate consumes link with name '{name}'"));
        }
        let optional = link.optional_flag("optional")?.unwrap_or(false);
        links.push(LinkConsumed { name, link_type, optional });
    }
    Ok(links)
}

/// The items of `provides` or `consumes` that have a name and a type.
fn link_items<'a>(
    spec: &Section<'a>,
    key: &str,
    job: &str,
    faults: &mut Vec<String>,
) -> Result<Vec<Section<'a>>> {
    match spec.get(key) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(_)) => {}
        Some(_) => {
            faults.push(format!(
                "Job '{job}' has invalid spec format: '{key}' must be an array of hashes with name and type"
            ));
            return Ok(Vec::new());
        }
    }
    let (complete, incomplete): (Vec<_>, Vec<_>) = spec
        .sections(key)?
        .into_iter()
        .partition(|item| item.get("name").is_some() && item.get("type").is_some());
    if !incomplete.is_empty() {
        faults.push(format!(
            "Each {key} item in the {key} section of the release spec must contain 'name' and 'type' (job '{job}')"
        ));
    }
    Ok(complete)
}

fn packages(directory: &Path, faults: &mut Vec<String>) -> Result<BTreeMap<String, Package>> {
    let mut packages = BTreeMap::new();
    for package_directory in directories(&directory.join("packages"))? {
        let name = file_name(&package_directory);
        // A vendored package is only `spec.lock`.
        let locked = package_directory.join("spec.lock");
        let path = if locked.is_file() { locked } else { package_directory.join("spec") };
        let document = yaml_file(&path)?;
        let spec = Section::new(format!("the spec of package '{name}'"), &document)?;
        let dependencies = spec.texts("dependencies")?;
        packages.insert(name.clone(), Package { name, dependencies });
    }
    for package in packages.values() {
        for missing in package.dependencies.iter().filter(|dependency| !packages.contains_key(*dependency)) {
            faults.push(format!(
                "Expected to find package '{missing}' since it's a dependency of package '{}'",
                package.name
            ));
        }
    }
    Ok(packages)
}

fn release_name(directory: &Path) -> Result<String> {
    let path = directory.join("config/final.yml");
    let document = yaml_file(&path).map_err(|error| {
        anyhow!(Complaint::failed(
            format!("{} is no release: {error:#}", directory.display()),
            "the jobs of the manifest come from a release directory",
            "deploy a manifest that lies in the release, below the directory that has config/final.yml",
        ))
    })?;
    let config = Section::new(path.display().to_string(), &document)?;
    match config.optional_text("name")? {
        Some(name) => Ok(name),
        None => config.text("final_name"),
    }
}

fn yaml_file(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    parse(&text).with_context(|| format!("parse {}", path.display()))
}

/// The directories in `parent`, by name; none if there is no `parent`.
fn directories(parent: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("list {}", parent.display())),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("list {}", parent.display()))?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
