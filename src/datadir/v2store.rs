//! The store of etcd's old API, in which etcd up to 3.5 keeps who is in the cluster. A snapshot file
//! carries it as JSON; the entries behind the snapshot change it (docs/contract.md#v2-store).
//!
//! Only the part about the cluster is read. What users wrote with the old API is counted, not kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::raft::request::Request;
use super::raft::{ChangeKind, ConfChange};
use super::stored_member::{StoredMember, or_default};
use super::wal::What;
use crate::etcd::id::MemberId;

/// Who is in the cluster, as the old store has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct V2Store {
    /// The members.
    pub members: BTreeMap<MemberId, StoredMember>,
    /// Ids that were removed and can never come back.
    pub removed: BTreeSet<MemberId>,
    /// The version the members have agreed on.
    pub cluster_version: Option<String>,
    /// Whether users have written with the old API: etcd from 3.6 on refuses to start then.
    pub has_user_data: bool,
}

/// Why a store cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It is no JSON of this form.
    #[error("is not the JSON of etcd's v2 store: {0}")]
    Json(#[from] serde_json::Error),
    /// A member's entry cannot be read; etcd ends with a panic.
    #[error("the member '{name}' of the v2 store cannot be read")]
    Member {
        /// Its name in the store, an id if it is a good one.
        name: String,
    },
}

impl V2Store {
    /// Reads the content of a snapshot file.
    pub fn from_json(json: &[u8]) -> Result<Self, Fault> {
        let document: Document = serde_json::from_slice(json)?;
        let Top { cluster, has_user_data } = document.root.children;
        let mut store = Self { has_user_data, ..Self::default() };
        let mut cluster = cluster.map(|node| node.children).unwrap_or_default();
        store.cluster_version = cluster.remove("version").map(|node| node.value);
        for (name, node) in children(cluster.remove("members")) {
            let unreadable = || Fault::Member { name: name.clone() };
            let id: MemberId = name.parse().map_err(|_| unreadable())?;
            let member = member(id, &node).ok_or_else(unreadable)?;
            store.members.insert(id, member);
        }
        for (name, _) in children(cluster.remove("removed_members")) {
            let id = name.parse().map_err(|_| Fault::Member { name: name.clone() })?;
            store.removed.insert(id);
        }
        Ok(store)
    }

    /// The store of a cluster that begins with these members, as JSON for a snapshot file. Names are
    /// not in it: a member adds its own when it publishes itself.
    pub fn founding(members: &[StoredMember]) -> Vec<u8> {
        let mut members: Vec<_> = members.iter().collect();
        members.sort_unstable_by_key(|member| member.id);
        let mut listed = BTreeMap::new();
        for (index, member) in (1..).zip(&members) {
            let id = member.member_id().to_string();
            let path = format!("/0/members/{id}");
            let urls = serde_json::json!({ "peerURLs": member.peer_urls }).to_string();
            let attributes = Written::leaf(format!("{path}/raftAttributes"), index, urls);
            let children = BTreeMap::from([("raftAttributes".to_owned(), attributes)]);
            listed.insert(id, Written::directory(path, index, children));
        }
        let count = members.len();
        let members = Written::directory("/0/members".to_owned(), 1, listed);
        let cluster =
            Written::directory("/0".to_owned(), 0, BTreeMap::from([("members".to_owned(), members)]));
        let users = Written::directory("/1".to_owned(), 0, BTreeMap::new());
        let top = BTreeMap::from([("0".to_owned(), cluster), ("1".to_owned(), users)]);
        // etcd writes its next event into the ring of events without asking how long the ring is.
        let events = vec![(); EVENTS];
        let queue =
            serde_json::json!({ "Events": events, "Size": 0, "Front": 0, "Back": 0, "Capacity": EVENTS });
        serde_json::json!({
            "Root": Written::directory("/".to_owned(), 0, top),
            "WatcherHub": { "EventHistory": { "Queue": queue, "StartIndex": 0, "LastIndex": 0 } },
            "CurrentIndex": count,
            "Stats": {},
            "CurrentVersion": 2,
        })
        .to_string()
        .into_bytes()
    }

    /// What an agreed entry does to the store. A change that does not fit the members is passed over, as
    /// etcd does.
    pub fn apply(&mut self, what: &What) {
        match what {
            What::Membership(change) => self.change(change),
            What::Request(Request::ClusterVersion(version)) => self.cluster_version = Some(version.clone()),
            What::Request(Request::Published { member_id, name, client_urls }) => {
                if let Some(member) = self.members.get_mut(member_id) {
                    member.name.clone_from(name);
                    member.client_urls.clone_from(client_urls);
                }
            }
            What::Request(Request::Empty | Request::Downgrade { .. } | Request::Other(_)) => {}
        }
    }

    fn change(&mut self, change: &ConfChange) {
        let id = change.member_id;
        if self.removed.contains(&id) {
            return;
        }
        let urls = change.member.as_ref().map(|member| member.peer_urls.as_slice()).unwrap_or_default();
        let taken = self
            .members
            .iter()
            .any(|(other, member)| *other != id && member.peer_urls.iter().any(|url| urls.contains(url)));
        match (change.kind, self.members.get_mut(&id)) {
            (ChangeKind::Add | ChangeKind::AddLearner, None) if !taken => {
                if let Some(member) = &change.member {
                    self.members.insert(id, member.clone());
                }
            }
            (ChangeKind::Promote, Some(member)) => member.is_learner = false,
            (ChangeKind::Update, Some(member)) if !taken => member.peer_urls = urls.to_vec(),
            (ChangeKind::Remove, Some(_)) => {
                self.members.remove(&id);
                self.removed.insert(id);
            }
            _ => {}
        }
    }
}

/// The length of etcd's ring of events.
const EVENTS: usize = 1000;

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "Root")]
    root: Root,
}

#[derive(Deserialize)]
struct Root {
    #[serde(rename = "Children", deserialize_with = "or_default")]
    children: Top,
}

/// The names at the top: `0` is the cluster's, `1` the users', `2` that of the old users and roles.
#[derive(Default)]
struct Top {
    cluster: Option<Node>,
    has_user_data: bool,
}

#[derive(Deserialize, Default)]
struct Node {
    #[serde(default, rename = "Value")]
    value: String,
    #[serde(default, rename = "Children", deserialize_with = "or_default")]
    children: BTreeMap<String, Self>,
}

/// A directory of which only matters whether anything is in it.
#[derive(Deserialize, Default)]
struct Counted<T> {
    #[serde(
        default,
        rename = "Children",
        deserialize_with = "or_default",
        bound = "T: Deserialize<'de> + Default"
    )]
    children: T,
}

/// How many names there are.
#[derive(Default)]
struct Count(u64);

impl<'de> Deserialize<'de> for Top {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Top;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the directories at the top of the store")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Top, A::Error> {
                let mut top = Top::default();
                while let Some(name) = map.next_key::<String>()? {
                    match name.as_str() {
                        "0" => top.cluster = Some(map.next_value()?),
                        // Empty directories remain of users and roles that were removed.
                        "2" => {
                            let below: Counted<BTreeMap<String, Counted<Count>>> = map.next_value()?;
                            top.has_user_data |= below.children.values().any(|child| child.children.0 > 0);
                        }
                        _ => top.has_user_data |= map.next_value::<Counted<Count>>()?.children.0 > 0,
                    }
                }
                Ok(top)
            }
        }
        deserializer.deserialize_map(Names)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a directory")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Count, A::Error> {
                let mut count = 0;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Count(count))
            }
        }
        deserializer.deserialize_map(Names)
    }
}

fn children(node: Option<Node>) -> BTreeMap<String, Node> {
    node.map(|node| node.children).unwrap_or_default()
}

/// A member is two texts of JSON: what raft needs, and what it says about itself.
fn member(id: MemberId, node: &Node) -> Option<StoredMember> {
    let part =
        |name: &str| node.children.get(name).map(|part| StoredMember::from_json(part.value.as_bytes()));
    let raft = part("raftAttributes")?.ok()?;
    let said = part("attributes").transpose().ok()?.unwrap_or_default();
    Some(StoredMember {
        id: id.0,
        peer_urls: raft.peer_urls,
        is_learner: raft.is_learner,
        name: said.name,
        client_urls: said.client_urls,
    })
}

/// A node as etcd writes it; a directory has an empty value, a leaf no children.
#[derive(Serialize)]
struct Written {
    #[serde(rename = "Path")]
    path: String,
    #[serde(rename = "CreatedIndex")]
    created_index: u64,
    #[serde(rename = "ModifiedIndex")]
    modified_index: u64,
    #[serde(rename = "ExpireTime")]
    expire_time: &'static str,
    #[serde(rename = "Value")]
    value: String,
    #[serde(rename = "Children")]
    children: Option<BTreeMap<String, Self>>,
}

impl Written {
    fn directory(path: String, index: u64, children: BTreeMap<String, Self>) -> Self {
        Self { children: Some(children), ..Self::leaf(path, index, String::new()) }
    }

    fn leaf(path: String, index: u64, value: String) -> Self {
        // Go's zero time: never.
        let expire_time = "0001-01-01T00:00:00Z";
        Self { path, created_index: index, modified_index: index, expire_time, value, children: None }
    }
}

#[cfg(test)]
mod tests;
