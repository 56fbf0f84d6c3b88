//! Links: which job consumes what from whom, matched with the Director's rules, which these rooms tell
//! in order: [`provider`] and [`consumer`] read what job specs and the manifest say, [`resolve`] brings
//! them together. docs/local-director.md#links

mod consumer;
mod provider;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::consumer::{Source, Wish};
use self::provider::Provider;
use super::dns::DOMAIN;
use super::manifest::{InstanceGroup, JobUse, Manifest};
use super::model::Identity;
use super::release::{Catalog, Job};
use super::update;

/// All links of a deployment: what templates see of them, by consumer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Links {
    contents: BTreeMap<Consumer, Value>,
    shared: Vec<SharedLink>,
}

/// Who consumes a link under which name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Consumer {
    group: String,
    job: String,
    link: String,
}

/// A link that other deployments may consume; kept with the state of the deployment that provides it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SharedLink {
    /// Instance group of the provider.
    pub group: String,
    /// Job that provides it.
    pub job: String,
    /// Its name in the job's spec.
    pub original_name: String,
    /// The name consumers ask for.
    pub name: String,
    /// Its type.
    pub link_type: String,
    /// Its content.
    pub content: LinkContent,
}

/// What a provider offers, before a consumer says which kind of address it wants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkContent {
    /// Deployment of the provider.
    pub deployment: String,
    /// Instance group of the provider.
    pub group: String,
    /// The network it is in.
    pub network: String,
    /// Whether its deployment prefers DNS names.
    pub use_dns_addresses: bool,
    /// Shared properties, nested.
    pub properties: Value,
    /// Its instances, in update order.
    pub instances: Vec<Identity>,
}

/// The links of other deployments on this machine, by deployment name.
pub type OtherDeployments = BTreeMap<String, Vec<SharedLink>>;

/// Why links could not be resolved, all reasons at once, in the Director's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LinkErrors(String);

impl Links {
    /// What the job's templates see, by link name.
    pub fn of_job(&self, group: &str, job: &str) -> BTreeMap<&str, &Value> {
        self.contents
            .iter()
            .filter(|(consumer, _)| consumer.group == group && consumer.job == job)
            .map(|(consumer, content)| (consumer.link.as_str(), content))
            .collect()
    }

    /// What other deployments may consume.
    pub fn shared(&self) -> &[SharedLink] {
        &self.shared
    }
}

/// A job in its group, with its spec.
#[derive(Clone, Copy)]
struct Place<'a> {
    group: &'a InstanceGroup,
    used: &'a JobUse,
    job: &'a Job,
}

/// Resolves every link of the deployment for the instances it will have.
///
/// # Errors
/// What is wrong with the manifest's own words about links comes first, all of it; only then the links
/// that find no provider, or more than one. Jobs that no release has are left to [`Catalog::check`].
pub fn resolve(
    manifest: &Manifest,
    catalog: &Catalog,
    instances: &[Identity],
    others: &OtherDeployments,
) -> Result<Links, LinkErrors> {
    let mut faults = Vec::new();
    let mut offers: Vec<SharedLink> = Vec::new();
    let mut offered: Vec<Provider> = Vec::new();
    let mut wishes: Vec<Wish> = Vec::new();
    for place in places(manifest, catalog) {
        offered.extend(provider::providers(place, &mut faults));
        wishes.extend(consumer::wishes(place, others, &manifest.name, &mut faults));
    }
    if !faults.is_empty() {
        return Err(LinkErrors(faults.join("\n")));
    }
    let mut shared = Vec::new();
    for provider in offered.iter().filter(|provider| provider.consumable) {
        let offer = offer(manifest, provider, instances);
        shared.extend(provider.shared.then(|| offer.clone()));
        offers.push(offer);
    }
    let mut links = Links { contents: BTreeMap::new(), shared };
    for wish in &wishes {
        match granted(wish, manifest, &offers, others) {
            Ok(Some(content)) => {
                links.contents.insert(wish.consumer.clone(), content);
            }
            Ok(None) => {}
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() {
        return Ok(links);
    }
    Err(LinkErrors(format!(
        "Failed to resolve links from deployment '{}'. See errors below:\n  - {}",
        manifest.name,
        faults.join("\n  - ")
    )))
}

fn places<'a>(manifest: &'a Manifest, catalog: &'a Catalog) -> impl Iterator<Item = Place<'a>> {
    manifest.instance_groups.iter().flat_map(move |group| {
        group.jobs.iter().filter_map(move |used| {
            let job = catalog.job(&used.release, &used.name).ok()?;
            Some(Place { group, used, job })
        })
    })
}

fn offer(manifest: &Manifest, provider: &Provider, instances: &[Identity]) -> SharedLink {
    let mut members: Vec<_> = instances.iter().filter(|one| one.group == provider.group).cloned().collect();
    update::sort(&mut members);
    SharedLink {
        group: provider.group.clone(),
        job: provider.job.clone(),
        original_name: provider.original_name.clone(),
        name: provider.name.clone(),
        link_type: provider.link_type.clone(),
        content: LinkContent {
            deployment: manifest.name.clone(),
            group: provider.group.clone(),
            network: provider.network.clone(),
            use_dns_addresses: manifest.features.use_dns_addresses,
            properties: provider.properties.clone(),
            instances: members,
        },
    }
}

/// What the consumer gets; `None` is an optional link that is absent.
fn granted(
    wish: &Wish,
    manifest: &Manifest,
    own: &[SharedLink],
    others: &OtherDeployments,
) -> Result<Option<Value>, String> {
    let (deployment, network, ip_addresses) = match &wish.source {
        Source::Manual(content) => return Ok(Some(content.clone())),
        Source::Provider { deployment, network, ip_addresses } => (deployment, network, ip_addresses),
    };
    let provider_deployment = deployment.as_deref().unwrap_or(&manifest.name);
    let offers = match others.get(provider_deployment) {
        Some(shared) if provider_deployment != manifest.name => shared.as_slice(),
        _ => own,
    };
    let matches = |offer: &&SharedLink| {
        !wish.blocked && offer.link_type == wish.link_type && (!wish.explicit || offer.name == wish.name)
    };
    let found: Vec<_> = offers.iter().filter(matches).collect();
    if found.is_empty() && wish.optional && (!wish.explicit || wish.blocked) {
        return Ok(None);
    }
    let &[offer] = found.as_slice() else {
        return Err(not_resolved(wish, &found, network.as_deref()));
    };
    if network.as_ref().is_some_and(|network| *network != offer.content.network) {
        return Err(not_resolved(wish, &found, network.as_deref()));
    }
    let by_ip = ip_addresses.unwrap_or(!offer.content.use_dns_addresses);
    Ok(Some(template_view(offer, by_ip)))
}

/// The link as templates see it.
fn template_view(offer: &SharedLink, by_ip: bool) -> Value {
    let content = &offer.content;
    let instance = |one: &Identity| {
        json!({
            "name": one.group,
            "id": one.id,
            "index": one.index,
            "bootstrap": one.bootstrap,
            "az": one.az,
            "address": if by_ip { one.ip.to_string() } else { one.dns_name() },
        })
    };
    json!({
        "default_network": content.network,
        "deployment_name": content.deployment,
        "domain": DOMAIN,
        "group_name": format!("{}-{}", offer.original_name, offer.link_type),
        "instance_group": content.group,
        "instances": content.instances.iter().map(instance).collect::<Vec<_>>(),
        "properties": content.properties,
    })
}

fn not_resolved(wish: &Wish, found: &[&SharedLink], network: Option<&str>) -> String {
    let Consumer { group, job, link } = &wish.consumer;
    let alias = if wish.name == *link { String::new() } else { format!("alias '{}' and ", wish.name) };
    let verdict = if found.len() > 1 { "Multiple link providers found:" } else { "Details below:" };
    let mut details: Vec<_> = found.iter().map(|offer| described(offer, network)).collect();
    if details.is_empty() {
        details.push("No link providers found".to_owned());
    }
    format!(
        "Failed to resolve link '{link}' with {alias}type '{}' from job '{job}' in instance group '{group}'. \
         {verdict}\n    - {}",
        wish.link_type,
        details.join("\n    - ")
    )
}

fn described(offer: &SharedLink, network: Option<&str>) -> String {
    let alias = if offer.name == offer.original_name {
        String::new()
    } else {
        format!("with alias '{}' ", offer.name)
    };
    let network = network.map(|name| format!(" does not belong to network '{name}'")).unwrap_or_default();
    format!(
        "Link provider '{}' {alias}from job '{}' in instance group '{}' in deployment '{}'{network}",
        offer.original_name, offer.job, offer.group, offer.content.deployment
    )
}
