//! Why an import did not come to its end.

use super::source::Refused;
use crate::backup::cluster::NoMember;
use crate::backup::export::record::printable;
use crate::etcd::client::EtcdError;
use crate::report::Complaint;

/// What happened.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file.
    #[error(transparent)]
    File(#[from] Refused),
    /// Nobody to ask.
    #[error(transparent)]
    NoMember(#[from] NoMember),
    /// There are keys already.
    #[error("the cluster has {count} keys where the import is to put its own, {} the first of them", printable(.first))]
    NotEmpty {
        /// How many.
        count: u64,
        /// The first one.
        first: Vec<u8>,
    },
    /// Keys, roles or users are there, and differ.
    #[error("{count} keys, roles or users are in the cluster already and differ from those in the file: {}", named(.first, *.count))]
    Conflicts {
        /// How many.
        count: u64,
        /// The first of them.
        first: Vec<String>,
    },
    /// Somebody else writes the same keys.
    #[error("keys between {} and {} were changed by somebody else during the import", printable(.first), printable(.last))]
    Moved {
        /// The first of the keys that were to be written together.
        first: Vec<u8>,
        /// The last.
        last: Vec<u8>,
    },
    /// A value the other cluster does not take.
    #[error("the cluster does not take key {}: its value has {bytes} bytes", printable(.key))]
    TooLarge {
        /// The key.
        key: Vec<u8>,
        /// The size of its value.
        bytes: usize,
    },
    /// The database is full.
    #[error("the database of the cluster is full: key {} could not be written", printable(.key))]
    NoSpace {
        /// The first key that did not fit.
        key: Vec<u8>,
    },
    /// The member does not let us.
    #[error("member {member}, at {place}: {error}")]
    Etcd {
        /// Where it is.
        member: String,
        /// At what: a key, a role.
        place: String,
        /// What it said.
        error: EtcdError,
    },
    /// What was read back is not what was written.
    #[error("what was read back at revision {revision} is not what the file has: {}", named(.first, *.count))]
    Differs {
        /// At which revision.
        revision: i64,
        /// How many differ.
        count: u64,
        /// The first of them, and how.
        first: Vec<String>,
    },
}

fn named(first: &[String], count: u64) -> String {
    let more = count - first.len() as u64;
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", first.join(", "))
}

const UNTOUCHED: &str = "nothing was imported";
const PARTLY: &str = "a part of the file is in the cluster";
const GO_ON: &str = "run it again with --into-existing: what is there already is skipped";

impl ImportError {
    /// The same for an operator.
    pub fn complaint(&self) -> Complaint {
        let what = self.to_string();
        match self {
            Self::NoMember(error) => error.complaint(),
            Self::File(_) => Complaint::refused(
                what,
                "a part of the keys, taken for all, would be a loss that nobody sees",
                "bring the file again from where it was made, or export once more",
            ),
            Self::NotEmpty { .. } => Complaint::refused(
                what,
                "what an import adds cannot be told from what was there; nothing was imported",
                "import into an empty cluster, or say --into-existing: what is equal is skipped then, so that an interrupted import goes on",
            ),
            Self::Conflicts { .. } => Complaint::refused(
                what,
                UNTOUCHED,
                "say which is right: --on-conflict keep leaves those of the cluster, --on-conflict overwrite takes those of the file",
            ),
            Self::Moved { .. } => Complaint::try_again(
                what,
                "both would be mixed; a part of the file is in the cluster",
                format!("stop whoever writes there, and {GO_ON}"),
            ),
            Self::TooLarge { .. } => Complaint::refused(
                what,
                PARTLY,
                format!(
                    "raise property max_request_bytes of the cluster (etcd's --max-request-bytes), and {GO_ON}"
                ),
            ),
            Self::NoSpace { .. } => Complaint::refused(
                what,
                PARTLY,
                format!("docs/recover.md#no-space makes room or raises the quota; then {GO_ON}"),
            ),
            Self::Etcd { error: EtcdError::Auth(_), .. } => Complaint::refused(
                what,
                "only who may write all of these keys can import them",
                format!("use a certificate of etcd's user root, and {GO_ON}"),
            ),
            Self::Etcd { .. } => {
                Complaint::try_again(what, PARTLY, format!("look at `etcd-status`, and {GO_ON}"))
            }
            Self::Differs { .. } => Complaint::failed(
                what,
                "the cluster does not have what the file has",
                format!("if somebody else writes there, stop that; then {GO_ON}"),
            ),
        }
    }
}
