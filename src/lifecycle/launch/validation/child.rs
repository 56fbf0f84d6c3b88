//! `etcd-datadir validate` as a child process: how far it is, and what it found.
//!
//! A process of its own, because it maps files: a disk that does not give a page back ends it with SIGBUS, and
//! a file that is larger than thought costs its memory, not the launcher's.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::Signal;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::Command;

use super::judgement::Outcome;
use crate::datadir::verdict::Report;
use crate::etcd::process::{Priority, end_with_parent};

/// No report is longer: the findings in it are limited.
const REPORT_BYTES_MAX: u64 = 4 << 20;
/// No line on stderr is longer, and no more of what is no progress is kept.
const LINE_BYTES_MAX: u64 = 4096;

/// A line of progress.
#[derive(Deserialize)]
struct Line {
    done: u64,
    of: u64,
}

/// Validates all data in a child process. `tell` hears how many bytes of how many were read.
pub(super) async fn run(
    tool: &Path,
    data_dir: &Path,
    wal_dir: Option<&Path>,
    tell: impl Fn(u64, u64),
) -> Outcome {
    let mut command = Command::new(tool);
    command
        .args(["validate", "--mode", "full", "--json", "--progress", "json"])
        .arg("--data-dir")
        .arg(data_dir)
        .args(wal_dir.iter().flat_map(|wal_dir| [Path::new("--wal-dir"), wal_dir]))
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    // What runs beside it, the other members' etcd on a small machine, goes first.
    end_with_parent(&mut command, Priority::Low);
    let not_done = |what: &str, error: std::io::Error| Outcome::NotDone {
        why: format!("{what} {}: {error}", tool.display()),
    };
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return not_done("start", error),
    };
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Outcome::NotDone { why: "the child has no pipes".to_owned() };
    };
    let mut report = Vec::new();
    let read_report = async {
        let mut stdout = stdout;
        let read = (&mut stdout).take(REPORT_BYTES_MAX).read_to_end(&mut report).await;
        // Whatever comes behind is nobody's report: the child must not wait for somebody to read it.
        tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await.and(read)
    };
    let (read, said) = tokio::join!(read_report, listen(stderr, tell));
    #[cfg(feature = "fail-points")]
    while crate::fail_point::is_held("validate") {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    match (child.wait().await, read) {
        (Err(error), _) => not_done("wait for", error),
        (_, Err(error)) => not_done("read from", error),
        (Ok(ended), Ok(_)) => outcome(ended, &report, said.trim()),
    }
}

/// Passes progress on, and keeps the end of what else is said.
async fn listen(stderr: impl AsyncRead + Unpin, tell: impl Fn(u64, u64)) -> String {
    let mut lines = BufReader::new(stderr);
    let mut said = String::new();
    loop {
        let mut line = Vec::new();
        match (&mut lines).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await {
            // A pipe that breaks ends the story as its end does: the child's own end tells the rest.
            Ok(0) | Err(_) => return said,
            Ok(_) => match serde_json::from_slice::<Line>(&line) {
                Ok(Line { done, of }) => tell(done, of),
                Err(_) if said.len() as u64 >= LINE_BYTES_MAX => {}
                Err(_) => said.push_str(&String::from_utf8_lossy(&line)),
            },
        }
    }
}

/// What its end says.
fn outcome(ended: ExitStatus, report: &[u8], said: &str) -> Outcome {
    let with_words = |what: String| Outcome::NotDone {
        why: if said.is_empty() { what } else { format!("{what}: {}", said.replace('\n', "; ")) },
    };
    match (ended.signal(), ended.code()) {
        (Some(signal), _) if signal == Signal::SIGBUS as i32 => {
            Outcome::Unreadable { why: "reading it ended with SIGBUS".to_owned() }
        }
        (Some(signal), _) => {
            let name = Signal::try_from(signal).map_or("an unknown signal", Signal::as_str);
            with_words(format!("etcd-datadir was ended by {name}"))
        }
        (None, code) => match serde_json::from_slice::<Report>(report) {
            // The two say the same, or neither is believed.
            Ok(report) if code == Some(i32::from(report.verdict.exit_code())) => Outcome::Reported(report),
            Ok(_) | Err(_) => with_words(format!("etcd-datadir ended with {}", code.unwrap_or(-1))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datadir::verdict::{Mode, Verdict};
    use std::cell::RefCell;
    use std::fs;

    fn report(verdict: Verdict) -> Report {
        Report::of(Mode::Full, Vec::new(), 0, 42).with_verdict(verdict)
    }

    /// A child that says this.
    async fn child(script: &str) -> (Outcome, Vec<(u64, u64)>) {
        let directory = tempfile::tempdir().unwrap();
        let [written, tool] = ["script", "tool"].map(|name| directory.path().join(name));
        fs::write(&written, format!("#!/bin/sh\n{script}\n")).unwrap();
        // Another process makes the file: a child that another test forks while this one writes would hold it open for
        // writing, and what is open for writing cannot be executed.
        let made =
            std::process::Command::new("install").arg("-m755").args([&written, &tool]).status().unwrap();
        assert!(made.success());
        let progress = RefCell::new(Vec::new());
        let outcome =
            run(&tool, directory.path(), None, |done, of| progress.borrow_mut().push((done, of))).await;
        (outcome, progress.into_inner())
    }

    fn why(outcome: Outcome) -> String {
        match outcome {
            Outcome::NotDone { why } => why,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_report_counts_if_the_exit_code_says_the_same() {
        let json = |verdict| serde_json::to_string(&report(verdict)).unwrap();
        let says = |verdict, code: u8| format!("echo '{}'; exit {code}", json(verdict));

        for verdict in
            [Verdict::Sound, Verdict::Repairable, Verdict::Damaged, Verdict::Foreign, Verdict::Locked]
        {
            let (outcome, _) = child(&says(verdict, verdict.exit_code())).await;
            assert_eq!(outcome, Outcome::Reported(report(verdict)));
        }
        assert_eq!(why(child(&says(Verdict::Sound, 11)).await.0), "etcd-datadir ended with 11");
        assert_eq!(why(child("exit 0").await.0), "etcd-datadir ended with 0");
        assert_eq!(why(child("echo '{}'; exit 0").await.0), "etcd-datadir ended with 0");
    }

    #[tokio::test]
    async fn progress_is_heard_and_everything_else_is_kept_for_the_reason() {
        let script = r#"echo '{"done":1,"of":9}' >&2; echo 'error: no room' >&2; echo '{"done":9,"of":9}' >&2; exit 1"#;

        let (outcome, progress) = child(script).await;

        assert_eq!(progress, [(1, 9), (9, 9)]);
        assert_eq!(why(outcome), "etcd-datadir ended with 1: error: no room");
    }

    /// Only a disk that cannot be read says something about the data.
    #[tokio::test]
    async fn a_check_that_did_not_come_to_its_end_is_never_taken_for_a_verdict() {
        let unreadable = child("kill -BUS $$").await.0;
        assert!(matches!(unreadable, Outcome::Unreadable { .. }), "{unreadable:?}");
        assert_eq!(why(child("kill -KILL $$").await.0), "etcd-datadir was ended by SIGKILL");
        assert_eq!(why(child("kill -SEGV $$").await.0), "etcd-datadir was ended by SIGSEGV");
        let missing = run(Path::new("/no/such/tool"), Path::new("/"), None, |_, _| {}).await;
        assert!(why(missing).starts_with("start /no/such/tool: "));
    }

    #[tokio::test]
    async fn endless_output_costs_no_memory() {
        let script = "yes | head -c 9000000; yes | head -c 300000 >&2; exit 0";
        let (outcome, _) = child(script).await;
        let why = why(outcome);
        assert!(why.starts_with("etcd-datadir ended with 0: y; y;") && why.len() < 20_000, "{}", why.len());
    }
}
