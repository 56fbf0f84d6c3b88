//! A member as etcd writes it into its files: the same JSON in the backend and in the log.
//!
//! URLs stay the texts they are: a file may have forms that this release does not know (`unix://`).

use serde::{Deserialize, Deserializer, Serialize};

use crate::etcd::id::MemberId;

/// A member as written. Fields and their order are those of etcd, so that what this release writes is
/// what etcd would have written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct StoredMember {
    /// Its id, a decimal number here.
    #[serde(default)]
    pub id: u64,
    /// Where its peers reach it, sorted as etcd sorts them.
    #[serde(default, rename = "peerURLs", deserialize_with = "or_default")]
    pub peer_urls: Vec<String>,
    /// Whether it is a learner.
    #[serde(default, rename = "isLearner", skip_serializing_if = "is_false")]
    pub is_learner: bool,
    /// Its name; empty until it is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where clients reach it; empty until it has published itself.
    #[serde(
        default,
        rename = "clientURLs",
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub client_urls: Vec<String>,
}

impl StoredMember {
    /// Its id.
    pub fn member_id(&self) -> MemberId {
        MemberId(self.id)
    }

    /// The JSON that etcd keeps.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers always have a JSON form")
    }

    /// Reads what [`Self::to_json`] or etcd wrote.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }
}

/// Go writes an empty list as `null`.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_is_etcds() {
        // As etcdutl 3.6.16 writes it into a restored log.
        let restored = r#"{"id":6388509975005204352,"peerURLs":["http://127.0.0.1:1"],"name":"m1"}"#;
        let member = StoredMember::from_json(restored.as_bytes()).unwrap();
        assert_eq!(member.to_json(), restored);

        // A promotion carries no URLs, and a field that only the log has.
        let promotion = br#"{"id":5,"peerURLs":null,"isPromote":true}"#;
        assert_eq!(
            StoredMember::from_json(promotion).unwrap(),
            StoredMember { id: 5, ..StoredMember::default() }
        );
    }
}
