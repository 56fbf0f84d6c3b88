//! `properties_schema.json` of the jobs as a Director reads it: what it demands and what it lets through, next to
//! what the jobs' own programs say. docs/contract.md#schema
//!
//! The Director's validator is a Ruby gem; here a crate reads the same draft. The type `certificate` is the
//! Director's own, so here it is a text of a format that checks the same.

#[path = "schema/etcd.rs"]
mod etcd;
#[path = "schema/readers.rs"]
mod readers;

use std::collections::{BTreeMap, BTreeSet};

use jsonschema::Validator;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Map, Value, json};

use super::lab::{identities, repository};
use super::{Case, cases, declared, is_former};

/// The jobs that have one.
const JOBS: [&str; 4] = ["etcd", "etcd-backup", "restore", "bbr-etcd"];

/// The Director's type.
const CERTIFICATE: &str = "certificate";

/// Keywords that say which values are good. What others mean, `demands` would have to learn first.
const DEMANDS: [&str; 8] =
    ["type", "enum", "minimum", "maximum", "minLength", "maxItems", "pattern", "anyOf"];

/// Those that say something about what is inside of a list or a mapping.
const INSIDE: [&str; 3] = ["items", "propertyNames", "additionalProperties"];

/// A property by dotted name, and a keyword that it breaks or that is demanded of it.
type Demand = (String, String);

/// The schema of a job, beside what its spec declares.
struct Schema {
    job: &'static str,
    document: Value,
    validator: Validator,
    /// The properties with their definitions, by their names of today.
    declared: BTreeMap<String, Value>,
    /// What every manifest has to say, by dotted name.
    given: BTreeMap<String, Value>,
}

impl Schema {
    fn of(job: &'static str) -> Self {
        let path = repository().join("jobs").join(job).join("properties_schema.json");
        let document: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let mut schema = document.clone();
        say_certificate_as_a_format(&mut schema);
        let validator = jsonschema::draft202012::options()
            .should_validate_formats(true)
            .with_format(CERTIFICATE, is_certificate)
            .build(&schema)
            .unwrap();
        let given = match job {
            "etcd" => identities().iter().map(|(name, text)| (name.clone(), json!(text))).collect(),
            "etcd-backup" => BTreeMap::from([("store.url".to_owned(), json!("s3://bucket/etcd"))]),
            "restore" => BTreeMap::from([("point".to_owned(), json!("latest"))]),
            "bbr-etcd" => BTreeMap::from([("bbr.backup_one_restore_all".to_owned(), json!(true))]),
            other => panic!("nobody here knows what job {other} has to be given"),
        };
        Self { job, document, validator, declared: declared(job), given }
    }

    /// The cases of this job that speak of properties by their names of today; a schema does not know any other.
    fn cases(&self, kind: &str) -> BTreeMap<String, Case> {
        let today = |case: &Case| !case.properties.keys().any(|name| is_former(name));
        let directory = if self.job == "etcd" { kind.to_owned() } else { format!("{}/{kind}", self.job) };
        cases(&directory).into_iter().filter(|(_, case)| today(case)).collect()
    }

    /// What the job's templates see: all declared properties by dotted name, each as the manifest says or by default,
    /// else null.
    fn values(&self, written: &Map<String, Value>) -> Map<String, Value> {
        let value = |(name, definition): (&String, &Value)| {
            let by_manifest = written.get(name).or_else(|| self.given.get(name));
            (name.clone(), by_manifest.unwrap_or(&definition["default"]).clone())
        };
        self.declared.iter().map(value).collect()
    }

    /// Which demands the values break, by property.
    fn broken(&self, written: &Map<String, Value>) -> BTreeSet<Demand> {
        // What a Director checks: the same, nested.
        let mut values = json!({});
        for (name, value) in self.values(written) {
            let place = name.split('.').fold(&mut values, |place, key| &mut place[key]);
            *place = value;
        }
        let demand = |error: jsonschema::ValidationError<'_>| {
            let place = error.instance_path().as_str().trim_start_matches('/').replace('/', ".");
            let inside = |name: &&String| place == **name || place.starts_with(&format!("{name}."));
            let property = self.declared.keys().find(inside).unwrap_or(&place).clone();
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
        self.validator.iter_errors(&values).map(demand).collect()
    }

    /// What is demanded of every property.
    fn demanded(&self) -> BTreeSet<Demand> {
        let mut found = BTreeSet::new();
        demands(&self.document, &self.document, "", &mut found);
        found
    }
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

#[test]
fn every_schema_knows_every_property_of_its_job_and_no_other() {
    for job in JOBS {
        let schema = Schema::of(job);
        let known: BTreeSet<String> = schema.demanded().into_iter().map(|(property, _)| property).collect();

        assert_eq!(known, schema.declared.into_keys().collect(), "{job}");
        assert_eq!(schema.document["$schema"], "https://json-schema.org/draft/2020-12/schema", "{job}");
    }
}

#[test]
fn every_job_with_properties_that_are_checked_has_a_schema() {
    let jobs = std::fs::read_dir(repository().join("jobs")).unwrap().map(|entry| entry.unwrap());
    let with_one = jobs.filter(|job| job.path().join("properties_schema.json").exists());
    let names: BTreeSet<String> =
        with_one.map(|job| job.file_name().to_string_lossy().into_owned()).collect();

    assert_eq!(names, JOBS.map(str::to_owned).into());
}

#[test]
fn what_is_accepted_passes_the_schema_and_so_do_the_defaults() {
    for schema in JOBS.map(Schema::of) {
        let mut accepted = schema.cases("accepts");
        accepted.insert("the defaults".to_owned(), Case { properties: Map::new(), told: None });

        for (name, case) in accepted {
            assert_eq!(schema.broken(&case.properties), BTreeSet::new(), "{} {name}", schema.job);
        }
    }
}

/// Who copies the example of a property into the manifest is not told anything about it.
#[test]
fn the_example_of_each_property_passes_the_schema() {
    for schema in JOBS.map(Schema::of) {
        for (name, definition) in &schema.declared {
            let example = &definition["example"];
            assert!(!example.is_null(), "{} {name} has no example", schema.job);
            // What a variable stands for nobody knows here.
            if example.to_string().contains("((") {
                continue;
            }
            let broken = schema.broken(&Map::from_iter([(name.clone(), example.clone())]));
            let own: Vec<&Demand> = broken.iter().filter(|(property, _)| property == name).collect();
            assert!(own.is_empty(), "{} {name}: {example} breaks {own:?}", schema.job);
        }
    }
}

/// A demand that no case breaks is one that nobody has seen refuse anything.
#[test]
fn every_demand_of_a_schema_is_broken_by_a_case() {
    for schema in JOBS.map(Schema::of) {
        let rejected = schema.cases("rejects");
        let broken: BTreeSet<Demand> =
            rejected.values().flat_map(|case| schema.broken(&case.properties)).collect();

        let without: Vec<Demand> = schema.demanded().difference(&broken).cloned().collect();
        assert!(without.is_empty(), "no case in rejects of job {} breaks these: {without:#?}", schema.job);
    }
}

/// Secrets may be wrong, but what a Director prints of a wrong one must not show it. Its texts name the place and what
/// is demanded, never the value; so no demand on a secret may spell values out.
#[test]
fn no_demand_on_a_secret_could_show_it() {
    const SECRETS: [&str; 5] = ["private_key", "identities", "_access_key", "token", "account_key"];
    let is_secret = |property: &str| {
        SECRETS.iter().any(|word| property.contains(word)) && !property.starts_with("auth_token")
    };
    let of_secrets: Vec<Demand> = JOBS
        .iter()
        .flat_map(|job| Schema::of(job).demanded())
        .filter(|(property, _)| is_secret(property))
        .collect();

    assert!(of_secrets.len() >= 14, "{of_secrets:?}");
    for (property, keyword) in of_secrets {
        assert!(["type", "pattern", "items"].contains(&keyword.as_str()), "{property}: {keyword}");
    }
}
