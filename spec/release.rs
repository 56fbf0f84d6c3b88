//! The release as an operator meets it: manifest, ops files, properties, and what is written about them.
//! Interpolated by the real `bosh`.

#![expect(clippy::unwrap_used, reason = "a spec that cannot go on has failed")]

#[path = "support/ops_files.rs"]
mod ops_files;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use etcd_release::job::aliases::SPELLINGS;
use ops_files::are_exclusive;
use serde_json::{Value, json};

/// A value for each variable of an ops file.
const VARIABLES: [&str; 10] = [
    "etcd_instances=5",
    "deployment_name=orders",
    "network_name=default",
    "persistent_disk_type=default",
    "etcd_static_ips=[10.0.0.1,10.0.0.2,10.0.0.3]",
    "backup_store_url=s3://backups/etcd",
    "restore_point=latest",
    "backup_store_region=eu-central-1",
    "backup_store_access_key_id=key",
    "backup_store_secret_access_key=secret",
];

/// Pairs that say two things about one, and where: the last one wins.
const RIVALS: [(&str, &str, &str); 3] = [
    (
        "enable-metrics.yml",
        "test/loopback.yml",
        "/instance_groups/0/jobs/1/properties/metrics_listen_address",
    ),
    ("scale.yml", "single-node.yml", "/instance_groups/0/instances"),
    ("raise-limits.yml", "test/loopback.yml", "/instance_groups/0/jobs/1/properties/open_files"),
];

/// Where two ops files say two things about one.
fn rivalry(one: &str, other: &str) -> Option<&'static str> {
    if one.starts_with("use-etcd-") && other.starts_with("use-etcd-") {
        return Some("/instance_groups/0/jobs/1/properties/etcd_version");
    }
    RIVALS.iter().find(|(first, second, _)| (*first, *second) == (one, other)).map(|(.., place)| *place)
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

/// What a manifest says at that place, where it then says nothing any more.
fn taken(manifest: &mut Value, place: &str) -> Option<Value> {
    let (parent, key) = place.rsplit_once('/').expect("a pointer");
    manifest.pointer_mut(parent)?.as_object_mut()?.remove(key)
}

fn job_spec() -> Value {
    serde_yaml::from_str(&read("jobs/etcd/spec")).unwrap()
}

/// Whether a property is a predecessor's spelling of another one: those are on the page about parity.
fn is_former(name: &str) -> bool {
    SPELLINGS.iter().any(|(former, _)| *former == name)
}

/// Name → definition.
fn properties() -> BTreeMap<String, Value> {
    serde_json::from_value(job_spec()["properties"].clone()).unwrap()
}

#[test]
fn ops_files_compose_in_any_order() {
    let files = operations();
    assert!(files.len() >= 6, "{files:?}");

    for (position, first) in files.iter().enumerate() {
        for second in files[position + 1..].iter().filter(|second| !are_exclusive(first, second)) {
            let (mut one, mut other) = (interpolate(&[first, second]), interpolate(&[second, first]));
            if let Some(place) = rivalry(first, second) {
                for (both, last) in [(&mut one, second), (&mut other, first)] {
                    assert_eq!(
                        taken(both, place),
                        interpolate(&[last]).pointer(place).cloned(),
                        "{first} and {second}"
                    );
                }
            }
            sort_what_is_appended(&mut one);
            sort_what_is_appended(&mut other);
            assert_eq!(one, other, "{first} and {second}");
        }
    }
}

/// What ops files append stands in the order in which they were given, which says nothing.
fn sort_what_is_appended(manifest: &mut Value) {
    for place in ["/releases", "/variables", "/instance_groups/0/jobs"] {
        let list = manifest.pointer_mut(place).and_then(Value::as_array_mut).expect("a list");
        list.sort_by_key(|one| one["name"].to_string());
    }
}

/// A variable's CA has to stand before it.
fn authorities_come_first(manifest: &Value) {
    let variables = manifest["variables"].as_array().unwrap();
    let mut known = BTreeSet::new();
    for variable in variables {
        let authority = variable["options"]["ca"].as_str();
        assert!(authority.is_none_or(|authority| known.contains(authority)), "{variable}");
        known.insert(variable["name"].as_str().unwrap());
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
    let files = operations();
    // Of rivals the last one is seen, and both set what the other sets.
    let together = |with: Option<&String>| {
        let takes_over = |file: &str| file.starts_with("migrate-from-");
        let others = files
            .iter()
            .filter(|file| !takes_over(file) && with.is_none_or(|with| !are_exclusive(with, file)));
        interpolate(&with.into_iter().chain(others).map(String::as_str).collect::<Vec<_>>())
    };
    let taken_over = files.iter().filter(|file| file.starts_with("migrate-from-")).map(Some);
    let create_env: Value = serde_yaml::from_str(&read("deployment/create-env.yml")).unwrap();
    let manifests = taken_over.chain([None]).map(together).chain([create_env]);
    let jobs: Vec<Value> =
        manifests.map(|manifest| manifest["instance_groups"][0]["jobs"][1].clone()).collect();

    for (name, value) in jobs.iter().flat_map(|job| job["properties"].as_object().unwrap()) {
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

/// Only what is shared leaves the deployment, and a key never does.
#[test]
fn the_link_is_shared_where_the_operator_says_so() {
    let provided = |operations: &[&str]| {
        interpolate(operations)["instance_groups"][0]["jobs"][1]["provides"]["etcd_client"].clone()
    };

    assert_eq!(provided(&[]), json!({"as": "etcd_client"}));
    assert_eq!(provided(&["share-links.yml"]), json!({"as": "etcd_client", "shared": true}));
}

/// What goes with a larger database: its disk, by the rule that the property's description tells.
#[test]
fn the_disk_grows_with_the_quota() {
    for operations in [[].as_slice(), &["raise-limits.yml"]] {
        let group = interpolate(operations)["instance_groups"][0].clone();
        let default = &properties()["quota_backend_bytes"]["default"];
        let quota = group["jobs"][1]["properties"].get("quota_backend_bytes").unwrap_or(default);
        let disk_mib = group["persistent_disk"].as_u64().unwrap();
        assert!(disk_mib >= 4 * (quota.as_u64().unwrap() >> 20), "{disk_mib} MiB for {quota}");
    }
}

/// bosh-dns as an addon: every variable it names is made.
#[test]
fn bosh_dns_brings_its_certificates() {
    let manifest = interpolate(&["add-bosh-dns.yml"]);
    let names: Vec<&str> =
        manifest["variables"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    let releases = manifest["releases"].as_array().unwrap();
    assert!(releases.iter().any(|one| one["name"] == "bosh-dns"), "{releases:?}");

    let text = manifest["addons"].to_string();
    let used: Vec<&str> = text.split("((").skip(1).map(|rest| rest.split_once("))").unwrap().0).collect();
    assert_eq!(used.len(), 4, "{text}");
    for name in used {
        assert!(names.contains(&name), "{name}");
    }
    authorities_come_first(&manifest);
}

/// `bosh create-env` reads another manifest than a Director and asks for these.
#[test]
fn the_manifest_for_create_env_is_complete_and_has_one_member() {
    let bosh = which::which("bosh").expect("bosh on PATH (ci/setup puts it there)");
    let store = tempfile::tempdir().unwrap();
    let output = Command::new(bosh)
        .args(["int", "--var-errs", "--var-errs-unused", "--vars-store"])
        .arg(store.path().join("vars.yml"))
        .arg(repository().join("deployment/create-env.yml"))
        .args(["-v", "internal_ip=10.0.0.5", "-v", "internal_cidr=10.0.0.0/24", "-v", "internal_gw=10.0.0.1"])
        .args(["-l".as_ref(), repository().join("spec/lifecycle/create_env.yml").as_os_str()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let manifest: Value = serde_yaml::from_slice(&output.stdout).unwrap();

    let groups = manifest["instance_groups"].as_array().unwrap();
    assert_eq!((groups.len(), &groups[0]["instances"]), (1, &json!(1)));
    for (key, name) in [("resource_pools", "resource_pool"), ("disk_pools", "persistent_disk_pool")] {
        assert_eq!(manifest[key][0]["name"], groups[0][name], "{name}");
    }
    assert_eq!(groups[0]["networks"][0]["static_ips"], json!(["10.0.0.5"]));
    let release = &manifest["cloud_provider"]["template"]["release"];
    assert!(manifest["releases"].as_array().unwrap().iter().any(|one| &one["name"] == release));
    let mbus = manifest["cloud_provider"]["mbus"].as_str().unwrap();
    assert!(mbus.ends_with("@10.0.0.5:6868"), "{mbus}");
}

#[test]
fn every_property_is_described_with_an_example_and_printed_into_job_json() {
    let job_json = read("jobs/etcd/templates/config/job.json.erb");
    assert!(!job_json.contains("link.address"), "it raises where there is no Director");

    for (name, definition) in properties() {
        assert!(definition["description"].as_str().is_some_and(|text| text.len() > 20), "{name}");
        assert!(!definition["example"].is_null(), "{name} has no example");
        let fallback = if definition["default"].is_null() { ", nil" } else { "" };
        if name == "users" {
            // Its passwords are nobody's business here.
            assert!(!job_json.contains("'users' => p('users', nil),"));
            continue;
        }
        let printed = job_json.contains(&format!("'{name}' => p('{name}'{fallback}),"));
        let is_file =
            name.starts_with("tls.") || ["jwt.public_key", "jwt.private_key"].contains(&name.as_str());
        assert_eq!(printed, !is_file, "{name} in job.json, and no certificate or key");
    }
}

/// The exceptions are what consumers of two predecessors read by these names. Nothing is in them unless a manifest
/// says so, and the base does not: cfcr-etcd-release shared a client's key already; a job that has no server's key at
/// all stands in for jfmyers9/etcd-release.
#[test]
fn links_carry_no_private_key_but_those_for_former_consumers_and_only_declared_properties() {
    const FORMER: [(&str, &str); 2] = [("etcd", "tls.etcdctl.private_key"), ("etcd-client-link", "tls.key")];
    let mut keys = Vec::new();

    for directory in ["etcd", "etcd-client-link"] {
        let spec: Value = serde_yaml::from_str(&read(&format!("jobs/{directory}/spec"))).unwrap();
        let known: BTreeMap<String, Value> = serde_json::from_value(spec["properties"].clone()).unwrap();
        for link in spec["provides"].as_array().unwrap() {
            for property in link["properties"].as_array().unwrap() {
                let property = property.as_str().unwrap();
                assert!(known.contains_key(property), "{property}");
                if property.contains("key") {
                    assert_eq!(known[property].get("default"), None, "{property}");
                    keys.push((directory.to_owned(), property.to_owned()));
                }
            }
        }
    }
    assert_eq!(keys, FORMER.map(|(job, property)| (job.to_owned(), property.to_owned())));

    let base = interpolate(&[]);
    let jobs = base["instance_groups"][0]["jobs"].as_array().unwrap();
    assert!(jobs.iter().all(|job| job["name"] != "etcd-client-link"), "{jobs:?}");
    assert!(jobs.iter().all(|job| job["properties"]["tls"]["etcdctl"].is_null()), "{jobs:?}");
}

/// A server's key, and the administrator's, stay on the members whatever the ops files hand out.
#[test]
fn what_the_migrations_hand_out_is_the_key_of_a_client() {
    let tls = |file: &str, job: &str| {
        let jobs = interpolate(&[file])["instance_groups"][0]["jobs"].as_array().unwrap().clone();
        jobs.into_iter().find(|one| one["name"] == job).unwrap()["properties"]["tls"].clone()
    };
    let cfcr = tls("migrate-from-cfcr-etcd-release.yml", "etcd");
    let jfmyers9 = tls("migrate-from-jfmyers9-etcd-release.yml", "etcd");
    let link = tls("migrate-from-jfmyers9-etcd-release.yml", "etcd-client-link");

    assert_eq!(cfcr["etcdctl"]["private_key"], "((tls_etcdctl.private_key))");
    assert_eq!(link["key"], "((etcd_consumer_tls.private_key))");
    for role in ["server", "peer", "admin"] {
        assert_ne!(cfcr[role]["private_key"], cfcr["etcdctl"]["private_key"], "{role}");
        assert_ne!(jfmyers9[role]["private_key"], link["key"], "{role}");
    }
}

/// A CA that is made anew in the middle of a roll locks members out of each other; a name that changes does that.
#[test]
fn migrations_keep_the_names_of_variables_and_make_no_ca_anew() {
    for (name, kept, cas) in [
        (
            "cfcr-etcd-release",
            vec!["etcd_ca", "tls_etcd", "tls_etcd_peer", "tls_etcdctl", "tls_etcdctl-root"],
            1,
        ),
        ("jfmyers9-etcd-release", vec!["client_ca", "peer_ca", "etcd_client_tls", "etcd_peer_tls"], 2),
    ] {
        let old: Value =
            serde_yaml::from_str(&read(&format!("spec/fixtures/predecessors/{name}/manifests/etcd.yml")))
                .unwrap();
        let new = interpolate(&[&format!("migrate-from-{name}.yml")]);
        let find = |manifest: &Value, variable: &str| {
            let all = manifest["variables"].as_array().unwrap().clone();
            all.into_iter()
                .find(|one| one["name"] == variable)
                .unwrap_or_else(|| panic!("{name}: {variable}"))
        };

        let mut found = 0;
        for variable in kept {
            let (old, new) = (find(&old, variable), find(&new, variable));
            assert_eq!(old["options"]["ca"], new["options"]["ca"], "{variable}");
            assert_eq!(old["options"]["is_ca"], new["options"]["is_ca"], "{variable}");
            if new["options"]["is_ca"] == true {
                found += 1;
                assert!(new["update_mode"].is_null(), "{variable} would be made anew");
            }
        }
        assert_eq!(found, cas, "{name}");
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
                if ["tls.server.", "tls.peer.", "tls.admin."].iter().any(|role| name.starts_with(role)) =>
            {
                "required".to_owned()
            }
            Value::Null => "not set".to_owned(),
            Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        format!("| `{name}` | {default} |")
    };

    for (name, definition) in properties().into_iter().filter(|(name, _)| !is_former(name)) {
        let row = row(&name, &definition);
        assert!(page.contains(&row), "docs/deploy.md lacks: {row}");
    }
    for file in operations() {
        assert!(page.contains(&format!("| `{file}` |")), "docs/deploy.md lacks {file}");
    }
}

/// Whoever moves over finds each property that the predecessors had, and what became of it.
#[test]
fn the_page_about_parity_has_every_property_and_link_of_two_predecessors() {
    let page = read("docs/parity.md");
    let known = properties();

    for (former, today) in SPELLINGS {
        assert!(known.contains_key(former), "{former} is in no spec");
        let row = page.lines().find(|line| line.starts_with(&format!("| `{former}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/parity.md lacks {former}"));
        assert!(row.contains(&format!("`{today}`")), "{row} does not say {today}");
    }
    // What the played predecessors declare is what the real ones declare.
    for name in ["cfcr-etcd-release", "jfmyers9-etcd-release"] {
        let spec = read(&format!("spec/fixtures/predecessors/{name}/jobs/etcd/spec"));
        let spec: Value = serde_yaml::from_str(&spec).unwrap();
        for property in spec["properties"].as_object().unwrap().keys() {
            assert!(page.contains(&format!("| `{property}` |")), "docs/parity.md lacks {property} of {name}");
            assert!(known.contains_key(property), "{property} of {name} means nothing here");
        }
        for link in spec["provides"].as_array().unwrap() {
            let row =
                format!("| `{}` | `{}` |", link["name"].as_str().unwrap(), link["type"].as_str().unwrap());
            assert!(page.contains(&row), "docs/parity.md lacks link {row} of {name}");
        }
    }
    // Everything that is called the same is there, so that nothing on the page has gone since.
    let table = page.split("\n## ").find(|section| section.starts_with("Properties")).unwrap();
    let names: Vec<&str> =
        table.lines().filter_map(|line| line.split_once("| the same |")?.0.split('`').nth(1)).collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        assert!(known.contains_key(name), "{name} is on the page and in no spec");
    }
}
