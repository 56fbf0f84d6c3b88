//! Certificate files that are replaced under a running process: seen at the next handshake, as etcd itself
//! does it (docs/contract.md#peer-certificates).
//!
//! Why not a watch on the directory: certificates matter at handshakes only, and looking at two files costs
//! one of those nothing.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde_json::json;

use super::tls::{Files, TlsFileError, certified};
use crate::journal;

/// What tells one state of some files from another: whoever replaces a file changes its inode or its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp(Vec<Option<[i128; 4]>>);

impl Stamp {
    /// The files as they are now; one that cannot be looked at is a state as well.
    pub fn of<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let look = |path: &Path| {
            let seen = std::fs::metadata(path).ok()?;
            let time = |secs: i64, nanos: i64| i128::from(secs) * 1_000_000_000 + i128::from(nanos);
            Some([
                i128::from(seen.ino()),
                i128::from(seen.size()),
                time(seen.mtime(), seen.mtime_nsec()),
                time(seen.ctime(), seen.ctime_nsec()),
            ])
        };
        Self(paths.into_iter().map(look).collect())
    }
}

/// A certificate and its key, as the files hold them now.
#[derive(Debug)]
pub(super) struct Renewed {
    files: Files,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    /// The files when they were last read, whether or not that gave a pair.
    tried: Stamp,
    pair: Arc<CertifiedKey>,
}

impl Renewed {
    /// Reads the files for the first time.
    pub(super) fn load(files: &Files) -> Result<Self, TlsFileError> {
        // Looked at before it is read: what is replaced in between is then read again.
        let tried = stamp(files);
        let pair = Arc::new(certified(files)?);
        Ok(Self { files: files.clone(), held: Mutex::new(Held { tried, pair }) })
    }

    /// The pair that the files hold. Between the replacing of one file and of the other they are no pair, and
    /// the last one is shown on.
    pub(super) fn pair(&self) -> Arc<CertifiedKey> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp(&self.files);
        if now != held.tried {
            held.tried = now;
            match certified(&self.files) {
                Ok(pair) => {
                    held.pair = Arc::new(pair);
                    let fields = json!({"certificate": self.files.certificate.display().to_string()});
                    journal::info("a renewed certificate is used from now on", &fields);
                }
                // Gone with their directory, which nobody renews.
                Err(TlsFileError::Unreadable { .. }) => {}
                Err(error) => {
                    let fields = json!({"why": error.to_string(), "next": "the last one is shown until the files fit"});
                    journal::warn("changed certificate files cannot be used", &fields);
                }
            }
        }
        held.pair.clone()
    }
}

fn stamp(files: &Files) -> Stamp {
    Stamp::of([files.certificate.as_path(), files.key.as_path()])
}

impl ResolvesClientCert for Renewed {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.pair())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Renewed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.pair())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::tls::Role;
    use crate::job::certificate::tests::{ca, write};
    use std::fs;

    #[test]
    fn renewed_files_are_used_once_they_are_a_pair_and_the_last_pair_until_then() {
        let directory = tempfile::tempdir().unwrap();
        let (config, authority) = (directory.path(), ca());
        write(config, Role::Peer, &authority, |_| {});
        let files = Files::of(config, Role::Peer);
        let renewed = Renewed::load(&files).unwrap();
        let first = renewed.pair();

        let elsewhere = tempfile::tempdir().unwrap();
        write(elsewhere.path(), Role::Peer, &authority, |_| {});
        let next = Files::of(elsewhere.path(), Role::Peer);
        fs::rename(&next.certificate, &files.certificate).unwrap();
        assert_eq!(renewed.pair().cert, first.cert, "a certificate without its key");
        fs::rename(&next.key, &files.key).unwrap();
        let second = renewed.pair();
        assert_ne!(second.cert, first.cert);
        fs::remove_file(&files.key).unwrap();
        assert_eq!(renewed.pair().cert, second.cert, "no key at all");
    }
}
