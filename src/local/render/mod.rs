//! Templates through real Ruby ERB, all jobs of all instances in one process: Ruby's start costs more
//! than the rendering.
//!
//! `context.rb` is our own evaluation context. The request goes to its stdin and the answer comes from its
//! stdout, since both carry private keys. Left out of what a Director does: `.bosh/links.json`, which only
//! its DNS server reads, and `properties_schema.json`. docs/local-director.md#templates

mod binding;
mod report;

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow};
use ring::digest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use self::report::RenderErrors;
use super::dns::DOMAIN;
use super::link::Links;
use super::manifest::{InstanceGroup, JobUse, Manifest};
use super::model::Identity;
use super::release::{Catalog, Job};
use super::section::mistake;
use crate::report::Complaint;

/// The evaluation context, in Ruby.
const CONTEXT: &str = include_str!("context.rb");

/// Permission bits of what lies below `bin/`.
const EXECUTABLE: u32 = 0o750;
/// Permission bits of every other rendered file.
const PLAIN: u32 = 0o640;

/// All jobs of one instance, rendered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenderedInstance {
    /// Whose.
    pub identity: Identity,
    /// Its jobs, in the order of the manifest.
    pub jobs: Vec<RenderedJob>,
    /// Changes exactly when anything rendered changed; 40 hexadecimal digits.
    pub configuration_hash: String,
}

/// One job of an instance, rendered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenderedJob {
    /// Name of the job.
    pub name: String,
    /// Name of its release.
    pub release: String,
    /// Text of its `monit` file.
    pub monit: String,
    /// Its files.
    pub files: Vec<RenderedFile>,
}

/// A file below `/var/vcap/jobs/JOB/`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenderedFile {
    /// Path relative to the job's directory.
    pub path: String,
    /// Permission bits: 0750 under `bin/`, else 0640. Owner is root, group vcap.
    pub mode: u32,
    /// Content; may be a secret, so `Debug` leaves it out.
    pub content: String,
}

impl std::fmt::Debug for RenderedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RenderedFile({:o} {}, {} bytes)", self.mode, self.path, self.content.len())
    }
}

/// What is rendered: the instances of a manifest, with its links.
#[derive(Clone, Copy)]
pub struct Deployment<'a> {
    /// The manifest.
    pub manifest: &'a Manifest,
    /// Its links.
    pub links: &'a Links,
    /// The instances, which keep their order.
    pub instances: &'a [Identity],
}

/// Renders the jobs of `instances`, which keep their order.
///
/// # Errors
/// Faults of templates come as [`RenderErrors`]: all groups, jobs and templates together, in the Director's
/// words. Everything else (no Ruby, an unknown job, a property that is no mapping) ends it at once.
pub fn render(
    ruby: &Path,
    manifest: &Manifest,
    catalog: &Catalog,
    links: &Links,
    instances: &[Identity],
) -> Result<Vec<RenderedInstance>> {
    render_each(ruby, catalog, &[Deployment { manifest, links, instances }])?.remove(0)
}

/// Renders several deployments in one process, each with its own outcome: for tests, which have many.
///
/// # Errors
/// There is no Ruby, or it did not answer.
pub fn render_each(
    ruby: &Path,
    catalog: &Catalog,
    deployments: &[Deployment<'_>],
) -> Result<Vec<Result<Vec<RenderedInstance>>>> {
    let requested: Vec<Result<Vec<InstanceRequest<'_>>>> = deployments
        .iter()
        .map(|one| {
            let request = |identity| InstanceRequest::of(identity, one.manifest, catalog, one.links);
            one.instances.iter().map(request).collect()
        })
        .collect();
    let asked: Vec<&InstanceRequest<'_>> = requested.iter().flatten().flatten().collect();
    let mut answers = ask(ruby, &asked)?.into_iter();
    let outcome = |(one, requests): (&Deployment<'_>, Result<Vec<InstanceRequest<'_>>>)| {
        let requests = requests?;
        let answers = answers.by_ref().take(requests.len());
        let mut rendered = Vec::new();
        let mut errors = RenderErrors::default();
        for ((identity, request), answer) in one.instances.iter().zip(&requests).zip(answers) {
            match instance(identity, request, answer) {
                Ok(instance) => rendered.push(instance),
                Err(failed) => errors.add(&identity.group, failed),
            }
        }
        if errors.is_empty() { Ok(rendered) } else { Err(anyhow!(errors)) }
    };
    Ok(deployments.iter().zip(requested).map(outcome).collect())
}

/// What Ruby is told about one instance.
#[derive(Serialize)]
struct InstanceRequest<'a> {
    spec: Value,
    jobs: Vec<JobRequest<'a>>,
}

/// What Ruby is told about one job of an instance.
#[derive(Serialize)]
struct JobRequest<'a> {
    name: &'a str,
    release: Value,
    properties: Value,
    links: Value,
    monit: &'a str,
    templates: Vec<TemplateRequest<'a>>,
    #[serde(skip)]
    job: &'a Job,
}

#[derive(Serialize)]
struct TemplateRequest<'a> {
    source: &'a str,
    text: &'a str,
}

/// What Ruby says about one job.
#[derive(Deserialize)]
struct JobAnswer {
    monit: Filled,
    files: Vec<Filled>,
}

/// A template that was filled in, or why not.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Filled {
    Content(String),
    Error(String),
}

impl<'a> InstanceRequest<'a> {
    fn of(identity: &Identity, manifest: &'a Manifest, catalog: &'a Catalog, links: &Links) -> Result<Self> {
        let group = manifest
            .group(&identity.group)
            .with_context(|| format!("render {identity}, whose group is not in the manifest"))?;
        let job = |used: &'a JobUse| JobRequest::of(used, group, catalog, links);
        Ok(Self {
            spec: spec(identity, group, manifest),
            jobs: group.jobs.iter().map(job).collect::<Result<_>>()?,
        })
    }
}

impl<'a> JobRequest<'a> {
    fn of(used: &'a JobUse, group: &InstanceGroup, catalog: &'a Catalog, links: &Links) -> Result<Self> {
        let job = catalog.job(&used.release, &used.name)?;
        let release = catalog.release(&used.release).expect("the job on the line above is from it");
        let properties = binding::bind(&job.properties, &used.properties).map_err(|fault| {
            mistake(format!("{fault} (job '{}' of instance group '{}')", used.name, group.name))
        })?;
        let templates = job.templates.iter();
        Ok(Self {
            name: &used.name,
            release: json!({"name": release.name, "version": release.version}),
            properties,
            links: json!(links.of_job(&group.name, &used.name)),
            monit: &job.monit,
            templates: templates
                .map(|one| TemplateRequest { source: &one.source, text: &one.text })
                .collect(),
            job,
        })
    }
}

/// What `spec` has in every template of an instance.
fn spec(identity: &Identity, group: &InstanceGroup, manifest: &Manifest) -> Value {
    let jobs: Vec<_> = group.jobs.iter().map(|job| json!({"name": job.name})).collect();
    let address =
        if manifest.features.use_dns_addresses { identity.dns_name() } else { identity.ip.to_string() };
    json!({
        "deployment": manifest.name,
        "job": {
            "name": group.name,
            "template": group.jobs.first().map(|job| &job.name),
            "templates": jobs,
        },
        "index": identity.index,
        "bootstrap": identity.bootstrap,
        "name": group.name,
        "id": identity.id,
        "az": identity.az,
        "networks": {
            identity.network.clone(): {
                "type": "manual",
                "ip": identity.ip,
                "netmask": "255.0.0.0",
                "prefix": "32",
                "gateway": "127.0.0.1",
                "dns": [],
                "default": ["dns", "gateway"],
                "cloud_properties": {},
                "dns_record_name": identity.dns_name_by_index(),
            },
        },
        "dns_domain_name": DOMAIN,
        "persistent_disk": group.persistent_disk_mib,
        "address": address,
        "ip": identity.ip,
    })
}

/// Starts Ruby, asks once, and takes the answer: per instance its jobs in order.
fn ask(ruby: &Path, requests: &[&InstanceRequest<'_>]) -> Result<Vec<Vec<JobAnswer>>> {
    let mut command = Command::new(ruby);
    // No gems: templates may rely on Ruby's standard library only, and it starts in half the time. The
    // other two add guesses and source lines to error texts, which a Director does not.
    command.args(["--disable=gems,did_you_mean,error_highlight", "-E", "UTF-8:UTF-8", "-e", CONTEXT]);
    // `-E` is about what is read and written; in which encoding the program itself is, Ruby takes from the locale.
    command.env_remove("RUBYOPT").env_remove("RUBYLIB").env("LC_ALL", "C.UTF-8");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| no_ruby(ruby, error))?;
    let request = serde_json::to_vec(requests).context("write the request for Ruby")?;
    let mut stdin = child.stdin.take().expect("piped above");
    // Ruby reads all of it before it writes anything, so this cannot wait for us in turn.
    match stdin.write_all(&request) {
        // It died; its status and stderr say why.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written.context("send the templates to Ruby")?,
    }
    drop(stdin);
    let output = child.wait_with_output().context("wait for Ruby")?;
    if !output.status.success() {
        return Err(anyhow!(Complaint::failed(
            format!(
                "Ruby ended with {} instead of rendering: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            ),
            "no template of the deployment could be rendered; nothing was changed",
            "run `ruby -rerb -rjson -e 0`; on Debian, `apt-get install ruby` completes it",
        )));
    }
    serde_json::from_slice(&output.stdout).context("read what Ruby rendered")
}

fn no_ruby(ruby: &Path, error: io::Error) -> anyhow::Error {
    if error.kind() != io::ErrorKind::NotFound {
        return anyhow!(error).context(format!("run {}", ruby.display()));
    }
    anyhow!(Complaint::failed(
        format!("Ruby ({}) is not there", ruby.display()),
        "the templates of BOSH jobs are Ruby's ERB",
        "install it (`apt-get install ruby` on Debian) and deploy again",
    ))
}

/// Puts the answer for one instance into its files, or tells what failed, job by job.
fn instance(
    identity: &Identity,
    request: &InstanceRequest<'_>,
    answers: Vec<JobAnswer>,
) -> Result<RenderedInstance, Vec<report::FailedJob>> {
    let mut failed = Vec::new();
    let mut jobs = Vec::new();
    let group = request.jobs.iter().zip(answers);
    for (asked, answer) in group {
        match job(asked, answer) {
            Ok(job) => jobs.push(job),
            Err(fault) => failed.push(fault),
        }
    }
    if !failed.is_empty() {
        return Err(failed);
    }
    let configuration_hash = configuration_hash(&jobs);
    Ok(RenderedInstance { identity: identity.clone(), jobs, configuration_hash })
}

fn job(asked: &JobRequest<'_>, answer: JobAnswer) -> Result<RenderedJob, report::FailedJob> {
    let monit = match answer.monit {
        Filled::Content(text) => text,
        Filled::Error(fault) => return Err(report::FailedJob::Monit(fault)),
    };
    let mut files = Vec::new();
    let mut faults = Vec::new();
    for (template, filled) in asked.job.templates.iter().zip(answer.files) {
        match filled {
            Filled::Content(content) => {
                let path = template.destination.clone();
                let mode = if path.starts_with("bin/") { EXECUTABLE } else { PLAIN };
                files.push(RenderedFile { path, mode, content });
            }
            Filled::Error(fault) => faults.push(fault),
        }
    }
    if !faults.is_empty() {
        return Err(report::FailedJob::Templates { job: asked.name.to_owned(), faults });
    }
    let release = asked.release["name"].as_str().unwrap_or_default().to_owned();
    Ok(RenderedJob { name: asked.name.to_owned(), release, monit, files })
}

/// A digest over everything rendered: monit texts, job names, contents and paths.
fn configuration_hash(jobs: &[RenderedJob]) -> String {
    let mut by_name: Vec<_> = jobs.iter().collect();
    by_name.sort_by(|one, other| one.name.cmp(&other.name));
    // SHA-1 as on a Director; it only has to notice changes.
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    for job in by_name {
        hash.update(job.monit.as_bytes());
        hash.update(job.name.as_bytes());
        for file in &job.files {
            hash.update(file.content.as_bytes());
            hash.update(file.path.as_bytes());
        }
    }
    let mut digits = String::new();
    for byte in hash.finish().as_ref() {
        write!(digits, "{byte:02x}").expect("writing to a String cannot fail");
    }
    digits
}
