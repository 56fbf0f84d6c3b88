//! What the pages show: kept by those who work, read by whoever asks.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;

use super::lag::Lag;
use crate::backup::layout::SetId;
use crate::backup::manifest::{Delta, Full, Verification};
use crate::etcd::id::ClusterId;

/// What may fail. The names are those of the label `act`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// Becoming the active one.
    Election,
    /// Looking at store and cluster.
    Look,
    /// A full snapshot.
    Full,
    /// A delta.
    Delta,
    /// Following the cluster's changes.
    Watch,
    /// Removing old sets.
    Prune,
    /// Reading a set back.
    Verification,
    /// Defragmenting members.
    Defragmentation,
}

impl Work {
    pub(super) const ALL: [Self; 8] = [
        Self::Election,
        Self::Look,
        Self::Full,
        Self::Delta,
        Self::Watch,
        Self::Prune,
        Self::Verification,
        Self::Defragmentation,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Election => "election",
            Self::Look => "look",
            Self::Full => "full",
            Self::Delta => "delta",
            Self::Watch => "watch",
            Self::Prune => "prune",
            Self::Verification => "verification",
            Self::Defragmentation => "defragmentation",
        }
    }
}

/// What failed last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Failure {
    pub(super) act: &'static str,
    pub(super) at: Timestamp,
    pub(super) why: String,
}

/// The newest full snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct LastFull {
    pub(super) set: SetId,
    pub(super) revision: i64,
    /// When it was begun.
    pub(super) at: Timestamp,
    /// In the store.
    pub(super) bytes: u64,
}

/// The newest delta.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct LastDelta {
    pub(super) set: SetId,
    pub(super) revision: i64,
    /// When the last change in it arrived.
    pub(super) at: Timestamp,
    /// In the store.
    pub(super) bytes: u64,
}

/// The newest verification that found nothing wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct LastVerification {
    pub(super) set: SetId,
    pub(super) revision: i64,
    pub(super) at: Timestamp,
    pub(super) deep: bool,
}

/// The last run over the members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct LastDefragmentation {
    pub(super) at: Timestamp,
    /// How many were defragmented.
    pub(super) members: usize,
    pub(super) gained_bytes: u64,
}

/// What lies in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Holdings {
    pub(super) sets: usize,
    pub(super) bytes: u64,
}

/// What only the active instance knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Active {
    pub(super) since: Timestamp,
    pub(super) cluster: Option<ClusterId>,
    pub(super) full: Option<LastFull>,
    pub(super) delta: Option<LastDelta>,
    pub(super) verification: Option<LastVerification>,
    /// Whether the last verification that was due here found nothing wrong.
    pub(super) sound: Option<bool>,
    pub(super) holdings: Option<Holdings>,
    /// The member whose changes are followed.
    pub(super) member: Option<String>,
    pub(super) lag: Lag,
    pub(super) next_full: Option<Timestamp>,
    pub(super) next_verification: Option<Timestamp>,
    pub(super) defragmentation: Option<LastDefragmentation>,
    pub(super) next_defragmentation: Option<Timestamp>,
}

impl Active {
    pub(super) fn since(since: Timestamp) -> Self {
        Self {
            since,
            cluster: None,
            full: None,
            delta: None,
            verification: None,
            sound: None,
            holdings: None,
            member: None,
            lag: Lag::default(),
            next_full: None,
            next_verification: None,
            defragmentation: None,
            next_defragmentation: None,
        }
    }

    /// Which cluster it is: of another one nothing holds that was known.
    pub(super) fn of_cluster(&mut self, cluster: ClusterId) {
        if self.cluster.replace(cluster).is_some_and(|known| known != cluster) {
            (self.full, self.delta, self.lag) = (None, None, Lag::default());
        }
    }

    pub(super) fn took_full(&mut self, full: &Full) {
        self.full = Some(LastFull {
            set: full.set.clone(),
            revision: full.revisions.last,
            at: full.begun,
            bytes: full.object.bytes,
        });
        self.lag.stored(full.revisions.last);
    }

    pub(super) fn took_delta(&mut self, delta: &Delta) {
        self.delta = Some(LastDelta {
            set: delta.set.clone(),
            revision: delta.last,
            at: delta.ended,
            bytes: delta.object.bytes,
        });
        self.lag.stored(delta.last);
    }

    pub(super) fn verified(&mut self, note: &Verification) {
        if self.verification.as_ref().is_none_or(|known| known.at < note.at) {
            self.verification = Some(LastVerification {
                set: note.set.clone(),
                revision: note.revision,
                at: note.at,
                deep: note.deep,
            });
        }
    }
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Content {
    /// `None` on a standby.
    pub(super) active: Option<Active>,
    /// Since the start, by [`Work`].
    pub(super) failures: [u64; Work::ALL.len()],
    pub(super) last_failure: Option<Failure>,
    /// By defragmentation, since the start.
    pub(super) gained_bytes: u64,
}

/// What the pages show.
#[derive(Debug, Default)]
pub(super) struct Board(Mutex<Content>);

impl Board {
    /// As it is now.
    pub(super) fn content(&self) -> Content {
        self.locked().clone()
    }

    /// This instance takes the backups from now on.
    pub(super) fn active(&self, now: Timestamp) {
        self.locked().active = Some(Active::since(now));
    }

    /// Another one may take them: what it does is not known here.
    pub(super) fn standby(&self) {
        self.locked().active = None;
    }

    /// Notes something that only the active one knows.
    pub(super) fn note(&self, noted: impl FnOnce(&mut Active)) {
        if let Some(active) = &mut self.locked().active {
            noted(active);
        }
    }

    /// A member gave so much back to its disk.
    pub(super) fn gained(&self, bytes: u64) {
        self.locked().gained_bytes += bytes;
    }

    /// Something failed.
    pub(super) fn failed(&self, work: Work, why: &(impl ToString + ?Sized)) {
        let mut content = self.locked();
        content.failures[work as usize] += 1;
        content.last_failure = Some(Failure { act: work.name(), at: Timestamp::now(), why: why.to_string() });
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Content> {
        // A panic while noting leaves whole values behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::fixture::{delta, full, minute};

    #[test]
    fn of_another_cluster_nothing_holds_that_was_known_of_the_first() {
        let board = Board::default();
        board.note(|_| unreachable!("a standby knows nothing"));
        board.active(minute(0));
        board.note(|active| {
            active.of_cluster(ClusterId(1));
            active.took_full(&full(0, 10));
            active.took_delta(&delta(0, 11, 15, 1).1);
            active.lag.seen(minute(0), 20);
        });
        assert_eq!(board.content().active.unwrap().lag.revisions(), Some(5));

        board.note(|active| active.of_cluster(ClusterId(1)));
        assert!(board.content().active.unwrap().full.is_some());
        board.note(|active| active.of_cluster(ClusterId(2)));

        let active = board.content().active.unwrap();
        assert_eq!((active.full, active.delta, active.lag), (None, None, Lag::default()));
    }
}
