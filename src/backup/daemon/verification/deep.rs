//! Restores the newest set, for a verification: by `etcd-backup verify --deep` as a child process, because it maps files
//! and may take minutes, and a child can be given up at any moment.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use jiff::Timestamp;
use nix::sys::statvfs::statvfs;
use serde_json::Value;
use tokio::process::Command;
use tokio::sync::watch;

use crate::backup::chain::Chain;
use crate::backup::layout::SetId;
use crate::backup::manifest::{VERSION, Verification};
use crate::etcd::process::{Priority, end_with_parent};

/// The directory that is made for it, and removed behind it.
const DIRECTORY: &str = "verification";
/// What the log of the restored member may take beside the database.
const LOG_BYTES: u64 = 128 << 20;

/// Where a set is restored for a moment.
#[derive(Debug, Clone)]
pub struct Deep {
    /// The properties of the job, with URL, credentials and keys of the store.
    pub job_config: PathBuf,
    /// Where there is room for a database.
    pub temporary_dir: PathBuf,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing is wrong; it is noted in the store.
    Sound(Verification),
    /// Something is, or nothing is known.
    Failed(String),
    /// Somebody wanted it to end.
    GivenUp,
}

impl Deep {
    /// Removes what a verification left that was killed together with who watched over it.
    pub(in crate::backup::daemon) fn clear(&self) -> io::Result<()> {
        match std::fs::remove_dir_all(self.directory()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether there is room for it; an error tells how much there should be.
    pub(super) fn room(&self, chain: &Chain) -> Result<(), String> {
        let disk = statvfs(&self.temporary_dir)
            .map_err(|error| format!("{} cannot be measured: {error}", self.temporary_dir.display()))?;
        enough(needed(chain), disk.blocks_available() * disk.fragment_size(), &self.temporary_dir)
    }

    /// Does it. What was written for it is gone afterwards, however it ended.
    pub(super) async fn verify(&self, set: &SetId, quit: &mut watch::Receiver<bool>) -> Outcome {
        let outcome = match self.child(set, quit).await {
            Ok(Some(output)) => outcome(&output, Timestamp::now()),
            Ok(None) => Outcome::GivenUp,
            Err(error) => Outcome::Failed(format!("a deep verification cannot be run: {error}")),
        };
        match (self.clear(), outcome) {
            (Err(error), Outcome::Sound(_)) => {
                Outcome::Failed(format!("{} cannot be removed: {error}", self.directory().display()))
            }
            (_, outcome) => outcome,
        }
    }

    /// `None`: it was given up, and has ended.
    async fn child(&self, set: &SetId, quit: &mut watch::Receiver<bool>) -> io::Result<Option<Output>> {
        self.clear()?;
        std::fs::create_dir(self.directory())?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["verify", "--deep", "--json", "--progress", "none"])
            .args(["--set", set.as_str()])
            .arg("--job-config")
            .arg(&self.job_config)
            .arg("--temporary-dir")
            .arg(self.directory())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // The member on this VM goes first.
        end_with_parent(&mut command, Priority::Low);
        let child = command.spawn()?;
        let pid = child.id();
        let mut output = std::pin::pin!(child.wait_with_output());
        tokio::select! {
            output = &mut output => output.map(Some),
            _ = quit.changed() => {
                if let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()) {
                    // Ignored: it may have ended just now. Until it is waited for, the number is its own.
                    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
                }
                // It must not write any more when its directory is removed.
                output.await.map(|_| None)
            }
        }
    }

    fn directory(&self) -> PathBuf {
        self.temporary_dir.join(DIRECTORY)
    }
}

/// The database is there twice: as it is put together, and as a member's.
fn needed(chain: &Chain) -> u64 {
    let deltas: u64 = chain.deltas.iter().map(|delta| delta.object.content_bytes).sum();
    2 * (chain.full.object.content_bytes + deltas) + LOG_BYTES
}

fn enough(needed: u64, free: u64, directory: &Path) -> Result<(), String> {
    if needed <= free {
        return Ok(());
    }
    Err(format!(
        "{} has {} MiB free where a restore needs {} MiB: a larger ephemeral disk, or verification.deep: false",
        directory.display(),
        free >> 20,
        needed >> 20,
    ))
}

/// What the child says.
fn outcome(output: &Output, now: Timestamp) -> Outcome {
    let verified: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    let one = verified.as_ref().and_then(|all| all.as_array()?.first());
    let sound = |one: &Value| {
        Some(Verification {
            version: VERSION,
            set: one["set"].as_str()?.parse().ok()?,
            at: now,
            deep: true,
            revision: one["revision"].as_i64()?,
            objects: one["objects"].as_u64()?,
            bytes: one["bytes"].as_u64()?,
        })
    };
    match one.and_then(sound) {
        Some(note) if output.status.success() => Outcome::Sound(note),
        _ => Outcome::Failed(told(output, one)),
    }
}

fn told(output: &Output, one: Option<&Value>) -> String {
    let faults = one.and_then(|one| one["faults"].as_array());
    let faults: Vec<String> = faults
        .into_iter()
        .flatten()
        .filter_map(|fault| Some(format!("{}: {}", fault["object"].as_str()?, fault["why"].as_str()?)))
        .collect();
    if faults.is_empty() {
        let said = String::from_utf8_lossy(&output.stderr);
        return format!("etcd-backup verify --deep: {}: {}", output.status, said.trim().replace('\n', "; "));
    }
    faults.join("; ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;
    use crate::backup::fixture::{minute, set};

    fn said(code: i32, stdout: &str, stderr: &str) -> Outcome {
        let output = Output {
            status: ExitStatus::from_raw(code << 8),
            stdout: stdout.as_bytes().to_vec(),
            stderr: stderr.as_bytes().to_vec(),
        };
        outcome(&output, minute(0))
    }

    #[test]
    fn only_a_child_that_says_so_and_ends_well_has_proven_a_set() {
        let sound = format!(
            r#"[{{"set": "{}", "deep": true, "revision": 12, "objects": 2, "bytes": 9, "faults": []}}]"#,
            set(0)
        );
        let Outcome::Sound(note) = said(0, &sound, "") else { panic!("it is sound") };
        assert_eq!((note.set, note.revision, note.deep), (set(0), 12, true));

        let broken = format!(
            r#"[{{"set": "{}", "revision": null, "faults": [{{"object": "full.db", "why": "damaged"}}]}}]"#,
            set(0)
        );
        assert_eq!(said(1, &broken, "long"), Outcome::Failed("full.db: damaged".to_owned()));
        for (code, stdout) in [(1, sound.as_str()), (0, ""), (137, ""), (0, "[]")] {
            let Outcome::Failed(why) = said(code, stdout, "first\nsecond\n") else {
                panic!("{code} {stdout}")
            };
            assert!(why.contains("first; second"), "{why}");
        }
    }

    #[test]
    fn without_room_it_says_how_much_there_should_be() {
        let at = Path::new("/var/vcap/data/etcd-backup");
        assert_eq!(enough(5 << 20, 5 << 20, at), Ok(()));
        let why = enough(300 << 20, 20 << 20, at).unwrap_err();
        assert!(why.contains("20 MiB free") && why.contains("300 MiB"), "{why}");
    }

    #[test]
    fn only_its_own_directory_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let deep = Deep { job_config: PathBuf::new(), temporary_dir: directory.path().to_path_buf() };
        deep.clear().unwrap();
        std::fs::create_dir_all(directory.path().join("verification/.etcd-backup-1/data")).unwrap();
        std::fs::create_dir(directory.path().join("other")).unwrap();

        deep.clear().unwrap();

        let left: Vec<_> =
            std::fs::read_dir(directory.path()).unwrap().map(|one| one.unwrap().file_name()).collect();
        assert_eq!(left, ["other"]);
    }
}
