//! The data directory seen from the disk: what kind of disk is this, and whose member is on it?
//!
//! [`classify`] answers from names, the first records of the write-ahead log and a few keys of the
//! backend. It reads only, follows no link, and asks for a few pages, not for the database: the
//! launcher calls it at every start. [`in_use`] says whether an etcd has the data open.
//!
//! Why not `etcdutl`: it says nothing about a directory it cannot open, which is when the launcher
//! has to decide; and it costs a process per question.
//!
//! ```no_run
//! use etcd_release::datadir::{Found, classify};
//! # fn main() -> std::io::Result<()> {
//! match classify("/var/vcap/store/etcd".as_ref(), None)? {
//!     Found::Data(identity) => println!("member {} of {}", identity.member_id, identity.cluster_id),
//!     Found::Damaged { why, .. } => println!("unusable: {why}"),
//!     other => println!("{other:?}"),
//! }
//! # Ok(()) }
//! ```

use std::collections::BTreeSet;

use crate::etcd::id::{ClusterId, MemberId};
use crate::etcd::member::Member;

/// What lies in a data directory. The classes are those of docs/contract.md#files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Something that is not ours or not etcd's; nobody but a person may touch it.
    Foreign {
        /// What was found, relative to the data directory, sorted; only the first [`NAMES_MAX`].
        names: Vec<String>,
    },
    /// Nothing, or only what the launcher keeps beside the data.
    Empty,
    /// What a start that did not get far leaves behind: a backend without any write-ahead log and
    /// with nothing in it. etcd would build a broken cluster on it (docs/contract.md#files).
    Partial {
        /// What is there, for a person.
        what: String,
    },
    /// Data of a member that etcd cannot run on.
    Damaged {
        /// What is wrong with it.
        why: Damage,
        /// Whose it was.
        remains: Remains,
    },
    /// Data of a member.
    Data(Identity),
}

/// What damaged data still tells of the member it was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remains {
    /// The cluster, if the write-ahead log still has it.
    pub cluster_id: Option<ClusterId>,
    /// The member, likewise.
    pub member_id: Option<MemberId>,
    /// The members that vote, if the backend still has them.
    pub voters: Option<BTreeSet<MemberId>>,
}

/// No more names are kept of a foreign directory.
pub const NAMES_MAX: usize = 20;

/// Whose data it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster, as the write-ahead log has it.
    pub cluster_id: ClusterId,
    /// The member, as the write-ahead log has it.
    pub member_id: MemberId,
    /// The members that vote, as this member last applied it; `None` if the backend does not tell
    /// (it is as young as the first batch of writes, or has an entry nobody can read).
    pub voters: Option<BTreeSet<MemberId>>,
    /// All members the backend tells of. URLs in a form that this release does not know (`unix://`)
    /// are left out.
    pub members: Vec<Member>,
    /// Whether the backend says that this very member was removed. `false` is no proof of the
    /// opposite: who is removed is often cut off before it hears of it. The cluster knows.
    pub removed: bool,
    /// The version the cluster has agreed on, as etcd wrote it (`3.6.0`).
    pub cluster_version: Option<String>,
    /// The version of the backend's layout, as etcd wrote it; not there before 3.6.
    pub storage_version: Option<String>,
    /// The index of the last raft entry the backend holds.
    pub consistent_index: u64,
}

pub mod bolt;
pub mod crc;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod inspect;
pub mod membership;
pub mod raft;
pub mod restore;
pub mod seed;
pub mod snap;
pub mod snapshot_file;
pub mod source;
pub mod stored_member;
pub mod v2store;
pub mod validate;
pub mod verdict;
pub mod wal;
pub mod wire;

mod backend;
mod classify;
mod damage;
pub mod key_hash;
mod layout;
mod lock;

#[cfg(test)]
mod fixture;

pub use classify::classify;
pub use damage::Damage;
pub use lock::in_use;
