//! Brings a chain out of the store: a database that is as etcd's was at the point.
//!
//! Everything lands in a directory of the caller's that holds nothing else. Until the last object has been read to its
//! end and proven, nothing of it is anywhere but there.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use tokio::runtime::Handle;

use super::chain::{Chain, Point};
use super::codec::{CodecError, Content, Keys, content};
use super::delta::RecordError;
use super::manifest::{Object, Revisions};
use super::replay::{self, ReplayError, Replayed};
use super::store::Store;
use crate::datadir::snapshot_file::Shape;

/// What was brought.
#[derive(Debug)]
pub struct Fetched {
    /// The database, without the hash that snapshot files have at their end.
    pub database: PathBuf,
    /// Its revisions.
    pub revisions: Revisions,
    /// What the deltas added.
    pub replayed: Replayed,
}

/// Why a chain could not be brought.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct FetchError {
    /// What is wrong, and with which object.
    #[source]
    pub error: CodecError,
    /// Up to this revision everything was read and proven, if anything was.
    pub intact: Option<i64>,
}

/// How much of the content is done, and of how much.
pub trait Told: FnMut(u64, u64) + Send + 'static {}
impl<T: FnMut(u64, u64) + Send + 'static> Told for T {}

/// Brings a chain into `directory`.
pub async fn fetch(
    store: &Store,
    chain: &Chain,
    keys: &Keys,
    directory: &Path,
    told: impl Told,
) -> Result<Fetched, FetchError> {
    let of = chain.full.object.content_bytes
        + chain.deltas.iter().map(|delta| delta.object.content_bytes).sum::<u64>();
    let fetching = Fetching {
        handle: Handle::current(),
        store: store.clone(),
        chain: chain.clone(),
        keys: keys.clone(),
        database: directory.join("db"),
        progress: Progress { told: Box::new(told), done: 0, of },
    };
    let name = chain.full.object.name.clone();
    tokio::task::spawn_blocking(move || fetching.run()).await.unwrap_or_else(|_| {
        let error = CodecError::Machine { object: name, why: "its thread ended early".to_owned() };
        Err(FetchError { error, intact: None })
    })
}

struct Progress {
    told: Box<dyn FnMut(u64, u64) + Send>,
    done: u64,
    of: u64,
}

/// A reader that tells how far it is.
struct Counted<'a> {
    content: Content,
    progress: &'a std::cell::RefCell<Progress>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read(buffer)?;
        let mut progress = self.progress.borrow_mut();
        progress.done += read as u64;
        let (done, of) = (progress.done, progress.of);
        (progress.told)(done, of);
        Ok(read)
    }
}

struct Fetching {
    handle: Handle,
    store: Store,
    chain: Chain,
    keys: Keys,
    database: PathBuf,
    progress: Progress,
}

impl Fetching {
    fn run(self) -> Result<Fetched, FetchError> {
        let Self { handle, store, chain, keys, database, progress } = self;
        let progress = std::cell::RefCell::new(progress);
        let open = |object: &Object| -> Result<Counted<'_>, CodecError> {
            let content = handle.block_on(content(&store, object, &keys))?;
            Ok(Counted { content, progress: &progress })
        };
        let nothing = |error| FetchError { error, intact: None };
        let object = &chain.full.object;
        let file = full(object, open(object).map_err(nothing)?, &database).map_err(nothing)?;
        let machine = |object: &Object, why: String| CodecError::Machine { object: object.name.clone(), why };
        let own = replay::revisions(&file).map_err(|error| {
            let why = format!("it is no database: {error}");
            nothing(CodecError::Damaged { object: object.name.clone(), why })
        })?;
        if own != chain.full.revisions {
            let (there, said) = (own.last, chain.full.revisions.last);
            let why = format!("its last revision is {there} where its manifest says {said}");
            return Err(nothing(CodecError::Damaged { object: object.name.clone(), why }));
        }
        let broken = |error, delta: usize| {
            let before = delta.checked_sub(1).map_or(own.last, |before| chain.deltas[before].last);
            FetchError { error, intact: Some(before) }
        };
        let opened = |delta: usize| open(&chain.deltas[delta].object).map_err(|error| broken(error, delta));
        let replayed = replay::replay(file, own.last, chain.point, chain.deltas.len(), opened);
        let (file, replayed) = replayed.map_err(|error| {
            let damaged = |delta: usize, why: String| {
                let object = chain.deltas[delta].object.name.clone();
                broken(CodecError::Damaged { object, why }, delta)
            };
            match error {
                ReplayError::Open(error) => error,
                ReplayError::Delta(delta, RecordError::Read(error)) => {
                    broken(Content::error(&chain.deltas[delta].object, &error), delta)
                }
                ReplayError::Delta(delta, error) => damaged(delta, error.to_string()),
                ReplayError::Apart { delta, last, found } => damaged(
                    delta,
                    format!("it begins with revision {found} where {last} is the last before it"),
                ),
                ReplayError::Database(error) => nothing(machine(object, error.to_string())),
            }
        })?;
        let revisions =
            replay::revisions(&file).map_err(|error| nothing(machine(object, error.to_string())))?;
        if let Point::Revision(wanted) = chain.point
            && revisions.last != wanted
        {
            let last = chain.deltas.last().map_or(object, |delta| &delta.object);
            let why = format!("it ends with revision {} where {wanted} should be in it", revisions.last);
            let error = CodecError::Damaged { object: last.name.clone(), why };
            return Err(FetchError { error, intact: Some(revisions.last) });
        }
        Ok(Fetched { database, revisions, replayed })
    }
}

/// Writes a full snapshot's pages into a file.
fn full(object: &Object, mut from: Counted<'_>, database: &Path) -> Result<File, CodecError> {
    let machine = |error: io::Error| CodecError::Machine {
        object: object.name.clone(),
        why: format!("{}: {error}", database.display()),
    };
    let mut file = File::options().read(true).write(true).create_new(true).open(database).map_err(machine)?;
    let mut buffer = vec![0; 256 << 10];
    let mut length = 0_u64;
    loop {
        let read = from.read(&mut buffer).map_err(|error| Content::error(object, &error))?;
        if read == 0 {
            break;
        }
        file.write_all(&buffer[..read]).map_err(machine)?;
        length += read as u64;
    }
    file.set_len(Shape::of(length).pages).map_err(machine)?;
    Ok(file)
}

#[cfg(test)]
mod tests;
