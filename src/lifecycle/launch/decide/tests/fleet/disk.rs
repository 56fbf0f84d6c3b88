//! Disks, and the logs on them.

use crate::etcd::id::{ClusterId, MemberId};
use crate::lifecycle::launch::records::Records;

/// A member's data.
#[derive(Clone, Debug)]
pub(in super::super) struct Log {
    /// Which log it is: a member that begins anew has another one.
    pub(super) number: u64,
    pub(in super::super) cluster: ClusterId,
    pub(in super::super) member: MemberId,
    /// How many entries it has.
    pub(super) position: usize,
    /// Up to where its member list reaches: a joiner is told the list before it has any entry.
    pub(super) known: usize,
    pub(super) damage: Damage,
}

/// What is wrong with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    None,
    /// It is found when the data is checked.
    Hidden,
    /// It is seen at once.
    Plain,
}

/// A disk, with the launcher's records on it.
#[derive(Clone, Default)]
pub(in super::super) struct SimDisk {
    /// Which physical disk it is.
    pub(super) number: u64,
    pub(in super::super) log: Option<Log>,
    /// What a start leaves that dies before there is a log.
    pub(super) partial: bool,
    pub(in super::super) records: Records,
    pub(super) aside: Vec<Log>,
    /// An operator brought it back from an older life.
    pub(super) returned: bool,
}

impl SimDisk {
    /// The log, if etcd can be started on it.
    pub(super) fn intact(&self) -> Option<&Log> {
        self.log.as_ref().filter(|log| log.damage == Damage::None)
    }

    /// Whether the records tell that a member ran here, or was about to.
    pub(super) fn tells_of_a_member(&self) -> bool {
        self.records.tell_of_a_member() || self.records.join.is_some()
    }

    /// Every log that is still there.
    pub(super) fn kept(&self) -> impl Iterator<Item = u64> {
        self.log.iter().chain(&self.aside).map(|log| log.number)
    }
}
