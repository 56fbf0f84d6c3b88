//! What the launcher keeps in memory once its member serves.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::Pid;

use crate::figure::Figure;
use crate::place::Place;
use crate::support::fleet::Fleet;

/// When it is looked at, counted from when all members are ready.
const AFTER: Duration = Duration::from_secs(10);

/// `launcher_memory`: resident, of the largest launcher; `launcher_memory_anonymous`: the part of it that is
/// not the program itself, which the kernel may share or drop.
pub fn measure(fleet: &Fleet) -> Result<Vec<Figure>> {
    #[expect(clippy::disallowed_methods, reason = "the span is part of the figure; nothing is waited for")]
    std::thread::sleep(AFTER);
    let (mut resident, mut anonymous) = (0.0_f64, 0.0_f64);
    for place in Place::all(fleet) {
        let launcher = place.launcher()?;
        resident = resident.max(megabytes(launcher, "VmRSS")?);
        anonymous = anonymous.max(megabytes(launcher, "RssAnon")?);
    }
    Ok(vec![
        Figure::exact("launcher_memory", resident, "MB").goal(8.0),
        Figure::exact("launcher_memory_anonymous", anonymous, "MB"),
    ])
}

/// A field of `/proc/PID/status` that is a size.
pub fn megabytes(pid: Pid, field: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .with_context(|| format!("{path} has no {field}"))?;
    let kib: f64 = line
        .trim_matches(|c: char| !c.is_ascii_digit())
        .parse()
        .with_context(|| format!("{path}: {line}"))?;
    Ok(kib * 1024.0 / 1e6)
}
