//! The container of one process: private mount, pid, ipc and uts namespaces, an empty root with the
//! mounts of [`super::mounts`], user vcap, no new privileges, and a tiny init as pid 1.
//!
//! The init does what tini does for bpm: it starts the program in a process group of its own, passes
//! signals on to it alone, reaps whatever is orphaned, and ends with the program's exit code; then
//! the kernel kills everything that is left in the container. docs/local-director.md#bpm

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{self, SigHandler, SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{
    ForkResult, Gid, Pid, Uid, chdir, fchdir, fork, pivot_root, setgid, setgroups, setsid, setuid,
};
use serde::{Deserialize, Serialize};

use super::cgroup;
use super::mounts::{MASKED, Mount, READ_ONLY};
use crate::local::sandbox;

/// The hidden subcommand that becomes a container's init; it is told what to do on its stdin.
pub const CONTAINER: &str = "internal-container";

/// Everything a container's init needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// An empty directory of the instance that becomes the root.
    pub rootfs: String,
    /// Bind mounts, shallow ones first.
    pub mounts: Vec<Mount>,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
    /// Its working directory.
    pub workdir: String,
    /// User and group id.
    pub user: (u32, u32),
    /// Open files, soft and hard.
    pub open_files: Option<u64>,
    /// Size of core files in bytes, soft and hard.
    pub core_file_size: Option<u64>,
    /// Files of control groups that its init writes itself into.
    pub groups: Vec<PathBuf>,
}

impl Container {
    /// Starts the container with these streams and returns the pid of its init, as this machine counts,
    /// once everything up to starting the program has succeeded.
    pub fn launch(&self, stdout: File, stderr: File) -> Result<i32> {
        let (mut ours, theirs) = UnixStream::pair().context("make a socket pair")?;
        let mut helper = Command::new("/proc/self/exe")
            .arg0("etcd-local")
            .arg(CONTAINER)
            .env_clear()
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .context("start the container's init")?;
        let answer = (|| {
            ours.write_all(&serde_json::to_vec(self)?)?;
            ours.shutdown(Shutdown::Write)?;
            let mut answer = String::new();
            ours.read_to_string(&mut answer)?;
            Ok::<_, anyhow::Error>(answer)
        })();
        helper.wait().context("wait for the helper that makes the container")?;
        parse_answer(&answer.context("talk to the container's init")?)
    }
}

/// `pid N`, then `ok` or the reason of a failure.
fn parse_answer(answer: &str) -> Result<i32> {
    let mut lines = answer.lines();
    let pid = lines.next().and_then(|line| line.strip_prefix("pid ")).and_then(|pid| pid.parse().ok());
    if let (Some(pid), Some("ok")) = (pid, lines.next()) {
        return Ok(pid);
    }
    let reason = answer.split_once("error ").map_or("its init died without a word", |(_, text)| text);
    bail!("{}", reason.trim())
}

/// The helper's whole life: reads the container from stdin, makes the namespaces, leaves an init behind.
///
/// Returns the exit code: 0 of the helper, later that of the program from its init.
pub fn main() -> u8 {
    become_init().unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        1
    })
}

fn become_init() -> Result<u8> {
    let mut conversation = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
    let mut text = Vec::new();
    conversation.read_to_end(&mut text)?;
    let container: Container = serde_json::from_slice(&text).context("read what to run")?;
    setsid().context("leave the caller's session")?;
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    if let Err(error) = unshare(namespaces) {
        writeln!(conversation, "error make namespaces: {error}")?;
        return Ok(1);
    }
    // The child must not write before the parent has told its pid.
    let (mut told, mut tell) = UnixStream::pair()?;
    // SAFETY: this process has one thread, so nothing can hold a lock the child would need.
    #[expect(unsafe_code, reason = "fork is the only way to become pid 1 of a new pid namespace")]
    match unsafe { fork() }.context("fork the init")? {
        ForkResult::Parent { child } => {
            writeln!(conversation, "pid {child}")?;
            tell.write_all(b".")?;
            Ok(0)
        }
        ForkResult::Child => {
            drop(tell);
            told.read_exact(&mut [0])?;
            Ok(init(&container, conversation))
        }
    }
}

/// Pid 1 of the container.
fn init(container: &Container, mut conversation: UnixStream) -> u8 {
    // Blocked before anything else: a signal that comes early waits instead of being lost.
    let signals = SigSet::all();
    let ready = signals.thread_block().context("block signals").and_then(|()| prepare(container));
    // Ignored: whoever asked may be dead by now; the container goes its way.
    let _ = match &ready {
        Ok(()) => writeln!(conversation, "ok"),
        Err(error) => writeln!(conversation, "error {error:#}"),
    };
    drop(conversation);
    if ready.is_err() {
        return 1;
    }
    let mut command = Command::new(&container.argv[0]);
    command.args(&container.argv[1..]).env_clear().envs(container.env.iter().cloned()).process_group(0);
    #[expect(unsafe_code, reason = "no handler is set, only the default")]
    let unblock = || {
        // A shell that puts a command into the background has these ignored, and so would all that begins there.
        for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP] {
            // SAFETY: the default disposition runs no code of ours.
            unsafe { signal::signal(signal, SigHandler::SigDfl) }?;
        }
        Ok(SigSet::empty().thread_set_mask()?)
    };
    // SAFETY: it only calls sigaction and pthread_sigmask, which may be called between fork and exec.
    #[expect(
        unsafe_code,
        reason = "a spawned program inherits what is blocked or ignored and would never end"
    )]
    unsafe {
        command.pre_exec(unblock);
    }
    match command.spawn() {
        Ok(child) => supervise(&signals, Pid::from_raw(child.id().cast_signed())),
        Err(error) => {
            eprintln!("cannot run {}: {error}", container.argv[0]);
            // tini's codes: 127 not found, 126 not executable.
            if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 }
        }
    }
}

/// Passes signals on and reaps until the program ends; returns its exit code, 128+n for a signal.
fn supervise(signals: &SigSet, program: Pid) -> u8 {
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => {
                if let Some(code) = reap(program) {
                    return code;
                }
            }
            // Signals of our own faults or terminal are not the program's business.
            Ok(
                Signal::SIGTTIN
                | Signal::SIGTTOU
                | Signal::SIGSEGV
                | Signal::SIGBUS
                | Signal::SIGFPE
                | Signal::SIGILL
                | Signal::SIGABRT
                | Signal::SIGTRAP
                | Signal::SIGSYS,
            )
            | Err(_) => {}
            Ok(signal) => {
                // Ignored: it may have ended at this moment, then SIGCHLD follows.
                let _ = kill(program, signal);
            }
        }
    }
}

fn reap(program: Pid) -> Option<u8> {
    let mut code = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == program => {
                code = Some(u8::try_from(status & 0xff).unwrap_or(u8::MAX));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => {
                code = Some(128 + u8::try_from(signal as i32).unwrap_or(0));
            }
            Ok(WaitStatus::StillAlive) | Err(_) => return code,
            Ok(_) => {}
        }
    }
}

fn prepare(container: &Container) -> Result<()> {
    // First: what is counted from here on is the container's, and the hierarchies are not in it.
    cgroup::join(&container.groups)?;
    set_limit(Resource::RLIMIT_NOFILE, container.open_files).context("limit open files")?;
    set_limit(Resource::RLIMIT_CORE, container.core_file_size).context("limit core files")?;
    // All other mounts of the instance are private already; this way shared volumes stay shared.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE, None::<&str>)
        .context("keep the container's mounts apart")?;
    let root = Path::new(&container.rootfs);
    mount(Some("rootfs"), root, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=0755"))
        .context("mount the container's root")?;
    kernel_file_systems(root)?;
    for mount in &container.mounts {
        if !mount.optional || Path::new(&mount.source).exists() {
            bind(root, mount)?;
        }
    }
    protect(root)?;
    change_root(root)?;
    enter_workdir(&container.workdir)?;
    let (user, group) = (Uid::from_raw(container.user.0), Gid::from_raw(container.user.1));
    setgroups(&[]).and_then(|()| setgid(group)).and_then(|()| setuid(user)).context("become user vcap")?;
    prctl::set_no_new_privs().context("give up new privileges")
}

fn change_root(root: &Path) -> Result<()> {
    let before = File::open("/").context("open the old root")?;
    chdir(root).context("enter the container's root")?;
    // Both roots on the same directory: the old one lies on top and is taken away. pivot_root(2), NOTES.
    pivot_root(".", ".").context("change the root")?;
    fchdir(&before).context("look back at the old root")?;
    // Else what is mounted in shared volumes would be unmounted for everybody.
    mount(None::<&str>, ".", None::<&str>, MsFlags::MS_SLAVE | MsFlags::MS_REC, None::<&str>)
        .context("let go of shared volumes")?;
    umount2(".", MntFlags::MNT_DETACH).context("take the old root away")?;
    chdir("/").context("enter the new root")
}

/// runc makes a working directory that is not there, as root; below a volume that cannot be written it fails.
fn enter_workdir(workdir: &str) -> Result<()> {
    ensure!(workdir.starts_with('/'), "the working directory {workdir} is no absolute path");
    fs::create_dir_all(workdir).with_context(|| format!("make the working directory {workdir}"))?;
    chdir(workdir).with_context(|| format!("enter the working directory {workdir}"))
}

fn set_limit(resource: Resource, limit: Option<u64>) -> Result<()> {
    limit.map_or(Ok(()), |limit| Ok(setrlimit(resource, limit, limit)?))
}

/// Binds below the new root, without devices and setuid.
fn bind(root: &Path, wanted: &Mount) -> Result<()> {
    let place = root.join(wanted.target.trim_start_matches('/'));
    fs::create_dir_all(&place).with_context(|| format!("make the mount point {}", wanted.target))?;
    sandbox::bind(Path::new(&wanted.source), &place)?;
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
    flags.set(MsFlags::MS_RDONLY, !wanted.writable);
    flags.set(MsFlags::MS_NOEXEC, !wanted.executable);
    mount(None::<&str>, &place, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("restrict the mount {}", wanted.target))
}

/// `/proc`, `/sys` and the standard devices.
fn kernel_file_systems(root: &Path) -> Result<()> {
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let devices = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let terminals = "newinstance,ptmxmode=0666,mode=0620,gid=5";
    for (target, kind, flags, options) in [
        ("proc", "proc", MsFlags::empty(), ""),
        ("sys", "sysfs", safe | MsFlags::MS_RDONLY, ""),
        ("dev", "tmpfs", devices, "mode=0755"),
        ("dev/pts", "devpts", devices, terminals),
        ("dev/shm", "tmpfs", safe, "mode=1777,size=65536k"),
        ("dev/mqueue", "mqueue", safe, ""),
    ] {
        let place = root.join(target);
        fs::create_dir_all(&place).with_context(|| format!("make the mount point /{target}"))?;
        mount(Some(kind), &place, Some(kind), flags, Some(options))
            .with_context(|| format!("mount /{target}"))?;
    }
    let dev = root.join("dev");
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        File::create(dev.join(name)).with_context(|| format!("make /dev/{name}"))?;
        sandbox::bind(&Path::new("/dev").join(name), &dev.join(name))?;
    }
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ];
    links.iter().try_for_each(|(name, target)| {
        symlink(target, dev.join(name)).with_context(|| format!("make /dev/{name}"))
    })
}

/// Parts of `/proc` and `/sys` that are not for a container.
fn protect(root: &Path) -> Result<()> {
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let inside = |path: &str| root.join(path.trim_start_matches('/'));
    for path in READ_ONLY {
        let part = inside(path);
        if part.exists() {
            sandbox::bind(&part, &part)?;
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
            mount(None::<&str>, &part, None::<&str>, flags, None::<&str>)
                .with_context(|| format!("protect {path}"))?;
        }
    }
    for path in MASKED {
        let part = inside(path);
        if part.is_dir() {
            mount(Some("nothing"), &part, Some("tmpfs"), safe | MsFlags::MS_RDONLY, None::<&str>)
                .with_context(|| format!("hide {path}"))?;
        } else if part.exists() {
            sandbox::bind(&root.join("dev/null"), &part).with_context(|| format!("hide {path}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inits_answer_is_a_pid_or_a_reason() {
        assert_eq!(parse_answer("pid 42\nok\n").unwrap(), 42);
        assert_eq!(
            parse_answer("pid 42\nerror mount /proc: EPERM\n").unwrap_err().to_string(),
            "mount /proc: EPERM"
        );
        assert_eq!(
            parse_answer("error make namespaces: EPERM\n").unwrap_err().to_string(),
            "make namespaces: EPERM"
        );
        assert_eq!(parse_answer("pid 42\n").unwrap_err().to_string(), "its init died without a word");
    }
}
