//! Out of the store.

use std::io::{self, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use tokio::sync::mpsc::{self, Receiver};
use tokio::task::JoinHandle;

use super::tally::Tally;
use super::{CodecError, Keys};
use crate::backup::manifest::{Compression, Encryption, Object};
use crate::backup::store::{Store, StoreError};

/// How many pieces of the store's answer wait; one is some kilobytes.
const WAITING: usize = 16;

/// The content of an object, to be read on a thread that may wait (`spawn_blocking`). **Nothing of it counts before the
/// read that says "end"**: that one is an error if size or hash of object or content is not what the manifest says.
pub struct Content {
    object: Object,
    opened: Option<Opened>,
    keys: Keys,
    arriving: Option<Arriving>,
    tally: Tally,
    /// What arrived, beside the layers that read it.
    arrived: Arc<Mutex<Tally>>,
    ended: bool,
    pump: JoinHandle<()>,
}

/// Begins to read an object. Errors: the store has none, or does not let us.
pub async fn content(store: &Store, object: &Object, keys: &Keys) -> Result<Content, CodecError> {
    let stream = store.read(&object.name).await?;
    let (sender, pieces) = mpsc::channel(WAITING);
    let pump = tokio::spawn(async move {
        let mut stream = std::pin::pin!(stream);
        while let Some(piece) = stream.next().await {
            if sender.send(piece).await.is_err() {
                break;
            }
        }
    });
    let arrived = Arc::new(Mutex::new(Tally::new()));
    let arriving = Arriving { pieces, current: Bytes::new(), tally: Arc::clone(&arrived) };
    Ok(Content {
        object: object.clone(),
        opened: None,
        keys: keys.clone(),
        arriving: Some(arriving),
        tally: Tally::new(),
        arrived,
        ended: false,
        pump,
    })
}

impl Content {
    /// Layers are opened with the first read, because that waits for the store.
    fn open(&mut self) -> io::Result<&mut Opened> {
        if let Some(arriving) = self.arriving.take() {
            self.opened = Some(Opened::new(&self.object, arriving, &self.keys)?);
        }
        self.opened.as_mut().ok_or_else(|| io::Error::other("reading it failed before"))
    }

    /// After the last byte: all of the object was read, and it is what was written.
    fn prove(&mut self) -> io::Result<()> {
        if let Some(opened) = &mut self.opened {
            // Bytes behind the end of what a decoder wants are damage as well, and count.
            io::copy(opened.arriving(), &mut io::sink())?;
        }
        let (bytes, sha256) = self.arrived.lock().unwrap_or_else(PoisonError::into_inner).read();
        let (content_bytes, content_sha256) = self.tally.read();
        let object = &self.object;
        let why = if bytes != object.bytes {
            format!("it has {bytes} bytes where the manifest says {}", object.bytes)
        } else if sha256 != object.sha256 {
            format!("its SHA-256 is {sha256} where the manifest says {}", object.sha256)
        } else if content_bytes != object.content_bytes {
            format!("{content_bytes} bytes came out of it where the manifest says {}", object.content_bytes)
        } else if content_sha256 != object.content_sha256 {
            format!(
                "the SHA-256 of its content is {content_sha256} where the manifest says {}",
                object.content_sha256
            )
        } else {
            return Ok(());
        };
        Err(damaged(object, why))
    }

    /// What a failed read means: the store's own error, a wrong key, or damage.
    pub fn error(object: &Object, error: &io::Error) -> CodecError {
        if let Some(inner) = error.get_ref() {
            if let Some(codec) = inner.downcast_ref::<CodecError>() {
                return codec.clone();
            }
            if let Some(store) = inner.downcast_ref::<StoreError>() {
                return store.clone().into();
            }
        }
        CodecError::Damaged { object: object.name.clone(), why: error.to_string() }
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ended || buffer.is_empty() {
            return Ok(0);
        }
        let mut read = self.open().and_then(|opened| opened.read(buffer));
        if let Ok(0) = read {
            read = self.prove().map(|()| 0);
            self.ended = read.is_ok();
        }
        // Every error leaves here as a CodecError, whichever layer it comes from.
        let read = read.map_err(|error| io::Error::other(Self::error(&self.object, &error)))?;
        self.tally.add(&buffer[..read]);
        Ok(read)
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        // What nobody reads any more need not arrive.
        self.pump.abort();
    }
}

/// Decrypts, or not.
enum Unsealed {
    Plain(Arriving),
    Age(age::stream::StreamReader<Arriving>),
}

/// Decompresses, or not.
enum Opened {
    Plain(Unsealed),
    Zstd(zstd::Decoder<'static, BufReader<Unsealed>>),
}

impl Opened {
    fn new(object: &Object, arriving: Arriving, keys: &Keys) -> io::Result<Self> {
        let unsealed = match &object.encryption {
            Encryption::None => Unsealed::Plain(arriving),
            Encryption::Age { recipients } => {
                let locked = || CodecError::Locked {
                    object: object.name.clone(),
                    recipients: recipients.join(", "),
                    keys: keys.len(),
                };
                let decryptor = age::Decryptor::new(arriving);
                let opened = decryptor.and_then(|decryptor| decryptor.decrypt(keys.iter()));
                Unsealed::Age(opened.map_err(|error| match error {
                    age::DecryptError::NoMatchingKeys => io::Error::other(locked()),
                    age::DecryptError::Io(error) => error,
                    error => damaged(object, error.to_string()),
                })?)
            }
        };
        Ok(match object.compression {
            Compression::None => Self::Plain(unsealed),
            Compression::Zstd => Self::Zstd(zstd::Decoder::new(unsealed)?),
        })
    }

    fn arriving(&mut self) -> &mut dyn Read {
        match self {
            Self::Plain(unsealed) => unsealed,
            Self::Zstd(decoder) => decoder.get_mut(),
        }
    }
}

impl Read for Opened {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(next) => next.read(buffer),
            Self::Zstd(next) => next.read(buffer),
        }
    }
}

impl Read for Unsealed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(next) => next.read(buffer),
            Self::Age(next) => next.read(buffer),
        }
    }
}

/// The object's bytes as they come from the store.
struct Arriving {
    pieces: Receiver<Result<Bytes, StoreError>>,
    current: Bytes,
    tally: Arc<Mutex<Tally>>,
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(Ok(piece)) => self.current = piece,
                Some(Err(error)) => return Err(io::Error::other(error)),
            }
        }
        let read = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..read]);
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).add(&buffer[..read]);
        Ok(read)
    }
}

fn damaged(object: &Object, why: String) -> io::Error {
    io::Error::other(CodecError::Damaged { object: object.name.clone(), why })
}
