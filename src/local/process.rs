//! Processes as the kernel tells about them, and which of them belong to an instance.
//!
//! A process belongs to an instance when it sees that instance's directories, whatever its pid file,
//! parent or environment say. That holds for hook scripts, containers, shells and everything they
//! started, so switching an instance off leaves nothing behind.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How often a condition is looked at while waiting for processes.
pub const POLL: Duration = Duration::from_millis(20);

/// What `/proc/PID/stat` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// One letter: `R`, `S`, `D`, `Z` (dead, not reaped)…
    pub state: char,
    /// Process group.
    pub group: i32,
    /// Clock ticks between boot and start: tells a process from a later one with the same pid.
    pub started: u64,
}

/// What the kernel knows about a process, if it exists.
pub fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The command's name stands in parentheses and may itself contain blanks and parentheses.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        group: fields.get(2)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

/// Whether a process runs. A zombie does not: its parent may be a pid 1 that never reaps.
pub fn is_alive(pid: i32) -> bool {
    pid > 0 && stat(pid).is_some_and(|stat| !matches!(stat.state, 'Z' | 'X'))
}

/// Whether the process that was started at `started` still runs under this pid.
pub fn is_same_and_alive(pid: i32, started: u64) -> bool {
    is_alive(pid) && stat(pid).is_some_and(|stat| stat.started == started)
}

/// Tells an instance from all others: the directory every one of its processes sees as
/// `/var/vcap/packages`, also inside a bpm container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Home {
    device: u64,
    inode: u64,
}

impl Home {
    /// The home below `root`, what the instance sees as `/var/vcap`; `None` if it does not exist.
    pub fn of(root: &Path) -> Option<Self> {
        let metadata = fs::metadata(root.join("packages")).ok()?;
        Some(Self { device: metadata.dev(), inode: metadata.ino() })
    }

    /// The pids of all processes that live here.
    pub fn inhabitants(self) -> Vec<i32> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| {
                Self::of(&Path::new("/proc").join(pid.to_string()).join("root/var/vcap")) == Some(self)
            })
            .collect()
    }

    /// Ends all processes that live here at once, as switching off a machine does.
    pub fn switch_off(self, deadline: Duration) -> Result<()> {
        let own = std::process::id().cast_signed();
        let end = Instant::now() + deadline;
        loop {
            let left: Vec<i32> = self.inhabitants().into_iter().filter(|pid| *pid != own).collect();
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("processes {left:?} did not end {} s after SIGKILL", deadline.as_secs());
            }
            for pid in left {
                // Ignored: it may have ended meanwhile; the loop looks again.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Waits until `condition` holds; `false` when `timeout` passed first.
pub fn wait_until(timeout: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + timeout;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(POLL.min(end.saturating_duration_since(Instant::now())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_blanks_and_parentheses_in_its_name_is_read() {
        let text = "42 (a) b (c)) S 1 77 42 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 987654 1 2 3";

        assert_eq!(parse_stat(text), Some(Stat { state: 'S', group: 77, started: 987_654 }));
        assert_eq!(parse_stat("nonsense"), None);
    }

    #[test]
    fn this_process_is_alive_and_a_zombie_is_not() {
        let own = std::process::id().cast_signed();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id().cast_signed();

        assert!(is_same_and_alive(own, stat(own).unwrap().started));
        assert!(wait_until(Duration::from_secs(10), || !is_alive(pid)));
        assert!(stat(pid).is_some(), "not reaped yet");
        child.wait().unwrap();
    }
}
