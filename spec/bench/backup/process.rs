//! A program that runs: how long it takes, how much memory it ever has, how much of a processor it uses.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::unistd::Pid;

use crate::memory::megabytes;

/// How often a program's memory is looked at; the kernel keeps the most there was.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// The kernel counts a process' time in these, whatever its own clock does (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// What a program took that succeeded.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    pub seconds: f64,
    /// The most it had resident, in MB.
    pub memory: f64,
}

/// Runs a command, which is to succeed.
pub fn took(command: &mut Command) -> Result<Took> {
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {command:?}"))?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    let mut memory = 0.0_f64;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        // It may end between the two questions.
        memory = memory.max(megabytes(pid, "VmHWM").unwrap_or_default());
        #[expect(clippy::disallowed_methods, reason = "the span between two looks; nothing is waited for")]
        std::thread::sleep(LOOK_EVERY);
    };
    let seconds = started.elapsed().as_secs_f64();
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut said)?;
    }
    ensure!(status.success(), "{command:?}: {said}");
    Ok(Took { seconds, memory })
}

/// The processor time a process has used so far, in seconds.
pub fn processor(pid: Pid) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    // Behind the name, which may have any character: the state is the first field, times are the 12th and 13th.
    let fields = text.rsplit_once(") ").with_context(|| format!("{path} has no name"))?.1;
    let ticks = |at: usize| -> Result<f64> {
        let field = fields.split(' ').nth(at).with_context(|| format!("{path} has no field {at}"))?;
        field.parse().with_context(|| format!("{path}: {field}"))
    };
    Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}
