//! Reads the newest set back by a schedule, or restores it, beside everything else: a backup that nobody has read is a
//! hope.

mod deep;

pub use deep::Deep;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::sync::watch;

use self::deep::Outcome;
use super::board::{Board, Work};
use super::properties::Job;
use super::{pause, span};
use crate::backup::catalog::{BackupSet, catalog, load};
use crate::backup::chain::{Chain, Point, choose};
use crate::backup::full::random;
use crate::backup::manifest::{Encryption, Verification};
use crate::backup::verify::{read_back, record, whole};
use crate::journal;

/// The store is asked what is due at least this often: another instance may have verified.
const LOOK_EVERY: Duration = Duration::from_hours(1);

/// Verifies when it is time, until somebody wants it to end.
pub(super) async fn by_schedule(job: &Job, board: &Board, deep: &Deep, mut quit: watch::Receiver<bool>) {
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
        board.note(|active| active.next_verification = Some(due));
        if due > now {
            pause(span(now, due).min(LOOK_EVERY), &mut quit).await;
            continue;
        }
        tried = now;
        verify(job, board, deep, &mut quit).await;
    }
}

/// When anything in the store was last proven.
async fn last_verified(job: &Job) -> Option<Timestamp> {
    let catalog = catalog(&job.store).await.ok()?;
    catalog.sets.iter().filter_map(|entry| entry.verified.last().copied()).max()
}

/// Verifies the newest set, and says what came of it.
async fn verify(job: &Job, board: &Board, deep: &Deep, quit: &mut watch::Receiver<bool>) {
    let set = tokio::select! {
        set = newest(job) => set,
        _ = quit.changed() => return,
    };
    let outcome = match set {
        Ok(None) => return,
        Ok(Some(set)) => proven(job, board, deep, &whole(&set), quit).await,
        Err(why) => Outcome::Failed(why),
    };
    match outcome {
        Outcome::Sound(note) => {
            journal::info(
                "backup verified",
                &json!({
                    "set": note.set.as_str(),
                    "revision": note.revision,
                    "objects": note.objects,
                    "deep": note.deep,
                }),
            );
            board.note(|active| {
                active.verified(&note);
                active.sound = Some(true);
            });
        }
        Outcome::Failed(why) => {
            journal::error("a backup could not be verified", &json!({"why": why}));
            board.failed(Work::Verification, &why);
            board.note(|active| active.sound = Some(false));
        }
        Outcome::GivenUp => {}
    }
}

/// Restores a set if that is wanted and there is room for it, else reads it back.
async fn proven(
    job: &Job,
    board: &Board,
    deep: &Deep,
    chain: &Chain,
    quit: &mut watch::Receiver<bool>,
) -> Outcome {
    if job.deep {
        match deep.room(chain) {
            Ok(()) => return deep.verify(chain.set(), quit).await,
            Err(why) => {
                journal::warn("a backup is only read, not restored, to verify it", &json!({"why": why}));
                board.failed(Work::Verification, &why);
            }
        }
    }
    tokio::select! {
        read = read(job, chain) => read.map_or_else(Outcome::Failed, Outcome::Sound),
        _ = quit.changed() => Outcome::GivenUp,
    }
}

/// The newest set; `None` if there is none. One that cannot be opened here is an error.
async fn newest(job: &Job) -> Result<Option<BackupSet>, String> {
    let catalog = catalog(&job.store).await.map_err(|error| error.to_string())?;
    if catalog.sets.is_empty() {
        return Ok(None);
    }
    let entry = choose(&catalog, None, Point::Latest).map_err(|error| error.to_string())?;
    if job.keys.is_empty() && entry.full.object.encryption != Encryption::None {
        return Err(format!(
            "set {} is encrypted, and there is no private key here: set encryption.identities, or run `etcd-backup verify` where one is",
            entry.set()
        ));
    }
    load(&job.store, entry).await.map(Some).map_err(|error| error.to_string())
}

/// Reads a set back, and gives the note that it left in the store.
async fn read(job: &Job, chain: &Chain) -> Result<Verification, String> {
    let verified =
        read_back(&job.store, chain, &job.keys, |_, _| {}).await.map_err(|error| error.to_string())?;
    if let (true, Some(revision)) = (verified.is_sound(), verified.revision) {
        return record(&job.store, &verified, revision, random()).await.map_err(|error| error.to_string());
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

        let (board, unused) = (Board::default(), Deep { job_config: "".into(), temporary_dir: "".into() });
        board.active(Timestamp::now());
        let (_keep, mut quit) = watch::channel(false);
        let mut verified = async || {
            verify(&job, &board, &unused, &mut quit).await;
            let content = board.content();
            let active = content.active.unwrap();
            (active.sound, active.verification, content.last_failure.map(|failure| failure.why))
        };

        assert_eq!(verified().await, (None, None, None));
        assert_eq!(last_verified(&job).await, None);

        put_full(&store, &full(0, 10)).await;
        let (sound, note, _) = verified().await;
        let note = note.unwrap();
        assert_eq!((sound, note.set, note.revision, note.deep), (Some(true), full(0, 10).set, 10, false));
        assert!(last_verified(&job).await.is_some());

        let object = full(0, 10).object.name;
        std::fs::write(directory.path().join(&object), b"full 11").unwrap();
        let (sound, note, told) = verified().await;
        assert_eq!((sound, note.unwrap().revision), (Some(false), 10));
        assert!(told.unwrap().contains(&object));
    }

    /// A directory that cannot be measured has no room: the set is read all the same, and that is told.
    #[tokio::test]
    async fn without_room_to_restore_it_a_set_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("file://{}", directory.path().display());
        let properties = json!({"properties": {"store.url": url, "verification.deep": true}});
        let job = Job::parse(&properties.to_string()).unwrap();
        put_full(&job.store, &full(0, 10)).await;
        let (board, none) = (Board::default(), Deep { job_config: "".into(), temporary_dir: "/none".into() });
        board.active(Timestamp::now());
        let (_keep, mut quit) = watch::channel(false);

        verify(&job, &board, &none, &mut quit).await;

        let content = board.content();
        assert_eq!(content.active.unwrap().verification.map(|note| note.deep), Some(false));
        assert!(content.last_failure.unwrap().why.contains("/none"));
    }
}
