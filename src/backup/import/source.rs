//! The file that is imported: proven once as a whole, then read again as often as needed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Seek};
use std::path::{Path, PathBuf};

use crate::backup::export::reading::{Reading, Unproven};
use crate::backup::export::record::{Auth, Counts, Head, Key, Lease, Record, Role, User};
use crate::etcd::id::LeaseId;

/// A line is a few hundred bytes, most often.
const BUFFER_BYTES: usize = 256 << 10;

/// Why a file is not imported.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct Refused {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub why: Why,
}

/// What is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// It is no whole export.
    #[error(transparent)]
    Unproven(#[from] Unproven),
    /// It is whole and makes no sense.
    #[error("keys hang on lease {0}, which it does not describe")]
    Lease(LeaseId),
    /// It is another file now.
    #[error("it was changed while it was imported")]
    Changed,
}

impl From<io::Error> for Why {
    fn from(error: io::Error) -> Self {
        Self::Unproven(error.into())
    }
}

/// Which keys of a file are meant, and what they are to be called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only keys that begin with this.
    pub prefix: Vec<u8>,
    /// What that is replaced by.
    pub renamed: Option<Vec<u8>>,
}

impl Selection {
    /// The name over there, of a key that is meant. Order stays, because what changes is the same for all.
    pub fn name(&self, key: &[u8]) -> Option<Vec<u8>> {
        let rest = key.strip_prefix(self.prefix.as_slice())?;
        let begin = self.renamed.as_ref().unwrap_or(&self.prefix);
        Some([begin, rest].concat())
    }

    /// What all keys over there begin with, if `exported` is what they begin with in the file.
    pub fn prefix_there(&self, exported: &[u8]) -> Vec<u8> {
        match (&self.renamed, exported.starts_with(&self.prefix)) {
            (Some(renamed), true) => [renamed, &exported[self.prefix.len()..]].concat(),
            (Some(renamed), false) => renamed.clone(),
            (None, true) => exported.to_vec(),
            (None, false) => self.prefix.clone(),
        }
    }
}

/// A file that was read to its end.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    file: File,
    sha256: String,
    /// Its size.
    pub bytes: u64,
    /// What it says of itself.
    pub head: Head,
    /// How much is in it.
    pub counts: Counts,
    /// The leases its keys hang on.
    pub leases: BTreeMap<LeaseId, Lease>,
    /// Roles.
    pub roles: Vec<Role>,
    /// Users.
    pub users: Vec<User>,
    /// Authentication.
    pub auth: Option<Auth>,
}

impl Source {
    /// Reads all of it. `told` hears how many bytes are done.
    pub fn prove(path: &Path, told: &mut dyn FnMut(u64, u64)) -> Result<Self, Refused> {
        let refused = |why| Refused { path: path.to_path_buf(), why };
        Self::read(path, told).map_err(refused)
    }

    fn read(path: &Path, told: &mut dyn FnMut(u64, u64)) -> Result<Self, Why> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            // It is read more than once.
            return Err(io::Error::other("it is no plain file").into());
        }
        let (head, mut reading) = Reading::begin(BufReader::with_capacity(BUFFER_BYTES, &file))?;
        let (mut leases, mut hanging) = (BTreeMap::new(), BTreeMap::<LeaseId, u64>::new());
        let (mut roles, mut users, mut auth) = (Vec::new(), Vec::new(), None);
        while let Some(record) = reading.read()? {
            match record {
                Record::Key(key) => {
                    if let Some(lease) = key.lease {
                        *hanging.entry(lease).or_default() += 1;
                    }
                }
                Record::Lease(lease) => {
                    leases.insert(lease.id, lease);
                }
                Record::Role(role) => roles.push(role),
                Record::User(user) => users.push(user),
                Record::Auth(told) => auth = Some(told),
            }
            told(reading.bytes(), metadata.len());
        }
        if let Some(id) = hanging.keys().find(|id| !leases.contains_key(id)) {
            return Err(Why::Lease(*id));
        }
        let (bytes, counts) = (reading.bytes(), reading.counts());
        let sha256 = reading.sha256().unwrap_or_default().to_owned();
        Ok(Self { path: path.to_path_buf(), file, sha256, bytes, head, counts, leases, roles, users, auth })
    }

    /// Reads its keys again.
    pub fn keys(&self) -> Result<Keys<'_>, Refused> {
        let refused = |why: Why| Refused { path: self.path.clone(), why };
        (&self.file).rewind().map_err(|error| refused(error.into()))?;
        let begun = Reading::begin(BufReader::with_capacity(BUFFER_BYTES, &self.file));
        let (_, reading) = begun.map_err(|why| refused(why.into()))?;
        Ok(Keys { source: self, reading })
    }
}

/// The keys of a file, in their order.
pub struct Keys<'a> {
    source: &'a Source,
    reading: Reading<BufReader<&'a File>>,
}

impl Keys<'_> {
    /// The next one; `None` behind the last one, when the file is still the one that was proven.
    pub fn read(&mut self) -> Result<Option<Key>, Refused> {
        let refused = |why| Refused { path: self.source.path.clone(), why };
        while let Some(record) = self.reading.read().map_err(|why| refused(why.into()))? {
            if let Record::Key(key) = record {
                return Ok(Some(key));
            }
        }
        match self.reading.sha256() {
            Some(sha256) if sha256 == self.source.sha256 => Ok(None),
            _ => Err(refused(Why::Changed)),
        }
    }

    /// How many bytes were read so far.
    pub fn bytes(&self) -> u64 {
        self.reading.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_chosen_and_renamed_by_what_they_begin_with() {
        let selection = |prefix: &str, renamed: Option<&str>| Selection {
            prefix: prefix.into(),
            renamed: renamed.map(Into::into),
        };
        for (selection, exported, key, name, there) in [
            (selection("", None), "", "/a/1", Some("/a/1"), ""),
            (selection("", None), "/a", "/a/1", Some("/a/1"), "/a"),
            (selection("/a/", None), "", "/a/1", Some("/a/1"), "/a/"),
            (selection("/a/", None), "", "/b/1", None, "/a/"),
            (selection("/a/", None), "/a/b/", "/a/b/1", Some("/a/b/1"), "/a/b/"),
            (selection("/a/", Some("/new/")), "/a/b/", "/a/b/1", Some("/new/b/1"), "/new/b/"),
            (selection("/a/", Some("/new/")), "", "/a/b/1", Some("/new/b/1"), "/new/"),
            (selection("", Some("/new")), "", "/a", Some("/new/a"), "/new"),
        ] {
            let got = selection.name(key.as_bytes());
            assert_eq!(got.as_deref(), name.map(str::as_bytes), "{selection:?} {key}");
            assert_eq!(
                selection.prefix_there(exported.as_bytes()),
                there.as_bytes(),
                "{selection:?} {exported}"
            );
        }
    }
}
