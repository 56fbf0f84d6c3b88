//! What a manifest becomes with ops files, variables and certificates, proved with the real `bosh`.
//! docs/local-director.md#manifest

use std::path::{Path, PathBuf};
use std::{env, fs};

use etcd_release::local::interpolation::{Interpolated, Sources, interpolate};

fn bosh() -> PathBuf {
    let pinned = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/bin/bosh");
    if pinned.is_file() {
        return pinned;
    }
    which::which("bosh").expect("`bosh` is in .tools/bin or on PATH (run ci/setup)")
}

struct Files {
    directory: tempfile::TempDir,
}

const BASE: &str = "
name: ((name))
releases: [{name: rel, version: ((version))}]
update: {canaries: 1, max_in_flight: 1, canary_watch_time: 1, update_watch_time: 1}
instance_groups:
- name: a
  instances: 1
  networks: [{name: default}]
  jobs: [{name: j, release: rel, properties: {ca: ((ca.certificate)), password: ((password))}}]
variables:
- {name: password, type: password}
- {name: ca, type: certificate, options: {is_ca: true, common_name: ca}}
";

impl Files {
    fn new() -> Self {
        let files = Self { directory: tempfile::tempdir().expect("a temporary directory") };
        files.write("base.yml", BASE);
        files.write("scale.yml", "[{type: replace, path: /instance_groups/name=a/instances, value: 3}]");
        files.write("vars.yml", "name: from-file\nversion: 7\n");
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        #[expect(clippy::disallowed_methods, reason = "a fixture needs no durability")]
        fs::write(self.path(name), text).expect("written");
    }

    fn sources(&self) -> Sources {
        Sources {
            bosh: bosh(),
            manifest: self.path("base.yml"),
            ops_files: vec![self.path("scale.yml")],
            vars: vec!["name=typed".into()],
            vars_files: vec![self.path("vars.yml")],
            vars_store: self.path("store.yml"),
        }
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).expect("listed");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn ops_files_variables_and_certificates_make_the_manifest() {
    let files = Files::new();

    let Interpolated { yaml, manifest } = interpolate(&files.sources()).expect("complete");

    assert_eq!(manifest.name, "typed", "a typed variable wins over a file's");
    assert_eq!(manifest.releases[0].version, "7");
    let group = manifest.group("a").expect("it is there");
    assert_eq!(group.instances, 3, "the ops file says so");
    let ca = group.jobs[0].properties["ca"].as_str().expect("a certificate");
    assert!(ca.starts_with("-----BEGIN CERTIFICATE-----"), "{ca}");
    assert!(!yaml.contains("(("), "nothing is left to fill in");
}

#[test]
fn generated_variables_stay_and_only_their_owner_reads_them() {
    use std::os::unix::fs::PermissionsExt;
    let files = Files::new();

    let first = interpolate(&files.sources()).expect("complete");
    let second = interpolate(&files.sources()).expect("complete");

    assert_eq!(first.yaml, second.yaml);
    let mode = fs::metadata(files.path("store.yml")).expect("kept").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(files.names(), ["base.yml", "scale.yml", "store.yml", "vars.yml"], "no copy stays behind");
}

#[test]
fn a_failure_leaves_the_variables_store_as_it_was() {
    let files = Files::new();
    interpolate(&files.sources()).expect("complete");
    let before = fs::read(files.path("store.yml")).expect("kept");
    files.write("base.yml", &(BASE.to_owned() + "- {name: more, type: password}\nx: ((missing))\n"));

    let error = interpolate(&files.sources()).expect_err("a variable is missing").to_string();

    assert!(error.contains("Expected to find variables:") && error.contains("missing"), "{error}");
    assert!(error.contains("\n  why:  ") && error.contains("\n  next: "), "{error}");
    assert_eq!(fs::read(files.path("store.yml")).expect("kept"), before);
    assert_eq!(files.names(), ["base.yml", "scale.yml", "store.yml", "vars.yml"]);
}

#[test]
fn an_ops_file_that_does_not_fit_is_named() {
    let files = Files::new();
    files.write("scale.yml", "[{type: replace, path: /instance_groups/name=b/instances, value: 3}]");

    let error = interpolate(&files.sources()).expect_err("no group b").to_string();

    assert!(error.contains("scale.yml") && error.contains("found 0"), "{error}");
}

#[test]
fn a_machine_without_bosh_is_told_what_to_run() {
    let files = Files::new();
    let sources = Sources { bosh: "/nowhere/bosh".into(), ..files.sources() };

    let error = interpolate(&sources).expect_err("no bosh").to_string();

    assert!(error.contains("/nowhere/bosh, is not there") && error.contains("ci/setup"), "{error}");
}
