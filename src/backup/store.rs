//! The place where backups lie. Names are those of [`super::layout`], below the path of the URL. Nothing is ever
//! overwritten, and what was not wholly uploaded is not there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt, TryStreamExt};
use jiff::Timestamp;
use object_store::path::Path;
use object_store::{
    GetResult, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;

use super::config::StoreConfig;

mod error;
mod meter;
mod open;
mod staged;

pub use error::{Failure, StoreError};
pub use meter::{Act, Figures, Meter};
pub(in crate::backup) use staged::is_staged;

/// How much goes to the store in one request. S3 wants 5 MiB or more, and at most 10,000 of them for an object: 50 GiB
/// are more than etcd's largest database.
pub const PART_BYTES: usize = 5 << 20;

/// How many parts are on their way at the same time; with the one that is being filled they are all the memory an
/// upload takes.
const PARTS_IN_FLIGHT: usize = 2;

/// A store. Nothing is asked of it before the first call.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    root: Path,
    /// Where the objects lie, if the store is a directory.
    directory: Option<PathBuf>,
    url: String,
    meter: Arc<Meter>,
}

/// An object, as the store lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name below the URL.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// When it was written, says the store.
    pub modified: Timestamp,
}

/// What is to be uploaded, piece by piece. Without [`Piece::End`] it counts as broken off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// The next bytes: [`PART_BYTES`] of them, or fewer in the last one.
    Data(Bytes),
    /// All of it was there.
    End,
}

impl Store {
    /// A store by its URL. Errors: a URL, key or certificate that cannot be understood.
    pub fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        open::open(config)
    }

    /// As an operator wrote it; there is no secret in it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What was asked of it so far, by this and all its clones.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Writes a small object; one that exists is [`Failure::Exists`] and stays as it is.
    pub async fn put_new(&self, name: &str, body: Bytes) -> Result<(), StoreError> {
        let options = PutOptions::from(PutMode::Create);
        let (path, bytes) = (self.path(name), body.len());
        let put = self.inner.put_opts(&path, PutPayload::from(body), options);
        self.meter.timed(Act::Write, put).await.map_err(|error| self.failed("write", name, &error))?;
        self.meter.uploaded(bytes);
        Ok(())
    }

    /// Uploads an object of any size in constant memory; the answer is its size. `bytes_per_second` is kept on average
    /// over each part. If the pieces break off, nothing is left and the answer is `None`.
    pub async fn upload(
        &self,
        name: &str,
        mut pieces: Receiver<Piece>,
        bytes_per_second: Option<u64>,
    ) -> Result<Option<u64>, StoreError> {
        let first = match pieces.recv().await {
            None => return Ok(None),
            Some(Piece::End) => return self.put_new(name, Bytes::new()).await.map(|()| Some(0)),
            Some(Piece::Data(first)) => first,
        };
        let mut pace = Pace::new(bytes_per_second);
        pace.keep(first.len()).await;
        if first.len() < PART_BYTES {
            // A single request, which the store refuses if there is such an object.
            let size = first.len() as u64;
            return match pieces.recv().await {
                Some(Piece::End) => self.put_new(name, first).await.map(|()| Some(size)),
                _ => Ok(None),
            };
        }
        let path = self.path(name);
        let started = self.meter.timed(Act::Write, self.inner.put_multipart(&path)).await;
        let mut upload = started.map_err(|error| self.failed("write", name, &error))?;
        let done = parts(&mut upload, first, &mut pieces, &mut pace, &self.meter).await;
        let done = match done {
            Ok(Some(size)) => self.meter.timed(Act::Write, upload.complete()).await.map(|_| Some(size)),
            other => other,
        };
        if !matches!(done, Ok(Some(_))) {
            // Ignored: the first error is the one to tell; the store's own rules clear what is left of an upload.
            let _ = upload.abort().await;
        }
        done.map_err(|error| self.failed("write", name, &error))
    }

    /// Reads a small object, a manifest for example; more than `max` bytes of it are an error.
    pub async fn read_small(&self, name: &str, max: u64) -> Result<Bytes, StoreError> {
        let got = self.get(name).await;
        let got = got.map_err(|error| self.failed("read", name, &error))?;
        if got.meta.size > max {
            let why = format!("it has {} bytes where {max} are the most", got.meta.size);
            return Err(StoreError::other(format!("read {name}"), &self.url, why));
        }
        got.bytes().await.map_err(|error| self.failed("read", name, &error))
    }

    /// Reads an object piece by piece.
    pub async fn read(
        &self,
        name: &str,
    ) -> Result<impl Stream<Item = Result<Bytes, StoreError>> + Send + use<>, StoreError> {
        let got = self.get(name).await;
        let got = got.map_err(|error| self.failed("read", name, &error))?;
        let (store, name) = (self.clone(), name.to_owned());
        Ok(got.into_stream().map_err(move |error| store.failed("read", &name, &error)))
    }

    /// All objects whose names begin with this path, by name; in a directory also what is being written, or was when
    /// somebody was killed.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let path = self.path(prefix);
        let listing = self.inner.list(Some(&path)).try_collect();
        let listed: Vec<_> = self
            .meter
            .timed(Act::List, listing)
            .await
            .map_err(|error| self.failed("list", prefix, &error))?;
        let mut listed: Vec<Listed> = listed
            .into_iter()
            .filter_map(|meta| {
                let name = meta.location.prefix_match(&self.root)?;
                let name: Vec<String> = name.map(|part| part.as_ref().to_owned()).collect();
                let modified = Timestamp::from_second(meta.last_modified.timestamp()).unwrap_or_default();
                Some(Listed { name: name.join("/"), bytes: meta.size, modified })
            })
            .collect();
        let text = prefix.to_owned();
        let staged = self.in_directory(move |directory| staged::list(directory, &text)).await;
        listed.extend(staged.map_err(|error| self.failed("list", prefix, &error))?.unwrap_or_default());
        listed.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(listed)
    }

    /// Removes an object; one that is not there is removed already.
    pub async fn delete(&self, name: &str) -> Result<(), StoreError> {
        if self.directory.is_some() && is_staged(name) {
            let text = name.to_owned();
            let deleted = self.in_directory(move |directory| staged::delete(directory, &text)).await;
            return deleted.map(|_| ()).map_err(|error| self.failed("remove", name, &error));
        }
        let path = self.path(name);
        match self.meter.timed(Act::Remove, self.inner.delete(&path)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("remove", name, &error)),
        }
    }

    /// Does something with the files of a store that is a directory; `None` if it is none.
    async fn in_directory<T: Send + 'static>(
        &self,
        act: impl FnOnce(&std::path::Path) -> std::io::Result<T> + Send + 'static,
    ) -> Result<Option<T>, object_store::Error> {
        let Some(directory) = self.directory.clone() else { return Ok(None) };
        let acted = tokio::task::spawn_blocking(move || act(&directory)).await;
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| object_store::Error::Generic {
            store: "directory",
            source,
        };
        acted.map_err(|error| failed(error.into()))?.map(Some).map_err(|error| failed(error.into()))
    }

    async fn get(&self, name: &str) -> Result<GetResult, object_store::Error> {
        let path = self.path(name);
        self.meter.timed(Act::Read, self.inner.get(&path)).await
    }

    fn path(&self, name: &str) -> Path {
        self.root.parts().chain(Path::from(name).parts()).collect()
    }

    fn failed(&self, verb: &str, name: &str, error: &object_store::Error) -> StoreError {
        StoreError::of(format!("{verb} {name}"), &self.url, error)
    }
}

/// Uploads all pieces from the first one on; the answer is the size, or `None` if they broke off.
async fn parts(
    upload: &mut Box<dyn MultipartUpload>,
    first: Bytes,
    pieces: &mut Receiver<Piece>,
    pace: &mut Pace,
    meter: &Meter,
) -> Result<Option<u64>, object_store::Error> {
    let mut size = first.len() as u64;
    let mut flying = FuturesUnordered::new();
    let mut send = |part: Bytes| {
        let bytes = part.len();
        let sent = upload.put_part(PutPayload::from(part));
        async move {
            meter.timed(Act::Write, sent).await?;
            meter.uploaded(bytes);
            Ok::<_, object_store::Error>(())
        }
    };
    flying.push(send(first));
    loop {
        while flying.len() >= PARTS_IN_FLIGHT {
            flying.next().await.transpose()?;
        }
        let piece = match pieces.recv().await {
            None => return Ok(None),
            Some(Piece::End) => break,
            Some(Piece::Data(piece)) => piece,
        };
        size += piece.len() as u64;
        pace.keep(piece.len()).await;
        flying.push(send(piece));
    }
    while flying.next().await.transpose()?.is_some() {}
    Ok(Some(size))
}

/// Keeps an average rate.
struct Pace {
    bytes_per_second: Option<u64>,
    due: Instant,
}

impl Pace {
    fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, due: Instant::now() }
    }

    /// Waits until so many bytes more may go.
    async fn keep(&mut self, bytes: usize) {
        let Some(rate) = self.bytes_per_second else { return };
        tokio::time::sleep_until(self.due).await;
        let nanoseconds = bytes as u128 * 1_000_000_000 / u128::from(rate.max(1));
        let takes = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        self.due = Instant::now() + takes;
    }
}

#[cfg(test)]
mod tests;
