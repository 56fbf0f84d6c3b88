//! What raft keeps in a log: entries, its own state, snapshots and changes of the membership.
//!
//! Reading is in place and takes what etcd takes. Writing gives the bytes that etcd 3.4 to 3.6 write:
//! numbers are there also when they are zero (docs/contract.md#log).

use prost::Message;

use super::stored_member::StoredMember;
use super::wire::{Fields, Malformed};
use crate::etcd::id::{ClusterId, MemberId};

pub mod request;

mod message;

/// Whose log it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The member.
    pub member_id: MemberId,
    /// Its cluster.
    pub cluster_id: ClusterId,
}

/// Term and index of an entry: its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct EntryId {
    /// Its term. First, so that ids are in the order of raft.
    pub term: u64,
    /// Its index, from 1.
    pub index: u64,
}

/// One entry of the log, in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What its data is.
    pub kind: EntryKind,
    /// Its name.
    pub id: EntryId,
    /// A message of its own; empty in the entry with which a leader begins.
    pub data: &'a [u8],
}

/// What an entry's data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A request: [`request::Request`].
    Normal,
    /// A [`ConfChange`].
    ConfChange,
    /// Several changes at once. etcd never writes one and ends with a panic when it meets one.
    ConfChangeV2,
    /// None that raft has; the same.
    Unknown(u64),
}

/// What raft itself remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HardState {
    /// The term it is in.
    pub term: u64,
    /// For whom it voted in this term; 0 for nobody.
    pub vote: u64,
    /// Up to which index a quorum has the log. Lags behind what was applied: an advance alone is not
    /// made durable (docs/contract.md#log).
    pub commit: u64,
}

/// Who votes, as raft writes it beside a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfState {
    /// The voters.
    pub voters: Vec<u64>,
    /// The learners.
    pub learners: Vec<u64>,
}

/// That a snapshot exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotMark {
    /// The last entry it holds.
    pub id: EntryId,
    /// Who votes at that point; etcd 3.4 does not write it.
    pub conf_state: Option<ConfState>,
}

/// A change of the membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfChange {
    /// What happens.
    pub kind: ChangeKind,
    /// To whom.
    pub member_id: MemberId,
    /// The member as the change makes it; `None` for a removal, or if it cannot be read (etcd ends with
    /// a panic then).
    pub member: Option<StoredMember>,
}

/// What a change of the membership does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// Adds a voter.
    Add,
    /// Adds a learner.
    AddLearner,
    /// Makes a learner a voter.
    Promote,
    /// Removes a member.
    Remove,
    /// Changes the peer URLs of a member.
    Update,
    /// None that raft has: etcd ends with a panic.
    Unknown(u64),
}

impl Owner {
    /// Reads the metadata record of a log.
    pub fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let (mut member, mut cluster) = (None, None);
        for field in Fields::of(message) {
            match field? {
                (1, value) => member = Some(value.number()?),
                (2, value) => cluster = Some(value.number()?),
                _ => {}
            }
        }
        match (member, cluster) {
            (Some(member), Some(cluster)) => {
                Ok(Self { member_id: MemberId(member), cluster_id: ClusterId(cluster) })
            }
            _ => Err(Malformed::Invalid),
        }
    }

    /// The metadata record.
    pub fn encode(self) -> Vec<u8> {
        message::Metadata { member_id: Some(self.member_id.0), cluster_id: Some(self.cluster_id.0) }
            .encode_to_vec()
    }
}

impl<'a> Entry<'a> {
    /// Reads an entry.
    pub fn decode(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut entry = Self { kind: EntryKind::Normal, id: EntryId::default(), data: &[] };
        for field in Fields::of(message) {
            match field? {
                (1, value) => {
                    entry.kind = match value.number()? {
                        0 => EntryKind::Normal,
                        1 => EntryKind::ConfChange,
                        2 => EntryKind::ConfChangeV2,
                        other => EntryKind::Unknown(other),
                    }
                }
                (2, value) => entry.id.term = value.number()?,
                (3, value) => entry.id.index = value.number()?,
                (4, value) => entry.data = value.bytes()?,
                _ => {}
            }
        }
        Ok(entry)
    }

    /// The entry as a message.
    pub fn encode(&self) -> Vec<u8> {
        let kind = match self.kind {
            EntryKind::Normal => 0,
            EntryKind::ConfChange => 1,
            EntryKind::ConfChangeV2 => 2,
            EntryKind::Unknown(number) => number,
        };
        message::Entry {
            kind: Some(kind),
            term: Some(self.id.term),
            index: Some(self.id.index),
            data: (!self.data.is_empty()).then(|| self.data.to_vec()),
        }
        .encode_to_vec()
    }
}

impl HardState {
    /// Reads raft's state.
    pub fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let mut state = Self::default();
        for field in Fields::of(message) {
            match field? {
                (1, value) => state.term = value.number()?,
                (2, value) => state.vote = value.number()?,
                (3, value) => state.commit = value.number()?,
                _ => {}
            }
        }
        Ok(state)
    }

    /// The state as a message.
    pub fn encode(self) -> Vec<u8> {
        message::HardState { term: Some(self.term), vote: Some(self.vote), commit: Some(self.commit) }
            .encode_to_vec()
    }
}

impl ConfState {
    /// Reads who votes. The fields of a change in two steps, which etcd never makes, are passed over.
    pub fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let read = message::ConfState::decode(message).map_err(|_| Malformed::Invalid)?;
        Ok(Self { voters: read.voters, learners: read.learners })
    }

    fn message(&self) -> message::ConfState {
        message::ConfState {
            voters: self.voters.clone(),
            learners: self.learners.clone(),
            voters_outgoing: Vec::new(),
            learners_next: Vec::new(),
            auto_leave: Some(false),
        }
    }
}

impl SnapshotMark {
    /// Reads a snapshot record of a log.
    pub fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let mut mark = Self { id: EntryId::default(), conf_state: None };
        for field in Fields::of(message) {
            match field? {
                (1, value) => mark.id.index = value.number()?,
                (2, value) => mark.id.term = value.number()?,
                (3, value) => mark.conf_state = Some(ConfState::decode(value.bytes()?)?),
                _ => {}
            }
        }
        Ok(mark)
    }

    /// The snapshot record.
    pub fn encode(&self) -> Vec<u8> {
        message::SnapshotMark {
            index: Some(self.id.index),
            term: Some(self.id.term),
            conf_state: self.conf_state.as_ref().map(ConfState::message),
        }
        .encode_to_vec()
    }

    /// The same as the head of a snapshot file.
    pub(super) fn metadata(&self) -> message::SnapshotMetadata {
        message::SnapshotMetadata {
            conf_state: Some(self.conf_state.clone().unwrap_or_default().message()),
            index: Some(self.id.index),
            term: Some(self.id.term),
        }
    }
}

/// What the context of a change carries besides the member.
#[derive(serde::Deserialize)]
struct Promotion {
    #[serde(default, rename = "isPromote")]
    is_promote: bool,
}

impl ConfChange {
    /// Reads the data of an entry of kind [`EntryKind::ConfChange`].
    pub fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let (mut number, mut member_id, mut context) = (0, 0, &[][..]);
        for field in Fields::of(message) {
            match field? {
                (2, value) => number = value.number()?,
                (3, value) => member_id = value.number()?,
                (4, value) => context = value.bytes()?,
                _ => {}
            }
        }
        let promotes =
            || serde_json::from_slice::<Promotion>(context).is_ok_and(|context| context.is_promote);
        let kind = match number {
            0 if promotes() => ChangeKind::Promote,
            0 => ChangeKind::Add,
            1 => ChangeKind::Remove,
            2 => ChangeKind::Update,
            3 => ChangeKind::AddLearner,
            other => ChangeKind::Unknown(other),
        };
        let member = if kind == ChangeKind::Remove { None } else { StoredMember::from_json(context).ok() };
        Ok(Self { kind, member_id: MemberId(member_id), member })
    }

    /// The change as the first members of a cluster are written: [`ChangeKind::Add`] of this member.
    pub fn founding(member: &StoredMember) -> Vec<u8> {
        message::ConfChange {
            id: Some(0),
            kind: Some(0),
            member_id: Some(member.id),
            context: Some(member.to_json().into_bytes()),
        }
        .encode_to_vec()
    }
}

pub(super) use message::SnapshotFile;

#[cfg(test)]
mod tests;
