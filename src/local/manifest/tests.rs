use super::*;
use crate::local::fixture::{group, manifest, manifest_yaml};

fn refused(groups: &str) -> String {
    Manifest::parse(&manifest_yaml(groups)).expect_err(groups).to_string()
}

#[test]
fn a_group_is_read_with_everything_it_says() {
    let groups = r"
- name: etcd
  instances: 3
  azs: [z1, z2]
  vm_type: default
  stemcell: default
  persistent_disk_type: 5GB
  lifecycle: errand
  networks: [{name: private, static_ips: [127.0.9.1 - 127.0.9.2, 127.0.9.9]}]
  migrated_from: [{name: old, az: z1}]
  update: {max_in_flight: 50%, serial: false}
  env: {bosh: {password: x}}
  unknown_key: tolerated
  jobs:
  - name: etcd
    release: rel
    properties: {a: {b: 1}}
    consumes: {peers: nil}
    provides: {client: {as: c}}
    custom_provider_definitions: [{name: n, type: t}]
";

    let manifest = manifest(groups);

    let group = manifest.group("etcd").expect("it is there");
    assert_eq!(group.azs, ["z1", "z2"]);
    assert_eq!(group.network.static_ips.len(), 3);
    assert_eq!(
        (group.persistent_disk_mib, group.persistent_disk_type.as_deref()),
        (DISK_TYPE_MIB, Some("5GB"))
    );
    assert_eq!(group.lifecycle, Lifecycle::Errand);
    assert_eq!(group.update.canaries, Amount::Instances(1), "from the deployment");
    assert_eq!(group.update.max_in_flight, Amount::Percent(50), "its own");
    assert_eq!(group.update.update_watch, WatchTime { min_ms: 3, max_ms: 3 });
    assert!(!group.update.serial);
    assert!(group.owns("old") && group.owns("etcd") && !group.owns("other"));
    let job = group.job("etcd").expect("it is there");
    assert_eq!(job.properties["a"]["b"], 1);
    assert_eq!(job.consumes["peers"], "nil");
}

#[test]
fn properties_of_deployment_and_group_reach_jobs_that_have_none_of_their_own() {
    let groups = group(
        "a",
        "properties: {tls: {ca: group}}\n  jobs: [{name: x, release: rel}, {name: y, release: rel, properties: {}}]",
    );
    let yaml = manifest_yaml(&groups) + "properties: {tls: {ca: all, key: all}}\n";

    let manifest = Manifest::parse(&yaml).expect("right");

    let group = &manifest.instance_groups[0];
    assert_eq!(group.jobs[0].properties["tls"], serde_json::json!({"ca": "group", "key": "all"}));
    assert!(group.jobs[1].properties.is_empty());
}

#[test]
#[rustfmt::skip]
fn mistakes_are_told_with_their_place() {
    let jobs = |jobs: &str| group("a", &format!("jobs: [{jobs}]"));
    let cases: &[(String, &str)] = &[
        ("- instances: 1\n".into(), "instance_groups[0] of the manifest lacks the required key 'name'"),
        ("- name: a\n  instances: 1\n".into(), "Instance group 'a' does not specify jobs key"),
        ("- name: a\n  instances: many\n  jobs: []\n".into(), "instance group 'a': 'instances' should be a whole number of zero or more, but is text"),
        (group("a", "networks: []"), "Instance group 'a' must specify at least one network"),
        (group("a", "networks: [{name: x}, {name: y}]"), "instance group 'a' is in several networks"),
        (group("a", "azs: ~"), "instance group 'a': 'azs' should be a list, but is empty (null)"),
        (group("a", "azs: []"), "Instance group 'a' has empty availability zones"),
        (group("a", "lifecycle: often"), "Invalid lifecycle 'often' for 'a', valid lifecycle profiles are: service, errand"),
        (group("a", "stemcell: nope"), "Instance group 'a' references an unknown stemcell 'nope'"),
        (group("a", "persistent_disk: 1\n  persistent_disk_type: x"), "specifies more than one of the following keys"),
        (group("a", "persistent_disks: []"), "instance group 'a' asks for 'persistent_disks'"),
        (group("a", "instances: 2\n  networks: [{name: n, static_ips: [127.0.0.1]}]"), "Instance group 'a' has 2 instances but was allocated 1 static IPs in network 'n'"),
        (group("a", "instances: 2\n  networks: [{name: n, static_ips: [127.0.0.1, 127.0.0.1]}]"), "Instance group 'a' specifies static IP '127.0.0.1' more than once"),
        (group("a", "update: {canaries: few}"), "'canaries' should be a number or a percentage, but is 'few'"),
        (group("a", "update: {update_watch_time: 1s}"), "Watch time should be an integer or a range of two integers"),
        (group("a", "update: {update_watch_time: 9-1}"), "Min watch time cannot be greater than max watch time"),
        (group("a", "update: {vm_strategy: create-swap-delete}"), "asks for another vm_strategy than delete-create"),
        (group("a", "update: {initial_deploy_az_update_strategy: x}"), "Invalid initial_deploy_az_update_strategy 'x'"),
        (group("a", "") + &group("a", ""), "the manifest has two of instance group 'a'"),
        (jobs("{name: x, release: nope}"), "Job 'x' (instance group 'a') references an unknown release 'nope'"),
        (jobs("{name: x, release: rel}, {name: x, release: rel}"), "Colocated job 'x' is already added to the instance group 'a'"),
    ];
    for (groups, expected) in cases {
        let error = refused(groups);

        assert!(error.contains(expected), "{groups}\n{error}");
        assert!(error.contains("\n  why:  ") && error.contains("\n  next: "), "{error}");
    }
}

#[test]
fn an_update_block_is_required_and_complete() {
    let yaml = manifest_yaml(&group("a", ""));
    let without = yaml.replace("update:", "no_update:");
    let incomplete = yaml.replace("canaries: 1, ", "");

    for (yaml, key) in [(without, "update"), (incomplete, "canaries")] {
        let error = Manifest::parse(&yaml).expect_err(key).to_string();

        assert!(error.contains(&format!("lacks the required key '{key}'")), "{error}");
    }
}

#[test]
fn names_that_only_a_directors_database_knows_are_refused() {
    let yaml = manifest_yaml(&group("a", "")) + "features: {use_short_dns_addresses: true}\n";

    let error = Manifest::parse(&yaml).expect_err("short names").to_string();

    assert!(error.contains("the manifest switches on 'use_short_dns_addresses'"), "{error}");
}

#[test]
fn addons_are_named_because_they_have_no_effect() {
    let yaml =
        manifest_yaml(&group("a", "")) + "addons: [{name: bosh-dns, jobs: []}]\ntags: {team: x, cost: 5}\n";

    let manifest = Manifest::parse(&yaml).expect("right");

    assert_eq!(manifest.addons, ["bosh-dns"]);
    assert_eq!(manifest.tags["cost"], "5");
}

#[test]
fn a_percentage_is_rounded_down_and_never_more_than_all() {
    assert_eq!(Amount::Percent(50).of(3), 1);
    assert_eq!(Amount::Percent(10).of(3), 0);
    assert_eq!(Amount::Percent(300).of(3), 3);
    assert_eq!(Amount::Instances(5).of(3), 5);
}
