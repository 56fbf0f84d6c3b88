//! Which instances exist: who stays, who is new, who has to go, and who holds the bootstrap flag.
//! docs/local-director.md#placement

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use anyhow::{Result, anyhow};

use super::manifest::{InstanceGroup, Manifest};
use super::model::Identity;
use super::section::mistake;
use crate::report::Complaint;

/// An instance that exists already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Existing {
    /// Who it is.
    pub identity: Identity,
    /// Whether it has a persistent disk.
    pub has_disk: bool,
    /// Whether an operator said `bosh ignore`: such instances are kept.
    pub ignored: bool,
}

/// Where identities and addresses of new instances come from.
pub trait Registry {
    /// A fresh random UUID, lower-case with hyphens.
    fn new_id(&mut self) -> String;
    /// A fresh address for an instance of `group`, never handed out before in this deployment.
    fn new_address(&mut self, group: &str) -> Result<Ipv4Addr>;
}

/// The instances of a deployment after a change of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    /// Instances that stay: as they were, and as they are from now on.
    pub kept: Vec<Kept>,
    /// Instances that are made.
    pub new: Vec<Identity>,
    /// Instances that are deleted.
    pub obsolete: Vec<Identity>,
}

/// An instance that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// As it was applied last.
    pub before: Identity,
    /// As it will be: address, group, index and bootstrap flag may differ.
    pub after: Identity,
}

impl Placement {
    /// Everything the manifest wants, group by group in its order, each group by index.
    pub fn desired(&self) -> Vec<Identity> {
        self.kept.iter().map(|kept| &kept.after).chain(&self.new).cloned().collect()
    }
}

/// Decides for all groups of the manifest.
pub fn place(manifest: &Manifest, existing: &[Existing], registry: &mut dyn Registry) -> Result<Placement> {
    check_migrations(manifest)?;
    let mut placement = Placement::default();
    for group in &manifest.instance_groups {
        let mine = existing_of(group, existing)?;
        let slots = match group.network.static_ips.as_slice() {
            [] => slots(group, &mine)?,
            addresses => static_slots(group, &mine, addresses)?,
        };
        // Obsolete instances still occupy their index while this deploy runs.
        let taken = mine.iter().filter(|one| one.identity.group == group.name).map(|one| one.identity.index);
        let mut indexes = FreeIndexes { taken: taken.collect() };
        let mut desired = Vec::new();
        for slot in slots {
            desired.push(slot.fill(manifest, group, &mut indexes, registry)?);
        }
        let stays = |one: &Existing| {
            desired.iter().any(|(before, _)| before.as_ref().is_some_and(|kept| kept.id == one.identity.id))
        };
        for gone in mine.iter().filter(|one| !stays(one)) {
            if gone.ignored {
                return Err(ignored_would_go(&gone.identity));
            }
            placement.obsolete.push(gone.identity.clone());
        }
        elect_bootstrap(&mut desired);
        for (before, after) in desired {
            match before {
                Some(before) => placement.kept.push(Kept { before, after }),
                None => placement.new.push(after),
            }
        }
    }
    for removed in existing.iter().filter(|one| !is_wanted(manifest, &one.identity.group)) {
        if removed.ignored {
            return Err(ignored_would_go(&removed.identity));
        }
        placement.obsolete.push(removed.identity.clone());
    }
    Ok(placement)
}

/// A place for an instance: for one that exists, or for a new one.
struct Slot<'a> {
    az: Option<String>,
    from: Option<&'a Existing>,
    address: Option<Ipv4Addr>,
}

impl Slot<'_> {
    /// The instance as it was, if it existed, and as it will be.
    fn fill(
        self,
        manifest: &Manifest,
        group: &InstanceGroup,
        indexes: &mut FreeIndexes,
        registry: &mut dyn Registry,
    ) -> Result<(Option<Identity>, Identity)> {
        let before = self.from.map(|one| one.identity.clone());
        let index = match &before {
            Some(same) if same.group == group.name => same.index,
            // Taken over from another group, or new.
            _ => indexes.take(),
        };
        let ip = match (self.address, &before) {
            (Some(address), _) => address,
            (None, Some(before)) => before.ip,
            (None, None) => registry.new_address(&group.name)?,
        };
        let after = Identity {
            deployment: manifest.name.clone(),
            group: group.name.clone(),
            id: before.as_ref().map_or_else(|| registry.new_id(), |before| before.id.clone()),
            index,
            az: self.az,
            network: group.network.name.clone(),
            ip,
            bootstrap: before.as_ref().is_some_and(|before| before.bootstrap),
        };
        Ok((before, after))
    }
}

struct FreeIndexes {
    taken: BTreeSet<u32>,
}

impl FreeIndexes {
    fn take(&mut self) -> u32 {
        let lowest =
            (0..=u32::MAX).find(|index| !self.taken.contains(index)).expect("a set is smaller than all u32");
        self.taken.insert(lowest);
        lowest
    }
}

/// The instances a group has, under its own or a former name, by index.
fn existing_of(group: &InstanceGroup, existing: &[Existing]) -> Result<Vec<Existing>> {
    let mut mine: Vec<Existing> =
        existing.iter().filter(|one| one.identity.group == group.name).cloned().collect();
    for former in &group.migrated_from {
        for one in existing.iter().filter(|one| one.identity.group == former.name) {
            let mut one = one.clone();
            let az = one.identity.az.clone();
            match (&former.az, az) {
                (None, None) if !group.azs.is_empty() => {
                    return Err(mistake(format!(
                        "Failed to migrate instance group '{}' to '{}', availability zone of '{}' is not specified",
                        former.name, group.name, former.name
                    )));
                }
                (Some(said), Some(is)) if *said != is => {
                    return Err(mistake(format!(
                        "Failed to migrate instance group '{}' to '{}', '{}' belongs to availability zone '{is}' \
                         and manifest specifies '{said}'",
                        former.name, group.name, former.name
                    )));
                }
                (Some(said), None) => one.identity.az = Some(said.clone()),
                _ => {}
            }
            mine.push(one);
        }
    }
    mine.sort_by_key(|one| one.identity.index);
    Ok(mine)
}

/// Slots when addresses are picked: ignored instances first, then those with a disk in a zone that is
/// still listed, by index; what is left is balanced over the zones.
fn slots<'a>(group: &InstanceGroup, mine: &'a [Existing]) -> Result<Vec<Slot<'a>>> {
    let wanted = group.instances as usize;
    let ignored: Vec<_> = mine.iter().filter(|one| one.ignored).collect();
    let zone_is_listed = |one: &Existing| match &one.identity.az {
        Some(az) => group.azs.contains(az),
        None => group.azs.is_empty(),
    };
    if let Some(one) = ignored.iter().find(|one| !zone_is_listed(one)) {
        return Err(ignored_would_go(&one.identity));
    }
    if ignored.len() > wanted {
        return Err(ignored_would_go(&ignored[wanted].identity));
    }
    let mut unplaced: Vec<&Existing> = mine.iter().collect();
    let mut slots: Vec<Slot<'_>> = Vec::new();
    let with_disk = mine.iter().filter(|one| !one.ignored && one.has_disk && !group.azs.is_empty());
    for one in ignored.into_iter().chain(with_disk.filter(|one| zone_is_listed(one))) {
        if slots.len() < wanted {
            unplaced.retain(|other| other.identity.id != one.identity.id);
            slots.push(Slot { az: one.identity.az.clone(), from: Some(one), address: None });
        }
    }
    let mut balance = Balance::of(group, mine, &slots, &unplaced);
    while slots.len() < wanted {
        let az = balance.next_zone();
        let claimed = unplaced.iter().position(|one| one.identity.az == az).map(|at| unplaced.remove(at));
        slots.push(Slot { az, from: claimed, address: None });
    }
    // Those that stay come first, so that a taken-over instance gets its index before a new one does.
    slots.sort_by_key(|slot| slot.from.is_none());
    Ok(slots)
}

/// How instances spread over the zones of a group.
struct Balance {
    /// Zones with the number of instances in them; zones that had most instances come first.
    weights: Vec<(String, usize)>,
    /// Zones of instances that have no slot yet: chosen first when zones are equal.
    preferred: Vec<String>,
}

impl Balance {
    fn of(group: &InstanceGroup, mine: &[Existing], slots: &[Slot<'_>], unplaced: &[&Existing]) -> Self {
        let lived_in = |az: &String| mine.iter().filter(|one| one.identity.az.as_ref() == Some(az)).count();
        let mut zones = group.azs.clone();
        zones.sort_by_key(|az| Reverse(lived_in(az)));
        let placed = |az: &String| slots.iter().filter(|slot| slot.az.as_ref() == Some(az)).count();
        Self {
            weights: zones.into_iter().map(|az| (az.clone(), placed(&az))).collect(),
            preferred: unplaced.iter().filter_map(|one| one.identity.az.clone()).collect(),
        }
    }

    fn next_zone(&mut self) -> Option<String> {
        let least = self.weights.iter().map(|(_, weight)| *weight).min()?;
        let emptiest = self.weights.iter().filter(|(_, weight)| *weight == least).map(|(az, _)| az);
        let preferred = emptiest.clone().find(|az| self.preferred.contains(az));
        let chosen = preferred.or_else(|| emptiest.min()).cloned()?;
        for (az, weight) in &mut self.weights {
            *weight += usize::from(*az == chosen);
        }
        if let Some(at) = self.preferred.iter().position(|az| *az == chosen) {
            self.preferred.remove(at);
        }
        Some(chosen)
    }
}

/// Slots when the manifest lists addresses: whoever has one of them stays, others are re-used with a new
/// address while there are any, the rest is new. Without a cloud config every address is in every zone.
fn static_slots<'a>(
    group: &InstanceGroup,
    mine: &'a [Existing],
    addresses: &[Ipv4Addr],
) -> Result<Vec<Slot<'a>>> {
    let (settled, movable): (Vec<_>, Vec<_>) =
        mine.iter().partition(|one| addresses.contains(&one.identity.ip));
    if let Some(moved) = movable.iter().find(|one| one.ignored) {
        return Err(ignored_would_go(&moved.identity));
    }
    let zone_is_listed = |one: &Existing| match &one.identity.az {
        Some(az) => group.azs.contains(az),
        None => group.azs.is_empty(),
    };
    let mut slots: Vec<Slot<'a>> = Vec::new();
    for one in settled {
        if !zone_is_listed(one) {
            return Err(mistake(format!(
                "Existing instance '{}/{}' is using IP '{}' in availability zone '{}'",
                one.identity.group,
                one.identity.index,
                one.identity.ip,
                one.identity.az.as_deref().unwrap_or_default()
            )));
        }
        let (az, address) = (one.identity.az.clone(), Some(one.identity.ip));
        slots.push(Slot { az, from: Some(one), address });
    }
    let free: Vec<_> =
        addresses.iter().filter(|address| !mine.iter().any(|one| one.identity.ip == **address)).collect();
    let mut movable = movable.into_iter().filter(|one| zone_is_listed(one));
    for address in free {
        let from = movable.next();
        let az = match from {
            Some(one) => one.identity.az.clone(),
            None => Balance::of(group, mine, &slots, &[]).next_zone(),
        };
        slots.push(Slot { az, from, address: Some(*address) });
    }
    Ok(slots)
}

/// Exactly one instance of a group holds the flag. It stays where it is, while it is on exactly one;
/// otherwise the lowest index gets it.
fn elect_bootstrap(desired: &mut [(Option<Identity>, Identity)]) {
    if desired.iter().filter(|(_, after)| after.bootstrap).count() == 1 {
        return;
    }
    let lowest = desired.iter().map(|(_, after)| after.index).min();
    for (_, after) in desired {
        after.bootstrap = Some(after.index) == lowest;
    }
}

fn is_wanted(manifest: &Manifest, group: &str) -> bool {
    manifest.instance_groups.iter().any(|wanted| wanted.owns(group))
}

fn check_migrations(manifest: &Manifest) -> Result<()> {
    let mut takers: BTreeMap<&str, &str> = BTreeMap::new();
    for group in &manifest.instance_groups {
        for former in &group.migrated_from {
            let fail = |why: String| {
                Err(mistake(format!(
                    "Failed to migrate instance group '{}' to '{}'. {why}",
                    former.name, group.name
                )))
            };
            if former.name != group.name && manifest.group(&former.name).is_some() {
                return fail(format!(
                    "A deployment can not migrate an instance group and also specify it. \
                     Please remove instance group '{}'.",
                    former.name
                ));
            }
            if takers.insert(&former.name, &group.name).is_some_and(|other| other != group.name) {
                return fail("An instance group may be migrated to only one instance group.".to_owned());
            }
        }
    }
    Ok(())
}

fn ignored_would_go(identity: &Identity) -> anyhow::Error {
    anyhow!(Complaint::refused(
        format!("the manifest would delete or move {identity}, which is ignored"),
        "an ignored instance is one that an operator wants left alone",
        "keep its group, zone and address in the manifest, or end its ignored state first",
    ))
}

#[cfg(test)]
mod tests;
