//! The templates of every job in every world they may meet: one, three and five instances, with and without the
//! link, names and addresses, each property that may be left out left out and given.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::lab::{Lab, Rendered, identities, render_manifest, repository, set};
use super::{cases, declared, load};

/// Jobs that have templates, with a value for each property that has no default. A job that is new belongs here.
const JOBS: [&str; 4] = ["bbr-etcd", "etcd", "etcd-backup", "restore"];

/// Properties without a default, with a value that shows in what is rendered.
fn given() -> BTreeMap<String, Value> {
    let example = |definition: &Value| definition["example"].clone();
    let known = declared("etcd").into_iter().filter(|(_, definition)| definition["default"].is_null());
    let value = |name: &str, definition: &Value| match name.rsplit('.').next() {
        Some("ca" | "certificate" | "private_key" | "public_key") => {
            identities().get(name).map_or_else(|| json!(format!("({name})")), |text| json!(text))
        }
        _ => example(definition),
    };
    known.map(|(name, definition)| (name.clone(), value(&name, &definition))).collect()
}

/// All files of the job, by path.
fn contents(instance: &Rendered) -> BTreeMap<&str, &str> {
    instance.files().iter().map(|file| (file.path.as_str(), file.content.as_str())).collect()
}

#[test]
fn every_job_with_templates_is_in_these_tests() {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(repository().join("jobs")).unwrap() {
        let directory = entry.unwrap().path();
        let text = std::fs::read_to_string(directory.join("spec")).unwrap();
        let spec: Value = serde_yaml::from_str(&text).unwrap();
        // A job without templates only carries a package or a link.
        if spec["templates"].as_object().is_some_and(|templates| !templates.is_empty()) {
            found.insert(directory.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    assert_eq!(found, JOBS.map(str::to_owned).into());
}

#[test]
fn members_know_each_other_by_name_or_by_address_and_are_alone_without_the_link() {
    let lab = Lab::new();
    let base = lab.manifest();

    for (members, by_name, linked) in [1, 3, 5]
        .into_iter()
        .flat_map(|members| [true, false].map(|by_name| (members, by_name)))
        .flat_map(|(members, by_name)| [true, false].map(|linked| (members, by_name, linked)))
    {
        let mut manifest = base.clone();
        manifest["instance_groups"][0]["instances"] = json!(members);
        manifest["features"]["use_dns_addresses"] = json!(by_name);
        if !linked {
            manifest["instance_groups"][0]["jobs"][1]["consumes"] = json!({"etcd_peers": "nil"});
        }
        let world = format!("{members} members, by name: {by_name}, linked: {linked}");

        let instances = render_manifest(&manifest).unwrap_or_else(|error| panic!("{world}: {error:#}"));

        assert_eq!(instances.len(), members, "{world}");
        for (at, one) in instances.iter().enumerate() {
            let bpm: Value = serde_yaml::from_str(one.file("config/bpm.yml")).unwrap();
            assert_eq!(bpm["processes"][0]["name"], "etcd", "{world}");
            let job = load(one);
            if linked || at == 0 {
                let job = job.unwrap_or_else(|told| panic!("{world}: {told}"));
                let known = if linked { members } else { 1 };
                assert_eq!(job.instances.len(), known, "{world}");
                for peer in &job.instances {
                    assert_eq!(
                        peer.address.ends_with(".etcd.default.etcd.bosh"),
                        by_name,
                        "{world}: {peer:?}"
                    );
                    assert_eq!(
                        peer.address.parse::<std::net::Ipv4Addr>().is_err(),
                        by_name,
                        "{world}: {peer:?}"
                    );
                }
            } else {
                let told = job.expect_err("it is not alone").clone();
                assert!(told.contains("link etcd_peers: (absent) must be there"), "{world}: {told}");
            }
        }
    }
}

/// The link's own say of names or addresses wins over the deployment's.
#[test]
fn the_link_may_say_addresses_where_the_deployment_says_names() {
    let lab = Lab::new();
    let mut manifest = lab.manifest();
    manifest["instance_groups"][0]["jobs"][1]["consumes"] =
        json!({"etcd_peers": {"from": "etcd_peers", "ip_addresses": true}});

    let instances = render_manifest(&manifest).unwrap();

    let job: Value = serde_json::from_str(instances[0].file("config/job.json")).unwrap();
    assert_eq!(job["links"]["etcd_peers"]["instances"][0]["address"], "127.0.9.1");
    assert_eq!(job["spec"]["address"], "00000000-0000-4000-8000-000000000001.etcd.default.etcd.bosh");
}

/// All of them unset, each alone, all of them set. What is given changes the one file it belongs to and no other.
#[test]
fn each_property_that_may_be_left_out_is_rendered_where_it_is_given() {
    let lab = Lab::new();
    let required = required(&lab);
    let optional: BTreeMap<String, Value> =
        given().into_iter().filter(|(name, _)| !required.contains(name)).collect();
    assert!(optional.contains_key("metrics_port") && optional.contains_key("tls.client.private_key"));
    let base = lab.manifest();
    let without = render_manifest(&base).unwrap();
    let without = contents(&without[0]);

    let mut all = base.clone();
    for (name, value) in &optional {
        let mut manifest = base.clone();
        set(&mut manifest, name, value);
        set(&mut all, name, value);
        let instances = render_manifest(&manifest).unwrap_or_else(|error| panic!("{name}: {error:#}"));

        let with = contents(&instances[0]);
        let changed: Vec<&str> =
            with.iter().filter(|(path, text)| without[*path] != **text).map(|(path, _)| *path).collect();
        assert_eq!(changed.len(), 1, "{name} changes {changed:?}");
        if changed[0] == "config/job.json" {
            let job: Value = serde_json::from_str(with["config/job.json"]).unwrap();
            assert_eq!(&job["properties"][name], value, "{name}");
        } else {
            assert_eq!(with[changed[0]].trim_end(), value.as_str().unwrap(), "{name} in {}", changed[0]);
        }
    }
    let instances = render_manifest(&all).unwrap();
    load(&instances[0]).unwrap();
}

/// Properties without which the templates do not render.
fn required(lab: &Lab) -> BTreeSet<String> {
    let mut manifest = lab.manifest();
    for name in given().keys() {
        set(&mut manifest, name, &Value::Null);
    }
    let told = match render_manifest(&manifest) {
        Ok(_) => String::new(),
        Err(error) => format!("{error:#}"),
    };
    let missing = told.split("Can't find property '[\"").skip(1);
    missing.map(|rest| rest.split_once('"').unwrap().0.to_owned()).collect()
}

#[test]
fn every_property_that_is_required_has_a_case_that_tells_what_an_operator_sees_without_it() {
    let told: BTreeSet<String> = cases("rejects")
        .into_values()
        .flat_map(|case| {
            let text = case.told.unwrap_or_default();
            let seen = move |name: &String| text.contains(&format!("Can't find property '[\"{name}\""));
            let names: Vec<String> = case
                .properties
                .into_iter()
                .filter(|(_, value)| value.is_null())
                .map(|(name, _)| name)
                .collect();
            names.into_iter().filter(seen).collect::<Vec<_>>()
        })
        .collect();

    let required = required(&Lab::new());
    assert!(required.contains("tls.server.ca"), "{required:?}");
    assert_eq!(told, required, "files in spec/templates/rejects");
}
