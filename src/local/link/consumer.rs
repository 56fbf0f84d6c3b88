//! What jobs consume: their spec, changed by what the manifest says (`from`, `network`, `ip_addresses`,
//! `deployment`, the text `nil`, or a link written out by hand).

use serde_json::{Map, Value};

use super::{Consumer, OtherDeployments, Place};
use crate::local::release::LinkConsumed;

/// Keys that make a `consumes` entry a link written out by hand.
const MANUAL_KEYS: [&str; 3] = ["instances", "properties", "address"];

/// A link that a job of the deployment wants.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wish {
    pub(super) consumer: Consumer,
    /// The name it asks for: `from`, or its own.
    pub(super) name: String,
    pub(super) link_type: String,
    pub(super) optional: bool,
    /// The manifest mentions it.
    pub(super) explicit: bool,
    /// The manifest says `nil`: nothing may match.
    pub(super) blocked: bool,
    pub(super) source: Source,
}

/// Where a link should come from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Source {
    /// From a job that provides it.
    Provider {
        /// Another deployment.
        deployment: Option<String>,
        /// The network the provider has to be in.
        network: Option<String>,
        /// Addresses (`true`) or DNS names (`false`), whatever the provider prefers.
        ip_addresses: Option<bool>,
    },
    /// Written out in the manifest: what templates see.
    Manual(Value),
}

/// All links that the job in its group wants; faults are appended.
pub(super) fn wishes(
    place: Place<'_>,
    others: &OtherDeployments,
    own_deployment: &str,
    faults: &mut Vec<String>,
) -> Vec<Wish> {
    let mut wishes = Vec::new();
    for consumed in &place.job.consumes {
        let mut wish = implicit(place, consumed);
        if let Some(said) = place.used.consumes.get(&consumed.name) {
            let found = make_explicit(&mut wish, said, place, others, own_deployment);
            if !found.is_empty() {
                faults.extend(found);
                continue;
            }
        }
        wishes.push(wish);
    }
    wishes
}

fn implicit(place: Place<'_>, consumed: &LinkConsumed) -> Wish {
    Wish {
        consumer: Consumer {
            group: place.group.name.clone(),
            job: place.job.name.clone(),
            link: consumed.name.clone(),
        },
        name: consumed.name.clone(),
        link_type: consumed.link_type.clone(),
        optional: consumed.optional,
        explicit: false,
        blocked: false,
        source: Source::Provider { deployment: None, network: None, ip_addresses: None },
    }
}

/// Applies what the manifest says; returns what is wrong with it.
fn make_explicit(
    wish: &mut Wish,
    said: &Value,
    place: Place<'_>,
    others: &OtherDeployments,
    own_deployment: &str,
) -> Vec<String> {
    let (job, group) = (&place.job.name, &place.group.name);
    wish.explicit = true;
    if said.as_str() == Some("nil") {
        wish.blocked = true;
        return Vec::new();
    }
    let Value::Object(said) = said else {
        return vec![format!(
            "Consumer '{}' in job '{job}' in instance group '{group}' specified in the manifest should only be \
             a hash or string 'nil'",
            wish.consumer.link
        )];
    };
    let mut faults = contradictions(said, &wish.consumer);
    if !faults.is_empty() {
        return faults;
    }
    if MANUAL_KEYS.iter().any(|key| said.contains_key(*key)) {
        wish.source = Source::Manual(manual(said, wish, own_deployment));
        return faults;
    }
    let text = |key: &str| said.get(key).and_then(Value::as_str).map(str::to_owned);
    let asked = text("from").unwrap_or_else(|| wish.consumer.link.clone());
    let deployment = text("deployment");
    if let Some(other) = &deployment
        && other != own_deployment
        && !others.contains_key(other)
    {
        faults.push(format!(
            "Link '{asked}' in job '{job}' from instance group '{group}' consumes from deployment '{other}', \
             but the deployment does not exist."
        ));
    }
    // The old form `from: deployment.link` names the link last.
    asked.rsplit('.').next().unwrap_or(&asked).clone_into(&mut wish.name);
    let ip_addresses = said.get("ip_addresses").and_then(Value::as_bool);
    wish.source = Source::Provider { deployment, network: text("network"), ip_addresses };
    faults
}

fn contradictions(said: &Map<String, Value>, consumer: &Consumer) -> Vec<String> {
    let Consumer { group, job, link } = consumer;
    let mut faults = Vec::new();
    for key in ["instances", "properties"] {
        if said.contains_key(key) && said.contains_key("from") {
            faults.push(format!(
                "Cannot specify both '{key}' and 'from' keys for link '{link}' in job '{job}' in instance \
                 group '{group}'."
            ));
        }
    }
    if said.contains_key("properties") && !said.contains_key("instances") {
        faults.push(format!(
            "Cannot specify 'properties' without 'instances' for link '{link}' in job '{job}' in instance \
             group '{group}'."
        ));
    }
    if said.get("ip_addresses").is_some_and(|value| !value.is_boolean()) {
        faults.push(format!(
            "Cannot specify non boolean values for 'ip_addresses' field for link '{link}' in job '{job}' in \
             instance group '{group}'."
        ));
    }
    if said.contains_key("name") || said.contains_key("type") {
        faults.push(format!(
            "Cannot specify 'name' or 'type' properties in the manifest for link '{link}' in job '{job}' in \
             instance group '{group}'. Please provide these keys in the release only."
        ));
    }
    faults
}

/// A manual link always has all three keys, whatever the manifest left out.
fn manual(said: &Map<String, Value>, wish: &Wish, own_deployment: &str) -> Value {
    let mut content: Map<String, Value> = MANUAL_KEYS
        .iter()
        .map(|key| ((*key).to_owned(), said.get(*key).cloned().unwrap_or(Value::Null)))
        .collect();
    content.insert("deployment_name".to_owned(), own_deployment.into());
    content.insert("group_name".to_owned(), format!("{}-{}", wish.consumer.link, wish.link_type).into());
    Value::Object(content)
}
