//! What happens to bytes between etcd and the store: they are compressed, then encrypted, and hashed on both sides. All
//! of it in constant memory, on a thread of its own, with bounded queues in between: a slow store holds etcd back.

mod keys;
mod pack;
mod tally;
#[cfg(test)]
mod tests;
mod unpack;

pub use keys::{Keys, Recipients};
pub use pack::{Packing, pack};
pub use unpack::{Content, content};

use super::store::StoreError;
use crate::report::Complaint;

/// Why bytes did not get into the store or out of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key that is none. Keys are not repeated: a private one may stand where a public one belongs.
    #[error("key {place} of {property} is not {wanted}")]
    Key {
        /// `encryption.recipients` or `encryption.identities`.
        property: &'static str,
        /// Which of them, from 1.
        place: usize,
        /// What is wanted there.
        wanted: &'static str,
    },
    /// None of the private keys opens it.
    #[error("{object} is encrypted for {recipients}, and none of {keys} private keys here opens it")]
    Locked {
        /// The object.
        object: String,
        /// Whom it is encrypted for.
        recipients: String,
        /// How many private keys were tried.
        keys: usize,
    },
    /// What was read is not what was written.
    #[error("{object} is damaged: {why}")]
    Damaged {
        /// The object.
        object: String,
        /// How that shows.
        why: String,
    },
    /// The machine, not the data.
    #[error("cannot pack or unpack {object}: {why}")]
    Machine {
        /// The object.
        object: String,
        /// In the system's words.
        why: String,
    },
}

impl CodecError {
    /// The same for an operator.
    pub fn complaint(&self) -> Complaint {
        let what = self.to_string();
        match self {
            Self::Store(error) => error.complaint(),
            Self::Key { .. } => Complaint::refused(
                what,
                "backups would be encrypted for nobody, or could not be opened",
                "`age-keygen -o key.txt` makes a pair: the line age1… is the recipient, AGE-SECRET-KEY-1… the identity",
            ),
            Self::Locked { .. } => Complaint::refused(
                what,
                "without the key nobody can read this backup",
                "give the file with the private key by --identity FILE, or set encryption.identities",
            ),
            Self::Damaged { .. } => Complaint::failed(
                what,
                "nothing was restored from it; a copy in another store may be whole",
                "`etcd-backup verify` says which points are intact; `etcd-backup list` shows other sets",
            ),
            Self::Machine { .. } => Complaint::failed(
                what,
                "nothing was changed",
                "mend what it complains about and run it again",
            ),
        }
    }
}
