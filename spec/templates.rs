//! What the templates of job etcd become: the real manifest with its ops files through the real `bosh`, and
//! the real ERB through Ruby. What is rendered is kept as snapshots; a changed one is reviewed like code.
//!
//! `templates/accepts` and `templates/rejects` hold properties that must, or must not, get through: add a
//! file, get a test. Those below `templates/JOB` are of other jobs: templates/schema/readers.rs.

#![allow(missing_docs, clippy::unwrap_used, reason = "a spec that cannot go on has failed")]

#[path = "templates/lab.rs"]
mod lab;
#[path = "templates/matrix.rs"]
mod matrix;
#[path = "support/ops_files.rs"]
mod ops_files;
#[path = "templates/schema.rs"]
mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use etcd_release::atomic_file;
use etcd_release::job::aliases::SPELLINGS;
use etcd_release::job::certificate;
use etcd_release::job::config::{JobConfig, faults_complaint};
use etcd_release::job::properties::Fault;
use etcd_release::local::bpm::config::{Exceptions, JobConfig as BpmConfig};
use rustls::pki_types::UnixTime;
use serde::Deserialize;
use serde_json::{Map, Value};

use lab::{Lab, Rendered, operations, repository};
use ops_files::are_exclusive;

/// One file below `templates/accepts` or `templates/rejects`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// Laid over the properties of job etcd in the manifest, by dotted name; null takes one away.
    properties: Map<String, Value>,
    /// Rejects only: the whole message, either of the Director while it renders, or of pre-start, without
    /// the two lines of advice that are the same for all. Without a text only the Director says no, by
    /// `properties_schema.json`.
    #[serde(default)]
    told: Option<String>,
}

/// The cases of a directory, by file name.
fn cases(directory: &str) -> BTreeMap<String, Case> {
    let directory = repository().join("spec/templates").join(directory);
    let mut cases = BTreeMap::new();
    for entry in std::fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let case = serde_yaml::from_str(&std::fs::read_to_string(&path).unwrap());
        cases.insert(name.clone(), case.unwrap_or_else(|error| panic!("{name}: {error}")));
    }
    cases
}

/// What job etcd's programs make of a rendered instance.
fn load(rendered: &Rendered) -> Result<JobConfig, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("job.json");
    atomic_file::write(&path, rendered.file("config/job.json").as_bytes(), 0o600).unwrap();
    JobConfig::load(&path).map_err(|complaint| complaint.to_string())
}

/// What pre-start says about a rendered instance: its properties and its certificates, all at once. What it asks of the
/// installed etcd is in `src/job/installed.rs`.
fn pre_start(rendered: &Rendered) -> Result<JobConfig, String> {
    let directory = tempfile::tempdir().unwrap();
    for file in rendered.files().iter().filter(|file| file.path.starts_with("config/")) {
        let path = directory.path().join(file.path.trim_start_matches("config/"));
        atomic_file::write(&path, file.content.as_bytes(), 0o600).unwrap();
    }
    let read = JobConfig::read(&directory.path().join("job.json")).unwrap();
    let certificates = certificate::check(directory.path(), &read.address, UnixTime::now());
    let faults: Vec<Fault> =
        read.job.as_ref().err().into_iter().chain(certificates.as_ref().err()).flatten().cloned().collect();
    let here = directory.path().display().to_string();
    let told = faults_complaint(&faults).to_string().replace(&here, "/var/vcap/jobs/etcd/config");
    read.job.ok().filter(|_| faults.is_empty()).ok_or(told)
}

/// The properties of a job with their definitions, by their names of today.
fn declared(job: &str) -> BTreeMap<String, Value> {
    let text = std::fs::read_to_string(repository().join("jobs").join(job).join("spec")).unwrap();
    let spec: Value = serde_yaml::from_str(&text).unwrap();
    let all: BTreeMap<String, Value> = serde_json::from_value(spec["properties"].clone()).unwrap();
    all.into_iter().filter(|(name, _)| !is_former(name)).collect()
}

/// Whether a predecessor called a property so. What becomes of such names is docs/parity.md's, and job.json has them
/// apart (src/job/aliases.rs).
fn is_former(name: &str) -> bool {
    SPELLINGS.iter().any(|(former, _)| *former == name)
}

/// A name for a snapshot: ops files are in directories, snapshots are not.
fn plain(file: &str) -> String {
    file.trim_end_matches(".yml").replace('/', "-")
}

#[test]
fn the_base_manifest_and_each_ops_file_render_what_the_snapshots_say() {
    let lab = Lab::new();
    let mut variants: Vec<(String, Vec<String>)> =
        operations().into_iter().map(|file| (plain(&file), vec![file])).collect();
    variants.push(("base".to_owned(), Vec::new()));

    let (names, lists): (Vec<String>, Vec<Vec<String>>) = variants.into_iter().unzip();
    for (name, instances) in names.iter().zip(lab.render_all(&lists)) {
        let first = instances.unwrap().swap_remove(0);

        for file in ["job.json", "bpm.yml"] {
            insta::assert_snapshot!(format!("{name}__{file}"), first.file(&format!("config/{file}")));
        }
    }
}

/// Which certificate lies where, and with which permissions; shims are shown whole, as they are two lines.
#[test]
fn every_file_of_an_instance_is_as_the_snapshot_says() {
    let first = Lab::new().render(&[]).unwrap().swap_remove(0);

    let mut listing = String::new();
    for file in first.files() {
        writeln!(listing, "{:o} {}", file.mode, file.path).unwrap();
        if file.path != "config/job.json" {
            for line in file.content.lines() {
                writeln!(listing, "    | {line}").unwrap();
            }
        }
    }
    writeln!(listing, "monit").unwrap();
    for line in first.monit().lines() {
        writeln!(listing, "    | {line}").unwrap();
    }
    insta::assert_snapshot!("base__files", listing);
}

/// Another byte in a rendered file restarts the member, so members must differ in nothing else.
#[test]
fn instances_differ_only_in_who_they_are() {
    let instances = Lab::new().render(&[]).unwrap();
    assert_eq!(instances.len(), 3);

    let alike: BTreeSet<String> = instances
        .iter()
        .map(|one| {
            let mut job: Value = serde_json::from_str(one.file("config/job.json")).unwrap();
            job["spec"] = Value::Null;
            let others = one.files().iter().filter(|file| file.path != "config/job.json");
            others.fold(job.to_string(), |text, file| format!("{text}\n{} {}", file.path, file.content))
        })
        .collect();
    assert_eq!(alike.len(), 1);
}

#[test]
fn every_two_ops_files_compose_into_jobs_that_load() {
    let lab = Lab::new();
    let files = operations();
    assert!(files.len() >= 10, "{files:?}");
    let mut pairs = Vec::new();
    for (position, first) in files.iter().enumerate() {
        let others = files[position + 1..].iter().filter(|second| !are_exclusive(first, second));
        pairs.extend(others.map(|second| vec![first.clone(), second.clone()]));
    }

    for (both, instances) in pairs.iter().zip(lab.render_all(&pairs)) {
        let instances = instances.unwrap_or_else(|error| panic!("{both:?}: {error:#}"));
        let job = load(&instances[0]).unwrap_or_else(|told| panic!("{both:?}: {told}"));
        assert_eq!(job.instances.len(), instances[0].members, "{both:?}");
    }
}

#[test]
fn properties_that_are_accepted_reach_the_programs_as_they_were_written() {
    let cases = cases("accepts");
    assert!(!cases.is_empty());

    for ((name, case), instances) in cases.iter().zip(Lab::new().render_cases(&properties(&cases))) {
        assert!(case.told.is_none(), "{name}: nothing is told about what is accepted");
        let instances = instances.unwrap_or_else(|error| panic!("{name}: {error:#}"));

        pre_start(&instances[0]).unwrap_or_else(|told| panic!("{name}: {told}"));
        let job: Value = serde_json::from_str(instances[0].file("config/job.json")).unwrap();
        // Keys are files of their own.
        let is_printed = |property: &str| !property.ends_with("_key");
        for (property, value) in case.properties.iter().filter(|(property, _)| is_printed(property)) {
            assert_eq!(&job["properties"][property], value, "{name}: {property}");
        }
    }
}

#[test]
fn properties_that_are_rejected_are_told_in_exactly_these_words() {
    const ADVICE: &str = "\n  why:  etcd would not start with them, or not as meant; nothing was changed\n  next: correct the manifest or ops file and deploy again; docs/deploy.md#properties lists them all";
    let cases = cases("rejects");
    let mut wrong = String::new();

    for ((name, case), instances) in cases.iter().zip(Lab::new().render_cases(&properties(&cases))) {
        let told = match instances {
            Err(error) => format!("{error:#}"),
            Ok(instances) => match pre_start(&instances[0]) {
                Ok(_) => String::new(),
                Err(told) => told.strip_suffix(ADVICE).map_or_else(|| told.clone(), str::to_owned),
            },
        };

        let expected = case.told.as_deref().unwrap_or_default();
        if told.trim_end() != expected.trim_end() {
            write!(wrong, "\n--- {name}, expected\n{expected}\n--- {name}, told\n{told}\n").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn properties(cases: &BTreeMap<String, Case>) -> Vec<&Map<String, Value>> {
    cases.values().map(|case| &case.properties).collect()
}

#[test]
fn every_property_has_a_value_that_is_rejected() {
    let rejected: BTreeSet<String> = cases("rejects")
        .into_values()
        .flat_map(|case| case.properties.into_iter().map(|(name, _)| name))
        .filter(|name| !is_former(name))
        .collect();

    assert_eq!(
        rejected,
        declared("etcd").into_keys().collect::<BTreeSet<_>>(),
        "files in spec/templates/rejects"
    );
}

/// The keys that bpm knows, by the key they are below; it drops all others without a word.
const BPM_KEYS: [(&str, &[&str]); 5] = [
    ("", &["processes"]),
    (
        "processes",
        &[
            "name",
            "executable",
            "args",
            "env",
            "workdir",
            "hooks",
            "limits",
            "ephemeral_disk",
            "persistent_disk",
            "additional_volumes",
            "shutdown_signal",
        ],
    ),
    ("hooks", &["pre_start"]),
    ("limits", &["memory", "open_files", "processes", "core_file_size"]),
    ("additional_volumes", &["path", "writable", "mount_only", "shared"]),
];

/// Keys below `parent` that bpm would drop, or that this release does not use: capabilities, exceptions from
/// isolation, and programs in places for data.
fn strange_keys(parent: &str, value: &Value) -> Vec<String> {
    let Some(object) = value.as_object() else {
        let items = value.as_array().into_iter().flatten();
        return items.flat_map(|item| strange_keys(parent, item)).collect();
    };
    let Some((_, known)) = BPM_KEYS.iter().find(|(name, _)| *name == parent) else { return Vec::new() };
    let strange =
        object.keys().filter(|key| !known.contains(&key.as_str())).map(|key| format!("{parent}.{key}"));
    strange.chain(object.iter().flat_map(|(key, value)| strange_keys(key, value))).collect()
}

/// bpm takes nearly anything and mounts nothing for what it does not know, so our own file is held to more.
#[test]
fn the_bpm_yml_says_nothing_that_bpm_would_drop_and_names_only_what_is_there() {
    let lab = Lab::new();
    let job: Value =
        serde_yaml::from_str(&std::fs::read_to_string(repository().join("jobs/etcd/spec")).unwrap()).unwrap();
    let fewer = Map::from_iter([("open_files".to_owned(), Value::from(4096))]);

    for (rendered, open_files) in [
        (lab.render(&[]).unwrap().swap_remove(0), &job["properties"]["open_files"]["default"]),
        (lab.render_cases(&[&fewer]).swap_remove(0).unwrap().swap_remove(0), &fewer["open_files"]),
    ] {
        let text = rendered.file("config/bpm.yml");
        let strange = strange_keys("", &serde_yaml::from_str(text).unwrap());
        assert!(strange.is_empty(), "{strange:?}");
        let config = BpmConfig::parse(text, "etcd").unwrap();
        let [process] = config.processes.as_slice() else { panic!("one process: {text}") };

        assert_eq!(process.name, "etcd", "the default of every bpm command, and what monit calls");
        // Weakness 19 of a predecessor: without it etcd has whatever limit monit inherited.
        assert_eq!(process.limits.open_files, open_files.as_u64());
        assert!(open_files.as_u64().is_some_and(|files| files >= 1024), "{open_files}");
        assert!(process.capabilities.is_empty());
        assert_eq!(process.exceptions, Exceptions::default());
        assert!(process.additional_volumes.iter().all(|volume| !volume.allow_executions));
        let inside = process.executable.strip_prefix("/var/vcap/packages/").unwrap();
        let package = inside.split('/').next().unwrap();
        let listed = job["packages"].as_array().unwrap();
        assert!(listed.contains(&Value::from(package)), "{package} is not a package of the job");
        let spec = std::fs::read_to_string(repository().join("packages").join(package).join("spec")).unwrap();
        let files: Value = serde_yaml::from_str(&spec).unwrap();
        assert!(files["files"].as_array().unwrap().contains(&Value::from(inside)), "{inside} is not packed");
        let hook = &process.hooks.as_ref().unwrap().pre_start;
        let template = hook.strip_prefix("/var/vcap/jobs/etcd/").unwrap();
        let file = rendered.files().iter().find(|file| file.path == template).unwrap();
        assert_eq!(file.mode & 0o111, 0o110, "{template} can be run");
    }
}

/// monit looks for the pidfile where bpm writes it, and calls bpm with what it takes.
#[test]
fn monit_watches_the_process_as_bpm_wants_it() {
    let rendered = Lab::new().render(&[]).unwrap().swap_remove(0);
    let config = BpmConfig::parse(rendered.file("config/bpm.yml"), "etcd").unwrap();

    let mut stanzas = String::new();
    for process in &config.processes {
        let name = &process.name;
        let which = if name == "etcd" { String::new() } else { format!(" -p {name}") };
        write!(
            stanzas,
            "check process {name}\n  with pidfile /var/vcap/sys/run/bpm/etcd/{name}.pid\n  \
             start program \"/var/vcap/jobs/bpm/bin/bpm start etcd{which}\"\n  \
             stop program \"/var/vcap/jobs/bpm/bin/bpm stop etcd{which}\"\n  group vcap\n"
        )
        .unwrap();
    }
    assert_eq!(rendered.monit(), stanzas);
}
