//! Control groups of containers: what enforces `limits.memory` and `limits.processes`, where this machine lets
//! root make them. Version 1, 2 and both at once are known.
//!
//! A container's groups are `etcd-local/INSTANCE/CONTAINER` below the top of each hierarchy, whoever runs the
//! container: the names follow from the instance, so whatever a killed command left is found again.
//! docs/local-director.md#bpm

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::local::process;

/// The group of all containers of this machine; it stays when they are gone.
const TOP: &str = "etcd-local";
/// How long the kernel may take to notice that a group is empty.
const EMPTY_WAIT: Duration = Duration::from_secs(2);

/// What a container may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Memory in bytes, and as much of memory and swap together.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
}

/// The name of a container's groups, from the top of a hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(PathBuf);

impl Name {
    /// The groups of a container of an instance.
    pub fn of(instance: &str, container: &str) -> Self {
        Self(Path::new("/").join(TOP).join(instance).join(container))
    }

    /// As an absolute path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn below(&self, hierarchy: &Hierarchy) -> PathBuf {
        hierarchy.mount_point.join(self.0.strip_prefix("/").unwrap_or(&self.0))
    }
}

/// What became of limits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Made {
    /// Files that the container's init writes itself into.
    pub join: Vec<PathBuf>,
    /// Limits that nothing enforces, and why.
    pub missing: Vec<(&'static str, String)>,
}

/// Makes the groups of a container with their limits. A limit that cannot be set is told, not an error.
pub fn make(name: &Name, limits: Limits) -> Result<Made> {
    let hierarchies = hierarchies()?;
    let mut made = Made::default();
    let wanted = [("memory", "memory", limits.memory_bytes), ("processes", "pids", limits.processes)];
    for (limit, controller, value) in wanted {
        let Some(value) = value else { continue };
        match set(&hierarchies, name, controller, value) {
            Ok(join) if made.join.contains(&join) => {}
            Ok(join) => made.join.push(join),
            Err(why) => made.missing.push((limit, why)),
        }
    }
    Ok(made)
}

/// Whether memory and swap together can be limited, which version 1 counts only where the kernel was told to.
pub fn counts_swap() -> Result<bool> {
    let counts = |one: &Hierarchy| one.mount_point.join("memory.memsw.limit_in_bytes").exists();
    Ok(hierarchies()?.iter().any(counts))
}

/// Removes the groups of a container that has ended.
pub fn remove(name: &Name) -> Result<()> {
    for hierarchy in hierarchies()? {
        remove_group(&name.below(&hierarchy))?;
    }
    Ok(())
}

/// Removes all groups of an instance without processes.
pub fn remove_all(instance: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let place = hierarchy.mount_point.join(TOP).join(instance);
        for entry in fs::read_dir(&place).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                remove_group(&entry.path())?;
            }
        }
        remove_group(&place)?;
    }
    Ok(())
}

fn remove_group(place: &Path) -> Result<()> {
    let mut outcome = Ok(());
    process::wait_until(EMPTY_WAIT, || {
        outcome = fs::remove_dir(place);
        !matches!(&outcome, Err(error) if error.kind() == ErrorKind::ResourceBusy)
    });
    match outcome {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove the control group {}", place.display()))
        }
        _ => Ok(()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    version: Version,
    mount_point: PathBuf,
    controllers: Vec<String>,
}

/// The hierarchies that are mounted on this machine.
fn hierarchies() -> Result<Vec<Hierarchy>> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("list the mounts of this machine")?;
    let mut found: Vec<Hierarchy> = text.lines().filter_map(parse_mount).collect();
    for one in found.iter_mut().filter(|one| one.version == Version::Two) {
        let listed = fs::read_to_string(one.mount_point.join("cgroup.controllers")).unwrap_or_default();
        one.controllers = listed.split_whitespace().map(str::to_owned).collect();
    }
    Ok(found)
}

/// A line of `mountinfo`, if a hierarchy is mounted there. The controllers of version 2 are not in it.
fn parse_mount(line: &str) -> Option<Hierarchy> {
    let (place, what) = line.split_once(" - ")?;
    let mount_point = PathBuf::from(place.split(' ').nth(4)?);
    let mut what = what.split(' ');
    match what.next()? {
        "cgroup" => {
            let controllers = what.nth(1)?.split(',').map(str::to_owned).collect();
            Some(Hierarchy { version: Version::One, mount_point, controllers })
        }
        "cgroup2" => Some(Hierarchy { version: Version::Two, mount_point, controllers: Vec::new() }),
        _ => None,
    }
}

/// Sets one limit and returns the file by which a process comes under it, or why there is none.
fn set(hierarchies: &[Hierarchy], name: &Name, controller: &str, value: u64) -> Result<PathBuf, String> {
    let has = |one: &&Hierarchy| one.controllers.iter().any(|known| known == controller);
    let hierarchy = hierarchies.iter().find(has);
    let hierarchy = hierarchy.ok_or_else(|| format!("no control group counts {controller} here"))?;
    let place = name.below(hierarchy);
    let tell = |error: io::Error| format!("{}: {error}", place.display());
    fs::create_dir_all(&place).map_err(tell)?;
    let value = value.to_string();
    match (hierarchy.version, controller) {
        (Version::Two, _) => {
            hand_down(&hierarchy.mount_point, &place, controller).map_err(tell)?;
            write(&place.join(format!("{controller}.max")), &value).map_err(tell)?;
            // Ignored: without swap accounting there is no such file.
            if controller == "memory" {
                drop(write(&place.join("memory.swap.max"), "0"));
            }
        }
        (Version::One, "memory") => {
            let (memory, both) =
                (place.join("memory.limit_in_bytes"), place.join("memory.memsw.limit_in_bytes"));
            // A group that was left may have lower limits; neither may ever be above the other.
            drop(write(&both, "-1"));
            write(&memory, &value).map_err(tell)?;
            if both.exists() {
                write(&both, &value).map_err(tell)?;
            }
        }
        (Version::One, _) => write(&place.join("pids.max"), &value).map_err(tell)?,
    }
    Ok(place.join("cgroup.procs"))
}

/// In version 2 each group has the controllers that the one above it hands down.
fn hand_down(top: &Path, place: &Path, controller: &str) -> io::Result<()> {
    let mut above: Vec<&Path> =
        place.ancestors().skip(1).take_while(|group| group.starts_with(top)).collect();
    above.reverse();
    above
        .into_iter()
        .try_for_each(|group| write(&group.join("cgroup.subtree_control"), &format!("+{controller}")))
}

/// Writes into a file of the kernel: it must exist, and takes one write.
fn write(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}

/// Moves this process into groups; called by a container's init before it can see its program's files only.
pub fn join(groups: &[PathBuf]) -> Result<()> {
    for path in groups {
        // 0 means the process that writes.
        write(path, "0").with_context(|| format!("join the control group {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_found() {
        let memory = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory";
        let both = "36 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct";
        let unified = "41 31 0:38 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate";

        let found = parse_mount(memory).unwrap();
        assert_eq!((found.version, found.mount_point), (Version::One, "/sys/fs/cgroup/memory".into()));
        assert_eq!(parse_mount(both).unwrap().controllers, ["rw", "cpu", "cpuacct"]);
        assert_eq!(parse_mount(unified).unwrap().version, Version::Two);
        assert_eq!(parse_mount("22 27 0:21 / /proc rw,relatime - proc proc rw"), None);
        assert_eq!(parse_mount(""), None);
    }

    /// On files of our own, as no kernel here has both versions with all controllers.
    #[test]
    fn in_version_2_every_group_above_hands_the_controller_down() {
        let top = tempfile::tempdir().unwrap();
        let name = Name::of("an-instance", "bpm-etcd");
        let controllers = vec!["memory".to_owned(), "pids".to_owned()];
        let hierarchy = Hierarchy { version: Version::Two, mount_point: top.path().to_owned(), controllers };
        let place = name.below(&hierarchy);
        fs::create_dir_all(&place).unwrap();
        let above = [top.path().to_owned(), top.path().join(TOP), top.path().join(TOP).join("an-instance")];
        for group in &above {
            fs::write(group.join("cgroup.subtree_control"), "").unwrap();
        }
        for file in ["memory.max", "memory.swap.max", "pids.max"] {
            fs::write(place.join(file), "").unwrap();
        }

        let hierarchies = [hierarchy];
        assert_eq!(set(&hierarchies, &name, "pids", 10).unwrap(), place.join("cgroup.procs"));
        assert_eq!(set(&hierarchies, &name, "memory", 4096).unwrap(), place.join("cgroup.procs"));

        let read = |path: PathBuf| fs::read_to_string(path).unwrap();
        for group in above {
            // The kernel's file adds up; this one keeps the last bytes that were written.
            assert_eq!(read(group.join("cgroup.subtree_control")), "+memory");
        }
        assert_eq!(read(place.join("pids.max")), "10");
        assert_eq!(read(place.join("memory.max")), "4096");
        assert_eq!(read(place.join("memory.swap.max")), "0");
    }

    #[test]
    fn a_limit_nobody_can_enforce_is_told() {
        let name = Name::of("an-instance", "bpm-etcd");

        let told = set(&[], &name, "pids", 10).unwrap_err();

        assert_eq!(told, "no control group counts pids here");
        assert_eq!(name.path(), Path::new("/etcd-local/an-instance/bpm-etcd"));
    }
}
