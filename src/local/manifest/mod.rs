//! The deployment manifest with types, read with the Director's rules: unknown keys are tolerated, a
//! required key that is missing or has the wrong type is told with its place.
//!
//! There is no cloud config on one machine: networks, availability zones, VM types and stemcells are
//! names only, and a named disk type counts as [`DISK_TYPE_MIB`]. What a Director has and this one
//! cannot play (several networks or disks, short DNS names) is refused, never silently ignored.
//! docs/local-director.md#manifest

mod policy;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use anyhow::{Result, anyhow};
use serde_json::{Map, Value};

pub use self::policy::{Amount, UpdatePolicy, WatchTime};
use super::section::{Section, mistake, parse};
use crate::report::Complaint;

/// The size of a persistent disk that the manifest gives by type name only, in MiB.
pub const DISK_TYPE_MIB: u32 = 10_240;

/// A deployment, as the manifest says after ops files and variables.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// Name of the deployment.
    pub name: String,
    /// Releases the jobs come from.
    pub releases: Vec<ReleaseUse>,
    /// Stemcells; they are only compared here: another one means new machines.
    pub stemcells: Vec<Stemcell>,
    /// Switches of the deployment.
    pub features: Features,
    /// How instances are updated, where a group does not say otherwise.
    pub update: UpdatePolicy,
    /// Instance groups in the order of the manifest, which is the order of updates.
    pub instance_groups: Vec<InstanceGroup>,
    /// Tags of the deployment.
    pub tags: BTreeMap<String, String>,
    /// Names of the manifest's addons. They are not colocated here (`bosh-dns` is a hosts file): whoever
    /// deploys should say so.
    pub addons: Vec<String>,
}

/// A release the manifest uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseUse {
    /// Its name.
    pub name: String,
    /// Its version as written (`latest`, `create`, …).
    pub version: String,
}

/// A stemcell the manifest uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stemcell {
    /// The name instance groups refer to.
    pub alias: String,
    /// Its operating system or name, and its version, as written: `ubuntu-jammy/1.445`.
    pub release: String,
}

/// Switches of the deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// Links and `spec.address` carry DNS names instead of addresses.
    pub use_dns_addresses: bool,
}

/// Whether a group's instances stay or only live for an errand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    /// Long-running instances.
    Service,
    /// Instances that are made for `run-errand`.
    Errand,
}

/// A set of equal instances.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceGroup {
    /// Its name, unique in the deployment.
    pub name: String,
    /// How many instances.
    pub instances: u32,
    /// Availability zones, in the order of the manifest; empty when the group has none.
    pub azs: Vec<String>,
    /// Jobs that are colocated on each instance.
    pub jobs: Vec<JobUse>,
    /// The network all instances are in.
    pub network: Network,
    /// Size of the persistent disk in MiB, 0 for none.
    pub persistent_disk_mib: u32,
    /// Name of the disk type, if the size came from one: another name is another disk.
    pub persistent_disk_type: Option<String>,
    /// How its instances are updated: its own settings over the deployment's.
    pub update: UpdatePolicy,
    /// Whether its instances stay.
    pub lifecycle: Lifecycle,
    /// Groups whose instances this one takes over.
    pub migrated_from: Vec<MigratedFrom>,
    /// Environment of the VM; a change means a new VM.
    pub env: Value,
    /// VM type; a change means a new VM.
    pub vm_type: Option<String>,
    /// Stemcell alias; a change means a new VM.
    pub stemcell: Option<String>,
}

/// The network of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its name, which is part of DNS names.
    pub name: String,
    /// Addresses that instances must have, one each; empty when addresses are picked.
    pub static_ips: Vec<Ipv4Addr>,
}

/// A group whose instances are taken over under a new name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigratedFrom {
    /// The group's former name.
    pub name: String,
    /// The zone its instances are in, for those that were made without one.
    pub az: Option<String>,
}

/// A job on the instances of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct JobUse {
    /// Its name.
    pub name: String,
    /// The release it comes from.
    pub release: String,
    /// Properties as written, nested.
    pub properties: Map<String, Value>,
    /// What the manifest says about links this job consumes, by link name.
    pub consumes: BTreeMap<String, Value>,
    /// What the manifest says about links this job provides, by link name.
    pub provides: BTreeMap<String, Value>,
    /// Links the manifest lets this job provide in addition to its spec.
    pub custom_provider_definitions: Vec<Value>,
}

impl Manifest {
    /// Reads a manifest in which no variable is left.
    pub fn parse(yaml: &str) -> Result<Self> {
        let document = parse(yaml)?;
        let top = Section::new("the manifest", &document)?;
        let name = top.text("name")?;
        let update = UpdatePolicy::of_deployment(&top)?;
        let releases = top.sections("releases")?.iter().map(ReleaseUse::read).collect::<Result<Vec<_>>>()?;
        let stemcells = top.sections("stemcells")?.iter().map(Stemcell::read).collect::<Result<Vec<_>>>()?;
        let features = Features::read(&top)?;
        let global = top.mapping("properties")?.cloned().unwrap_or_default();
        let context = GroupContext { update, releases: &releases, stemcells: &stemcells, global: &global };
        let instance_groups = top
            .sections("instance_groups")?
            .into_iter()
            .map(|section| InstanceGroup::read(section, &context))
            .collect::<Result<Vec<_>>>()?;
        only_once("instance group", instance_groups.iter().map(|group| &group.name))?;
        let tags = top
            .mapping("tags")?
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.as_str().map_or(value.to_string(), str::to_owned)))
            .collect();
        let addons = top.sections("addons")?.iter().map(|addon| addon.text("name")).collect::<Result<_>>()?;
        Ok(Self { name, releases, stemcells, features, update, instance_groups, tags, addons })
    }

    /// The group of that name.
    pub fn group(&self, name: &str) -> Option<&InstanceGroup> {
        self.instance_groups.iter().find(|group| group.name == name)
    }
}

/// What the deployment says and its groups refer to.
struct GroupContext<'a> {
    update: UpdatePolicy,
    releases: &'a [ReleaseUse],
    stemcells: &'a [Stemcell],
    global: &'a Map<String, Value>,
}

impl ReleaseUse {
    fn read(section: &Section<'_>) -> Result<Self> {
        Ok(Self { name: section.text("name")?, version: section.text("version")? })
    }
}

impl Stemcell {
    fn read(section: &Section<'_>) -> Result<Self> {
        let system = section.optional_text("os")?.or(section.optional_text("name")?).unwrap_or_default();
        let version = section.optional_text("version")?.unwrap_or_default();
        Ok(Self { alias: section.text("alias")?, release: format!("{system}/{version}") })
    }
}

impl Features {
    fn read(top: &Section<'_>) -> Result<Self> {
        let Some(features) = top.optional_section("features")? else { return Ok(Self::default()) };
        for short in ["use_short_dns_addresses", "use_link_dns_names"] {
            if features.optional_flag(short)? == Some(true) {
                return Err(beyond_one_machine(
                    format!("the manifest switches on '{short}'"),
                    "the numbers in such names are handed out by a Director's database",
                    format!("remove /features/{short} with an ops file and deploy again"),
                ));
            }
        }
        Ok(Self { use_dns_addresses: features.optional_flag("use_dns_addresses")?.unwrap_or(false) })
    }
}

impl InstanceGroup {
    fn read(section: Section<'_>, context: &GroupContext<'_>) -> Result<Self> {
        let name = section.text("name")?;
        let section = section.called(format!("instance group '{name}'"));
        if section.get("jobs").is_none() {
            return Err(mistake(format!("Instance group '{name}' does not specify jobs key")));
        }
        let instances = section.count("instances")?;
        let network = Network::read(&section, &name, instances)?;
        let (persistent_disk_mib, persistent_disk_type) = persistent_disk(&section, &name)?;
        let update = match section.optional_section("update")? {
            Some(own) => context.update.overridden(&own)?,
            None => context.update,
        };
        let jobs = job_uses(&section, &name, context)?;
        let stemcell = section.optional_text("stemcell")?;
        if let Some(alias) = &stemcell
            && !context.stemcells.iter().any(|stemcell| stemcell.alias == *alias)
        {
            return Err(mistake(format!("Instance group '{name}' references an unknown stemcell '{alias}'")));
        }
        let azs = section.texts("azs")?;
        if section.get("azs").is_some() && azs.is_empty() {
            return Err(mistake(format!("Instance group '{name}' has empty availability zones")));
        }
        let migrated_from = section.sections("migrated_from")?;
        let migrated_from = migrated_from
            .iter()
            .map(|from| Ok(MigratedFrom { name: from.text("name")?, az: from.optional_text("az")? }))
            .collect::<Result<_>>()?;
        Ok(Self {
            instances,
            azs,
            jobs,
            network,
            persistent_disk_mib,
            persistent_disk_type,
            update,
            lifecycle: lifecycle(&section, &name)?,
            migrated_from,
            env: section.mapping("env")?.cloned().unwrap_or_default().into(),
            vm_type: section.optional_text("vm_type")?,
            stemcell,
            name,
        })
    }

    /// Whether instances of the group `name` belong to this group now: its own, and those it takes over.
    pub fn owns(&self, name: &str) -> bool {
        self.name == name || self.migrated_from.iter().any(|former| former.name == name)
    }

    /// The job of that name.
    pub fn job(&self, name: &str) -> Option<&JobUse> {
        self.jobs.iter().find(|job| job.name == name)
    }
}

fn lifecycle(section: &Section<'_>, group: &str) -> Result<Lifecycle> {
    match section.optional_text("lifecycle")?.as_deref() {
        None | Some("service") => Ok(Lifecycle::Service),
        Some("errand") => Ok(Lifecycle::Errand),
        Some(other) => Err(mistake(format!(
            "Invalid lifecycle '{other}' for '{group}', valid lifecycle profiles are: service, errand"
        ))),
    }
}

fn persistent_disk(section: &Section<'_>, group: &str) -> Result<(u32, Option<String>)> {
    let size = section.optional_count("persistent_disk")?;
    let type_name = section.optional_text("persistent_disk_type")?;
    if size.is_some() && type_name.is_some() {
        return Err(mistake(format!(
            "Instance group '{group}' specifies more than one of the following keys: 'persistent_disk', \
             'persistent_disk_type', and 'persistent_disks'. Choose one."
        )));
    }
    if section.get("persistent_disks").is_some() {
        return Err(beyond_one_machine(
            format!("instance group '{group}' asks for 'persistent_disks'"),
            "an instance here has at most one disk, mounted at /var/vcap/store",
            "use 'persistent_disk' or 'persistent_disk_type' and deploy again".to_owned(),
        ));
    }
    Ok(match type_name {
        Some(name) => (DISK_TYPE_MIB, Some(name)),
        None => (size.unwrap_or(0), None),
    })
}

impl Network {
    fn read(section: &Section<'_>, group: &str, instances: u32) -> Result<Self> {
        let mut networks = section.sections("networks")?.into_iter();
        let Some(first) = networks.next() else {
            return Err(mistake(format!("Instance group '{group}' must specify at least one network")));
        };
        if networks.next().is_some() {
            return Err(beyond_one_machine(
                format!("instance group '{group}' is in several networks"),
                "an instance here has one address",
                "leave one network with an ops file and deploy again".to_owned(),
            ));
        }
        let name = first.text("name")?;
        let static_ips = static_ips(&first, group)?;
        if !static_ips.is_empty() && static_ips.len() != instances as usize {
            return Err(mistake(format!(
                "Instance group '{group}' has {instances} instances but was allocated {} static IPs in network '{name}'",
                static_ips.len()
            )));
        }
        Ok(Self { name, static_ips })
    }
}

/// Reads addresses and ranges (`A - B`).
fn static_ips(network: &Section<'_>, group: &str) -> Result<Vec<Ipv4Addr>> {
    let mut addresses = Vec::new();
    for entry in network.texts("static_ips")? {
        let address = |text: &str| {
            text.trim().parse::<Ipv4Addr>().map_err(|_| {
                mistake(format!("instance group '{group}' has a static IP '{entry}' that is no IPv4 address"))
            })
        };
        let (first, last) = match entry.split_once('-') {
            Some((first, last)) => (address(first)?, address(last)?),
            None => (address(&entry)?, address(&entry)?),
        };
        addresses.extend((u32::from(first)..=u32::from(last)).map(Ipv4Addr::from));
    }
    let mut seen = BTreeSet::new();
    match addresses.iter().find(|address| !seen.insert(**address)) {
        Some(twice) => {
            Err(mistake(format!("Instance group '{group}' specifies static IP '{twice}' more than once")))
        }
        None => Ok(addresses),
    }
}

fn job_uses(section: &Section<'_>, group: &str, context: &GroupContext<'_>) -> Result<Vec<JobUse>> {
    let mut inherited = context.global.clone();
    for (key, value) in section.mapping("properties")?.into_iter().flatten() {
        merge(&mut inherited, key, value);
    }
    let mut jobs: Vec<JobUse> = Vec::new();
    for job in section.sections("jobs")? {
        let name = job.text("name")?;
        let job = job.called(format!("job '{name}' of instance group '{group}'"));
        let release = job.text("release")?;
        if !context.releases.iter().any(|known| known.name == release) {
            return Err(mistake(format!(
                "Job '{name}' (instance group '{group}') references an unknown release '{release}'"
            )));
        }
        if jobs.iter().any(|other| other.name == name) {
            return Err(mistake(format!(
                "Colocated job '{name}' is already added to the instance group '{group}'"
            )));
        }
        let by_name = |key: &str| -> Result<BTreeMap<String, Value>> {
            let entries = job.mapping(key)?.into_iter().flatten();
            Ok(entries.map(|(name, value)| (name.clone(), value.clone())).collect())
        };
        jobs.push(JobUse {
            // A job's own properties replace the group's and the deployment's, they are not merged.
            properties: job.mapping("properties")?.cloned().unwrap_or_else(|| inherited.clone()),
            consumes: by_name("consumes")?,
            provides: by_name("provides")?,
            custom_provider_definitions: job.list("custom_provider_definitions")?.to_vec(),
            name,
            release,
        });
    }
    Ok(jobs)
}

/// Puts `value` over what `target` has under `key`; mappings are merged key by key.
fn merge(target: &mut Map<String, Value>, key: &str, value: &Value) {
    match (target.get_mut(key), value) {
        (Some(Value::Object(below)), Value::Object(above)) => {
            above.iter().for_each(|(key, value)| merge(below, key, value));
        }
        _ => {
            target.insert(key.to_owned(), value.clone());
        }
    }
}

fn only_once<'a>(noun: &str, names: impl Iterator<Item = &'a String>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(mistake(format!("the manifest has two of {noun} '{name}'")));
        }
    }
    Ok(())
}

fn beyond_one_machine(what: String, why: &str, next: String) -> anyhow::Error {
    anyhow!(Complaint::failed(what, why, next))
}
