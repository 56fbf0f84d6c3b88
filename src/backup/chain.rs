//! Which objects have to be read to get to a point in time. Pure: names and manifests in, a plan out.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use super::catalog::{BackupSet, Catalog, Entry, continuous};
use super::layout::{self, DeltaStem, SetId};
use super::manifest::{Delta, Full};
use crate::etcd::id::ClusterId;
use crate::report::Complaint;

/// Where a restore is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// The last change there is.
    Latest,
    /// All changes that had arrived by then.
    Time(Timestamp),
    /// All changes up to this revision.
    Revision(i64),
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        if let Ok(revision) = text.parse::<i64>() {
            return if revision > 0 {
                Ok(Self::Revision(revision))
            } else {
                Err(format!("revision {revision}: the first one is 1"))
            };
        }
        text.parse().map(Self::Time).map_err(|_| {
            format!("'{text}' is no point: latest, a revision like 4711, or a time like 2026-11-26T11:38:00Z")
        })
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Time(time) => write!(f, "{time}"),
            Self::Revision(revision) => write!(f, "{revision}"),
        }
    }
}

/// What is to be read, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// First.
    pub full: Full,
    /// Then; each continues what is before it. The first revisions of one may already be in what is before it.
    pub deltas: Vec<Delta>,
    /// Where to stop.
    pub point: Point,
    /// The last revision of all of them: with a point in between, less is used.
    pub last: i64,
    /// Deltas of the set that do not continue it, and why.
    pub ignored: Vec<Ignored>,
}

impl Chain {
    /// The set.
    pub fn set(&self) -> &SetId {
        &self.full.set
    }

    /// How much is to be read from the store.
    pub fn bytes(&self) -> u64 {
        self.full.object.bytes + self.deltas.iter().map(|delta| delta.object.bytes).sum::<u64>()
    }
}

/// A delta that is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// The manifest's name.
    pub name: String,
    /// Why.
    pub why: Why,
}

/// Why a delta is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// All of its revisions are in others.
    Repeated,
    /// The revisions before it are in none; this one would be the next.
    Gap(i64),
    /// It is behind the point.
    Behind,
    /// Its manifest is of another set or another cluster, or says other revisions than its name.
    Strange,
}

/// Why there is no way to a point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoChain {
    /// Nothing at all.
    #[error("there is no backup in the store")]
    Nothing,
    /// No such set.
    #[error("there is no set {0} in the store")]
    NoSet(SetId),
    /// The set cannot be used.
    #[error("set {set} cannot be restored: {why}")]
    Broken {
        /// Its name.
        set: SetId,
        /// Why.
        why: String,
    },
    /// A newer set would be the one, and cannot be used.
    #[error("the newest set that can be restored is {chosen}, of {ended}, up to revision {last}; newer ones cannot be used: {}", passed_over(.newer))]
    Newer {
        /// What would be taken.
        chosen: SetId,
        /// When it ended.
        ended: Timestamp,
        /// Its last revision.
        last: i64,
        /// The others, and why not.
        newer: Vec<(SetId, String)>,
    },
    /// The revision is one of a cluster that came before.
    #[error(
        "revision {wanted} is in set {chosen} of cluster {cluster}; the newest set is of cluster {newest}"
    )]
    OtherCluster {
        /// What is wanted.
        wanted: i64,
        /// What would be taken.
        chosen: SetId,
        /// Whose it is.
        cluster: ClusterId,
        /// Whose the newest is.
        newest: ClusterId,
    },
    /// The oldest set is younger.
    #[error("no backup is as old as {wanted}: the first one was complete at {first}{}", perhaps(.unusable))]
    TooEarly {
        /// What is wanted.
        wanted: Timestamp,
        /// The end of the oldest full snapshot.
        first: Timestamp,
        /// Sets that cannot be used and may have had it, and why not.
        unusable: Vec<(SetId, String)>,
    },
    /// No set reaches the revision.
    #[error("no set reaches revision {wanted}; there are {}{}", ranges(.there), perhaps(.unusable))]
    NoRevision {
        /// What is wanted.
        wanted: i64,
        /// First and last revision that each set can be restored to.
        there: Vec<(i64, i64)>,
        /// Sets that cannot be used and may have had it, and why not.
        unusable: Vec<(SetId, String)>,
    },
    /// There are only manifests that cannot be understood.
    #[error("no set in the store can be read: {}", passed_over(.0))]
    Unreadable(Vec<(SetId, String)>),
}

impl NoChain {
    /// The same for an operator.
    pub fn complaint(&self) -> Complaint {
        let next = match self {
            Self::Newer { chosen, .. } => {
                let next = format!(
                    "`etcd-backup verify --all` says what is whole; to go back to the older one say so: --set {chosen}"
                );
                return Complaint::refused(
                    self.to_string(),
                    "everything after it would be lost without a word; nothing was touched",
                    next,
                );
            }
            Self::OtherCluster { chosen, .. } => {
                let next =
                    format!("if it is meant, say so: --set {chosen}; `etcd-backup list` shows the sets");
                let why = "the same number is another state in another cluster; nothing was touched";
                return Complaint::refused(self.to_string(), why, next);
            }
            Self::Nothing => {
                "look whether the URL is the right one; `etcd-backup save` takes the first backup"
            }
            Self::TooEarly { unusable, .. } | Self::NoRevision { unusable, .. } if !unusable.is_empty() => {
                "`etcd-backup list` shows the sets; a copy in another store may have those that cannot be used here"
            }
            Self::NoSet(_) | Self::TooEarly { .. } | Self::NoRevision { .. } => {
                "`etcd-backup list` shows the sets with their times and revisions"
            }
            Self::Unreadable(_) => {
                "a copy in another store may be whole; `etcd-backup save` takes a new backup"
            }
            Self::Broken { .. } => "choose another set: `etcd-backup list` shows them",
        };
        Complaint::refused(self.to_string(), "nothing was touched", next)
    }
}

fn passed_over(newer: &[(SetId, String)]) -> String {
    let told: Vec<String> = newer.iter().map(|(set, why)| format!("{set} ({why})")).collect();
    told.join(", ")
}

fn perhaps(unusable: &[(SetId, String)]) -> String {
    if unusable.is_empty() {
        return String::new();
    }
    format!("; sets that cannot be used may have had it: {}", passed_over(unusable))
}

fn ranges(there: &[(i64, i64)]) -> String {
    let ranges: Vec<String> = there.iter().map(|(first, last)| format!("{first} to {last}")).collect();
    if ranges.is_empty() { "none".to_owned() } else { ranges.join(", ") }
}

/// The set from which a point is reached.
///
/// The newest one that fits is taken: it has the fewest deltas to go through. One that is broken is passed over unless
/// it was asked for by name.
pub fn choose<'a>(catalog: &'a Catalog, set: Option<&SetId>, point: Point) -> Result<&'a Entry, NoChain> {
    let sets = &catalog.sets;
    if let Some(wanted) = set {
        let Some(found) = sets.iter().find(|entry| entry.set() == wanted) else {
            let unreadable = catalog.unreadable.iter().find(|(set, _)| set == wanted);
            let (set, why) = unreadable.cloned().ok_or_else(|| NoChain::NoSet(wanted.clone()))?;
            return Err(NoChain::Broken { set, why });
        };
        if let Some(why) = &found.broken {
            return Err(NoChain::Broken { set: wanted.clone(), why: why.clone() });
        }
        return if fits(found, point) { Ok(found) } else { Err(missed(&[found], vec![], point)) };
    }
    let usable: Vec<&Entry> = sets.iter().filter(|entry| entry.broken.is_none()).collect();
    if let Some(found) = usable.iter().find(|entry| fits(entry, point)) {
        return Ok(found);
    }
    match sets.iter().find_map(|entry| Some((entry, entry.broken.as_ref()?))) {
        Some((entry, why)) if usable.is_empty() => {
            Err(NoChain::Broken { set: entry.set().clone(), why: why.clone() })
        }
        _ => Err(missed(&usable, unusable(catalog, point), point)),
    }
}

/// Sets that cannot be used and may have had the point: broken ones that would fit, and those of which only the name is
/// known.
fn unusable(catalog: &Catalog, point: Point) -> Vec<(SetId, String)> {
    let broken = catalog.sets.iter().filter(|entry| fits(entry, point));
    let broken = broken.filter_map(|entry| Some((entry.set().clone(), entry.broken.clone()?)));
    // What cannot be read may have been complete by then if its name is of a time before.
    let in_time = |set: &SetId| match point {
        Point::Time(time) => SetId::new(time, [u8::MAX; 4]) >= *set,
        Point::Latest | Point::Revision(_) => true,
    };
    let unreadable = catalog.unreadable.iter().filter(|(set, _)| in_time(set)).cloned();
    let mut unusable: Vec<_> = broken.chain(unreadable).collect();
    unusable.sort();
    unusable
}

/// Refuses a set that was chosen only because newer ones are broken or cannot be read: whoever names no set means the
/// newest. A revision is the same wherever it is, as long as it is one cluster's.
pub fn newest_or_named(
    catalog: &Catalog,
    chosen: &Entry,
    set: Option<&SetId>,
    point: Point,
) -> Result<(), NoChain> {
    if set.is_some() {
        return Ok(());
    }
    if let Point::Revision(wanted) = point {
        let (chosen_in, newest) =
            (chosen.full.cluster.id, catalog.sets.first().map(|entry| entry.full.cluster.id));
        return match newest {
            Some(newest) if newest != chosen_in => {
                let chosen = chosen.set().clone();
                Err(NoChain::OtherCluster { wanted, chosen, cluster: chosen_in, newest })
            }
            _ => Ok(()),
        };
    }
    let mut newer = unusable(catalog, point);
    newer.retain(|(set, _)| set > chosen.set());
    if newer.is_empty() {
        return Ok(());
    }
    let (ended, last) = (chosen.full.ended, chosen.last_revision());
    Err(NoChain::Newer { chosen: chosen.set().clone(), ended, last, newer })
}

fn fits(entry: &Entry, point: Point) -> bool {
    match point {
        Point::Latest => true,
        Point::Time(time) => entry.full.ended <= time,
        Point::Revision(revision) => (entry.full.revisions.last..=entry.last_revision()).contains(&revision),
    }
}

fn missed(sets: &[&Entry], unusable: Vec<(SetId, String)>, point: Point) -> NoChain {
    match (sets.iter().map(|entry| entry.full.ended).min(), point) {
        (Some(first), Point::Time(wanted)) => NoChain::TooEarly { wanted, first, unusable },
        (Some(_), Point::Revision(wanted)) => NoChain::NoRevision {
            wanted,
            there: sets.iter().map(|entry| (entry.full.revisions.last, entry.last_revision())).collect(),
            unusable,
        },
        _ if unusable.is_empty() => NoChain::Nothing,
        _ => NoChain::Unreadable(unusable),
    }
}

/// What to read of a set to get to a point.
pub fn chain(set: &BackupSet, point: Point) -> Chain {
    let full = &set.full;
    let mut ignored = Vec::new();
    let mut stems: Vec<DeltaStem> = Vec::new();
    for (name, delta) in &set.deltas {
        let stem = name.strip_suffix(".json").unwrap_or(name);
        let named = DeltaStem { first: delta.first, last: delta.last, stem: stem.to_owned() };
        let own = delta.set == full.set && delta.cluster_id == full.cluster.id;
        if own && matches!(layout::read(name), layout::Named::DeltaManifest(_, read) if read == named) {
            stems.push(named);
        } else {
            ignored.push(Ignored { name: name.clone(), why: Why::Strange });
        }
    }
    let continuous: Vec<DeltaStem> = continuous(full.revisions.last, &stems).into_iter().cloned().collect();
    let reached = continuous.last().map_or(full.revisions.last, |delta| delta.last);
    let by_name = |stem: &DeltaStem| {
        let name = layout::delta_manifest(&stem.stem);
        set.deltas.iter().find(|(other, _)| *other == name).map(|(name, delta)| (name.clone(), delta.clone()))
    };
    let mut deltas: Vec<Delta> = Vec::new();
    let mut last = full.revisions.last;
    for (name, delta) in continuous.iter().filter_map(by_name) {
        let behind = match point {
            Point::Latest => false,
            Point::Time(time) => delta.begun > time,
            Point::Revision(revision) => last >= revision,
        };
        if behind {
            ignored.push(Ignored { name, why: Why::Behind });
        } else {
            last = delta.last;
            deltas.push(delta);
        }
    }
    for stem in stems.iter().filter(|stem| !continuous.contains(stem)) {
        let why = if stem.last <= reached { Why::Repeated } else { Why::Gap(reached + 1) };
        ignored.push(Ignored { name: layout::delta_manifest(&stem.stem), why });
    }
    ignored.sort_by(|one, other| one.name.cmp(&other.name));
    Chain { full: full.clone(), deltas, point, last, ignored }
}

#[cfg(test)]
mod tests;
