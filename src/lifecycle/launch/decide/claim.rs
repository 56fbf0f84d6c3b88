//! What must be seen twice before anything is removed or moved.
//!
//! One look around can meet a cluster in the middle of an election or a peer during its restart. So a
//! plan that cannot be taken back rests on a claim, and the claim must have held in an observation at
//! least [`CONFIRM_AFTER`] ago and in every one since (docs/contract.md#twice).

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use crate::etcd::id::{ClusterId, MemberId};

/// A second look counts only after etcd's own health interval (5 s) has passed for sure.
pub const CONFIRM_AFTER: Duration = Duration::from_secs(6);

/// Something that must be seen twice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Claim {
    /// The cluster on this disk no longer lists the member on this disk.
    OwnIdAbsent {
        /// The cluster.
        cluster_id: ClusterId,
        /// The member on this disk.
        member_id: MemberId,
    },
    /// A restored cluster replaced the one on this disk.
    ReplacedBy {
        /// The restored cluster.
        cluster_id: ClusterId,
    },
    /// The cluster lists no member with this instance's peer URL.
    OwnUrlAbsent {
        /// The cluster.
        cluster_id: ClusterId,
    },
    /// The leader is not connected to the member with this instance's peer URL.
    EntryDead {
        /// The cluster.
        cluster_id: ClusterId,
        /// That member.
        member_id: MemberId,
    },
    /// The leader is connected to the member with this instance's peer URL, which does not run here.
    EntryAlive {
        /// The cluster.
        cluster_id: ClusterId,
        /// That member.
        member_id: MemberId,
    },
    /// This damaged member is the only one there ever was, and nobody else answers.
    DamagedAlone,
    /// This instance is the only one, its disk is empty, and the store has a backup.
    EmptyAlone,
}

/// The launcher's memory of the claim its decisions rest on: carried from observation to observation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    held: Option<(Claim, Duration)>,
}

impl Memory {
    /// Notes what the decision of this moment rests on. `now` is any clock that never goes back. A claim
    /// that an observation in between did not support is forgotten.
    pub fn note(&mut self, now: Duration, rests_on: Option<Claim>) {
        self.held = match (self.held.take(), rests_on) {
            (Some((held, since)), Some(claim)) if held == claim => Some((held, since)),
            (_, Some(claim)) => Some((claim, now)),
            (_, None) => None,
        };
    }

    /// What an observation made now may take as confirmed.
    pub fn confirmed(&self, now: Duration) -> BTreeSet<Claim> {
        self.held
            .iter()
            .filter(|(_, since)| now.saturating_sub(*since) >= CONFIRM_AFTER)
            .map(|(claim, _)| claim.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIM: Claim = Claim::OwnUrlAbsent { cluster_id: ClusterId(1) };
    const OTHER: Claim = Claim::DamagedAlone;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_claim_is_confirmed_by_a_second_look_six_seconds_later() {
        let mut memory = Memory::default();
        memory.note(secs(10), Some(CLAIM));

        assert!(memory.confirmed(secs(15)).is_empty());
        memory.note(secs(15), Some(CLAIM));
        assert_eq!(memory.confirmed(secs(16)), BTreeSet::from([CLAIM]));
    }

    #[test]
    fn an_observation_in_between_that_says_otherwise_starts_the_wait_again() {
        for between in [None, Some(OTHER)] {
            let mut memory = Memory::default();
            memory.note(secs(0), Some(CLAIM));
            memory.note(secs(3), between);
            memory.note(secs(4), Some(CLAIM));

            assert!(memory.confirmed(secs(9)).is_empty());
            assert_eq!(memory.confirmed(secs(10)), BTreeSet::from([CLAIM]));
        }
    }
}
