use serde_json::json;
use tempfile::TempDir;

use super::*;

/// A release directory with these files over a job `j` that needs package `p`.
fn release(files: &[(&str, &str)]) -> TempDir {
    let plain = [
        ("config/final.yml", "name: rel\n"),
        ("jobs/j/spec", "name: j\ntemplates: {a.erb: config/a, bin/run: bin/run}\npackages: [p]\n"),
        ("jobs/j/monit", "check process j"),
        ("jobs/j/templates/a.erb", "A"),
        ("jobs/j/templates/bin/run", "RUN"),
        ("packages/p/spec", "name: p\n"),
    ];
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (path, text) in plain.iter().chain(files) {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().expect("below the directory")).expect("created");
        fs::write(path, text).expect("written");
    }
    directory
}

fn open(files: &[(&str, &str)]) -> Result<Release> {
    Release::open(release(files).path())
}

#[test]
fn a_release_is_read_with_jobs_templates_and_packages() {
    let spec = "
name: k
templates: {}
provides: [{name: n, type: t, properties: [a.b]}]
consumes: [{name: m, type: t, optional: true}]
properties: {a.b: {description: d, default: 1}, c: {description: d}, d: {default: ~}}
";
    let files = [
        ("jobs/k/spec", spec),
        ("jobs/k/monit", ""),
        ("packages/v/spec.lock", "name: v\ndependencies: [p]\n"),
    ];

    let release = open(&files).expect("a good release");

    assert_eq!(release.name, "rel");
    let job = &release.jobs["j"];
    assert_eq!(job.monit, "check process j");
    assert!(job.is_errand(), "it has bin/run");
    let files: Vec<_> =
        job.templates.iter().map(|one| (one.destination.as_str(), one.text.as_str())).collect();
    assert_eq!(files, [("config/a", "A"), ("bin/run", "RUN")]);
    let job = &release.jobs["k"];
    assert!(!job.is_errand());
    assert_eq!(job.provides[0].properties, ["a.b"]);
    assert!(job.consumes[0].optional);
    let defaults: Vec<_> =
        job.properties.iter().map(|one| (one.name.as_str(), one.default.clone())).collect();
    assert_eq!(defaults, [("a.b", Some(json!(1))), ("c", None), ("d", None)]);
    assert_eq!(release.packages["v"].dependencies, ["p"]);
}

#[test]
fn jobs_that_only_bring_a_package_are_jobs_all_the_same() {
    let release = Release::open(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("our own release");

    for carrier in ["etcd-3.4", "etcd-3.5", "etcd-3.7"] {
        let job = &release.jobs[carrier];
        assert_eq!(job.packages, [carrier]);
        assert!(job.monit.is_empty() && job.templates.is_empty() && !job.is_errand(), "{job:?}");
    }
}

#[test]
#[rustfmt::skip]
fn a_broken_release_is_refused_in_the_words_of_bosh() {
    let spec = |more: &str| format!("name: k\n{more}\n");
    let cases = [
        (spec("name2: x").replace("name: k", "name: x"), "Job directory 'k' does not match job name 'x' in spec"),
        (spec("packages: [none]"), "Expected to find package 'none' since it's a dependency of job 'k'"),
        (spec("templates: {none.erb: x}"), "Missing template file 'none.erb' for job 'k'"),
        (spec("properties: []"), "Job 'k' has invalid properties spec format"),
        (spec("provides: {}"), "Job 'k' has invalid spec format: 'provides' must be an array of hashes with name and type"),
        (spec("consumes: [{name: x}]"), "Each consumes item in the consumes section of the release spec must contain 'name' and 'type'"),
        (spec("provides: [{name: x, type: t}, {name: x, type: u}]"), "Job 'k' specifies duplicate provides link with name 'x'"),
        (spec("consumes: [{name: x, type: t}, {name: x, type: u}]"), "Job 'k' specifies duplicate consumes link with name 'x'"),
        (spec("provides: [{name: x, type: t, optional: true}]"), "Link 'x' of type 't' is a provides link, not allowed to have 'optional' key"),
        (spec(""), "Job 'k' is missing monit file"),
    ];
    for (spec, expected) in cases {
        let error = open(&[("jobs/k/spec", &spec)]).expect_err(expected).to_string();

        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn all_faults_of_a_release_are_told_at_once() {
    let files = [
        ("jobs/k/spec", "name: x\npackages: [none]\n"),
        ("packages/p/spec", "name: p\ndependencies: [gone]\n"),
    ];

    let error = open(&files).expect_err("four faults").to_string();

    assert!(error.contains("release 'rel' has 4 fault(s):"), "{error}");
    assert!(
        error.contains("Expected to find package 'gone' since it's a dependency of package 'p'"),
        "{error}"
    );
}

#[test]
fn a_directory_without_a_release_says_where_to_deploy_from() {
    let directory = tempfile::tempdir().expect("a temporary directory");

    let error = Release::open(directory.path()).expect_err("no release").to_string();

    assert!(error.contains("is no release") && error.contains("config/final.yml"), "{error}");
}

#[test]
fn unknown_jobs_and_releases_are_told_apart() {
    let mut catalog = Catalog::default();
    catalog.add(Release::played("bpm", &["bpm"]));

    let job = catalog.job("bpm", "cpm").expect_err("no such job").to_string();
    let release = catalog.job("dns", "dns").expect_err("no such release").to_string();

    assert!(catalog.job("bpm", "bpm").is_ok());
    assert!(job.contains("Job 'cpm' not found in release 'bpm'"), "{job}");
    assert!(release.contains("release 'dns' is not on this machine"), "{release}");
}
