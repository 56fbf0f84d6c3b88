//! An instance of the fleet as a place to run things in and to look at from outside.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use etcd_release::job::paths::Paths;
use etcd_release::local::bpm::vcap::Vcap;
use etcd_release::local::layout::{InstanceDir, StateDir};
use etcd_release::local::sandbox;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::fleet::Fleet;

/// What bpm starts.
pub const LAUNCHER: &str = "/var/vcap/packages/etcd-tools/bin/etcd-launcher";
/// What bpm gives the launcher.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("HOME", "/var/vcap/data/etcd"),
    ("LANG", "en_US.UTF-8"),
    ("PATH", "/usr/bin:/bin"),
    ("TMPDIR", "/var/vcap/data/etcd/tmp"),
];

/// One instance, from this machine.
pub struct Place {
    /// `etcd/ID`.
    pub slug: String,
    directory: InstanceDir,
}

impl Place {
    /// All instances of a fleet.
    pub fn all(fleet: &Fleet) -> Vec<Self> {
        let deployment = StateDir::at(fleet.state_dir()).deployment("etcd");
        fleet
            .instances()
            .iter()
            .filter_map(|row| row["instance"].as_str())
            .filter_map(|slug| slug.split_once('/').map(|(_, id)| (slug, id)))
            .map(|(slug, id)| Self { slug: slug.to_owned(), directory: deployment.instance(id) })
            .collect()
    }

    /// The job's paths, as this machine sees them. What lies on the persistent disk is not among them.
    pub fn paths(&self) -> Paths {
        Paths::below(self.directory.root())
    }

    /// A path that the instance names `/var/vcap/...`, as this machine sees it.
    pub fn on_this_machine(&self, inside: &str) -> PathBuf {
        self.directory.on_this_machine(inside)
    }

    /// Does `work` where `/var/vcap` is the instance's. The thread that does it has a mount namespace of its own,
    /// and so have the processes it starts.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let there = scope.spawn(|| {
                sandbox::enter(&self.directory)?;
                show_job_to_vcap()?;
                work()
            });
            there.join().map_err(|_| anyhow!("the thread inside {} panicked", self.slug))?
        })
    }

    /// The init of the container that etcd-local runs the launcher in: with it everything in there ends.
    pub fn container(&self) -> Result<Pid> {
        let file = self.on_this_machine("/var/vcap/sys/run/bpm/etcd/etcd.pid");
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let pid = text.trim().parse().with_context(|| format!("{} holds no pid", file.display()))?;
        Ok(Pid::from_raw(pid))
    }

    /// The launcher that etcd-local runs.
    pub fn launcher(&self) -> Result<Pid> {
        let init = self.container()?;
        let children = format!("/proc/{init}/task/{init}/children");
        let text = fs::read_to_string(&children).with_context(|| format!("read {children}"))?;
        let child = text.split_whitespace().next().and_then(|pid| pid.parse().ok());
        child.map(Pid::from_raw).with_context(|| format!("{}: no launcher runs", self.slug))
    }
}

/// The way to a job's directory is closed to vcap; bpm shows its processes the directory itself.
fn show_job_to_vcap() -> Result<()> {
    let (jobs, job) = (Path::new("/var/vcap/jobs"), Path::new("/var/vcap/jobs/etcd"));
    let directory = job.canonicalize().context("find the job's directory")?;
    mount(Some("jobs"), jobs, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))
        .context("cover the jobs")?;
    fs::create_dir(job).context("make a mount point for the job")?;
    sandbox::bind(&directory, job)
}

/// A program as bpm starts the launcher; to be started [inside](Place::inside).
pub fn as_vcap(program: &str) -> Result<Command> {
    let vcap = Vcap::find()?;
    let mut command = Command::new(program);
    command.uid(vcap.user).gid(vcap.group).current_dir("/var/vcap/jobs/etcd").env_clear().envs(ENVIRONMENT);
    Ok(command)
}

/// A process that a measurement started; it ends with its guard.
pub struct Running {
    child: Child,
    /// Just before it was forked.
    pub since: Instant,
}

impl Running {
    /// Starts a command whose story goes to the end of `log`.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let log = fs::OpenOptions::new().create(true).append(true).open(log).context("open the log")?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let since = Instant::now();
        let child = command.spawn().with_context(|| format!("start {}", command.get_program().display()))?;
        Ok(Self { child, since })
    }

    /// Asks it to end and waits until it has.
    pub fn stop(mut self) -> Result<ExitStatus> {
        let pid = i32::try_from(self.child.id()).context("a pid is an i32")?;
        kill(Pid::from_raw(pid), Signal::SIGTERM).context("ask it to end")?;
        self.child.wait().context("wait for its end")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
