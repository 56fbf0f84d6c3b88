//! What jobs provide: their spec, changed by what the manifest says (`as`, `shared`, the text `nil`) and
//! extended by `custom_provider_definitions`.

use serde_json::{Map, Value};

use super::Place;
use crate::local::release::{Job, LinkProvided};

/// A link that a job of the deployment provides.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Provider {
    pub(super) group: String,
    pub(super) job: String,
    pub(super) network: String,
    pub(super) original_name: String,
    /// The name that consumers ask for.
    pub(super) name: String,
    pub(super) link_type: String,
    /// Other deployments may consume it.
    pub(super) shared: bool,
    /// The manifest did not block it.
    pub(super) consumable: bool,
    /// Shared properties, nested.
    pub(super) properties: Value,
}

/// All links that the job in its group provides; faults are appended.
pub(super) fn providers(place: Place<'_>, faults: &mut Vec<String>) -> Vec<Provider> {
    let custom = custom_definitions(place, faults);
    let definitions = custom.iter().chain(&place.job.provides);
    definitions.filter_map(|definition| provider(place, definition, faults)).collect()
}

fn provider(place: Place<'_>, definition: &LinkProvided, faults: &mut Vec<String>) -> Option<Provider> {
    let name = &definition.name;
    let said = match place.used.provides.get(name) {
        None => Said::default(),
        Some(said) => match Said::read(said, name, place) {
            Ok(said) => said,
            Err(fault) => {
                faults.push(fault);
                return None;
            }
        },
    };
    let properties = match shared_properties(place, &definition.properties) {
        Ok(properties) => properties,
        Err(unknown) => {
            faults.extend(unknown);
            return None;
        }
    };
    Some(Provider {
        group: place.group.name.clone(),
        job: place.job.name.clone(),
        network: place.group.network.name.clone(),
        original_name: name.clone(),
        name: said.alias.unwrap_or_else(|| name.clone()),
        link_type: definition.link_type.clone(),
        shared: said.shared,
        consumable: !said.blocked,
        properties,
    })
}

/// What the manifest says about a link that a job provides.
#[derive(Default)]
struct Said {
    alias: Option<String>,
    shared: bool,
    blocked: bool,
}

impl Said {
    fn read(said: &Value, link: &str, place: Place<'_>) -> Result<Self, String> {
        let (job, group) = (&place.job.name, &place.group.name);
        match said {
            Value::String(text) if text == "nil" => Ok(Self { blocked: true, ..Self::default() }),
            Value::Object(keys) if keys.contains_key("name") || keys.contains_key("type") => Err(format!(
                "Cannot specify 'name' or 'type' properties in the manifest for link '{link}' in job '{job}' \
                 in instance group '{group}'. Please provide these keys in the release only."
            )),
            Value::Object(keys) => Ok(Self {
                alias: keys.get("as").and_then(Value::as_str).map(str::to_owned),
                shared: keys.get("shared") == Some(&Value::Bool(true)),
                blocked: false,
            }),
            _ => Err(format!(
                "Provider '{link}' in job '{job}' in instance group '{group}' specified in the manifest \
                 should only be a hash or string 'nil'"
            )),
        }
    }
}

fn custom_definitions(place: Place<'_>, faults: &mut Vec<String>) -> Vec<LinkProvided> {
    let (job, group, release) = (&place.job.name, &place.group.name, &place.used.release);
    let mut definitions: Vec<LinkProvided> = Vec::new();
    for definition in &place.used.custom_provider_definitions {
        let text = |key: &str| {
            definition.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let (name, link_type) = (text("name"), text("type"));
        for (word, value) in [("Name", &name), ("Type", &link_type)] {
            if value.is_none() {
                faults.push(format!(
                    "{word} for custom link provider definition in manifest in job '{job}' in instance group \
                     '{group}' must be a valid non-empty string."
                ));
            }
        }
        let (Some(name), Some(link_type)) = (name, link_type) else { continue };
        if place.job.provides.iter().any(|provided| provided.name == name) {
            faults.push(format!(
                "Custom provider '{name}' in job '{job}' in instance group '{group}' is already defined in \
                 release '{release}'"
            ));
        }
        if definitions.iter().any(|other| other.name == name) {
            faults.push(format!(
                "Custom provider '{name}' in job '{job}' in instance group '{group}' is defined multiple \
                 times in manifest."
            ));
            continue;
        }
        let properties = definition.get("properties").and_then(Value::as_array).into_iter().flatten();
        let properties = properties.filter_map(|name| name.as_str().map(str::to_owned)).collect();
        definitions.push(LinkProvided { name, link_type, properties });
    }
    definitions
}

/// The properties a link shares: what the manifest says (an explicit null too), else the spec's default.
fn shared_properties(place: Place<'_>, names: &[String]) -> Result<Value, Vec<String>> {
    let mut shared = Map::new();
    let mut unknown = Vec::new();
    for name in names {
        match (written(&place.used.properties, name), declared_default(place.job, name)) {
            (Some(value), _) => set(&mut shared, name, value.clone()),
            (None, Some(default)) => set(&mut shared, name, default),
            (None, None) => unknown.push(format!(
                "Link property {name} in template {} is not defined in release spec",
                place.job.name
            )),
        }
    }
    if unknown.is_empty() { Ok(Value::Object(shared)) } else { Err(unknown) }
}

fn declared_default(job: &Job, name: &str) -> Option<Value> {
    let property = job.properties.iter().find(|property| property.name == name)?;
    Some(property.default.clone().unwrap_or(Value::Null))
}

fn written<'a>(properties: &'a Map<String, Value>, dotted: &str) -> Option<&'a Value> {
    let mut keys = dotted.split('.');
    let first = properties.get(keys.next()?)?;
    keys.try_fold(first, |value, key| value.as_object()?.get(key))
}

fn set(target: &mut Map<String, Value>, dotted: &str, value: Value) {
    match dotted.split_once('.') {
        None => {
            target.insert(dotted.to_owned(), value);
        }
        Some((first, rest)) => {
            let below = target.entry(first).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(below) = below {
                set(below, rest, value);
            }
        }
    }
}
