//! What a process of an instance sees: its own `/var/vcap`, `/etc/hosts` and `/etc/profile.d`, and its own
//! network where the deployment has namespaces.
//!
//! Each process that is started gets a mount namespace of its own, made just before `exec`. No
//! namespace has to be kept alive or found again: the directories are the truth.
//!
//! Why not chroot: paths in templates, scripts and packages are `/var/vcap/...` and must stay true
//! while the rest of the machine (libraries, shells, Ruby) is shared.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;

use super::layout::{InstanceDir, VCAP};
use super::network;

/// The hidden subcommand that enters an instance and becomes another program.
pub const ENTER: &str = "internal-enter";

/// Moves this process into the instance's view of files and network. It must have one thread only.
pub fn enter(instance: &InstanceDir) -> Result<()> {
    network::enter(instance)?;
    unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace (etcd-local needs root)")?;
    keep_mounts_to_ourselves()?;
    // The mount point on the machine itself stays empty; only namespaces see something there.
    fs::create_dir_all(VCAP).with_context(|| format!("make the mount point {VCAP}"))?;
    bind(&instance.root(), Path::new(VCAP))?;
    if instance.attached_disk().exists() {
        bind(&instance.attached_disk(), &Path::new(VCAP).join("store"))?;
    }
    bind(&instance.hosts(), Path::new("/etc/hosts"))?;
    bind(&instance.profile_d(), Path::new("/etc/profile.d"))
}

/// Mounts made from here on are seen by this namespace only.
pub fn keep_mounts_to_ourselves() -> Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("make the mounts of this namespace private")
}

/// Shows `source` also at `target`.
pub fn bind(source: &Path, target: &Path) -> Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .with_context(|| format!("bind {} on {}", source.display(), target.display()))
}

/// Makes a directory one whose later mounts are seen by all who were given it: by this namespace and by containers
/// made in it.
pub fn share(path: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("list the mounts of this namespace")?;
    let name = path.display().to_string();
    if !mounts.lines().any(|line| line.split(' ').nth(4) == Some(&name)) {
        bind(path, path)?;
    }
    mount(None::<&str>, path, None::<&str>, MsFlags::MS_SHARED, None::<&str>)
        .with_context(|| format!("share {name}"))
}

/// A command that runs `program` inside the instance; arguments, environment and streams are set on it
/// as usual. It goes through this program itself, since entering needs a process with one thread.
pub fn command(instance: &InstanceDir, program: &str) -> Command {
    // /proc/self/exe, not the path: the file may have been replaced by a newer build.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("etcd-local").arg(ENTER).arg("--instance").arg(instance.path()).arg("--").arg(program);
    command
}

/// Like [`command`], but the process first leaves a file named after its pid in `notes`: written by the
/// process itself, so that no killed caller can forget it. Until the program runs it dies with its caller, so that
/// whoever finds no such file need not wait for one.
pub fn noted_command(instance: &InstanceDir, notes: &Path, program: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("etcd-local").arg(ENTER).arg("--instance").arg(instance.path());
    command.arg("--note").arg(notes).arg("--starter").arg(std::process::id().to_string());
    command.arg("--").arg(program);
    command
}

/// Leaves a file named after this process in `notes`.
pub fn leave_note(notes: &Path) -> Result<()> {
    let note = notes.join(std::process::id().to_string());
    fs::File::create(&note).map(drop).with_context(|| format!("write {}", note.display()))
}

/// Binds this process' life to that of `starter`, its parent, until [`exec`].
pub fn live_with(starter: i32) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).context("ask to die with the parent")?;
    // It may have died before we asked.
    if nix::unistd::getppid().as_raw() != starter {
        bail!("process {starter}, which started this one, has ended");
    }
    Ok(())
}

/// Enters the instance and becomes `program`; returns only to tell why that failed.
pub fn exec(instance: &InstanceDir, program: &str, args: &[String]) -> anyhow::Error {
    let entered = enter(instance).and_then(|()| {
        // From here on it is found by its note and by where it lives.
        prctl::set_pdeathsig(None).context("ask to outlive the parent")
    });
    match entered {
        Ok(()) => anyhow::Error::new(Command::new(program).args(args).exec())
            .context(format!("run {program} in the instance")),
        Err(error) => error,
    }
}
