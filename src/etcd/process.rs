//! etcd as a child process: the only `Command` for it.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};

/// Niceness of a child with low priority: 19 would starve it beside an etcd that is busy.
const NICE: i32 = 10;

/// A running etcd.
#[derive(Debug)]
pub struct EtcdProcess {
    child: Child,
    pid: Pid,
}

/// How etcd ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It exited with this code.
    Code(u8),
    /// This signal ended it. After SIGTERM etcd stops gracefully and then raises the signal again, so
    /// 15 is the normal end (seen with 3.5.30 and 3.6.16).
    Signal(i32),
}

impl Ended {
    /// The exit code that passes this on: 128+n for a signal, as shells and bpm's init do.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128_u8.saturating_add(u8::try_from(signal).unwrap_or(127)),
        }
    }

    fn of(status: ExitStatus) -> Self {
        match (status.signal(), status.code()) {
            (Some(signal), _) => Self::Signal(signal),
            (None, code) => Self::Code(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        }
    }
}

/// Which binary to run on which configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The etcd binary.
    pub binary: PathBuf,
    /// Its configuration file: etcd then ignores flags and environment.
    pub configuration: PathBuf,
}

/// How much of the processor a child gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// As much as its parent.
    Same,
    /// What others leave.
    Low,
}

/// Makes a child end when this process ends, however that happens. It is to be spawned on the main thread: the
/// kernel ends the child when the *thread* that forked it ends, not the process.
#[expect(unsafe_code, reason = "pre_exec is the only way to set the parent-death signal")]
pub fn end_with_parent(command: &mut Command, priority: Priority) {
    let parent = Pid::this();
    // SAFETY: between fork and exec only prctl, getppid, setpriority and _exit-like errors happen; all of them
    // are async-signal-safe and allocate nothing.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            match priority {
                Priority::Same => {}
                // One that cannot be set changes nothing but the pace.
                Priority::Low => _ = nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, NICE),
            }
            // The parent may have died before the signal was armed.
            if nix::unistd::getppid() == parent { Ok(()) } else { Err(nix::errno::Errno::ESRCH.into()) }
        });
    }
}

impl EtcdProcess {
    /// Starts etcd. To be called on the main thread, see [`end_with_parent`].
    pub fn spawn(program: &Program) -> std::io::Result<Self> {
        Self::start(program, Command::new(&program.binary))
    }

    /// The same in a directory, where etcd makes sockets with relative names.
    pub fn spawn_in(program: &Program, directory: &Path) -> std::io::Result<Self> {
        let mut command = Command::new(&program.binary);
        command.current_dir(directory);
        Self::start(program, command)
    }

    fn start(program: &Program, mut command: Command) -> std::io::Result<Self> {
        command
            .arg("--config-file")
            .arg(&program.configuration)
            // A stray ETCD_* variable would only be warned about, GODEBUG and the like would not.
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null());
        end_with_parent(&mut command, Priority::Same);
        let child = command.spawn()?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        let pid = pid.ok_or_else(|| std::io::Error::other("etcd ended before it had a process id"))?;
        Ok(Self { child, pid })
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Waits until it ends.
    pub async fn wait(&mut self) -> std::io::Result<Ended> {
        self.child.wait().await.map(Ended::of)
    }

    /// Sends it a signal; one that already ended is fine.
    pub fn signal(&self, signal: Signal) {
        // ESRCH only says that it ended meanwhile, which `wait` tells.
        let _ = kill(self.pid, signal);
    }
}

/// The version the binary says it is (`etcd Version: 3.6.16`).
pub fn version(binary: &Path) -> std::io::Result<String> {
    let output = std::process::Command::new(binary).arg("--version").env_clear().output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .find_map(|line| line.strip_prefix("etcd Version: "))
        .map(|version| version.trim().to_owned())
        .ok_or_else(|| {
            std::io::Error::other(format!("{} --version does not tell a version", binary.display()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_etcds_own_and_128_plus_the_signal() {
        assert_eq!(Ended::Code(3).exit_code(), 3);
        assert_eq!(Ended::Signal(15).exit_code(), 143);
        assert_eq!(Ended::of(ExitStatus::from_raw(0)), Ended::Code(0));
        assert_eq!(Ended::of(ExitStatus::from_raw(9)), Ended::Signal(9));
    }
}
