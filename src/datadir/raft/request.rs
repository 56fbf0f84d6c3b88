//! The requests that entries carry. Those that say something about the cluster are read, the others are
//! only named.

use crate::datadir::stored_member::or_default;
use crate::datadir::wire::{Fields, Malformed, Value};
use crate::etcd::id::MemberId;

/// A request as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The entry with which a leader begins.
    Empty,
    /// The members have agreed on this version.
    ClusterVersion(String),
    /// A member has published itself.
    Published {
        /// Who.
        member_id: MemberId,
        /// Its name.
        name: String,
        /// Where clients reach it.
        client_urls: Vec<String>,
    },
    /// A downgrade was allowed or cancelled.
    Downgrade {
        /// The release it goes to; empty when it was cancelled.
        target: String,
    },
    /// Anything else.
    Other(Kind),
}

/// The name of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind(u64);

impl Kind {
    /// As etcd calls it; `unknown` for one that no etcd known here writes.
    pub fn name(self) -> &'static str {
        match self.0 {
            2 => "v2",
            3 => "range",
            4 => "put",
            5 => "delete_range",
            6 => "txn",
            7 => "compaction",
            8 => "lease_grant",
            9 => "lease_revoke",
            10 => "alarm",
            11 => "lease_checkpoint",
            1000 => "auth_enable",
            1011 => "auth_disable",
            1012 => "authenticate",
            1013 => "auth_status",
            1100 => "auth_user_add",
            1101 => "auth_user_delete",
            1102 => "auth_user_get",
            1103 => "auth_user_change_password",
            1104 => "auth_user_grant_role",
            1105 => "auth_user_revoke_role",
            1106 => "auth_user_list",
            1107 => "auth_role_list",
            1200 => "auth_role_add",
            1201 => "auth_role_delete",
            1202 => "auth_role_get",
            1203 => "auth_role_grant_permission",
            1204 => "auth_role_revoke_permission",
            1300 => CLUSTER_VERSION_SET,
            1301 => "cluster_member_attr_set",
            1302 => "downgrade_info_set",
            9900 => "downgrade_version_test",
            _ => "unknown",
        }
    }
}

const CLUSTER_VERSION_SET: &str = "cluster_version_set";

impl Request {
    /// Reads the data of a normal entry. Up to 3.5 some are requests of the old API as they are, without
    /// the envelope of the others: they are told apart by trying (docs/contract.md#log).
    pub fn decode(message: &[u8]) -> Result<Self, Malformed> {
        if message.is_empty() {
            return Ok(Self::Empty);
        }
        Self::in_envelope(message).or_else(|malformed| v2(message).map_err(|_| malformed))
    }

    /// Whether the data of a normal entry is a request of the old API without an envelope, which 3.7 no longer reads.
    pub fn is_bare(message: &[u8]) -> bool {
        !message.is_empty() && Self::in_envelope(message).is_err() && v2(message).is_ok()
    }

    fn in_envelope(message: &[u8]) -> Result<Self, Malformed> {
        let mut request = Self::Other(Kind(0));
        for field in Fields::of(message) {
            match field? {
                // Its number, and who asks.
                (1 | 100, _) => {}
                (2, value) => request = v2(value.bytes()?)?,
                (1300, value) => request = Self::ClusterVersion(text_in(value.bytes()?, 1)?),
                (1301, value) => request = published(value.bytes()?)?,
                (1302, value) => request = downgrade(value.bytes()?)?,
                (kind, value) if Kind(kind).name() != "unknown" => {
                    value.bytes()?;
                    request = Self::Other(Kind(kind));
                }
                _ => {}
            }
        }
        Ok(request)
    }

    /// The request's name, as etcd calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Empty => "leader's first",
            Self::ClusterVersion(_) => CLUSTER_VERSION_SET,
            Self::Published { .. } => Kind(1301).name(),
            Self::Downgrade { .. } => Kind(1302).name(),
            Self::Other(kind) => kind.name(),
        }
    }
}

fn published(message: &[u8]) -> Result<Request, Malformed> {
    let (mut member_id, mut name, mut client_urls) = (0, String::new(), Vec::new());
    for field in Fields::of(message) {
        match field? {
            (1, value) => member_id = value.number()?,
            (2, value) => {
                for field in Fields::of(value.bytes()?) {
                    match field? {
                        (1, value) => value.text()?.clone_into(&mut name),
                        (2, value) => client_urls.push(value.text()?.to_owned()),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(Request::Published { member_id: MemberId(member_id), name, client_urls })
}

fn downgrade(message: &[u8]) -> Result<Request, Malformed> {
    let enabled = Fields::of(message)
        .try_fold(false, |found, field| Ok(found || matches!(field?, (1, Value::Varint(1..)))))?;
    Ok(Request::Downgrade { target: if enabled { text_in(message, 2)? } else { String::new() } })
}

/// The text that is this field of a message; empty if it has none.
fn text_in(message: &[u8], number: u64) -> Result<String, Malformed> {
    let mut text = "";
    for field in Fields::of(message) {
        let (found, value) = field?;
        if found == number {
            text = value.text()?;
        }
    }
    Ok(text.to_owned())
}

#[derive(serde::Deserialize)]
struct Attributes {
    #[serde(default)]
    name: String,
    #[serde(default, rename = "clientURLs", deserialize_with = "or_default")]
    client_urls: Vec<String>,
}

/// A request of the old API. Up to 3.5 members publish themselves and agree on a version with it.
fn v2(message: &[u8]) -> Result<Request, Malformed> {
    let other = Request::Other(Kind(2));
    let (path, value) = (text_in(message, 3)?, text_in(message, 4)?);
    if path == "/0/version" {
        return Ok(Request::ClusterVersion(value));
    }
    let member = path.strip_prefix("/0/members/").and_then(|rest| rest.strip_suffix("/attributes"));
    let Some(member_id) = member.and_then(|id| id.parse().ok()) else { return Ok(other) };
    let attributes: Attributes = serde_json::from_str(&value).map_err(|_| Malformed::Invalid)?;
    Ok(Request::Published { member_id, name: attributes.name, client_urls: attributes.client_urls })
}
