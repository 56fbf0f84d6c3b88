//! An export: the keys of a cluster at one revision, in a file that any cluster of any version takes. Unlike a backup it
//! has no history and nothing of etcd's own formats (docs/export.md#format).
//!
//! ```text
//! {"format": "etcd-export", "version": 1, …}      the head
//! {"key": {…}}                                    the keys, in their order
//! {"lease": {…}}  {"role": {…}}  {"user": {…}}  {"auth": {…}}
//! {"end": {…, "sha256": "…"}}                     counts, and the hash of all lines before
//! ```

pub mod live;
pub mod new_file;
pub mod reading;
pub mod record;
pub mod stored;
pub mod writing;

use record::Counts;

use crate::etcd::id::ClusterId;

/// Why users and roles are left out of a part.
const ONLY_SOME: &str = "they are for the whole cluster, and only some keys were exported";

/// What was exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Whose keys.
    pub cluster: ClusterId,
    /// At which revision.
    pub revision: i64,
    /// How many of what.
    pub counts: Counts,
    /// The size of all lines.
    pub bytes: u64,
    /// Why users and roles are not in it, if they are not.
    pub no_access: Option<String>,
    /// Whether authentication is on, if that is known.
    pub auth: Option<bool>,
}
