//! Removes what retention does not keep.

use jiff::{SignedDuration, Timestamp};

use super::catalog::{Catalog, Entry, Unfinished};
use super::layout;
use super::retention::{self, Known, Policy, Verdict};
use super::step::Step;
use super::store::{Store, StoreError};

/// How long what is not finished is left alone: no upload takes a day.
const UNFINISHED_FOR: SignedDuration = SignedDuration::from_hours(24);

/// What is to go, and what stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan<'a> {
    /// All sets with their verdicts, the newest first.
    pub sets: Vec<(&'a Entry, Verdict)>,
    /// Folders of uploads that were interrupted long ago.
    pub unfinished: Vec<&'a Unfinished>,
}

impl Plan<'_> {
    /// How many sets go, and how many bytes with them and with what is not finished.
    pub fn goes(&self) -> (usize, u64) {
        let sets = self.sets.iter().filter(|(_, verdict)| verdict.kept.is_empty());
        let unfinished: u64 = self.unfinished.iter().map(|one| one.bytes).sum();
        (sets.clone().count(), sets.map(|(entry, _)| entry.bytes).sum::<u64>() + unfinished)
    }
}

/// Judges everything in a store. Sets whose manifest cannot be read stay: a newer release may have written them.
pub fn plan<'a>(catalog: &'a Catalog, policy: &Policy, now: Timestamp) -> Plan<'a> {
    let known: Vec<Known> = catalog.sets.iter().map(Known::from).collect();
    let verdicts = retention::judge(&known, policy, now);
    // Our clock may be wrong, and the store's too, but not both of them by the same.
    let newest = catalog.sets.iter().map(|entry| entry.full.ended).max();
    let long_ago = |one: &&Unfinished| {
        let before = |clock: Timestamp| clock.duration_since(one.modified) > UNFINISHED_FOR;
        before(now) && newest.is_none_or(before)
    };
    Plan {
        sets: catalog.sets.iter().zip(verdicts).collect(),
        unfinished: catalog.unfinished.iter().filter(long_ago).collect(),
    }
}

/// Carries it out. A set's manifest goes first: what is interrupted then leaves something unfinished, never a set that
/// is listed and cannot be restored.
pub async fn prune(store: &Store, plan: &Plan<'_>) -> Result<(), StoreError> {
    for (entry, _) in plan.sets.iter().filter(|(_, verdict)| verdict.kept.is_empty()) {
        store.delete(&layout::full_manifest(entry.set())).await?;
        Step::SetUnlisted.reach();
        for name in &entry.names {
            store.delete(name).await?;
            Step::ObjectRemoved.reach();
        }
    }
    for unfinished in &plan.unfinished {
        for name in &unfinished.names {
            store.delete(name).await?;
            Step::UnfinishedRemoved.reach();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::catalog::catalog;
    use crate::backup::config::StoreConfig;
    use crate::backup::fixture::{delta, full, minute, put_delta, put_full, set};

    #[tokio::test]
    async fn what_is_not_kept_is_gone_and_the_rest_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("file://{}", directory.path().display());
        let store = Store::open(&StoreConfig { url, ..StoreConfig::default() }).unwrap();
        for (minutes, last) in [(0, 10), (60, 20), (120, 30)] {
            put_full(&store, &full(minutes, last)).await;
        }
        put_delta(&store, &delta(0, 11, 12, 5)).await;
        put_delta(&store, &delta(120, 31, 32, 125)).await;
        let policy = Policy {
            keep_last: 1,
            keep_hourly: 0,
            keep_daily: 0,
            keep_weekly: 0,
            keep_monthly: 0,
            max_age: None,
        };

        let before = catalog(&store).await.unwrap();
        let plan = plan(&before, &policy, minute(130));
        assert_eq!(plan.goes().0, 2);
        prune(&store, &plan).await.unwrap();

        let after = catalog(&store).await.unwrap();
        assert_eq!(after.sets, [before.sets[0].clone()]);
        assert_eq!(after.unfinished, []);
        assert_eq!(after.sets[0].deltas.len(), 1);
    }

    #[test]
    fn what_is_not_finished_is_left_alone_for_a_day_by_either_clock() {
        let unfinished =
            Unfinished { set: set(0), bytes: 1, modified: minute(0), names: vec!["v1/x".to_owned()] };
        let entry = |minutes: i64| Entry {
            full: full(minutes, 1),
            deltas: vec![],
            verified: vec![],
            bytes: 0,
            broken: None,
            names: vec![],
        };
        let day = 24 * 60;
        for (newest, now, goes) in [
            (None, day, 0),
            (None, day + 1, 1),
            (Some(10), day * 400, 0),
            (Some(day + 1), day + 1, 1),
            (Some(day * 400), 10, 0),
        ] {
            let catalog = Catalog {
                sets: newest.map(entry).into_iter().collect(),
                unreadable: vec![],
                unfinished: vec![unfinished.clone()],
            };

            let plan = plan(&catalog, &Policy::default(), minute(now));

            assert_eq!(plan.unfinished.len(), goes, "{newest:?} {now}");
        }
    }
}
