//! Clusters and files of a test, and how the program is run on them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::etcd::{Etcd, PATIENCE, Start};

/// What everything in a test lies in.
pub(super) struct Scene(TempDir);

impl Scene {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn etcd(&self, series: &'static str, name: &str, more: &[&str]) -> Etcd {
        Etcd::start(&Start::alone(series, &self.0.path().join(name)).with(more))
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn export(&self, name: &str, etcd: &Etcd, more: &[&str]) -> (PathBuf, Output) {
        let file = self.file(name);
        let output = command("export", &file, etcd, more).output().unwrap();
        (file, output)
    }

    /// What is there besides the directories of etcd.
    pub(super) fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap().map(Result::unwrap);
        let files = entries.filter(|entry| !entry.file_type().unwrap().is_dir());
        files.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }
}

pub(super) fn command(what: &str, file: &Path, etcd: &Etcd, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-backup"));
    command.arg(what).arg(file).args(["--etcd", &format!("http://{}:2379", etcd.address)]).args(more);
    command.env_clear().stdin(Stdio::null());
    command
}

pub(super) fn import(file: &Path, etcd: &Etcd, more: &[&str]) -> Output {
    command("import", file, etcd, more).output().unwrap()
}

pub(super) fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
pub(super) fn refused(output: &Output, code: i32) -> String {
    let told = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{told}{}", String::from_utf8_lossy(&output.stdout));
    assert!(told.contains("\n  why:  ") && told.contains("\n  next: "), "{told}");
    told
}

#[track_caller]
pub(super) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        thread::park_timeout(Duration::from_millis(20));
    }
}

pub(super) fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}
