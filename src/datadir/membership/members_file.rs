//! Members in a file, as JSON or YAML.
//!
//! ```yaml
//! members:
//! - name: n1
//!   peer_urls: ["https://a.test:2380"]
//! ```
//!
//! `etcdctl member list -w json` fits as well: `peerURLs` is read like `peer_urls`, and what else is there is not
//! looked at, ids included: a new cluster has new ones.

use serde::Deserialize;

use super::{Listed, Unfit, url};
use crate::etcd::id::MemberName;

/// A list of members is small; more is another file.
pub const BYTES_MAX: u64 = 1 << 20;

#[derive(Deserialize)]
struct File {
    members: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    name: String,
    #[serde(alias = "peerURLs")]
    peer_urls: Vec<String>,
    #[serde(default, alias = "isLearner")]
    is_learner: bool,
}

/// Reads the text of such a file. JSON is YAML, so one reader serves both.
pub fn parse(text: &str) -> Result<Listed, Unfit> {
    let file: File = serde_yaml::from_str(text).map_err(|error| Unfit::Unreadable(error.to_string()))?;
    let mut listed = Listed::new();
    for entry in file.members {
        let name: MemberName = entry.name.parse()?;
        if entry.is_learner {
            return Err(Unfit::Learner { name });
        }
        if listed.contains_key(&name) {
            return Err(Unfit::SameName { name });
        }
        if entry.peer_urls.is_empty() {
            return Err(Unfit::NoUrl { name });
        }
        for text in &entry.peer_urls {
            super::initial_cluster::add(&mut listed, name.clone(), url::peer_url(text)?)?;
        }
    }
    if listed.is_empty() { Err(Unfit::Empty) } else { Ok(listed) }
}
