//! A place where commands are typed as on a freshly cloned repository after `ci/setup` and `ci/build`.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use super::page::repository;
use super::support::fleet::{packages, path};

/// No block takes longer on a working machine.
const LIMIT_SECS: &str = "180";

/// A directory with the repository's files, a state directory of its own, and the tools on PATH. What is
/// deployed goes with it.
pub(crate) struct Machine {
    directory: tempfile::TempDir,
}

/// How a block ended.
pub(crate) struct Outcome {
    pub(crate) code: i32,
    /// stdout and stderr, in the order they came.
    pub(crate) output: String,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("docs-").tempdir().expect("a temporary directory");
        for name in ["deployment", "ci"] {
            symlink(repository().join(name), directory.path().join(name))
                .expect("link the repository's files");
        }
        let bin = directory.path().join("bin");
        std::fs::create_dir(&bin).expect("a directory for tools");
        for tool in [
            env!("CARGO_BIN_EXE_etcd-backup"),
            env!("CARGO_BIN_EXE_etcd-datadir"),
            env!("CARGO_BIN_EXE_etcd-local"),
        ] {
            let name = Path::new(tool).file_name().expect("a binary has a name");
            symlink(tool, bin.join(name)).expect("link a tool");
        }
        Self { directory }
    }

    /// Runs a block as a person would: all of it, until something fails.
    pub(crate) fn run(&self, text: &str) -> Outcome {
        let mut search = self.directory.path().join("bin").into_os_string();
        search.push(":");
        search.push(path());
        let output = Command::new("timeout")
            .args([LIMIT_SECS, "bash", "-euo", "pipefail", "-c"])
            .arg(format!("exec 2>&1\n{text}"))
            .current_dir(self.directory.path())
            .env("PATH", search)
            .env("ETCD_LOCAL_PACKAGES", packages())
            .stdin(Stdio::null())
            .output()
            .expect("start bash");
        Outcome {
            code: output.status.code().unwrap_or(-1),
            output: String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // --skip-drain: after a failure there may be nothing that could drain.
        let outcome = self.run("etcd-local -n delete-deployment --force --skip-drain");
        let fine = outcome.code == 0 || std::thread::panicking();
        assert!(fine, "the deployment could not be deleted: {}", outcome.output);
    }
}
