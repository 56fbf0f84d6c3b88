//! Job etcd-backup's program, without an instance around it.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::etcd::Etcd;
use super::shop::Shop;
use super::{endpoint, eventually};

/// `etcd-backup run`; ends with its guard.
pub(crate) struct Job {
    pub(crate) child: Child,
    pub(crate) log: PathBuf,
}

impl Job {
    /// `more` replaces properties.
    pub(crate) fn start(shop: &Shop, etcd: &Etcd, name: &str, more: &Value, dies_at: Option<&str>) -> Self {
        let scratch = shop.0.path().join("jobs");
        fs::create_dir_all(&scratch).unwrap();
        let mut properties = json!({
            "store.url": shop.url(), "schedule": "0 0 1 1 *", "schedule_jitter": "0s", "delta_period": "100ms",
        });
        properties.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let config = scratch.join(format!("{name}.json"));
        #[expect(clippy::disallowed_methods, reason = "files of a test need no durability")]
        fs::write(&config, json!({"version": 1, "properties": properties}).to_string()).unwrap();
        let log = scratch.join(format!("{name}.log"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-backup"));
        command.args(["run", "--etcd", &endpoint(etcd), "--job-config"]).arg(&config).env_clear();
        command.arg("--temporary-dir").arg(&scratch);
        if let Some(place) = dies_at {
            command.env("ETCD_TOOLS_FAIL_POINT", place);
        }
        let stderr = fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        Self { child: command.stdin(Stdio::null()).stderr(stderr).spawn().unwrap(), log }
    }

    pub(crate) fn told(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The most memory it ever had, in bytes.
    pub(crate) fn most_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }

    pub(crate) fn says(&self, text: &str) {
        eventually(&format!("'{text}' in {}", self.told()), || self.told().contains(text).then_some(()));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Waits until it is gone.
    pub(crate) fn ended(mut self) -> std::process::ExitStatus {
        eventually("the end of etcd-backup", || self.child.try_wait().unwrap())
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // Ignored: it may have ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
