//! A store in a directory, the job that fills it, and what is listed in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::process::{Took, took};
use crate::member::Member;

/// How often the store is listed while something is waited for.
pub const LIST_EVERY: Duration = Duration::from_millis(4);
/// Everything is in the store within this, or never.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// A store in a directory.
pub struct Shop<'a> {
    pub tool: &'a Path,
    pub directory: PathBuf,
}

impl Shop<'_> {
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.tool);
        command.args(arguments).args(["--store", &self.url()]).env_clear();
        command
    }

    /// A full snapshot.
    pub fn save(&self, etcd: &Member) -> Result<Took> {
        took(&mut self.command(&["save", "--etcd", &etcd.url]))
    }

    /// Up to which revision the store has deltas, as their manifests' names say.
    pub fn listed(&self) -> Result<i64> {
        let mut last = 0;
        for set in fs::read_dir(self.directory.join("v1")).context("list the store")? {
            for object in fs::read_dir(set?.path()).context("list a set")? {
                let name = object?.file_name().into_string().unwrap_or_default();
                // Other objects of a delta have other suffixes.
                let Some(stem) = name.strip_suffix(".json") else { continue };
                let parts: Vec<&str> = stem.split('-').collect();
                if let ["delta", _, end, _] = parts[..] {
                    last = last.max(end.parse().with_context(|| format!("the name {name}"))?);
                }
            }
        }
        Ok(last)
    }

    /// Waits for it.
    pub fn has(&self, revision: i64) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.listed()? < revision {
            ensure!(Instant::now() < deadline, "revision {revision} does not get into the store");
            #[expect(clippy::disallowed_methods, reason = "the span between two looks at the store")]
            std::thread::sleep(LIST_EVERY);
        }
        Ok(())
    }

    fn url(&self) -> String {
        format!("file://{}", self.directory.display())
    }
}

/// `etcd-backup run`, which takes no full snapshot by itself: one is in the store.
pub struct Job(Child);

impl Job {
    /// Starts it and waits until deltas come into the store.
    pub fn start(shop: &Shop<'_>, etcd: &Member, period: &str) -> Result<Self> {
        let beside = shop.directory.with_extension("job");
        fs::create_dir_all(&beside).context("make a directory for the job")?;
        let config = beside.join("job.json");
        let properties = json!({
            "store.url": shop.url(), "schedule": "0 0 1 1 *", "schedule_jitter": "0s",
            "verification.schedule": "", "delta_period": period,
        });
        #[expect(clippy::disallowed_methods, reason = "a measurement needs no durability")]
        fs::write(&config, json!({"version": 1, "properties": properties}).to_string())?;
        let child = Command::new(shop.tool)
            .args(["run", "--etcd", &etcd.url, "--job-config"])
            .arg(&config)
            .arg("--temporary-dir")
            .arg(&beside)
            .env_clear()
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start the job")?;
        let job = Self(child);
        etcd.fill(1, |_| b"followed".to_vec())?;
        shop.has(etcd.revision()?)?;
        Ok(job)
    }

    pub fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.0.id())?))
    }

    /// Asks it to end, and waits.
    pub fn end(mut self) -> Result<()> {
        kill(self.pid()?, Signal::SIGTERM)?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // Ignored: it may have ended before.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
