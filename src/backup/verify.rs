//! Reads backups back: every object, every hash, every revision; or restores them for it and lets the judge of data
//! directories look at the result.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;
use tokio::runtime::Handle;

use super::chain::{Chain, Point, Why};
use super::codec::{CodecError, Content, Keys, content};
use super::delta::{RecordError, Records};
use super::fetch::{Fetched, Told, fetch};
use super::layout::{self, SetId};
use super::manifest::{Delta, Object, VERSION, Verification};
use super::seal::sealed;
use super::step::Step;
use super::store::{Failure, Store, StoreError};
use crate::datadir::key_hash::{key_hash, keys_at};
use crate::datadir::membership::Membership;
use crate::datadir::restore::{HashRule, Restoring, Run, restore};
use crate::datadir::validate::validate;
use crate::datadir::verdict::{Mode, Verdict};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// The set.
    pub set: SetId,
    /// Whether it was restored for it.
    pub deep: bool,
    /// Up to this revision the set is proven; `None`: nothing of it can be used.
    pub revision: Option<i64>,
    /// How many objects were read to their end.
    pub objects: u64,
    /// How many bytes of the store that were.
    pub bytes: u64,
    /// What is wrong, object by object.
    pub faults: Vec<Fault>,
    /// Whether etcd's own hash of the keys was compared.
    pub hash_compared: bool,
    /// How many keys there are at `revision`, counted in what was restored.
    pub keys: Option<u64>,
    /// Whether those of the full snapshot were compared with what etcd counted when it was taken.
    pub keys_compared: bool,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The object's name.
    pub object: String,
    /// What is wrong with it.
    pub why: String,
}

impl Verified {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }
}

/// Reads all objects of a chain. An error means that nothing is known: the store cannot be reached, or a key is missing.
pub async fn read_back(
    store: &Store,
    chain: &Chain,
    keys: &Keys,
    mut told: impl Told,
) -> Result<Verified, CodecError> {
    let (handle, store, chain, keys) = (Handle::current(), store.clone(), chain.clone(), keys.clone());
    let name = chain.full.object.name.clone();
    let read = tokio::task::spawn_blocking(move || {
        let of = objects(&chain).map(|(object, _)| object.content_bytes).sum();
        let mut done = 0;
        let mut verified = Verified {
            set: chain.set().clone(),
            deep: false,
            revision: None,
            objects: 0,
            bytes: 0,
            faults: gaps(&chain),
            hash_compared: false,
            keys: None,
            keys_compared: false,
        };
        let mut whole = true;
        for (object, delta) in objects(&chain) {
            let mut look = || {
                let content = handle.block_on(content(&store, object, &keys))?;
                // Within an object as well: a full snapshot is most of it.
                let content = Telling { content, done: &mut done, of, told: &mut told };
                match delta {
                    None => drain(object, content),
                    Some(delta) => records(object, delta, content),
                }
            };
            match look() {
                Ok(()) => {
                    verified.objects += 1;
                    verified.bytes += object.bytes;
                    if whole {
                        verified.revision = Some(delta.map_or(chain.full.revisions.last, |delta| delta.last));
                    }
                }
                Err(error) if damage(&error) => {
                    whole = false;
                    verified.faults.push(Fault { object: object.name.clone(), why: error.to_string() });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(verified)
    });
    read.await.unwrap_or_else(|_| {
        Err(CodecError::Machine { object: name, why: "its thread ended early".to_owned() })
    })
}

/// Restores a chain into `directory`, which is empty, and lets the result be judged.
pub async fn restore_and_judge(
    store: &Store,
    chain: &Chain,
    keys: &Keys,
    directory: &Path,
    told: impl Told,
) -> Result<Verified, CodecError> {
    let fetched = match fetch(store, chain, keys, directory, told).await {
        // All that is wrong is told, not only what came first.
        Err(error) if damage(&error.error) => return read_back(store, chain, keys, |_, _| {}).await,
        fetched => fetched.map_err(|error| error.error)?,
    };
    let deltas = chain.deltas.len() as u64;
    let mut verified = Verified {
        set: chain.set().clone(),
        deep: true,
        revision: Some(fetched.revisions.last),
        objects: 1 + deltas,
        bytes: chain.bytes(),
        faults: gaps(chain),
        hash_compared: false,
        keys: None,
        keys_compared: false,
    };
    let (chain, directory) = (chain.clone(), directory.to_path_buf());
    let name = chain.full.object.name.clone();
    let judged = tokio::task::spawn_blocking(move || {
        let faults = judge(&chain, &fetched, &directory, &mut verified)?;
        if !faults.is_empty() {
            verified.revision = None;
        }
        verified.faults.extend(faults);
        Ok(verified)
    });
    judged.await.unwrap_or_else(|_| {
        Err(CodecError::Machine { object: name, why: "its thread ended early".to_owned() })
    })
}

/// The full snapshot, then the deltas.
fn objects(chain: &Chain) -> impl Iterator<Item = (&Object, Option<&Delta>)> {
    let deltas = chain.deltas.iter().map(|delta| (&delta.object, Some(delta)));
    std::iter::once((&chain.full.object, None)).chain(deltas)
}

/// Deltas behind a gap cannot be used: what is missing is named.
fn gaps(chain: &Chain) -> Vec<Fault> {
    let behind = chain.ignored.iter().filter_map(|ignored| match ignored.why {
        Why::Gap(missing) => {
            let why = format!("it cannot be used: revision {missing} is in no object before it");
            Some(Fault { object: ignored.name.clone(), why })
        }
        Why::Strange => {
            let why =
                "its manifest is of another set or cluster, or says other revisions than its name".to_owned();
            Some(Fault { object: ignored.name.clone(), why })
        }
        Why::Repeated | Why::Behind => None,
    });
    behind.collect()
}

/// Whether an error says something about the object, and not about the way to it.
fn damage(error: &CodecError) -> bool {
    match error {
        CodecError::Damaged { .. } => true,
        CodecError::Store(error) => error.failure == Failure::NotFound,
        _ => false,
    }
}

/// A reader that tells how far it is.
struct Telling<'a, T> {
    content: Content,
    done: &'a mut u64,
    of: u64,
    told: &'a mut T,
}

impl<T: Told> Read for Telling<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read(buffer)?;
        *self.done += read as u64;
        (self.told)(*self.done, self.of);
        Ok(read)
    }
}

fn drain(object: &Object, mut content: impl Read) -> Result<(), CodecError> {
    let mut buffer = vec![0; 256 << 10];
    while content.read(&mut buffer).map_err(|error| Content::error(object, &error))? > 0 {}
    Ok(())
}

/// Reads a delta, record by record: it must have the revisions that its manifest says.
fn records(object: &Object, delta: &Delta, content: impl Read) -> Result<(), CodecError> {
    let damaged = |why: String| CodecError::Damaged { object: object.name.clone(), why };
    let mut records = Records::of(content);
    let (mut first, mut last) = (None, None);
    loop {
        match records.read() {
            Ok(None) => break,
            Ok(Some(record)) => {
                first = first.or(Some(record.revision));
                last = Some(record.revision);
            }
            Err(RecordError::Read(error)) => return Err(Content::error(object, &error)),
            Err(error) => return Err(damaged(error.to_string())),
        }
    }
    if (first, last) != (Some(delta.first), Some(delta.last)) {
        return Err(damaged(format!(
            "it has revisions {first:?} to {last:?} where its manifest says {} to {}",
            delta.first, delta.last
        )));
    }
    Ok(())
}

/// Makes a member of the database, as a restore would, and judges it.
fn judge(
    chain: &Chain,
    fetched: &Fetched,
    directory: &Path,
    verified: &mut Verified,
) -> Result<Vec<Fault>, CodecError> {
    let object = &chain.full.object;
    let machine = |why: String| CodecError::Machine { object: object.name.clone(), why };
    let fault = |why: String| vec![Fault { object: object.name.clone(), why }];
    let membership = nobody().map_err(machine)?;
    let data_dir = directory.join("data");
    let restoring = Restoring {
        snapshot: &fetched.database,
        membership: &membership,
        data_dir: &data_dir,
        wal_dir: None,
        hash: HashRule::Proven,
        bump: None,
        target_version: None,
        run: Run::Real,
    };
    if let Err(error) = restore(&restoring, &mut |_, _| {}) {
        return Ok(fault(format!("no member can be made of it: {error}")));
    }
    let report =
        validate(&data_dir, None, Mode::Full, &mut |_, _| {}).map_err(|error| machine(error.to_string()))?;
    if report.verdict != Verdict::Sound {
        let first = report.findings.first().map(|finding| finding.what.clone()).unwrap_or_default();
        return Ok(fault(format!("what was restored from it is {:?}: {first}", report.verdict)));
    }
    let db = File::open(data_dir.join("member/snap/db")).map_err(|error| machine(error.to_string()))?;
    let (full, last) = (chain.full.revisions.last, fetched.revisions.last);
    let [counted, in_the_end] = keys_at(&db, [full, last]).map_err(|error| machine(error.to_string()))?;
    verified.keys = Some(in_the_end);
    if let Some(told) = chain.full.keys {
        verified.keys_compared = true;
        if told != counted {
            return Ok(fault(format!(
                "there are {counted} keys at revision {full} where etcd counted {told}"
            )));
        }
    }
    if let Some(hash) = chain.full.hash {
        let own = key_hash(&db, hash.compacted, hash.revision).map_err(|error| machine(error.to_string()))?;
        if let Some(own) = own {
            verified.hash_compared = true;
            if !own.fits(hash.hash) {
                return Ok(fault(format!(
                    "keys up to revision {} have the hash {} where etcd said {}",
                    hash.revision, own.newer, hash.hash
                )));
            }
        }
    }
    Ok(Vec::new())
}

/// A cluster of one that never runs.
fn nobody() -> Result<Membership, String> {
    let name = "verification".parse().map_err(|error| format!("{error}"))?;
    let url =
        BTreeSet::from(["https://verification.invalid:2380".parse().map_err(|error| format!("{error}"))?]);
    let listed = BTreeMap::from([(name, url)]);
    let (name, url) = listed.first_key_value().ok_or("nobody is listed")?;
    Membership::found(&listed, "verification", name, url).map_err(|error| error.to_string())
}

/// Leaves a note in the store that nothing was wrong: `list` tells it, and retention goes by it.
pub async fn record(
    store: &Store,
    verified: &Verified,
    revision: i64,
    random: [u8; 4],
) -> Result<Verification, StoreError> {
    Step::SetProven.reach();
    let at = Timestamp::now();
    let note = Verification {
        version: VERSION,
        set: verified.set.clone(),
        at,
        deep: verified.deep,
        revision,
        objects: verified.objects,
        bytes: verified.bytes,
    };
    store.put_new(&layout::verification(&verified.set, at, random), sealed(&note)).await?;
    Step::ProofNoted.reach();
    Ok(note)
}

/// The chain of a whole set.
pub fn whole(set: &super::catalog::BackupSet) -> Chain {
    super::chain::chain(set, Point::Latest)
}
