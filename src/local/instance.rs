//! The virtual machine of an instance, as far as a directory can be one: made, given jobs and
//! packages, given a disk, switched off, removed. Each step may be repeated after a kill.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::fcntl::{Flock, FlockArg};
use ring::digest;

use super::bpm::vcap::Vcap;
use super::bpm::{BPM, cgroup};
use super::layout::InstanceDir;
use super::model::{BpmRunner, Identity, NetworkMode};
use super::monit::MONIT;
use super::network;
use super::package::{hexadecimal, link};
use super::process;
use super::render::{RenderedInstance, RenderedJob};
use super::state::Disk;
use crate::atomic_file;

/// The kernel's name for the time since this machine was booted.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// How long switching an instance off may take.
const SWITCH_OFF_WAIT: Duration = Duration::from_secs(20);

/// Makes the machine: network, fresh `/var/vcap`, hosts file and profile.d; whatever was there before is gone.
pub fn create(instance: &InstanceDir, identity: &Identity, network: NetworkMode, hosts: &str) -> Result<()> {
    delete(instance)?;
    if network == NetworkMode::Namespaces {
        network::connect(instance, identity.ip)?;
    }
    let root = instance.root();
    let root_new = root.with_extension("new");
    remove_tree(&root_new)?;
    let made = [
        "bosh/bin",
        "data/jobs",
        "data/packages",
        "data/sys/log",
        "data/sys/run",
        "instance",
        "jobs",
        "monit/job",
        "packages",
        "store",
    ];
    for directory in made {
        let path = root_new.join(directory);
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
    }
    symlink("data/sys", root_new.join("sys")).context("link sys to data/sys")?;
    introduce(&root_new, identity)?;
    copy_profile_d(&instance.profile_d())?;
    write_hosts(instance, hosts)?;
    note_boot(instance, &boot_id()?)?;
    fs::rename(&root_new, &root).with_context(|| format!("name {}", root.display()))?;
    // bpm's comes with its job.
    refresh_shims(instance, BpmRunner::default())
}

/// Tells a machine who it is: `/var/vcap/instance/` below `root`.
fn introduce(root: &Path, identity: &Identity) -> Result<()> {
    for (name, value) in [
        ("id", identity.id.as_str()),
        ("az", identity.az.as_deref().unwrap_or_default()),
        ("name", &identity.group),
        ("deployment", &identity.deployment),
    ] {
        atomic_file::write(&root.join("instance").join(name), value.as_bytes(), 0o644)
            .with_context(|| format!("write instance/{name}"))?;
    }
    Ok(())
}

/// Switches the machine on again if this machine was booted since: its network is made again, and `sys/run`
/// is empty, since it lives in memory. docs/local-director.md#instances
pub fn switch_on(instance: &InstanceDir) -> Result<()> {
    let path = instance.boot();
    let tell = || format!("read {}", path.display());
    let file = fs::OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
    // Held to the end: two commands at once would else empty it under the first one's processes.
    let lock = Flock::lock(file.with_context(tell)?, FlockArg::LockExclusive)
        .map_err(|(_, error)| anyhow!("lock {}: {error}", path.display()))?;
    let now = boot_id()?;
    if std::io::read_to_string(&*lock).with_context(tell)? == now {
        return Ok(());
    }
    network::ensure(instance)?;
    let run = instance.root().join("data/sys/run");
    // Whoever lives there was started after the boot, whatever the note says: one torn by a kill says nothing.
    let is_empty = process::Home::of(&instance.root()).is_none_or(|home| home.inhabitants().is_empty());
    if is_empty && run.exists() {
        remove_tree(&run)?;
        fs::create_dir(&run).with_context(|| format!("make {}", run.display()))?;
    }
    note_boot(instance, &now)
}

fn boot_id() -> Result<String> {
    fs::read_to_string(BOOT_ID).with_context(|| format!("read {BOOT_ID}"))
}

/// Written in place, since the file is also a lock.
fn note_boot(instance: &InstanceDir, id: &str) -> Result<()> {
    let path = instance.boot();
    let tell = || format!("write {}", path.display());
    let mut file =
        fs::OpenOptions::new().create(true).truncate(true).write(true).open(&path).with_context(tell)?;
    file.write_all(id.as_bytes()).with_context(tell)
}

/// Switches the machine off and removes it. Disks stay.
pub fn delete(instance: &InstanceDir) -> Result<()> {
    switch_off(instance)?;
    cgroup::remove_all(&instance.id())?;
    network::disconnect(instance)?;
    detach_disk(instance)?;
    for path in [instance.root(), instance.profile_d(), instance.running_scripts()] {
        remove_tree(&path)?;
    }
    Ok(())
}

/// Removes all that belongs to an instance except its disk.
pub fn forget(instance: &InstanceDir) -> Result<()> {
    delete(instance)?;
    remove_tree(instance.path())
}

/// Ends all processes of the instance, the supervisor among them, as pulling the plug does.
pub fn switch_off(instance: &InstanceDir) -> Result<()> {
    process::Home::of(&instance.root()).map_or(Ok(()), |home| {
        home.switch_off(SWITCH_OFF_WAIT)
            .with_context(|| format!("switch off the instance in {}", instance.path().display()))
    })
}

fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn copy_profile_d(target: &Path) -> Result<()> {
    fs::create_dir_all(target).with_context(|| format!("make {}", target.display()))?;
    let Ok(entries) = fs::read_dir("/etc/profile.d") else { return Ok(()) };
    for entry in entries {
        let path = entry.context("list /etc/profile.d")?.path();
        if let (true, Some(name)) = (path.is_file(), path.file_name()) {
            fs::copy(&path, target.join(name)).with_context(|| format!("copy {}", path.display()))?;
        }
    }
    Ok(())
}

/// Writes the hosts file in place: processes that run already have this very inode as `/etc/hosts`.
pub fn write_hosts(instance: &InstanceDir, text: &str) -> Result<()> {
    let path = instance.hosts();
    let tell = || format!("write {}", path.display());
    if fs::read(&path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(());
    }
    let mut file =
        fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).with_context(tell)?;
    // One write, then the length: a reader in between sees old lines after the new ones, never none.
    file.write_all(text.as_bytes()).with_context(tell)?;
    file.set_len(text.len() as u64).with_context(tell)
}

/// Shows a persistent disk at `/var/vcap/store` to all processes started from now on.
pub fn attach_disk(instance: &InstanceDir, disk: &Disk, disk_directory: &Path) -> Result<()> {
    fs::create_dir_all(disk_directory).with_context(|| format!("make {}", disk_directory.display()))?;
    link(&Path::new("../../disks").join(&disk.id), &instance.attached_disk())
}

/// Takes the disk away from processes started from now on; its content stays.
pub fn detach_disk(instance: &InstanceDir) -> Result<()> {
    match fs::remove_file(instance.attached_disk()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("detach the disk"),
        _ => Ok(()),
    }
}

/// Whether this disk, and no other, is attached.
pub fn is_attached(instance: &InstanceDir, disk: &Disk) -> bool {
    fs::read_link(instance.attached_disk()).is_ok_and(|target| target.ends_with(&disk.id))
}

/// Copies all that is on one disk to another, which becomes exactly that.
pub fn copy_disk(from: &Path, to: &Path) -> Result<()> {
    remove_tree(to)?;
    fs::create_dir_all(from).with_context(|| format!("make {}", from.display()))?;
    // A copy that shares blocks where the file system can: owners, times, links and holes as they are.
    let copied = Command::new("cp").args(["--archive", "--reflink=auto", "--"]).arg(from).arg(to).output();
    let copied = copied.context("run cp")?;
    if !copied.status.success() {
        bail!("copy the disk: {}", String::from_utf8_lossy(&copied.stderr).trim());
    }
    Ok(())
}

/// Removes a copy of a disk that was never finished.
pub fn discard_copy(to: &Path) -> Result<()> {
    remove_tree(to)
}

/// Whether the machine is complete.
pub fn exists(instance: &InstanceDir) -> bool {
    process::Home::of(&instance.root()).is_some()
}

/// Programs inside the instance that come back to this one; written anew by each command, since this
/// program may have moved.
pub fn refresh_shims(instance: &InstanceDir, runner: BpmRunner) -> Result<()> {
    shim(&instance.root().join("bosh/bin/monit"), MONIT)?;
    let bpm = instance.job("bpm").join("bin/bpm");
    if bpm.exists() { shim(&bpm, &bpm_with(runner)) } else { Ok(()) }
}

fn bpm_with(runner: BpmRunner) -> String {
    format!("{BPM} --runner {}", runner.word())
}

fn shim(path: &Path, subcommand: &str) -> Result<()> {
    let text = shim_text(subcommand)?;
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    atomic_file::write(path, text.as_bytes(), 0o755).with_context(|| format!("write {}", path.display()))
}

fn shim_text(subcommand: &str) -> Result<String> {
    let program = std::env::current_exe().context("find this program")?;
    let program = program.display().to_string().replace('\'', r"'\''");
    Ok(format!("#!/bin/sh\nexec '{program}' {subcommand} \"$@\"\n"))
}

/// Lays the jobs down: `/var/vcap/jobs/JOB` points to a directory named after its content.
pub fn configure(
    instance: &InstanceDir,
    rendered: &RenderedInstance,
    vcap: Vcap,
    runner: BpmRunner,
) -> Result<()> {
    let jobs = instance.root().join("jobs");
    for job in &rendered.jobs {
        lay_down(instance, job, vcap).with_context(|| format!("lay down job '{}'", job.name))?;
    }
    let wanted: BTreeSet<&str> = rendered.jobs.iter().map(|job| job.name.as_str()).collect();
    for entry in fs::read_dir(&jobs).context("list jobs")? {
        let entry = entry.context("list jobs")?;
        if !wanted.contains(entry.file_name().to_string_lossy().as_ref()) {
            fs::remove_file(entry.path()).context("take a job away")?;
        }
    }
    introduce(&instance.root(), &rendered.identity)?;
    refresh_shims(instance, runner)?;
    // What monit watches is written by the start that follows.
    write_monit_files(instance, &[])
}

/// Tells monit which processes there are: the rendered `monit` of each job, in the agent's order.
pub fn write_monit_files(instance: &InstanceDir, jobs: &[RenderedJob]) -> Result<()> {
    let directory = instance.monit().join("job");
    remove_tree(&directory)?;
    fs::create_dir_all(&directory).context("make the directory of monit files")?;
    for (position, job) in jobs.iter().rev().enumerate() {
        let path = directory.join(format!("{position:04}_{}.monitrc", job.name));
        atomic_file::write(&path, job.monit.as_bytes(), 0o600)
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn lay_down(instance: &InstanceDir, job: &RenderedJob, vcap: Vcap) -> Result<()> {
    let version = content_hash(job);
    let place = instance.root().join("data/jobs").join(&job.name).join(&version);
    if !place.exists() {
        let beside = place.with_extension("partial");
        remove_tree(&beside)?;
        directory(&beside, 0o750, vcap)?;
        for file in &job.files {
            let path = beside.join(&file.path);
            let mut parents: Vec<&Path> =
                path.ancestors().skip(1).take_while(|parent| *parent != beside).collect();
            parents.reverse();
            for parent in parents {
                directory(parent, 0o750, vcap)?;
            }
            atomic_file::write(&path, file.content.as_bytes(), file.mode)
                .and_then(|()| chown(&path, Some(0), Some(vcap.group)))
                .with_context(|| format!("write {}", file.path))?;
        }
        if job.name == "bpm" {
            directory(&beside.join("bin"), 0o750, vcap)?;
            shim(&beside.join("bin/bpm"), &bpm_with(BpmRunner::default()))?;
        }
        fs::rename(&beside, &place).with_context(|| format!("name {}", place.display()))?;
    }
    for kind in ["data", "data/sys/log", "data/sys/run"] {
        let path = instance.root().join(kind).join(&job.name);
        if !path.exists() {
            directory(&path, 0o770, vcap)?;
        }
    }
    link(&Path::new("../data/jobs").join(&job.name).join(&version), &instance.job(&job.name))
}

fn directory(path: &Path, mode: u32, vcap: Vcap) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .and_then(|()| chown(path, Some(0), Some(vcap.group)))
        .with_context(|| format!("make {}", path.display()))
}

fn content_hash(job: &RenderedJob) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for file in &job.files {
        for part in [file.path.as_bytes(), file.content.as_bytes()] {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        context.update(&file.mode.to_be_bytes());
    }
    hexadecimal(&context.finish().as_ref()[..20])
}
