//! What people read: answers on stdout, errors on stderr, exit codes.
//!
//! The only room that prints to stdout: drain's stdout is a protocol of exactly one integer.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// How a command ended, with the exit codes every tool of this release shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed.
    Failed,
    /// 2: the command line is wrong (clap's own code).
    Usage,
    /// 3: refused; a person must decide.
    Refused,
    /// 4: not now; the same command may succeed later.
    TryAgain,
    /// Another process' own code, passed on (the launcher ends with etcd's).
    Code(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Refused => 3,
            Exit::TryAgain => 4,
            Exit::Code(code) => code,
        })
    }
}

/// The exit codes, as `--help` shows them.
pub const EXIT_CODES_HELP: &str =
    "Exit codes: 0 done, 1 failed, 2 usage, 3 refused (a person must decide), 4 try again";

/// An error in the three parts an operator needs: what happened, why it matters, what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// What happened, with the names and numbers.
    pub what: String,
    /// Why it matters.
    pub why: String,
    /// What to type or read next.
    pub next: String,
    /// The exit code that fits.
    pub exit: Exit,
}

impl Complaint {
    /// A failure (exit code 1).
    pub fn failed(what: impl Into<String>, why: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.into(), next: next.into(), exit: Exit::Failed }
    }

    /// A refusal (exit code 3): a person must decide.
    pub fn refused(what: impl Into<String>, why: impl Into<String>, next: impl Into<String>) -> Self {
        Self { exit: Exit::Refused, ..Self::failed(what, why, next) }
    }

    /// A "not now" (exit code 4).
    pub fn try_again(what: impl Into<String>, why: impl Into<String>, next: impl Into<String>) -> Self {
        Self { exit: Exit::TryAgain, ..Self::failed(what, why, next) }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  why:  {}\n  next: {}", self.what, self.why, self.next)
    }
}

impl std::error::Error for Complaint {}

/// Ends a door: prints the error, if any, on stderr and picks the exit code.
pub fn exit(result: anyhow::Result<Exit>) -> ExitCode {
    match result {
        Ok(exit) => exit.into(),
        // `| head` is not a failure.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", chain(&error));
            let code = error.downcast_ref::<Complaint>().map_or(Exit::Failed, |complaint| complaint.exit);
            code.into()
        }
    }
}

/// The whole chain of an error on one line, outermost first; a complaint keeps its three lines.
pub fn chain(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Prints an answer on stdout, with a newline.
pub fn answer(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.write_all(b"\n")?;
    stdout.flush()
}

/// Where an answer goes that is too long for memory; nothing else may be printed then.
pub fn stdout() -> impl Write {
    io::stdout()
}

/// Prints a value as indented JSON on stdout.
pub fn answer_json<T: serde::Serialize>(value: &T) -> anyhow::Result<()> {
    answer(&serde_json::to_string_pretty(value)?)?;
    Ok(())
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_tells_what_why_and_next() {
        let complaint = Complaint::refused("disk of cluster a", "two histories", "docs/recover.md");

        assert_eq!(
            complaint.to_string(),
            "disk of cluster a\n  why:  two histories\n  next: docs/recover.md"
        );
        assert_eq!(complaint.exit, Exit::Refused);
    }

    #[test]
    fn a_chain_is_told_outermost_first() {
        let error = anyhow::anyhow!("no such file").context("read the join record");

        assert_eq!(chain(&error), "read the join record: no such file");
    }
}
