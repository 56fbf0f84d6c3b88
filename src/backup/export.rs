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
pub mod writing;
