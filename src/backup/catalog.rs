//! What a store holds. Only names and the manifests of full snapshots are read for it: deltas tell their revisions by
//! name, so that a list of many sets stays one request and a few small ones.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::layout::{self, DeltaStem, Named, ROOT, SetId};
use super::manifest::{Delta, Full, VERSION, Verification};
use super::seal::opened;
use super::store::{Failure, Listed, Store, StoreError};
use crate::report::Complaint;

/// More than any manifest has: a cluster of seven with all of its properties is some 20 kB.
const MANIFEST_BYTES: u64 = 4 << 20;
/// How many manifests are asked for at the same time.
const TOGETHER: usize = 16;

/// All sets of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    /// The newest first.
    pub sets: Vec<Entry>,
    /// Sets whose manifest cannot be understood, and why.
    pub unreadable: Vec<(SetId, String)>,
    /// Folders without a manifest: an upload that is going on or was interrupted, or a removal that was.
    pub unfinished: Vec<Unfinished>,
}

/// What there is of a set that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// Its name.
    pub set: SetId,
    /// The size of all its objects.
    pub bytes: u64,
    /// When the newest of them was written, says the store.
    pub modified: Timestamp,
    /// Their names.
    pub names: Vec<String>,
}

/// A set, without the manifests of its deltas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The manifest of its full snapshot.
    pub full: Full,
    /// Deltas that have both a manifest and an object, by revision.
    pub deltas: Vec<DeltaStem>,
    /// When verifications ended well, the newest last.
    pub verified: Vec<Timestamp>,
    /// The size of all its objects.
    pub bytes: u64,
    /// Why it cannot be restored, as far as names and sizes tell.
    pub broken: Option<String>,
    /// Names of all its objects.
    pub names: Vec<String>,
}

/// A set with everything that is said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupSet {
    /// The full snapshot.
    pub full: Full,
    /// The names of manifests and what they say, by revision.
    pub deltas: Vec<(String, Delta)>,
    /// The oldest first.
    pub verifications: Vec<Verification>,
}

impl Entry {
    /// Its name.
    pub fn set(&self) -> &SetId {
        &self.full.set
    }

    /// The last revision that can be reached without a gap.
    pub fn last_revision(&self) -> i64 {
        continuous(self.full.revisions.last, &self.deltas)
            .last()
            .map_or(self.full.revisions.last, |delta| delta.last)
    }
}

/// Those of the deltas that continue a full snapshot whose last revision this is, in order: what begins behind a gap is
/// not among them, nor what brings nothing new.
pub(super) fn continuous(last: i64, deltas: &[DeltaStem]) -> Vec<&DeltaStem> {
    let (mut last, mut chain) = (last, Vec::new());
    // With overlaps (two writers for a moment) the one that reaches furthest is taken.
    while let Some(next) = deltas
        .iter()
        .filter(|delta| delta.first <= last + 1 && delta.last > last)
        .max_by_key(|delta| delta.last)
    {
        last = next.last;
        chain.push(next);
    }
    chain
}

/// Reads what a store holds.
pub async fn catalog(store: &Store) -> Result<Catalog, StoreError> {
    let mut folders: BTreeMap<SetId, Vec<Listed>> = BTreeMap::new();
    for listed in store.list(ROOT).await? {
        match layout::read(&listed.name) {
            Named::Foreign => {}
            Named::FullManifest(set)
            | Named::FullObject(set)
            | Named::DeltaManifest(set, _)
            | Named::DeltaObject(set, _)
            | Named::Verification(set, _)
            | Named::Other(set) => folders.entry(set).or_default().push(listed),
        }
    }
    let mut catalog = Catalog::default();
    let mut whole = Vec::new();
    for (set, listed) in folders {
        let manifest = layout::full_manifest(&set);
        if listed.iter().any(|listed| listed.name == manifest) {
            whole.push((set, listed));
        } else {
            catalog.unfinished.push(Unfinished {
                set,
                bytes: listed.iter().map(|listed| listed.bytes).sum(),
                modified: listed.iter().map(|listed| listed.modified).max().unwrap_or_default(),
                names: listed.into_iter().map(|listed| listed.name).collect(),
            });
        }
    }
    let manifests: Vec<(SetId, Vec<Listed>, Read<Full>)> = stream::iter(whole)
        .map(|(set, listed)| async {
            let full = manifest::<Full>(store, &layout::full_manifest(&set)).await?;
            Ok::<_, StoreError>((set, listed, full))
        })
        .buffered(TOGETHER)
        .try_collect()
        .await?;
    for (set, listed, full) in manifests {
        match full {
            // Removed between the list and now.
            Read::Gone => {}
            Read::Unreadable(why) => catalog.unreadable.push((set, why)),
            Read::Understood(full) if full.set != set => {
                catalog.unreadable.push((set, format!("its manifest is of set {}", full.set)));
            }
            Read::Understood(full) => catalog.sets.push(entry(full, listed)),
        }
    }
    catalog.sets.sort_by(|one, other| (other.full.begun, other.set()).cmp(&(one.full.begun, one.set())));
    Ok(catalog)
}

/// Reads the rest of a set.
pub async fn load(store: &Store, entry: &Entry) -> Result<BackupSet, LoadError> {
    let deltas = stream::iter(entry.deltas.clone())
        .map(|delta| async move {
            let name = layout::delta_manifest(&delta.stem);
            expect::<Delta>(store, &name).await.map(|delta| (name, delta))
        })
        .buffered(TOGETHER)
        .try_collect()
        .await?;
    let notes = entry.names.iter().filter(|name| matches!(layout::read(name), Named::Verification(..)));
    let verifications = stream::iter(notes)
        .map(|name| async move { expect::<Verification>(store, name).await })
        .buffered(TOGETHER)
        .try_collect()
        .await?;
    Ok(BackupSet { full: entry.full.clone(), deltas, verifications })
}

/// Why a set could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A manifest that cannot be understood.
    #[error("manifest {name} cannot be understood: {why}")]
    Manifest {
        /// Its name.
        name: String,
        /// Why.
        why: String,
    },
}

impl LoadError {
    /// The same for an operator.
    pub fn complaint(&self) -> Complaint {
        match self {
            Self::Store(error) => error.complaint(),
            Self::Manifest { .. } => Complaint::failed(
                self.to_string(),
                "without it nobody knows what is in the objects beside it",
                "choose another set: `etcd-backup list` shows them; a copy in another store may be whole",
            ),
        }
    }
}

/// The manifest of the last delta that can be reached; `None` if there is none.
pub async fn last_delta(store: &Store, entry: &Entry) -> Result<Option<Delta>, LoadError> {
    let chain = continuous(entry.full.revisions.last, &entry.deltas);
    let Some(last) = chain.last() else { return Ok(None) };
    expect::<Delta>(store, &layout::delta_manifest(&last.stem)).await.map(Some)
}

/// The note of the newest verification of these sets; `None` if there is none.
pub async fn last_verification(store: &Store, sets: &[Entry]) -> Result<Option<Verification>, LoadError> {
    let notes = sets.iter().flat_map(|entry| &entry.names).filter_map(|name| match layout::read(name) {
        Named::Verification(_, at) => Some((at, name)),
        _ => None,
    });
    let Some((_, name)) = notes.max() else { return Ok(None) };
    expect::<Verification>(store, name).await.map(Some)
}

enum Read<T> {
    Understood(T),
    Unreadable(String),
    Gone,
}

/// What all manifests have.
trait Manifest: serde::de::DeserializeOwned {
    fn version(&self) -> u32;
}

impl Manifest for Full {
    fn version(&self) -> u32 {
        self.version
    }
}

impl Manifest for Delta {
    fn version(&self) -> u32 {
        self.version
    }
}

impl Manifest for Verification {
    fn version(&self) -> u32 {
        self.version
    }
}

async fn manifest<T: Manifest>(store: &Store, name: &str) -> Result<Read<T>, StoreError> {
    let bytes = match store.read_small(name, MANIFEST_BYTES).await {
        Err(error) if error.failure == Failure::NotFound => return Ok(Read::Gone),
        bytes => bytes?,
    };
    Ok(match opened::<T>(&bytes) {
        Err(why) => Read::Unreadable(why),
        Ok(manifest) if manifest.version() != VERSION => {
            Read::Unreadable(format!("it is of version {}; this release knows {VERSION}", manifest.version()))
        }
        Ok(manifest) => Read::Understood(manifest),
    })
}

async fn expect<T: Manifest>(store: &Store, name: &str) -> Result<T, LoadError> {
    let unreadable = |why| LoadError::Manifest { name: name.to_owned(), why };
    match manifest(store, name).await? {
        Read::Understood(manifest) => Ok(manifest),
        Read::Unreadable(why) => Err(unreadable(why)),
        Read::Gone => Err(unreadable("it is no longer there".to_owned())),
    }
}

/// Puts together what the names of a folder tell.
fn entry(full: Full, listed: Vec<Listed>) -> Entry {
    let mut manifests = Vec::new();
    let mut objects = Vec::new();
    let mut verified = Vec::new();
    for listed in &listed {
        match layout::read(&listed.name) {
            Named::DeltaManifest(_, stem) => manifests.push(stem),
            Named::DeltaObject(_, stem) => objects.push(stem),
            Named::Verification(_, at) => verified.push(at),
            _ => {}
        }
    }
    manifests.retain(|stem| objects.contains(stem));
    manifests.sort();
    verified.sort();
    let object = &full.object;
    let broken = match listed.iter().find(|listed| listed.name == object.name) {
        None => Some(format!("{} is not in the store", object.name)),
        Some(listed) if listed.bytes != object.bytes => Some(format!(
            "{} has {} bytes where its manifest says {}",
            object.name, listed.bytes, object.bytes
        )),
        Some(_) => None,
    };
    Entry {
        deltas: manifests,
        verified,
        bytes: listed.iter().map(|listed| listed.bytes).sum(),
        broken,
        names: listed.into_iter().map(|listed| listed.name).collect(),
        full,
    }
}

#[cfg(test)]
mod tests;
