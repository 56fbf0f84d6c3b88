//! How far the store is behind etcd. Pure: revisions and a clock in.

use std::collections::VecDeque;

use jiff::Timestamp;

/// More moments than this are not remembered: the ones between are left out, the oldest never.
const MOMENTS_MAX: usize = 1_024;

/// What is in etcd and not yet in the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lag {
    /// The last revision in the store; `None` = no set of this cluster.
    stored: Option<i64>,
    /// The last one that was seen in etcd.
    etcd: Option<i64>,
    /// When etcd was first seen at a revision that is not in the store, the oldest first.
    ahead: VecDeque<(Timestamp, i64)>,
}

impl Lag {
    /// etcd is at this revision.
    pub(super) fn seen(&mut self, at: Timestamp, revision: i64) {
        if self.etcd.is_some_and(|known| revision <= known) {
            return;
        }
        self.etcd = Some(revision);
        if self.stored.is_some_and(|stored| revision <= stored) {
            return;
        }
        let full = self.ahead.len() >= MOMENTS_MAX;
        match self.ahead.back_mut() {
            Some(last) if full => last.1 = revision,
            _ => self.ahead.push_back((at, revision)),
        }
    }

    /// Everything up to this revision is in the store.
    pub(super) fn stored(&mut self, revision: i64) {
        let stored = self.stored.map_or(revision, |stored| stored.max(revision));
        self.stored = Some(stored);
        while self.ahead.front().is_some_and(|(_, ahead)| *ahead <= stored) {
            self.ahead.pop_front();
        }
    }

    /// How many revisions the store is behind.
    pub(super) fn revisions(&self) -> Option<i64> {
        Some((self.etcd? - self.stored?).max(0))
    }

    /// For how long the oldest change that is not in the store has been waiting.
    pub(super) fn seconds(&self, now: Timestamp) -> Option<f64> {
        self.stored?;
        self.etcd?;
        let since = self.ahead.front().map(|(at, _)| now.duration_since(*at).as_secs_f64());
        Some(since.unwrap_or_default().max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000 + second).unwrap()
    }

    fn read(lag: &Lag, second: i64) -> (Option<i64>, Option<f64>) {
        (lag.revisions(), lag.seconds(at(second)))
    }

    #[test]
    fn it_counts_from_the_oldest_change_that_waits() {
        let mut lag = Lag::default();
        assert_eq!(read(&lag, 0), (None, None));
        lag.seen(at(0), 10);
        assert_eq!(read(&lag, 0), (None, None), "nothing is known of the store");

        lag.stored(10);
        assert_eq!(read(&lag, 50), (Some(0), Some(0.0)));
        lag.seen(at(60), 12);
        lag.seen(at(70), 15);
        lag.seen(at(75), 12);
        assert_eq!(read(&lag, 80), (Some(5), Some(20.0)));
        lag.stored(12);
        assert_eq!(read(&lag, 80), (Some(3), Some(10.0)));
        lag.stored(16);
        assert_eq!(read(&lag, 80), (Some(0), Some(0.0)));
        // What the store has need not have been seen here.
        lag.seen(at(90), 16);
        assert_eq!(read(&lag, 95), (Some(0), Some(0.0)));
    }

    #[test]
    fn it_takes_no_more_memory_however_long_the_store_is_away() {
        let mut lag = Lag::default();
        lag.stored(0);
        for revision in 1..5_000 {
            lag.seen(at(revision), revision);
        }
        assert_eq!(lag.ahead.len(), MOMENTS_MAX);
        assert_eq!(read(&lag, 5_001), (Some(4_999), Some(5_000.0)));
        lag.stored(4_998);
        assert_eq!(lag.revisions(), Some(1));
        assert!(lag.seconds(at(5_001)).unwrap() > 0.0);
    }
}
