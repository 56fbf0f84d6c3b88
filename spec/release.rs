//! The release as an operator meets it: manifest, ops files, properties, and what is written about them.
//! Interpolated by the real `bosh`.

#![expect(clippy::unwrap_used, reason = "a spec that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A value for each variable of an ops file.
const VARIABLES: [&str; 3] =
    ["etcd_instances=5", "deployment_name=orders", "etcd_static_ips=[10.0.0.1,10.0.0.2,10.0.0.3]"];

/// Whether two ops files say two things about one: the last one wins.
fn are_rivals(one: &str, other: &str) -> bool {
    let is_version = |file: &str| file.starts_with("use-etcd-");
    (one, other) == ("scale.yml", "single-node.yml") || (is_version(one) && is_version(other))
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap()
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// All ops files, as paths below `deployment/operations`.
fn operations() -> Vec<String> {
    let directory = repository().join("deployment/operations");
    let below = |path: PathBuf| path.strip_prefix(&directory).unwrap().display().to_string();
    files_below(&directory).into_iter().map(below).collect()
}

fn interpolate(operations: &[&str]) -> Value {
    let bosh = which::which("bosh").expect("bosh on PATH (ci/setup puts it there)");
    let mut command = Command::new(bosh);
    command.arg("int").arg(repository().join("deployment/etcd.yml"));
    for file in operations {
        command.arg("--ops-file").arg(repository().join("deployment/operations").join(file));
    }
    for variable in VARIABLES {
        command.args(["--var", variable]);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{operations:?}: {output:?}");
    serde_yaml::from_slice(&output.stdout).unwrap()
}

fn job_spec() -> Value {
    serde_yaml::from_str(&read("jobs/etcd/spec")).unwrap()
}

/// Name → definition.
fn properties() -> BTreeMap<String, Value> {
    serde_json::from_value(job_spec()["properties"].clone()).unwrap()
}

/// The order of variables means nothing, as long as a CA comes before what it signs.
fn sorted(mut manifest: Value) -> Value {
    let variables = manifest["variables"].as_array_mut().unwrap();
    variables.sort_by_key(|variable| variable["name"].to_string());
    manifest
}

#[test]
fn ops_files_compose_in_any_order() {
    let files = operations();
    assert!(files.len() >= 6, "{files:?}");

    for (position, first) in files.iter().enumerate() {
        for second in &files[position + 1..] {
            let [one, other] =
                [[first, second], [second, first]].map(|both| sorted(interpolate(&both.map(String::as_str))));
            if !are_rivals(first, second) {
                assert_eq!(one, other, "{first} and {second}");
            }
        }
    }
}

#[test]
fn names_and_certificates_follow_the_ops_files() {
    let sans = |manifest: &Value, variable: &str| {
        let variables = manifest["variables"].as_array().unwrap();
        let found = variables.iter().find(|one| one["name"] == variable).unwrap();
        found["options"]["alternative_names"].as_array().unwrap().clone()
    };

    let named = interpolate(&["name-deployment.yml"]);
    assert_eq!(named["name"], "orders");
    for variable in ["etcd_server", "etcd_peer"] {
        assert_eq!(
            sans(&named, variable),
            ["etcd.default.orders.bosh", "*.etcd.default.orders.bosh", "127.0.0.1", "localhost"]
        );
    }

    let fixed = interpolate(&["static-ips.yml"]);
    let addresses = fixed["instance_groups"][0]["networks"][0]["static_ips"].as_array().unwrap();
    assert_eq!(addresses.len(), 3);
    assert_eq!(&sans(&fixed, "etcd_server_static_ips"), addresses);
    assert_eq!(&sans(&fixed, "etcd_peer_static_ips"), addresses);
    let tls = &fixed["instance_groups"][0]["jobs"][1]["properties"]["tls"];
    assert_eq!(tls["peer"]["certificate"], "((etcd_peer_static_ips.certificate))");
}

#[test]
fn each_of_the_two_cas_is_replaced_without_the_other() {
    let base = interpolate(&[]);
    let trust = |manifest: &Value, role: &str| {
        manifest["instance_groups"][0]["jobs"][1]["properties"]["tls"][role]["ca"].clone()
    };
    let issuer = |manifest: &Value, role: &str| {
        let variables = manifest["variables"].as_array().unwrap();
        let leaf = variables.iter().find(|one| one["name"] == format!("etcd_{role}")).unwrap();
        leaf["options"]["ca"].as_str().unwrap().to_owned()
    };
    for (kind, own, others) in [
        ("client", ["server", "admin"].as_slice(), ["peer"].as_slice()),
        ("peer", &["peer"], &["server", "admin"]),
    ] {
        let files = [format!("trust-two-{kind}-cas.yml"), format!("issue-from-second-{kind}-ca.yml")];
        let changed = interpolate(&files.each_ref().map(String::as_str));
        for role in own {
            assert_ne!(trust(&changed, role), trust(&base, role), "{kind} {role}");
            assert!(issuer(&changed, role).ends_with("_2"), "{kind} {role}");
        }
        for role in others {
            assert_eq!(trust(&changed, role), trust(&base, role), "{kind} {role}");
            assert_eq!(issuer(&changed, role), issuer(&base, role), "{kind} {role}");
        }
    }
}

/// A Director makes whatever the manifest lists, given or not; the CLI takes what is given first.
#[test]
fn with_an_existing_ca_none_is_made_and_it_signs_all_the_same() {
    let given = interpolate(&["use-existing-ca.yml"]);

    let variables = given["variables"].as_array().unwrap();
    let signers: BTreeSet<&str> =
        variables.iter().filter_map(|variable| variable["options"]["ca"].as_str()).collect();
    assert_eq!(signers, BTreeSet::from(["etcd_ca", "etcd_peer_ca"]));
    assert!(variables.iter().all(|variable| variable["options"]["is_ca"].is_null()), "{variables:#?}");
}

#[test]
fn the_manifest_sets_only_properties_that_exist() {
    let known = properties();
    let job = interpolate(&["bootstrap.yml", "test/loopback.yml"])["instance_groups"][0]["jobs"][1].clone();

    for (name, value) in job["properties"].as_object().unwrap() {
        if name == "tls" {
            for (role, parts) in value.as_object().unwrap() {
                for part in parts.as_object().unwrap().keys() {
                    assert!(known.contains_key(&format!("tls.{role}.{part}")), "tls.{role}.{part}");
                }
            }
        } else {
            assert!(known.contains_key(name), "{name}");
        }
    }
}

#[test]
fn every_property_is_described_with_an_example_and_printed_into_job_json() {
    let job_json = read("jobs/etcd/templates/config/job.json.erb");

    for (name, definition) in properties() {
        assert!(definition["description"].as_str().is_some_and(|text| text.len() > 20), "{name}");
        assert!(!definition["example"].is_null(), "{name} has no example");
        let fallback = if definition["default"].is_null() { ", nil" } else { "" };
        let printed = job_json.contains(&format!("'{name}' => p('{name}'{fallback}),"));
        let is_file =
            name.starts_with("tls.") || ["jwt.public_key", "jwt.private_key"].contains(&name.as_str());
        assert_eq!(printed, !is_file, "{name} in job.json, and no certificate or key");
    }
}

#[test]
fn links_carry_no_private_key_and_only_declared_properties() {
    let known = properties();
    for link in job_spec()["provides"].as_array().unwrap() {
        for property in link["properties"].as_array().unwrap() {
            let property = property.as_str().unwrap();
            assert!(known.contains_key(property), "{property}");
            assert!(!property.contains("key"), "{property}");
        }
    }
}

#[test]
fn every_template_is_rendered_and_scripts_only_start_a_binary() {
    let templates = job_spec()["templates"].as_object().unwrap().clone();
    let directory = repository().join("jobs/etcd/templates");
    let present: BTreeSet<String> = files_below(&directory)
        .into_iter()
        .map(|path| path.strip_prefix(&directory).unwrap().display().to_string())
        .collect();
    assert_eq!(present, templates.keys().cloned().collect());

    let tools = "/var/vcap/packages/etcd-tools/bin/";
    for script in present.iter().filter(|name| name.starts_with("bin/")) {
        let text = read(&format!("jobs/etcd/templates/{script}"));
        let lines: Vec<&str> = text.lines().collect();
        let shim = lines[0] == "#!/bin/sh" && lines[1].starts_with(&format!("exec {tools}"));
        let interpreted = lines[0].starts_with(&format!("#!{tools}etcdctl-wrapper "));
        assert!(lines.len() == 2 && (shim || interpreted), "{script}: {text}");
    }
}

#[test]
fn the_page_about_deploying_lists_every_property_and_ops_file() {
    let page = read("docs/deploy.md");
    let row = |name: &str, definition: &Value| {
        let default = match &definition["default"] {
            Value::Null
                if ["tls.server", "tls.peer", "tls.admin"].iter().any(|role| name.starts_with(role)) =>
            {
                "required".to_owned()
            }
            Value::Null => "not set".to_owned(),
            Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        format!("| `{name}` | {default} |")
    };

    for (name, definition) in properties() {
        let row = row(&name, &definition);
        assert!(page.contains(&row), "docs/deploy.md lacks: {row}");
    }
    for file in operations() {
        assert!(page.contains(&format!("| `{file}` |")), "docs/deploy.md lacks {file}");
    }
}
