use serde_json::json;

use super::*;
use crate::local::fixture::{JobFixture, catalog, group, identity, job, manifest};

/// `provider` provides `db` of type `t` and shares `port`; `consumer` consumes it as `store`.
fn pair(optional: bool) -> Vec<JobFixture> {
    vec![
        job("provider")
            .provides("db", "t", &["port", "tls.ca"])
            .property("port", Some(json!(2379)))
            .property("tls.ca", None),
        job("consumer").consumes("store", "t", optional),
    ]
}

/// Groups `p` with job `provider` and `c` with job `consumer`, each job with more keys.
fn two_groups(provider: &str, consumer: &str) -> String {
    group("p", &format!("jobs: [{{name: provider, release: rel{provider}}}]"))
        + &group("c", &format!("jobs: [{{name: consumer, release: rel{consumer}}}]"))
}

fn instances() -> Vec<Identity> {
    vec![identity("p", 1, "u1", None), identity("p", 0, "u5", Some("z1")), identity("c", 0, "c0", None)]
}

fn resolved(groups: &str, jobs: Vec<JobFixture>) -> Result<Links, LinkErrors> {
    resolve(&manifest(groups), &catalog(jobs), &instances(), &BTreeMap::new())
}

fn store(groups: &str) -> Value {
    let links = resolved(groups, pair(false)).expect(groups);
    (*links.of_job("c", "consumer").get("store").expect("consumed")).clone()
}

#[test]
fn an_implicit_consumer_takes_the_only_provider_of_its_type_whatever_its_name() {
    let link = store(&two_groups(", properties: {port: 1, tls: {ca: ~}}", ""));

    assert_eq!(
        link,
        json!({
            "default_network": "net",
            "deployment_name": "dep",
            "domain": "bosh",
            "group_name": "db-t",
            "instance_group": "p",
            "instances": [
                {"name": "p", "id": "u5", "index": 0, "bootstrap": true, "az": "z1", "address": "127.0.9.1"},
                {"name": "p", "id": "u1", "index": 1, "bootstrap": false, "az": null, "address": "127.0.9.2"},
            ],
            "properties": {"port": 1, "tls": {"ca": null}},
        })
    );
}

#[test]
fn shared_properties_fall_back_to_the_specs_default_and_hashes_are_not_merged() {
    let jobs = vec![
        job("provider").provides("db", "t", &["tls"]).property("tls", Some(json!({"ca": "d", "key": "d"}))),
        job("consumer").consumes("store", "t", false),
    ];
    let links = resolved(&two_groups(", properties: {tls: {ca: mine}}", ""), jobs).expect("resolves");

    assert_eq!(links.of_job("c", "consumer")["store"]["properties"], json!({"tls": {"ca": "mine"}}));
    let nothing_said = store(&two_groups(", properties: {port: ~}", ""));
    assert_eq!(
        nothing_said["properties"]["port"],
        Value::Null,
        "an explicit null is shared, unlike with p()"
    );
    assert_eq!(store(&two_groups("", ""))["properties"], json!({"port": 2379, "tls": {"ca": null}}));
}

#[test]
#[rustfmt::skip]
fn which_address_an_instance_has_is_decided_by_consumer_then_provider() {
    let name = "u5.p.net.dep.bosh";
    let cases = [
        //  use_dns_addresses  consumes entry                             address
        (false, "",                                                       "127.0.9.1"),
        (true,  "",                                                       name),
        (true,  ", consumes: {store: {from: db, ip_addresses: true}}",    "127.0.9.1"),
        (false, ", consumes: {store: {from: db, ip_addresses: false}}",   name),
        (false, ", consumes: {store: {from: db, network: net}}",          "127.0.9.1"),
    ];
    for (dns, consumes, expected) in cases {
        let mut manifest = manifest(&two_groups("", consumes));
        manifest.features.use_dns_addresses = dns;

        let links = resolve(&manifest, &catalog(pair(false)), &instances(), &BTreeMap::new()).expect(consumes);

        assert_eq!(links.of_job("c", "consumer")["store"]["instances"][0]["address"], expected, "{dns} {consumes}");
    }
}

#[test]
fn a_job_may_consume_what_it_provides() {
    let jobs = vec![job("etcd").provides("peers", "etcd", &[]).consumes("peers", "etcd", true)];
    let groups = group("p", "jobs: [{name: etcd, release: rel}]");

    let links = resolved(&groups, jobs).expect("resolves");

    assert_eq!(links.of_job("p", "etcd")["peers"]["instances"].as_array().map(Vec::len), Some(2));
}

#[test]
#[rustfmt::skip]
fn whether_a_link_is_there() {
    //   optional  provides                              consumes                                 there
    let cases = [
        (false, "",                                      "",                                      true),
        (true,  "",                                      ", consumes: {store: nil}",              false),
        (true,  ", provides: {db: nil}",                 "",                                      false),
        (false, ", provides: {db: {as: main}}",          "",                                      true),
        (false, ", provides: {db: {as: main}}",          ", consumes: {store: {from: main}}",     true),
        (false, ", provides: {db: {as: store}}",         ", consumes: {store: {}}",               true),
        (false, "",                                      ", consumes: {store: {from: dep.db}}",   true),
        (false, ", provides: {unknown: {as: x}}",        ", consumes: {unknown: {from: x}}",      true),
        (false, "",                                      ", consumes: {store: {instances: []}}",  true),
        (true,  ", provides: {db: nil}, custom_provider_definitions: [{name: more, type: t}]", "", true),
    ];
    for (optional, provides, consumes, there) in cases {
        let links = resolved(&two_groups(provides, consumes), pair(optional));

        let links = links.unwrap_or_else(|error| panic!("{provides} {consumes}: {error}"));
        assert_eq!(links.of_job("c", "consumer").contains_key("store"), there, "{provides} {consumes}");
    }
}

#[test]
#[rustfmt::skip]
fn links_that_cannot_be_resolved_are_told_in_the_directors_words() {
    let none = "    - No link providers found";
    let asks = "Failed to resolve link 'store' with type 't' from job 'consumer' in instance group 'c'. Details below:";
    let aliased = "Failed to resolve link 'store' with alias 'x' and type 't' from job 'consumer' in instance group 'c'. Details below:";
    //   optional  provides               consumes                                details
    let cases = [
        (false, ", provides: {db: nil}",  "",                                     format!("{asks}\n{none}")),
        (false, "",                       ", consumes: {store: nil}",             format!("{asks}\n{none}")),
        (true,  "",                       ", consumes: {store: {from: x}}",       format!("{aliased}\n{none}")),
        (true,  "",                       ", consumes: {store: {}}",              format!("{asks}\n{none}")),
        (false, ", provides: {db: {as: x}}", ", consumes: {store: {from: x, network: other}}",
            format!("{aliased}\n    - Link provider 'db' with alias 'x' from job 'provider' in instance group 'p' in deployment 'dep' does not belong to network 'other'")),
        (false, ", custom_provider_definitions: [{name: more, type: t}]", "",
            format!("{}\n    - Link provider 'more' from job 'provider' in instance group 'p' in deployment 'dep'\n    - Link provider 'db' from job 'provider' in instance group 'p' in deployment 'dep'",
                asks.replace("Details below:", "Multiple link providers found:"))),
    ];
    for (optional, provides, consumes, details) in cases {
        let error = resolved(&two_groups(provides, consumes), pair(optional)).expect_err(&details);

        let expected = format!("Failed to resolve links from deployment 'dep'. See errors below:\n  - {details}");
        assert_eq!(error.to_string(), expected, "{provides} {consumes}");
    }
}

#[test]
fn two_groups_with_the_same_job_make_an_implicit_link_ambiguous() {
    let jobs = vec![job("etcd").provides("peers", "etcd", &[]).consumes("peers", "etcd", true)];
    let groups =
        group("a", "jobs: [{name: etcd, release: rel}]") + &group("b", "jobs: [{name: etcd, release: rel}]");

    let error = resolved(&groups, jobs).expect_err("ambiguous").to_string();

    assert_eq!(error.matches("Multiple link providers found:").count(), 2, "one per consumer: {error}");
    assert_eq!(error.matches("    - Link provider 'peers' from job 'etcd' in instance group 'a'").count(), 2);
}

#[test]
#[rustfmt::skip]
fn mistakes_in_the_manifests_words_about_links_are_told() {
    let job_c = "for link 'store' in job 'consumer' in instance group 'c'";
    let job_p = "in job 'provider' in instance group 'p'";
    let cases: &[(&str, &str, String)] = &[
        (", provides: {db: ~}", "", format!("Provider 'db' {job_p} specified in the manifest should only be a hash or string 'nil'")),
        (", provides: {db: {type: x}}", "", format!("Cannot specify 'name' or 'type' properties in the manifest for link 'db' {job_p}. Please provide these keys in the release only.")),
        ("", ", consumes: {store: ~}", "Consumer 'store' in job 'consumer' in instance group 'c' specified in the manifest should only be a hash or string 'nil'".into()),
        ("", ", consumes: {store: {from: x, instances: []}}", format!("Cannot specify both 'instances' and 'from' keys {job_c}.")),
        ("", ", consumes: {store: {properties: {}}}", format!("Cannot specify 'properties' without 'instances' {job_c}.")),
        ("", ", consumes: {store: {ip_addresses: 1}}", format!("Cannot specify non boolean values for 'ip_addresses' field {job_c}.")),
        ("", ", consumes: {store: {name: x}}", format!("Cannot specify 'name' or 'type' properties in the manifest {job_c}. Please provide these keys in the release only.")),
        ("", ", consumes: {store: {from: db, deployment: nope}}", "Link 'db' in job 'consumer' from instance group 'c' consumes from deployment 'nope', but the deployment does not exist.".into()),
        (", custom_provider_definitions: [{type: t}]", "", format!("Name for custom link provider definition in manifest {job_p} must be a valid non-empty string.")),
        (", custom_provider_definitions: [{name: db, type: t}]", "", format!("Custom provider 'db' {job_p} is already defined in release 'rel'")),
        (", custom_provider_definitions: [{name: n, type: t}, {name: n, type: t}]", "", format!("Custom provider 'n' {job_p} is defined multiple times in manifest.")),
        (", custom_provider_definitions: [{name: n, type: x, properties: [no.such]}]", "", "Link property no.such in template provider is not defined in release spec".into()),
    ];
    for (provides, consumes, expected) in cases {
        let error = resolved(&two_groups(provides, consumes), pair(true)).expect_err(expected);

        assert_eq!(error.to_string(), *expected, "{provides} {consumes}");
    }
}

#[test]
fn a_manual_link_is_what_the_manifest_says_and_nothing_else() {
    let link = store(&two_groups(
        "",
        ", consumes: {store: {instances: [{address: 10.0.0.5}], properties: {port: 1}, address: etcd.example.com}}",
    ));

    assert_eq!(
        link,
        json!({
            "instances": [{"address": "10.0.0.5"}],
            "properties": {"port": 1},
            "address": "etcd.example.com",
            "deployment_name": "dep",
            "group_name": "store-t",
        })
    );
}

#[test]
fn another_deployment_is_consumed_only_where_it_is_shared() {
    let provider =
        group("p", "jobs: [{name: provider, release: rel, provides: {db: {as: main, shared: true}}}]")
            + &group("q", "jobs: [{name: provider, release: rel}]");
    let mut first = manifest(&provider);
    first.name = "first".into();
    let shared = resolve(&first, &catalog(pair(false)), &instances(), &BTreeMap::new()).expect("resolves");
    let others = BTreeMap::from([("first".to_owned(), shared.shared().to_vec())]);
    let consume = |from: &str| {
        let consumer = format!(
            "jobs: [{{name: consumer, release: rel, consumes: {{store: {{from: {from}, deployment: first}}}}}}]"
        );
        resolve(&manifest(&group("c", &consumer)), &catalog(pair(false)), &instances(), &others)
    };

    let links = consume("main").expect("shared");
    let not_shared = consume("db").expect_err("not shared").to_string();

    assert_eq!(links.of_job("c", "consumer")["store"]["deployment_name"], "first");
    assert!(not_shared.contains("No link providers found"), "{not_shared}");
}
