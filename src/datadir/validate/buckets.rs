//! The small buckets: values that etcd reads at each start, and ends on when it cannot.

use serde::Deserialize;

use super::keys::Revision;
use crate::datadir::stored_member::StoredMember;
use crate::datadir::wire::{Fields, Malformed, Value};
use crate::etcd::id::MemberId;
use crate::etcd::version::EtcdVersion;

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum EntryFault {
    #[error("has {found} bytes instead of {due}")]
    Length { due: usize, found: usize },
    #[error("is no revision")]
    NoRevision,
    #[error("cannot be decoded: it {0}")]
    Malformed(#[from] Malformed),
    #[error("is no JSON of the form that etcd writes")]
    Json,
    #[error("is no version like 3.6.0")]
    NoVersion,
    #[error("is filed under a name that is no member id")]
    NoMemberId,
    #[error("has a peer URL that etcd cannot use: '{url}'")]
    NoUrl { url: String },
    #[error("belongs to '{found}', not to the name it is filed under")]
    OtherName { found: String },
    #[error("is neither on (1) nor off (0), which etcd takes for off")]
    NoSwitch,
    #[error("grants something that is neither reading nor writing nor both ({found})")]
    NoPermission { found: u64 },
}

impl EntryFault {
    /// Whether etcd ends when it reads the entry. It takes the others for something else.
    pub(super) fn ends_etcd(&self) -> bool {
        !matches!(self, Self::OtherName { .. } | Self::NoSwitch | Self::NoPermission { .. })
    }
}

/// What an entry says that a person should know of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Notable {
    Nothing,
    /// An alarm is raised: by which member, and which one.
    Alarm(u64, u64),
    /// A member in the backend.
    Member(StoredMember),
    /// A member that was removed.
    Removed(MemberId),
}

/// Looks at an entry of a small bucket; names that etcd does not know are passed over, as etcd does.
pub(super) fn entry(bucket: &[u8], name: &[u8], value: &[u8]) -> Result<Notable, EntryFault> {
    match (bucket, name) {
        (b"meta", b"consistent_index" | b"term") | (b"auth", b"authRevision") => length(value, 8)?,
        (b"meta", b"scheduledCompactRev" | b"finishedCompactRev") => {
            Revision::of(value).filter(|_| value.len() == 17).ok_or(EntryFault::NoRevision)?;
        }
        (b"meta", b"confState") => json::<ConfState>(value).map(drop)?,
        (b"meta", b"storageVersion") | (b"cluster", b"clusterVersion") => version(value)?,
        (b"cluster", b"downgrade") => json::<Downgrade>(value).map(drop)?,
        (b"lease", _) => lease(name, value)?,
        (b"alarm", _) => return alarm(name),
        (b"auth", b"authEnabled") if !matches!(value, [0 | 1]) => return Err(EntryFault::NoSwitch),
        (b"authUsers", _) => user(name, value)?,
        (b"authRoles", _) => role(name, value)?,
        (b"members", _) => return member(name, value),
        (b"members_removed", _) => return member_id(name).map(Notable::Removed),
        _ => {}
    }
    Ok(Notable::Nothing)
}

fn length(value: &[u8], due: usize) -> Result<(), EntryFault> {
    if value.len() == due { Ok(()) } else { Err(EntryFault::Length { due, found: value.len() }) }
}

#[derive(Deserialize)]
struct ConfState {
    #[serde(default, rename = "voters")]
    _voters: Option<Vec<u64>>,
    #[serde(default, rename = "learners")]
    _learners: Option<Vec<u64>>,
}

#[derive(Deserialize)]
struct Downgrade {
    #[serde(default, rename = "target-version")]
    _target: String,
    #[serde(default, rename = "enabled")]
    _enabled: bool,
}

fn json<'v, T: Deserialize<'v>>(value: &'v [u8]) -> Result<T, EntryFault> {
    serde_json::from_slice(value).map_err(|_| EntryFault::Json)
}

fn version(value: &[u8]) -> Result<(), EntryFault> {
    let text = std::str::from_utf8(value).ok();
    text.and_then(|text| text.parse::<EtcdVersion>().ok()).map(drop).ok_or(EntryFault::NoVersion)
}

fn lease(name: &[u8], value: &[u8]) -> Result<(), EntryFault> {
    length(name, 8)?;
    let id = u64_field(value, 1)?;
    if id.to_be_bytes() == name { Ok(()) } else { Err(EntryFault::OtherName { found: format!("{id:016x}") }) }
}

/// The number in a field of a message whose fields are all numbers.
fn u64_field(message: &[u8], wanted: u64) -> Result<u64, Malformed> {
    let mut found = 0;
    for field in Fields::of(message) {
        let (number, value) = field?;
        let value = value.number()?;
        if number == wanted {
            found = value;
        }
    }
    Ok(found)
}

fn alarm(name: &[u8]) -> Result<Notable, EntryFault> {
    Ok(Notable::Alarm(u64_field(name, 1)?, u64_field(name, 2)?))
}

fn user(name: &[u8], value: &[u8]) -> Result<(), EntryFault> {
    let mut found: &[u8] = &[];
    for field in Fields::of(value) {
        match field? {
            (1, value) => found = value.bytes()?,
            (2, value) => _ = value.bytes()?,
            (3, value) => _ = value.text()?,
            (4, value) => _ = u64_field(value.bytes()?, 1)?,
            _ => {}
        }
    }
    filed_under(name, found)
}

fn role(name: &[u8], value: &[u8]) -> Result<(), EntryFault> {
    let mut found: &[u8] = &[];
    for field in Fields::of(value) {
        match field? {
            (1, value) => found = value.bytes()?,
            (2, value) => permission(value)?,
            _ => {}
        }
    }
    filed_under(name, found)
}

fn permission(value: Value<'_>) -> Result<(), EntryFault> {
    for field in Fields::of(value.bytes()?) {
        match field? {
            (1, value) => match value.number()? {
                0..=2 => {}
                found => return Err(EntryFault::NoPermission { found }),
            },
            (2 | 3, value) => _ = value.bytes()?,
            _ => {}
        }
    }
    Ok(())
}

fn filed_under(name: &[u8], found: &[u8]) -> Result<(), EntryFault> {
    if name == found {
        Ok(())
    } else {
        Err(EntryFault::OtherName { found: found.escape_ascii().to_string() })
    }
}

fn member(name: &[u8], value: &[u8]) -> Result<Notable, EntryFault> {
    let id = member_id(name)?;
    let member = StoredMember::from_json(value).map_err(|_| EntryFault::Json)?;
    if let Some(url) = member.peer_urls.iter().find(|url| !is_peer_url(url)) {
        return Err(EntryFault::NoUrl { url: url.clone() });
    }
    if member.member_id() == id {
        Ok(Notable::Member(member))
    } else {
        Err(EntryFault::OtherName { found: member.member_id().to_string() })
    }
}

fn member_id(name: &[u8]) -> Result<MemberId, EntryFault> {
    let id: Option<MemberId> = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
    // etcd finds an entry by the id as it would write it.
    id.filter(|id| id.to_string().as_bytes() == name).ok_or(EntryFault::NoMemberId)
}

/// Whether etcd takes this for the URL of a peer: it panics on another one.
fn is_peer_url(url: &str) -> bool {
    match url.split_once("://") {
        Some(("http" | "https", host)) => {
            host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) && !host.contains('/')
        }
        Some(("unix" | "unixs", path)) => !path.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
