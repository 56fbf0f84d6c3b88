//! Job etcd: what the schema says next to what pre-start says, in `spec/templates/rejects`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Schema;

/// Faults that only pre-start tells: their rule is between two properties, or finer than a schema can say.
const BEYOND: [(&str, &str); 9] = [
    ("07_two_listeners_on_one_port.yml", "peer_port"),
    ("08_metrics_on_the_port_of_the_launcher.yml", "metrics_port"),
    ("09_the_launcher_on_the_port_of_peers.yml", "launcher_port"),
    ("14_election_timeout_too_near_to_the_heartbeat.yml", "election_timeout"),
    ("15_election_timeout_above_what_etcd_takes.yml", "election_timeout"),
    ("16_heartbeat_interval_finer_than_milliseconds.yml", "heartbeat_interval"),
    ("37_a_token_for_less_than_seconds.yml", "auth_token_ttl"),
    ("42_suites_without_the_one_of_http2.yml", "cipher_suites"),
    ("47_extra_config_collides.yml", "extra_config"),
];

/// The properties that our own text names, of pre-start or of the Director while it renders.
fn named(told: &str) -> BTreeSet<String> {
    let faults = told.lines().filter_map(|line| line.strip_prefix("    - ")?.split_once(": "));
    let missing = told.split("Can't find property '[\"").skip(1).filter_map(|rest| rest.split_once('"'));
    let is_name = |name: &&str| !name.contains(' ');
    faults.chain(missing).map(|(name, _)| name).filter(is_name).map(str::to_owned).collect()
}

/// Each fault that we tell, a Director tells before it changes anything. A case without a text of ours is its alone.
#[test]
fn what_is_rejected_fails_the_schema_where_a_schema_can_say_it() {
    let schema = Schema::of("etcd");
    let mut through = Vec::new();

    for (name, case) in schema.cases("rejects") {
        let broken: BTreeSet<String> =
            schema.broken(&case.properties).into_iter().map(|(property, _)| property).collect();
        let ours = named(case.told.as_deref().unwrap_or_default());
        assert!(!ours.is_empty() || case.told.is_none(), "{name}: no property is named");
        assert!(!broken.is_empty() || case.told.is_some(), "{name}: nobody says no");
        through.extend(ours.difference(&broken).map(|property| (name.clone(), property.clone())));
    }

    assert_eq!(through, BEYOND.map(|(name, property)| (name.to_owned(), property.to_owned())));
}

/// Who copies the example of a message into the manifest is not told anything else about it.
#[test]
fn the_examples_of_the_messages_are_right() {
    let schema = Schema::of("etcd");
    let mut seen = 0;

    for (name, case) in schema.cases("rejects") {
        let told = case.told.unwrap_or_default();
        for line in told.lines().filter_map(|line| line.strip_prefix("    - ")) {
            // The Director's texts give none.
            let Some((property, rest)) = line.split_once(": ") else { continue };
            // Examples of rules between two properties name both; those of certificates name a variable.
            let alone = !BEYOND.contains(&(name.as_str(), property)) && !property.starts_with("tls.");
            let Some((_, example)) = rest.rsplit_once("; for example: ").filter(|_| alone) else { continue };
            let value: Value =
                serde_yaml::from_str(example).unwrap_or_else(|error| panic!("{line}: {error}"));
            let mut properties = case.properties.clone();
            properties.insert(property.to_owned(), value);
            let broken = schema.broken(&properties);
            assert!(broken.iter().all(|(other, _)| other != property), "{name}: {line}");
            seen += 1;
        }
    }
    assert!(seen > 80, "{seen} examples");
}
