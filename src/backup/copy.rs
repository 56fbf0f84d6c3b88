//! Copies sets into another store, as they are: what is encrypted stays so, and no key is needed.

use futures_util::StreamExt;
use ring::digest::{Context, SHA256};
use tokio::sync::mpsc;

use super::catalog::{BackupSet, Entry, load};
use super::codec::CodecError;
use super::layout;
use super::manifest::Object;
use super::store::{Failure, PART_BYTES, Piece, Store};
use crate::backup::catalog::LoadError;
use crate::job::config::hex;
use crate::report::Complaint;

/// Why a set was not copied. What was copied before stays; without its manifest it is no set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// A manifest, or a store.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// An object, or a store.
    #[error(transparent)]
    Object(#[from] CodecError),
}

impl CopyError {
    /// The same for an operator.
    pub fn complaint(&self) -> Complaint {
        match self {
            Self::Load(error) => error.complaint(),
            Self::Object(error) => error.complaint(),
        }
    }

    /// Whether it is this set that cannot be copied, and not the store that is in the way.
    pub fn is_of_the_set(&self) -> bool {
        match self {
            Self::Load(LoadError::Manifest { .. }) | Self::Object(CodecError::Damaged { .. }) => true,
            Self::Load(LoadError::Store(error)) | Self::Object(CodecError::Store(error)) => {
                error.failure == Failure::NotFound
            }
            Self::Object(_) => false,
        }
    }
}

impl From<super::store::StoreError> for CopyError {
    fn from(error: super::store::StoreError) -> Self {
        Self::Object(error.into())
    }
}

/// Copies a set, proving each object on its way; what the other store has already (`there`: names and sizes) is left
/// as it is. `told` hears how many bytes are done. The answer is how many objects were copied.
pub async fn copy(
    from: &Store,
    to: &Store,
    entry: &Entry,
    there: &[super::store::Listed],
    mut told: impl FnMut(u64),
) -> Result<usize, CopyError> {
    let set = load(from, entry).await?;
    let has = |name: &str| there.iter().any(|listed| listed.name == name);
    let mut copied = 0;
    for (manifest, object) in objects(&set) {
        if !has(&object.name) {
            transfer(from, to, object, &mut told).await?;
            copied += 1;
        }
        // The full's manifest comes last, when everything that the list here shows is there.
        if !has(&manifest) {
            let bytes = from.read_small(&manifest, 4 << 20).await?;
            to.put_new(&manifest, bytes).await?;
        }
    }
    Ok(copied)
}

/// Each object with its manifest's name; the full snapshot last, because its manifest makes the set one.
fn objects(set: &BackupSet) -> impl Iterator<Item = (String, &Object)> {
    let deltas = set.deltas.iter().map(|(name, delta)| (name.clone(), &delta.object));
    deltas.chain([(layout::full_manifest(&set.full.set), &set.full.object)])
}

async fn transfer(
    from: &Store,
    to: &Store,
    object: &Object,
    told: &mut impl FnMut(u64),
) -> Result<(), CopyError> {
    let stream = from.read(&object.name).await?;
    let (sender, pieces) = mpsc::channel(1);
    // With all it needs, the sender above all: when reading ends, the upload must not wait for more.
    let reading = async move {
        let mut stream = std::pin::pin!(stream);
        let (mut bytes, mut sha256) = (0_u64, Context::new(&SHA256));
        let mut filling: Vec<u8> = Vec::with_capacity(PART_BYTES);
        let gone =
            |_| CodecError::Machine { object: object.name.clone(), why: "its upload has ended".to_owned() };
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(CodecError::from)?;
            bytes += piece.len() as u64;
            sha256.update(&piece);
            told(piece.len() as u64);
            let mut rest = &piece[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(PART_BYTES - filling.len()));
                filling.extend_from_slice(now);
                rest = later;
                if filling.len() == PART_BYTES {
                    let full = std::mem::replace(&mut filling, Vec::with_capacity(PART_BYTES));
                    sender.send(Piece::Data(full.into())).await.map_err(gone)?;
                }
            }
        }
        let sha256 = hex(sha256.finish().as_ref());
        if (bytes, &sha256) != (object.bytes, &object.sha256) {
            // Without an end nothing is left of it over there.
            let why = format!(
                "it has {bytes} bytes with SHA-256 {sha256} where its manifest says {} with {}",
                object.bytes, object.sha256
            );
            return Err(CodecError::Damaged { object: object.name.clone(), why });
        }
        if !filling.is_empty() {
            sender.send(Piece::Data(filling.into())).await.map_err(gone)?;
        }
        sender.send(Piece::End).await.map_err(gone)?;
        Ok(())
    };
    let (read, uploaded) = tokio::join!(reading, to.upload(&object.name, pieces, None));
    // If the upload failed, that is why nobody took what was read.
    match uploaded {
        Err(error) => Err(error.into()),
        Ok(_) => Ok(read?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::catalog::catalog;
    use crate::backup::config::StoreConfig;
    use crate::backup::fixture::{delta, full, put_delta, put_full};

    fn store(directory: &tempfile::TempDir) -> Store {
        let url = format!("file://{}", directory.path().display());
        Store::open(&StoreConfig { url, ..StoreConfig::default() }).unwrap()
    }

    #[tokio::test]
    async fn a_copy_is_the_same_set_and_a_second_one_brings_only_what_is_new() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (from, to) = (store(&here), store(&there));
        put_full(&from, &full(0, 10)).await;
        put_delta(&from, &delta(0, 11, 15, 5)).await;

        for (new, copied) in [(None, 2), (Some(delta(0, 16, 20, 6)), 1), (None, 0)] {
            if let Some(new) = new {
                put_delta(&from, &new).await;
            }
            let entry = catalog(&from).await.unwrap().sets.remove(0);
            let listed = to.list("v1").await.unwrap();

            assert_eq!(copy(&from, &to, &entry, &listed, |_| {}).await, Ok(copied));

            assert_eq!(catalog(&to).await.unwrap(), catalog(&from).await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_damaged_object_is_named_and_makes_no_set_over_there() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (from, to) = (store(&here), store(&there));
        put_full(&from, &full(0, 10)).await;
        let entry = catalog(&from).await.unwrap().sets.remove(0);
        std::fs::write(here.path().join(&entry.full.object.name), b"full 11").unwrap();

        let error = copy(&from, &to, &entry, &[], |_| {}).await.unwrap_err();

        assert!(error.to_string().contains(&format!("{} is damaged", entry.full.object.name)), "{error}");
        assert_eq!(to.list("v1").await, Ok(vec![]));
    }
}
