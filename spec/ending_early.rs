//! Restores and deep verifications that are ended or killed: their copies are gone then, or with the next run.

#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]
#![allow(dead_code, reason = "several specs share the support")]

#[path = "support/etcd.rs"]
mod etcd;

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use etcd::{Etcd, PATIENCE, Start};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// A directory in which work is done, and what lies in it.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// The directories of copies.
    fn copies(&self) -> Vec<PathBuf> {
        let names = self.names().into_iter().filter(|name| name.starts_with(".etcd-backup-"));
        names.map(|name| self.0.path().join(name)).collect()
    }
}

fn eventually<T>(what: &str, pause: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        thread::park_timeout(pause);
    }
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

fn ended(child: Child, code: i32, name: &str) {
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains(name), "{told}");
}

/// A store that takes connections and never answers, so that a restore waits with its directory made.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    (listener, endpoint)
}

fn restore(place: &Place, store: &[&str]) -> Command {
    let data_dir = place.0.path().join("restored");
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-backup"));
    command.args(["restore", "--name", "a", "--initial-cluster", "a=https://127.0.0.1:2380"]);
    command.args(["--initial-cluster-token", "t", "--data-dir"]).arg(data_dir).args(store);
    command.env_clear().env("AWS_ACCESS_KEY_ID", "of").env("AWS_SECRET_ACCESS_KEY", "nobody");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn a_restore_that_is_ended_leaves_nothing_and_one_that_is_killed_until_the_next() {
    let (_listener, endpoint) = silent();
    let store = ["--store", "s3://bucket/x", "--endpoint", &endpoint, "--path-style", "--region", "x"];
    let place = Place::new();
    let pause = Duration::from_millis(10);
    let begun = |before: usize| {
        let child = restore(&place, &store).spawn().unwrap();
        // Signals are listened to before the directory is made.
        eventually("its directory is there", pause, || (place.copies().len() > before).then_some(()));
        child
    };

    for (by, code, name) in [(Signal::SIGINT, 130, "SIGINT"), (Signal::SIGTERM, 143, "SIGTERM")] {
        let child = begun(0);
        signal(&child, by);
        ended(child, code, name);
        assert_eq!(place.names(), Vec::<String>::new());
    }

    let mut killed = begun(0);
    let going_on = begun(1);
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(place.copies().len(), 2);
    // The next one removes what the killed one left, and not what the other uses.
    let output = restore(&place, &["--store", "file:///nowhere/at/all"]).output().unwrap();
    assert!(!output.status.success());
    assert_eq!(place.copies().len(), 1);
    signal(&going_on, Signal::SIGTERM);
    ended(going_on, 143, "SIGTERM");
    assert_eq!(place.names(), Vec::<String>::new());
}

#[test]
fn so_does_a_deep_verification() {
    let root = tempfile::tempdir().unwrap();
    let etcd = Etcd::start(&Start::alone("3.6", &root.path().join("data")));
    // Enough for a moment of work.
    let value: Vec<u8> =
        (0..1 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    for number in 0..30 {
        etcd.put(&format!("key-{number}"), &value);
    }
    let store = format!("file://{}/store", root.path().display());
    let backup = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-backup"));
        command.args(args).args(["--store", &store]).env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let saved = backup(&["save", "--etcd", &format!("http://{}:2379", etcd.address)]).output().unwrap();
    assert!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stderr));
    let place = Place::new();
    let temporary = place.0.path().to_str().unwrap();
    let verify = || backup(&["verify", "--deep", "--temporary-dir", temporary]);
    // Held as soon as its directory is there, so that it is in the middle of its work whatever the machine.
    let held = || {
        let child = verify().spawn().unwrap();
        eventually("its directory is there", Duration::from_micros(200), || place.copies().pop());
        signal(&child, Signal::SIGSTOP);
        child
    };

    for (by, code, name) in [(Signal::SIGINT, 130, "SIGINT"), (Signal::SIGTERM, 143, "SIGTERM")] {
        let child = held();
        signal(&child, by);
        signal(&child, Signal::SIGCONT);
        ended(child, code, name);
        assert_eq!(place.names(), Vec::<String>::new());
    }

    let mut killed = held();
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(place.copies().len(), 1);
    let verified = verify().output().unwrap();
    assert!(verified.status.success(), "{}", told(&verified));
    assert_eq!(place.names(), Vec::<String>::new());
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
