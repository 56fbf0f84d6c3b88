//! Containers by real runc (`--bpm runc`), with tini as their init: Debian's packages of these names, the programs
//! that bpm ships. Who runs here is asked of runc, whatever a killed command left.
//!
//! runc runs inside the instance's own view of files, as everything that `/var/vcap/jobs/bpm/bin/bpm` does: so the
//! sources of mounts are the instance's. docs/local-director.md#bpm

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::Signal;
use serde::Deserialize;

use super::Seen;
use crate::atomic_file;
use crate::report::Complaint;

/// Where runc keeps what it knows, as bpm has it: emptied by a reboot.
const ROOT: &str = "/var/vcap/sys/run/bpm-runc";
/// Where the programs are looked for; the caller may have another PATH or none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The two programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runc {
    runc: PathBuf,
    tini: PathBuf,
}

impl Runc {
    /// Finds both on this machine.
    pub fn find() -> Result<Self> {
        let find =
            |name: &str| which::which_in_global(name, Some(PATH)).ok().and_then(|mut found| found.next());
        match (find("runc"), find("tini")) {
            (Some(runc), Some(tini)) => Ok(Self { runc, tini }),
            (runc, _) => Err(Complaint::failed(
                format!("there is no {} on this machine", if runc.is_none() { "runc" } else { "tini" }),
                "with --bpm runc processes run in containers made by runc, with tini as their init",
                "apt-get install runc tini, or deploy with --bpm namespaces",
            )
            .into()),
        }
    }

    /// The init, which a container sees at the same place.
    pub fn init(&self) -> String {
        self.tini.display().to_string()
    }

    /// What became of a container.
    pub fn seen(&self, id: &str) -> Result<Seen> {
        #[derive(Deserialize)]
        struct State {
            status: String,
            pid: i32,
        }
        if !state_directory(id).exists() {
            return Ok(Seen::Absent);
        }
        let output = self.call(&["state", id])?;
        if !output.status.success() {
            let told = words(&output);
            // Torn after a power loss: bpm clears it away and starts anew.
            return if told.contains("does not exist") { Ok(Seen::Absent) } else { Err(anyhow!(told)) };
        }
        let state: State = serde_json::from_slice(&output.stdout).context("read what runc tells")?;
        Ok(if state.status == "stopped" { Seen::Ended } else { Seen::Running(state.pid) })
    }

    /// Starts the container of a bundle; the pid of its init is in the pidfile then.
    pub fn run(&self, id: &str, bundle: &Path, pidfile: &Path, stdout: File, stderr: File) -> Result<()> {
        let status = self
            .command()
            .arg("run")
            .arg("--bundle")
            .arg(bundle)
            .arg("--pid-file")
            .arg(pidfile)
            .args(["--detach", id])
            .stdout(stdout)
            .stderr(stderr)
            .status()
            .with_context(|| format!("run {}", self.runc.display()))?;
        if status.success() {
            return Ok(());
        }
        bail!("runc: {status}; its words are in the process' stderr.log")
    }

    /// Sends a signal to the container's init.
    pub fn signal(&self, id: &str, signal: Signal) -> Result<()> {
        self.succeed(&["kill", id, signal.as_str()])
    }

    /// Kills whatever is left in a container and forgets it.
    pub fn delete(&self, id: &str) -> Result<()> {
        self.succeed(&["delete", "--force", id])
    }

    /// The same for a container whose state cannot be read.
    pub fn delete_torn(&self, id: &str) -> Result<()> {
        let state = state_directory(id).join("state.json");
        if state.exists() {
            atomic_file::remove(&state).with_context(|| format!("remove {}", state.display()))?;
        }
        // Of what has no state runc takes the directory away.
        self.delete(id)
    }

    fn succeed(&self, arguments: &[&str]) -> Result<()> {
        let output = self.call(arguments)?;
        if output.status.success() { Ok(()) } else { Err(anyhow!(words(&output))) }
    }

    fn call(&self, arguments: &[&str]) -> Result<Output> {
        self.command().args(arguments).output().with_context(|| format!("run {}", self.runc.display()))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.runc);
        command.env_clear().env("PATH", PATH).args(["--root", ROOT]).stdin(Stdio::null());
        command
    }
}

/// Writes what runc reads of a container.
pub fn write_bundle(bundle: &Path, config: &serde_json::Value) -> Result<()> {
    let rootfs = bundle.join("rootfs");
    DirBuilder::new().recursive(true).mode(0o755).create(&rootfs).context("make the bundle")?;
    atomic_file::write_json_for_now(&bundle.join("config.json"), config, 0o600).context("write the bundle")
}

/// Whether runc was ever asked to run a container of this name and not to forget it.
pub fn knows(id: &str) -> bool {
    state_directory(id).exists()
}

fn state_directory(id: &str) -> PathBuf {
    Path::new(ROOT).join(id)
}

/// What runc says of a failure, on one line.
fn words(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    format!("runc: {}: {}", output.status, text.trim().replace('\n', "; "))
}

/// bpm's name for a container. What is no letter, digit, `_` or `-` becomes its number after a point.
pub fn container_id(job: &str, process: &str) -> String {
    let name = if job == process { job.to_owned() } else { format!("{job}.{process}") };
    name.bytes().fold("bpm-".to_owned(), |id, byte| {
        if byte.is_ascii_alphanumeric() || b"_-".contains(&byte) {
            id + &char::from(byte).to_string()
        } else {
            id + &format!(".{byte:02x}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_named_after_job_and_process() {
        assert_eq!(container_id("etcd", "etcd"), "bpm-etcd");
        assert_eq!(container_id("etcd", "worker_2"), "bpm-etcd.2eworker_2");
        assert_eq!(container_id("a b", "a b"), "bpm-a.20b");
    }
}
