//! The order of a deploy, as data: what is deleted, which virtual machines are made early, and which
//! instances are worked on together. Pure; the director acts on it and stops at the first failure.
//! docs/local-director.md#update-order

use super::manifest::{Amount, InstanceGroup, Lifecycle, Manifest, UpdatePolicy};
use super::model::Identity;

/// How many threads a Director uses where no `max_in_flight` applies.
pub const MAX_THREADS: usize = 32;

/// An instance that the manifest wants, and whether there is anything to do for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// Who it is.
    pub identity: Identity,
    /// Whether its virtual machine has to be made first.
    pub needs_vm: bool,
    /// Whether it is new, left dirty by a failure, or differs from what was applied.
    pub changed: bool,
}

/// What is known when the order is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circumstances {
    /// No deploy of this deployment ever succeeded.
    pub first_deploy: bool,
    /// What the command line says over the manifest.
    pub pace: Pace,
}

/// How many at a time, as typed; the manifest decides what is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace {
    /// `--canaries`.
    pub canaries: Option<Amount>,
    /// `--max-in-flight`.
    pub max_in_flight: Option<Amount>,
}

impl Circumstances {
    /// A later deploy without options.
    pub const PLAIN: Self = Self { first_deploy: false, pace: Pace { canaries: None, max_in_flight: None } };
}

/// The stages of a deploy; each starts when the one before it is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In order.
    pub stages: Vec<Stage>,
}

/// One stage of a deploy. A stage with nothing to do is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// Deletes the instances of groups that left the manifest.
    DeleteRemovedGroups(Wave),
    /// Makes the virtual machines of all groups; no job is started.
    CreateMissingVms(Wave),
    /// Works on groups: one of them, or several at the same time when none of them is serial.
    Groups(Vec<GroupUpdate>),
}

/// The work on one group, wave after wave: first deletions, then updates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupUpdate {
    /// Name of the group.
    pub group: String,
    /// Obsolete instances, deleted before anything is updated.
    pub deletions: Option<Wave>,
    /// Updates, zone by zone, canaries first.
    pub updates: Vec<Wave>,
}

/// Instances that are worked on in this order by at most `workers` at a time; a wave ends when all are done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wave {
    /// Whether these are canaries: shown as `(canary)`, watched for `canary_watch_time`.
    pub canary: bool,
    /// How many at the same time, one or more.
    pub workers: usize,
    /// In order.
    pub instances: Vec<Identity>,
}

impl Wave {
    fn of(instances: Vec<Identity>, workers: usize, canary: bool) -> Option<Self> {
        let workers = workers.clamp(1, instances.len().max(1));
        (!instances.is_empty()).then_some(Self { canary, workers, instances })
    }
}

/// The order in which a Director works, for the instances the manifest wants and those that have to go.
pub fn plan(
    manifest: &Manifest,
    desired: &[Desired],
    obsolete: &[Identity],
    circumstances: Circumstances,
) -> Plan {
    let of_group = |group: &InstanceGroup| -> Vec<&Desired> {
        desired.iter().filter(|one| one.identity.group == group.name).collect()
    };
    let is_wanted = |group: &str| manifest.instance_groups.iter().any(|wanted| wanted.owns(group));
    let removed = obsolete.iter().filter(|gone| !is_wanted(&gone.group)).cloned().collect();
    let missing = manifest
        .instance_groups
        .iter()
        .filter(|group| group.lifecycle == Lifecycle::Service)
        .flat_map(|group| update_order(of_group(group)))
        .filter(|one| one.needs_vm)
        .map(|one| one.identity.clone())
        .collect();
    let mut stages = Vec::new();
    stages.extend(Wave::of(removed, MAX_THREADS, false).map(Stage::DeleteRemovedGroups));
    stages.extend(Wave::of(missing, MAX_THREADS, false).map(Stage::CreateMissingVms));
    for batch in manifest.instance_groups.chunk_by(|one, next| one.update.serial == next.update.serial) {
        let work: Vec<_> = batch
            .iter()
            .map(|group| group_update(group, of_group(group), obsolete, circumstances))
            .filter(|update| update.deletions.is_some() || !update.updates.is_empty())
            .collect();
        if batch.iter().all(|group| group.update.serial) {
            stages.extend(work.into_iter().map(|update| Stage::Groups(vec![update])));
        } else if !work.is_empty() {
            stages.push(Stage::Groups(work));
        }
    }
    Plan { stages }
}

fn group_update(
    group: &InstanceGroup,
    desired: Vec<&Desired>,
    obsolete: &[Identity],
    circumstances: Circumstances,
) -> GroupUpdate {
    let policy = UpdatePolicy {
        canaries: circumstances.pace.canaries.unwrap_or(group.update.canaries),
        max_in_flight: circumstances.pace.max_in_flight.unwrap_or(group.update.max_in_flight),
        ..group.update
    };
    let leaving: Vec<_> = obsolete.iter().filter(|gone| group.owns(&gone.group)).cloned().collect();
    let workers = policy.max_in_flight.of(leaving.len());
    let deletions = Wave::of(leaving, workers, false);

    let kept_errand = group.lifecycle == Lifecycle::Errand && desired.iter().any(|one| !one.needs_vm);
    let to_update = |one: &&Desired| match group.lifecycle {
        Lifecycle::Service => one.changed,
        // The instances of an errand live only while it runs, unless they were kept alive.
        Lifecycle::Errand => kept_errand,
    };
    let due: Vec<_> = update_order(desired).into_iter().filter(to_update).collect();
    let all_zones_at_once = policy.parallel_azs_on_first_deploy && circumstances.first_deploy;
    let zones: Vec<&[&Desired]> = if all_zones_at_once {
        vec![due.as_slice()]
    } else {
        due.chunk_by(|one, next| one.identity.az == next.identity.az).collect()
    };
    let updates =
        zones.iter().enumerate().flat_map(|(at, zone)| zone_waves(&policy, zone, at == 0)).collect();
    GroupUpdate { group: group.name.clone(), deletions, updates }
}

/// The waves of one zone; canaries only exist in the first zone that has anything to do.
fn zone_waves(policy: &UpdatePolicy, zone: &[&Desired], first: bool) -> Vec<Wave> {
    let identities: Vec<_> = zone.iter().map(|one| one.identity.clone()).collect();
    let workers = policy.max_in_flight.of(zone.len());
    let canaries = if first { policy.canaries.of(zone.len()).min(zone.len()) } else { 0 };
    let (canaries, rest) = identities.split_at(canaries);
    [Wave::of(canaries.to_vec(), workers, true), Wave::of(rest.to_vec(), workers, false)]
        .into_iter()
        .flatten()
        .collect()
}

/// Sorts the instances of one group into the order of updates, which is also that of `link.instances`.
///
/// The bootstrap instance, the rest of its zone, instances without a zone, the other zones by name; inside
/// each by `group/uuid`, never by index.
pub fn sort(instances: &mut [Identity]) {
    let order = Order::of(instances.iter());
    instances.sort_by_key(|identity| order.key(identity));
}

fn update_order(mut desired: Vec<&Desired>) -> Vec<&Desired> {
    let order = Order::of(desired.iter().map(|one| &one.identity));
    desired.sort_by_key(|one| order.key(&one.identity));
    desired
}

struct Order {
    bootstrap: Option<Identity>,
}

impl Order {
    fn of<'a>(mut instances: impl Iterator<Item = &'a Identity>) -> Self {
        Self { bootstrap: instances.find(|identity| identity.bootstrap).cloned() }
    }

    fn key(&self, identity: &Identity) -> impl Ord + use<> {
        let is_bootstrap = self.bootstrap.as_ref() == Some(identity);
        let in_its_zone = self.bootstrap.as_ref().is_some_and(|first| first.az == identity.az);
        (!is_bootstrap, !in_its_zone, identity.az.clone(), identity.slug())
    }
}

#[cfg(test)]
mod tests;
