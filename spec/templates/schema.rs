//! `jobs/etcd/properties_schema.json` as a Director reads it: what it demands and what it lets through, next to
//! what the job's own programs say. docs/contract.md#schema
//!
//! The Director's validator is a Ruby gem; here a crate reads the same draft. The type `certificate` is the
//! Director's own, so here it is a text of a format that checks the same.

use std::collections::{BTreeMap, BTreeSet};

use jsonschema::Validator;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Map, Value, json};

use super::lab::{identities, repository};
use super::{Case, cases, declared, is_former};

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

/// The Director's type.
const CERTIFICATE: &str = "certificate";

/// Keywords that say which values are good. What others mean, `demands` would have to learn first.
const DEMANDS: [&str; 8] =
    ["type", "enum", "minimum", "maximum", "minLength", "maxItems", "pattern", "anyOf"];

/// Those that say something about what is inside of a list or a mapping.
const INSIDE: [&str; 3] = ["items", "propertyNames", "additionalProperties"];

/// A property by dotted name, and a keyword that it breaks or that is demanded of it.
type Demand = (String, String);

/// The schema as it is in the release.
fn document() -> Value {
    let path = repository().join("jobs/etcd/properties_schema.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn validator() -> Validator {
    let mut schema = document();
    say_certificate_as_a_format(&mut schema);
    jsonschema::draft202012::options()
        .should_validate_formats(true)
        .with_format(CERTIFICATE, is_certificate)
        .build(&schema)
        .unwrap()
}

/// A text that holds certificates, or none at all: so the Director's type.
fn is_certificate(text: &str) -> bool {
    text.is_empty() || CertificateDer::from_pem_slice(text.as_bytes()).is_ok()
}

fn say_certificate_as_a_format(schema: &mut Value) {
    match schema {
        Value::Object(keys) => {
            if let Some(kind) = keys.get_mut("type") {
                let known = match kind {
                    Value::Array(kinds) => kinds.iter_mut().find(|one| *one == CERTIFICATE),
                    one => (*one == CERTIFICATE).then_some(one),
                };
                if let Some(certificate) = known {
                    *certificate = json!("string");
                    keys.insert("format".to_owned(), json!(CERTIFICATE));
                }
            }
            keys.values_mut().for_each(say_certificate_as_a_format);
        }
        Value::Array(items) => items.iter_mut().for_each(say_certificate_as_a_format),
        _ => {}
    }
}

/// What a Director checks: all declared properties, nested, each as the manifest says or by default, else null.
fn bound(written: &Map<String, Value>) -> Value {
    let mut bound = json!({});
    let certificates = identities();
    for (name, definition) in declared() {
        let of_manifest = || certificates.get(&name).map(|text| json!(text));
        let value = match written.get(&name) {
            Some(value) => value.clone(),
            None => of_manifest().unwrap_or_else(|| definition["default"].clone()),
        };
        let place = name.split('.').fold(&mut bound, |place, key| &mut place[key]);
        *place = value;
    }
    bound
}

/// Which demands the values break, by property.
fn broken(validator: &Validator, case: &Case) -> BTreeSet<Demand> {
    let (values, known) = (bound(&case.properties), declared());
    let demand = |error: jsonschema::ValidationError<'_>| {
        let place = error.instance_path().as_str().trim_start_matches('/').replace('/', ".");
        let inside = |name: &&String| place == **name || place.starts_with(&format!("{name}."));
        let property = known.keys().find(inside).unwrap_or(&place).clone();
        let path = error.schema_path().as_str().to_owned();
        let last = path.rsplit('/').next().unwrap_or_default();
        let keyword = match path.split('/').find(|part| INSIDE.contains(part)) {
            Some(inside) => inside,
            // Only a certificate is of a format here.
            None if last == "format" => "type",
            None => last,
        };
        (property, keyword.to_owned())
    };
    validator.iter_errors(&values).map(demand).collect()
}

/// Every property of a schema with the keywords that say what is good.
fn demands(schema: &Value, root: &Value, name: &str, found: &mut BTreeSet<Demand>) {
    let below = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    for (keyword, value) in schema.as_object().unwrap() {
        match keyword.as_str() {
            "$schema" | "$comment" | "$defs" | "if" => {}
            "$ref" => {
                let place = value.as_str().unwrap().trim_start_matches('#');
                demands(root.pointer(place).unwrap(), root, name, found);
            }
            "properties" => {
                for (key, property) in value.as_object().unwrap() {
                    demands(property, root, &below(key), found);
                }
            }
            "then" => demands(value, root, name, found),
            "allOf" => value.as_array().unwrap().iter().for_each(|one| demands(one, root, name, found)),
            // The whole, `tls` and `jwt`: what is in there is declared, not they.
            "type" if value == "object" && schema.get("properties").is_some() => {}
            known if DEMANDS.contains(&known) || INSIDE.contains(&known) => {
                found.insert((name.to_owned(), known.to_owned()));
            }
            other => panic!("{name}: nobody here knows what {other} demands"),
        }
    }
}

/// The cases of a directory that speak of properties by their names of today; a schema does not know any other.
fn cases_of_today(directory: &str) -> BTreeMap<String, Case> {
    let today = |case: &Case| !case.properties.keys().any(|name| is_former(name));
    cases(directory).into_iter().filter(|(_, case)| today(case)).collect()
}

fn demanded() -> BTreeSet<Demand> {
    let (root, mut found) = (document(), BTreeSet::new());
    demands(&root, &root, "", &mut found);
    found
}

#[test]
fn the_schema_knows_every_property_and_no_other() {
    let known: BTreeSet<String> = demanded().into_iter().map(|(property, _)| property).collect();

    assert_eq!(known, declared().into_keys().collect());
    assert_eq!(document()["$schema"], "https://json-schema.org/draft/2020-12/schema");
}

#[test]
fn what_is_accepted_passes_the_schema_and_so_do_the_defaults() {
    let validator = validator();
    let mut accepted = cases("accepts");
    accepted.insert("the defaults".to_owned(), Case { properties: Map::new(), told: None });

    for (name, case) in accepted {
        assert_eq!(broken(&validator, &case), BTreeSet::new(), "{name}");
    }
}

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
    let validator = validator();
    let mut through = Vec::new();

    for (name, case) in cases_of_today("rejects") {
        let broken: BTreeSet<String> =
            broken(&validator, &case).into_iter().map(|(property, _)| property).collect();
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
    let validator = validator();
    let mut seen = 0;

    for (name, case) in cases_of_today("rejects") {
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
            let broken = broken(&validator, &Case { properties, told: None });
            assert!(broken.iter().all(|(other, _)| other != property), "{name}: {line}");
            seen += 1;
        }
    }
    assert!(seen > 80, "{seen} examples");
}

/// A demand that no case breaks is one that nobody has seen refuse anything.
#[test]
fn every_demand_of_the_schema_is_broken_by_a_case() {
    let validator = validator();
    let rejected = cases_of_today("rejects");
    let broken: BTreeSet<Demand> = rejected.values().flat_map(|case| broken(&validator, case)).collect();

    let without: Vec<Demand> = demanded().difference(&broken).cloned().collect();
    assert!(without.is_empty(), "no file in spec/templates/rejects breaks these: {without:#?}");
}

/// Keys may be wrong, but what a Director prints of a wrong one must not show it. Its texts name the place and what
/// is demanded, never the value; so no demand on a key may spell values out.
#[test]
fn no_demand_on_a_private_key_could_show_it() {
    let of_keys: Vec<Demand> =
        demanded().into_iter().filter(|(property, _)| property.contains("private_key")).collect();

    assert!(of_keys.len() >= 8, "{of_keys:?}");
    for (property, keyword) in of_keys {
        assert!(["type", "pattern"].contains(&keyword.as_str()), "{property}: {keyword}");
    }
}
