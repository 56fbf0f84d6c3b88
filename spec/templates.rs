//! What the templates of job etcd become: the real manifest with its ops files through the real `bosh`, and
//! the real ERB through Ruby. What is rendered is kept as snapshots; a changed one is reviewed like code.
//!
//! `templates/accepts` and `templates/rejects` hold properties that must, or must not, get through: add a
//! file, get a test.

#![allow(missing_docs, clippy::unwrap_used, reason = "a spec that cannot go on has failed")]

#[path = "templates/lab.rs"]
mod lab;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use etcd_release::atomic_file;
use etcd_release::job::config::JobConfig;
use serde::Deserialize;
use serde_json::{Map, Value};

use lab::{Lab, Rendered, operations, repository};

/// One file below `templates/accepts` or `templates/rejects`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// Laid over the properties of job etcd in the manifest, by dotted name; null takes one away.
    properties: Map<String, Value>,
    /// Rejects only: the whole message, either of the Director while it renders, or of pre-start, without
    /// the two lines of advice that are the same for all.
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

/// As in `spec/release.rs`: a deployment is taken over from one release only, and goes on to be called as it was.
fn are_exclusive(one: &str, other: &str) -> bool {
    let takes_over = |file: &str| file.starts_with("migrate-from-");
    let says_who = |file: &str| {
        ["static-ips", "trust-two-", "issue-from-"].iter().any(|prefix| file.starts_with(prefix))
    };
    let exclude = |one: &str, other: &str| takes_over(one) && (takes_over(other) || says_who(other));
    exclude(one, other) || exclude(other, one)
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

    for (name, ops) in variants {
        let first = lab.render(&ops).unwrap().swap_remove(0);

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
    assert!(files.len() >= 6, "{files:?}");

    for (position, first) in files.iter().enumerate() {
        for second in files[position + 1..].iter().filter(|second| !are_exclusive(first, second)) {
            let both = [first.clone(), second.clone()];
            let instances = lab.render(&both).unwrap_or_else(|error| panic!("{both:?}: {error:#}"));
            for one in &instances {
                let job = load(one).unwrap_or_else(|told| panic!("{both:?}: {told}"));
                assert_eq!(job.instances.len(), instances.len(), "{both:?}");
            }
        }
    }
}

#[test]
fn properties_that_are_accepted_reach_the_programs_as_they_were_written() {
    let lab = Lab::new();
    let cases = cases("accepts");
    assert!(!cases.is_empty());

    for (name, case) in cases {
        assert!(case.told.is_none(), "{name}: nothing is told about what is accepted");
        let instances = lab.render_with(&case.properties).unwrap_or_else(|error| panic!("{name}: {error:#}"));

        load(&instances[0]).unwrap_or_else(|told| panic!("{name}: {told}"));
        let job: Value = serde_json::from_str(instances[0].file("config/job.json")).unwrap();
        for (property, value) in &case.properties {
            assert_eq!(&job["properties"][property], value, "{name}: {property}");
        }
    }
}

#[test]
fn properties_that_are_rejected_are_told_in_exactly_these_words() {
    const ADVICE: &str = "\n  why:  etcd would not start with them, or not as meant; nothing was changed\n  next: correct the manifest or ops file and deploy again; docs/deploy.md#properties lists them all";
    let lab = Lab::new();
    let mut wrong = String::new();

    for (name, case) in cases("rejects") {
        let told = match lab.render_with(&case.properties) {
            Err(error) => format!("{error:#}"),
            Ok(instances) => match load(&instances[0]) {
                Ok(_) => "nothing: it was accepted".to_owned(),
                Err(told) => told.strip_suffix(ADVICE).map_or_else(|| told.clone(), str::to_owned),
            },
        };

        let expected = case.told.unwrap_or_default();
        if told.trim_end() != expected.trim_end() {
            write!(wrong, "\n--- {name}, expected\n{expected}\n--- {name}, told\n{told}\n").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Booleans have one kind of wrong value, which the unit tests show. An unprivileged client's certificate is
/// optional and read by nobody here, so no text in it can be wrong. Keys of tokens are files, which
/// `src/job/installed.rs` judges, as it judges what only the installed etcd can tell.
#[test]
fn every_property_has_a_value_that_is_rejected() {
    let spec: Value =
        serde_yaml::from_str(&std::fs::read_to_string(repository().join("jobs/etcd/spec")).unwrap()).unwrap();
    let rejected: BTreeSet<String> = cases("rejects")
        .into_values()
        .flat_map(|case| case.properties.into_iter().map(|(name, _)| name))
        .collect();

    let without: Vec<&String> = spec["properties"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, definition)| !definition["default"].is_boolean() && !name.starts_with("tls.client."))
        .filter(|(name, _)| !["jwt.public_key", "jwt.private_key"].contains(&name.as_str()))
        .map(|(name, _)| name)
        .filter(|name| !rejected.contains(*name))
        .collect();
    assert!(without.is_empty(), "no file in spec/templates/rejects for {without:?}");
    let unknown: Vec<&String> =
        rejected.iter().filter(|name| spec["properties"].get(name.as_str()).is_none()).collect();
    assert!(
        unknown.is_empty(),
        "files in spec/templates/rejects for properties that do not exist: {unknown:?}"
    );
}
