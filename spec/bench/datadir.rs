//! Reading, judging and restoring a large data directory, next to `etcdutl`.
//!
//! The data is what one real etcd made of many writes of four KiB: a database and a log of about the same size. It
//! is read from the page cache, by both sides, in turn.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::figure::Figure;
use crate::member::{Member, VALUE};
use crate::samples::{Samples, in_turn};

/// The two sizes whose memory is compared, in bytes of values.
const SMALL: usize = 64 << 20;
const LARGE: usize = 1 << 30;
/// How often each way is taken, alternating.
const ROUNDS: usize = 5;
/// How often a process' memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A stopped member's directory, and a snapshot of the same data.
struct Data {
    root: TempDir,
    bytes: f64,
}

impl Data {
    fn dir(&self) -> PathBuf {
        self.root.path().join("etcd")
    }

    fn snapshot(&self) -> PathBuf {
        self.root.path().join("snapshot.db")
    }

    /// Made by one real etcd.
    fn of(values: usize) -> Result<Self> {
        let root = tempfile::tempdir().context("make a temporary directory")?;
        // All of the log is kept, so that there is as much of it as of the database.
        let etcd = Member::start(root.path(), &["--max-wals", "0", "--unsafe-no-fsync"])?;
        etcd.fill(values, repeated)?;
        let snapshot = root.path().join("snapshot.db");
        took(Command::new("etcdctl").args(["--endpoints", &etcd.url, "snapshot", "save"]).arg(&snapshot))?;
        etcd.end()?;
        let bytes = size_of(&root.path().join("etcd/member"))?;
        Ok(Self { root, bytes })
    }
}

/// `validate_full` and `validate_sanity`; `restore`, `etcdutl_restore` and their ratio; `validate_memory_*`.
pub fn measure(packages: &Path) -> Result<Vec<Figure>> {
    let tool = packages.join("etcd-tools/bin/etcd-datadir");
    ensure!(tool.exists(), "{} is missing", tool.display());
    let small = Data::of(SMALL)?;
    let large = Data::of(LARGE)?;
    eprintln!("   {:.2} GB of database and log, and {:.2} GB", small.bytes / 1e9, large.bytes / 1e9);

    // The first one fills the page cache, and is not counted.
    validate(&tool, &large, "full")?;
    let full = Samples::of(repeat(|| Ok(validate(&tool, &large, "full")? / (large.bytes / 1e9)))?);
    let sanity = Samples::of(repeat(|| Ok(validate(&tool, &large, "sanity")? * 1e3))?);
    let restored = (0..ROUNDS).map(|round| restore_both(&tool, &large, round)).collect::<Result<Vec<_>>>()?;
    let (small_memory, large_memory) =
        (memory_of_validation(&tool, &small)?, memory_of_validation(&tool, &large)?);
    Ok(vec![
        Figure::median("validate_full", &full, "s/GB").goal(1.0),
        Figure::median("validate_sanity", &sanity, "ms"),
        Figure::median("etcdutl_restore", &Samples::of(restored.iter().map(|(theirs, _)| *theirs)), "s"),
        Figure::median("restore", &Samples::of(restored.iter().map(|(_, ours)| *ours)), "s"),
        Figure::median("restore_ratio", &Samples::ratios(&restored), "ratio").goal(0.333),
        Figure::exact("validate_memory_small", small_memory, "MB"),
        Figure::exact("validate_memory_large", large_memory, "MB").goal(32.0),
        Figure::exact("validate_memory_growth", large_memory - small_memory, "MB").goal(4.0),
    ])
}

fn repeat(run: impl Fn() -> Result<f64>) -> Result<Vec<f64>> {
    (0..ROUNDS).map(|_| run()).collect()
}

fn validation(tool: &Path, data: &Data, mode: &str) -> Command {
    let mut command = Command::new(tool);
    command.args(["validate", "--mode", mode, "--data-dir"]).arg(data.dir());
    command
}

fn validate(tool: &Path, data: &Data, mode: &str) -> Result<f64> {
    took(&mut validation(tool, data, mode))
}

/// Seconds of etcdutl and of ours, the order changing with each round.
fn restore_both(tool: &Path, data: &Data, round: usize) -> Result<(f64, f64)> {
    let ours = || restore(Command::new(tool).arg("restore"), data);
    let theirs = || restore(Command::new("etcdutl").args(["snapshot", "restore"]), data);
    in_turn(round, theirs, ours)
}

fn restore(command: &mut Command, data: &Data) -> Result<f64> {
    let target = data.root.path().join("restored");
    let peer = "http://127.0.0.1:2380";
    let seconds = took(
        command
            .arg(data.snapshot())
            .args(["--name", "m1", "--initial-cluster", &format!("m1={peer}")])
            .args(["--initial-advertise-peer-urls", peer, "--initial-cluster-token", "bench", "--data-dir"])
            .arg(&target),
    )?;
    // Neither side pays for writing back what the other one left dirty.
    took(&mut Command::new("sync"))?;
    fs::remove_dir_all(&target).with_context(|| format!("remove {}", target.display()))?;
    Ok(seconds)
}

/// The most memory that full validation holds apart from the files it maps, in MB.
fn memory_of_validation(tool: &Path, data: &Data) -> Result<f64> {
    let mut child =
        validation(tool, data, "full").stdout(Stdio::null()).spawn().context("start the validation")?;
    let mut peak = 0.0_f64;
    while child.try_wait()?.is_none() {
        // It may end between the two questions.
        if let Ok(now) = crate::memory::megabytes(Pid::from_raw(i32::try_from(child.id())?), "RssAnon") {
            peak = peak.max(now);
        }
        #[expect(clippy::disallowed_methods, reason = "the span between two looks; nothing is waited for")]
        std::thread::sleep(LOOK_EVERY);
    }
    ensure!(peak > 0.0, "the validation was over before its memory could be looked at");
    Ok(peak)
}

/// Seconds that a command takes, which is to succeed.
pub fn took(command: &mut Command) -> Result<f64> {
    let started = Instant::now();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("run {command:?}"))?;
    let seconds = started.elapsed().as_secs_f64();
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(seconds)
}

/// A value that compresses well, and is no other key's.
fn repeated(key: &str) -> Vec<u8> {
    let mut value = key.repeat(VALUE.div_ceil(key.len())).into_bytes();
    value.truncate(VALUE);
    value
}

/// The bytes that the files of a directory take.
fn size_of(directory: &Path) -> Result<f64> {
    let mut bytes = 0.0;
    for entry in fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
        let entry = entry?;
        let found = entry.metadata()?;
        #[expect(clippy::cast_precision_loss, reason = "no file here has 2^52 bytes")]
        let own = if found.is_dir() { size_of(&entry.path())? } else { found.len() as f64 };
        bytes += own;
    }
    Ok(bytes)
}
