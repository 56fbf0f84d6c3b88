//! Reads the newest set back by a schedule, beside everything else: a backup that nobody has read is a hope.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::sync::watch;

use super::properties::Job;
use super::{pause, span};
use crate::backup::catalog::{catalog, load};
use crate::backup::chain::{Point, choose};
use crate::backup::full::random;
use crate::backup::manifest::Encryption;
use crate::backup::verify::{read_back, record, whole};
use crate::journal;

/// The store is asked what is due at least this often: another instance may have verified.
const LOOK_EVERY: Duration = Duration::from_hours(1);

/// Verifies when it is time, until somebody wants it to end.
pub(super) async fn by_schedule(job: &Job, mut quit: watch::Receiver<bool>) {
    let Some(schedule) = &job.verification else { return };
    let begun = Timestamp::now();
    // What has failed is not read again and again: the next time is behind that.
    let mut tried = begun;
    while !*quit.borrow() {
        let now = Timestamp::now();
        let due = tokio::select! {
            verified = last_verified(job) => schedule.due_after(verified.unwrap_or(tried).max(tried), now),
            _ = quit.changed() => return,
        };
        if due > now {
            pause(span(now, due).min(LOOK_EVERY), &mut quit).await;
            continue;
        }
        tried = now;
        tokio::select! {
            () = verify(job) => {}
            _ = quit.changed() => return,
        }
    }
}

/// When anything in the store was last proven.
async fn last_verified(job: &Job) -> Option<Timestamp> {
    let catalog = catalog(&job.store).await.ok()?;
    catalog.sets.iter().filter_map(|entry| entry.verified.last().copied()).max()
}

async fn verify(job: &Job) {
    match newest(job).await {
        Ok(None) => {}
        Ok(Some((set, revision, objects))) => {
            journal::info("backup verified", &json!({"set": set, "revision": revision, "objects": objects}));
        }
        Err(why) => journal::error("a backup could not be verified", &json!({"why": why})),
    }
}

/// Reads the newest set back, and tells its name, how far it is proven and of how many objects; `None` if there is none.
async fn newest(job: &Job) -> Result<Option<(String, i64, u64)>, String> {
    let catalog = catalog(&job.store).await.map_err(|error| error.to_string())?;
    if catalog.sets.is_empty() {
        return Ok(None);
    }
    let entry = choose(&catalog.sets, None, Point::Latest).map_err(|error| error.to_string())?;
    if job.keys.is_empty() && entry.full.object.encryption != Encryption::None {
        return Err(format!(
            "set {} is encrypted, and there is no private key here: set encryption.identities, or run `etcd-backup verify` where one is",
            entry.set()
        ));
    }
    let set = load(&job.store, entry).await.map_err(|error| error.to_string())?;
    let verified =
        read_back(&job.store, &whole(&set), &job.keys, |_, _| {}).await.map_err(|error| error.to_string())?;
    if let (true, Some(revision)) = (verified.is_sound(), verified.revision) {
        record(&job.store, &verified, revision, random()).await.map_err(|error| error.to_string())?;
        return Ok(Some((verified.set.to_string(), revision, verified.objects)));
    }
    let faults: Vec<String> =
        verified.faults.iter().map(|fault| format!("{}: {}", fault.object, fault.why)).collect();
    Err(faults.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::config::StoreConfig;
    use crate::backup::fixture::{full, put_full};
    use crate::backup::store::Store;

    #[tokio::test]
    async fn the_newest_set_is_read_and_noted_and_damage_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("file://{}", directory.path().display());
        let job = Job::parse(&json!({"properties": {"store.url": url}}).to_string()).unwrap();
        let store = Store::open(&StoreConfig { url, ..StoreConfig::default() }).unwrap();

        assert_eq!(newest(&job).await, Ok(None));
        assert_eq!(last_verified(&job).await, None);

        put_full(&store, &full(0, 10)).await;
        let set = full(0, 10).set.to_string();
        assert_eq!(newest(&job).await, Ok(Some((set, 10, 1))));
        assert!(last_verified(&job).await.is_some());

        let object = full(0, 10).object.name;
        std::fs::write(directory.path().join(&object), b"full 11").unwrap();
        let told = newest(&job).await.unwrap_err();
        assert!(told.contains(&object), "{told}");
    }
}
