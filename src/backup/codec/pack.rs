//! Into the store.

use std::io::{self, Write};

use bytes::Bytes;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::tally::Tally;
use super::{CodecError, Recipients};
use crate::backup::manifest::{Compression, Encryption, Object};
use crate::backup::store::{PART_BYTES, Piece, Store};

/// A level that keeps up with a disk on one core; more costs CPU that is etcd's.
const ZSTD_LEVEL: i32 = 1;

/// What is done to content on its way.
#[derive(Debug, Clone)]
pub struct Packing {
    /// First.
    pub compression: Compression,
    /// Then; nobody = not encrypted.
    pub recipients: Recipients,
    /// At most so much goes to the store.
    pub bytes_per_second: Option<u64>,
}

impl Packing {
    /// How the object's name ends.
    pub fn suffix(&self) -> &'static str {
        match (self.compression, self.recipients.is_empty()) {
            (Compression::None, true) => "",
            (Compression::Zstd, true) => ".zst",
            (Compression::None, false) => ".age",
            (Compression::Zstd, false) => ".zst.age",
        }
    }

    fn encryption(&self) -> Encryption {
        if self.recipients.is_empty() {
            Encryption::None
        } else {
            Encryption::Age { recipients: self.recipients.texts() }
        }
    }
}

/// Packs `content` (pieces of any size) into an object, whose name `name` makes of its suffix. `None`: the content broke
/// off, and nothing is in the store.
pub async fn pack(
    store: &Store,
    name: impl FnOnce(&str) -> String,
    packing: &Packing,
    content: Receiver<Piece>,
) -> Result<Option<Object>, CodecError> {
    let name = name(packing.suffix());
    // One part waits while another is filled; what the store holds beside them is its own matter.
    let (parts, to_store) = mpsc::channel(1);
    let wanted = packing.clone();
    let squeezing = tokio::task::spawn_blocking(move || squeeze(&wanted, content, parts));
    let uploaded = store.upload(&name, to_store, packing.bytes_per_second).await;
    // If the upload has failed, the thread finds nobody at the other end and ends.
    let squeezed = squeezing.await;
    if uploaded?.is_none() {
        return match squeezed {
            Ok(Err(error)) => Err(CodecError::Machine { object: name, why: error.to_string() }),
            _ => Ok(None),
        };
    }
    match squeezed {
        Ok(Ok(Some((content, packed)))) => {
            let ((content_bytes, content_sha256), (bytes, sha256)) = (content.read(), packed.read());
            let encryption = packing.encryption();
            let compression = packing.compression;
            Ok(Some(Object { name, bytes, sha256, compression, encryption, content_bytes, content_sha256 }))
        }
        _ => Err(CodecError::Machine { object: name, why: "its thread ended early".to_owned() }),
    }
}

/// What the thread does: the tallies of content and object, or `None` if the content broke off.
fn squeeze(
    packing: &Packing,
    mut content: Receiver<Piece>,
    parts: Sender<Piece>,
) -> io::Result<Option<(Tally, Tally)>> {
    let sealed = Sealed::begin(&packing.recipients, Parts::new(parts))?;
    let mut squeezed = Squeezed::begin(packing.compression, sealed)?;
    let mut tally = Tally::new();
    loop {
        match content.blocking_recv() {
            None => return Ok(None),
            Some(Piece::End) => break,
            Some(Piece::Data(data)) => {
                tally.add(&data);
                squeezed.write_all(&data)?;
            }
        }
    }
    let packed = squeezed.finish()?.finish()?.finish()?;
    Ok(Some((tally, packed)))
}

/// Compresses, or not.
enum Squeezed {
    Plain(Sealed),
    Zstd(zstd::Encoder<'static, Sealed>),
}

impl Squeezed {
    fn begin(compression: Compression, sealed: Sealed) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::Plain(sealed),
            Compression::Zstd => Self::Zstd(zstd::Encoder::new(sealed, ZSTD_LEVEL)?),
        })
    }

    fn finish(self) -> io::Result<Sealed> {
        match self {
            Self::Plain(sealed) => Ok(sealed),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl Write for Squeezed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(next) => next.write(bytes),
            Self::Zstd(next) => next.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Encrypts, or not.
enum Sealed {
    Plain(Parts),
    Age(age::stream::StreamWriter<Parts>),
}

impl Sealed {
    fn begin(recipients: &Recipients, parts: Parts) -> io::Result<Self> {
        if recipients.is_empty() {
            return Ok(Self::Plain(parts));
        }
        let encryptor = age::Encryptor::with_recipients(recipients.iter()).map_err(io::Error::other)?;
        Ok(Self::Age(encryptor.wrap_output(parts)?))
    }

    fn finish(self) -> io::Result<Parts> {
        match self {
            Self::Plain(parts) => Ok(parts),
            Self::Age(writer) => writer.finish(),
        }
    }
}

impl Write for Sealed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(next) => next.write(bytes),
            Self::Age(next) => next.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Cuts what comes into parts for the store.
struct Parts {
    filling: Vec<u8>,
    tally: Tally,
    store: Sender<Piece>,
}

/// Room for a part. Exactly that: what grows by doubling would hold, and copy, more. What is not written to is no memory.
fn part() -> Vec<u8> {
    Vec::with_capacity(PART_BYTES)
}

impl Parts {
    fn new(store: Sender<Piece>) -> Self {
        Self { filling: part(), tally: Tally::new(), store }
    }

    fn send(&mut self, piece: Piece) -> io::Result<()> {
        // The upload has ended; its own error is told.
        self.store.blocking_send(piece).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }

    fn finish(mut self) -> io::Result<Tally> {
        if !self.filling.is_empty() {
            let last = std::mem::take(&mut self.filling);
            self.send(Piece::Data(Bytes::from(last)))?;
        }
        self.send(Piece::End)?;
        Ok(self.tally)
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PART_BYTES - self.filling.len());
        let bytes = &bytes[..taken];
        self.tally.add(bytes);
        self.filling.extend_from_slice(bytes);
        if self.filling.len() == PART_BYTES {
            let full = std::mem::replace(&mut self.filling, part());
            self.send(Piece::Data(Bytes::from(full)))?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
