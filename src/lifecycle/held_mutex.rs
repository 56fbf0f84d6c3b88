//! The mutex held beyond one process: from one script of a stop to the next (pre-stop takes it, post-stop or
//! post-start gives it back), and by a launcher that was killed while it joined (docs/contract.md#mutex).
//!
//! A lease carries no owner; that it is ours follows from the time until which etcd cannot have ended it.
//! Kept as seconds of this boot, so that neither a set clock nor another life of the VM can prolong it.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::intent::boot_id;
use super::records::{read_versioned, write_versioned};
use crate::etcd::client::{EtcdClient, EtcdError};
use crate::etcd::connect::Target;
use crate::etcd::mutex::{self, Held};
use crate::job::paths::Paths;
use crate::job::reach::Reach;
use crate::{atomic_file, journal};

const VERSION: u32 = 1;
/// `/proc/uptime` is rounded down to hundredths of a second: so much earlier it counts as run out.
const ROUNDING: Duration = Duration::from_millis(10);
/// Nobody waits longer for giving it back: it runs out by itself.
const GIVE_BACK_WITHIN: Duration = Duration::from_secs(4);

#[derive(Serialize, Deserialize)]
struct Stored {
    boot_id: String,
    /// Until when it is ours, in milliseconds since this boot.
    until_uptime_ms: u64,
}

/// Keeps for the next script that the mutex is ours.
pub fn keep(paths: &Paths, held: Held) -> io::Result<()> {
    std::fs::create_dir_all(paths.run())?;
    keep_at(&paths.mutex(), held)
}

/// The same in another file, whose directory is there.
pub fn keep_at(file: &Path, held: Held) -> io::Result<()> {
    let until = uptime()? + held.until.saturating_duration_since(Instant::now());
    let until_uptime_ms = u64::try_from(until.as_millis()).map_err(io::Error::other)?;
    write_versioned(file, VERSION, &Stored { boot_id: boot_id()?, until_uptime_ms })
}

/// The mutex, if a script of this boot left it and it is certainly still ours.
pub fn load(paths: &Paths) -> io::Result<Option<Held>> {
    load_from(&paths.mutex())
}

/// The same from another file.
pub fn load_from(file: &Path) -> io::Result<Option<Held>> {
    let Some(stored) = read_versioned::<Stored>(file, VERSION)? else { return Ok(None) };
    if stored.boot_id != boot_id()? {
        return Ok(None);
    }
    let left = Duration::from_millis(stored.until_uptime_ms).saturating_sub(uptime()? + ROUNDING);
    Ok((!left.is_zero()).then(|| Held { until: Instant::now() + left }))
}

/// Forgets it: it was given back, or has run out.
pub fn forget(paths: &Paths) -> io::Result<()> {
    atomic_file::remove(&paths.mutex())
}

/// Gives it back through one of these members, if it is ours. Never fails anything: what is not given back
/// runs out by itself.
pub async fn give_back(paths: &Paths, targets: &[Target], reach: &Reach, limit: Duration) {
    let released = async {
        let Some(held) = load(paths).map_err(|error| EtcdError::Other(error.to_string()))? else {
            return Ok(());
        };
        let mut client = EtcdClient::connect_to_one_of(targets, &reach.grpc, limit).await?;
        mutex::release(&mut client, held).await
    };
    let why = match tokio::time::timeout(GIVE_BACK_WITHIN, released).await {
        Ok(Ok(())) => match forget(paths) {
            Ok(()) => return,
            Err(error) => error.to_string(),
        },
        Ok(Err(error)) => error.to_string(),
        Err(_) => EtcdError::Timeout(GIVE_BACK_WITHIN).to_string(),
    };
    journal::warn(
        "the mutex was not given back",
        &json!({"why": why, "next": "it runs out by itself within 30 s"}),
    );
}

/// Holds it for another full time if it has not been renewed for a while: what follows may take as long.
pub async fn prolong(paths: &Paths, target: &Target, reach: &Reach, limit: Duration) {
    let renewed = async {
        let held = load(paths).map_err(|error| EtcdError::Other(error.to_string()))?;
        let Some(held) = held.filter(|held| !held.for_another(mutex::TTL / 2)) else { return Ok(None) };
        let mut client = EtcdClient::connect(target, reach.grpc.clone(), limit).await?;
        mutex::renew(&mut client, held).await
    };
    match renewed.await {
        Ok(None) => {}
        Ok(Some(held)) => {
            if let Err(error) = keep(paths, held) {
                journal::warn("the mutex is held but not noted", &json!({"why": error.to_string()}));
            }
        }
        Err(error) => journal::warn("the mutex was not renewed", &json!({"why": error.to_string()})),
    }
}

/// How long this machine has been up, its sleep included.
fn uptime() -> io::Result<Duration> {
    let text = std::fs::read_to_string("/proc/uptime")?;
    let seconds = text.split_ascii_whitespace().next().and_then(|seconds| seconds.parse().ok());
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/uptime: {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths() -> (tempfile::TempDir, Paths) {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths::below(directory.path());
        (directory, paths)
    }

    #[test]
    fn it_is_ours_no_longer_than_it_was() {
        let (_keep, paths) = paths();
        assert_eq!(load(&paths).unwrap(), None);

        let held = Held { until: Instant::now() + mutex::TTL };
        keep(&paths, held).unwrap();

        let loaded = load(&paths).unwrap().unwrap();
        assert!(loaded.until <= held.until);
        assert!(loaded.for_another(Duration::from_secs(1)));
        forget(&paths).unwrap();
        assert_eq!(load(&paths).unwrap(), None);
    }

    #[test]
    fn what_has_run_out_or_is_of_another_boot_is_not_ours() {
        let (_keep, paths) = paths();
        keep(&paths, Held { until: Instant::now() }).unwrap();
        assert_eq!(load(&paths).unwrap(), None);

        let stored = Stored { boot_id: "another".to_owned(), until_uptime_ms: u64::MAX };
        write_versioned(&paths.mutex(), VERSION, &stored).unwrap();
        assert_eq!(load(&paths).unwrap(), None);
    }
}
