//! bpm as this director plays it: `/var/vcap/jobs/bpm/bin/bpm` inside an instance is a shim that comes
//! here. `start`, `stop`, `pid`, `list` and `logs` as bpm has them, in containers of our own ([`container`], without
//! a filter of system calls) or by real runc ([`runc`]). docs/local-director.md#bpm

pub mod cgroup;
pub mod config;
pub mod container;
pub mod mounts;
pub mod oci;
pub mod runc;
pub mod seccomp;
pub mod size;
pub mod vcap;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use self::config::{ConfigError, JobConfig, Process};
use self::container::Container;
use self::runc::Runc;
use self::vcap::Vcap;
use super::model::BpmRunner;
use super::{process, sandbox};
use crate::atomic_file::{self, Stored};
use crate::{journal, report};

/// The hidden subcommand behind the shim.
pub const BPM: &str = "internal-bpm";

/// How long bpm waits after the first signal; fixed there too.
const TERM_WAIT: Duration = Duration::from_secs(15);
/// How long bpm waits after SIGQUIT.
const QUIT_WAIT: Duration = Duration::from_secs(2);
/// How long killing a container may take.
const KILL_WAIT: Duration = Duration::from_secs(10);
/// A record is two numbers.
const RECORD_BYTES_MAX: u64 = 4096;

/// A process of a job, and where bpm keeps things about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Name of the job.
    pub job: String,
    /// Name of the process, by default that of the job.
    pub process: String,
}

/// What became of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// There is none.
    Absent,
    /// Its init runs under this pid, as the machine counts.
    Running(i32),
    /// It ended by itself, and nobody cleared it away yet.
    Ended,
}

/// The init of a running container of our own. The start time guards against another process with its pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Running {
    pid: i32,
    started: u64,
}

impl Unit {
    fn pidfile(&self) -> PathBuf {
        format!("/var/vcap/sys/run/bpm/{}/{}.pid", self.job, self.process).into()
    }

    fn record(&self) -> PathBuf {
        self.pidfile().with_extension("json")
    }

    fn bundle(&self) -> PathBuf {
        format!("/var/vcap/data/bpm/bundles/{}/{}", self.job, self.process).into()
    }

    fn log(&self, name: &str) -> PathBuf {
        format!("/var/vcap/sys/log/{}/{name}.log", self.job).into()
    }

    fn id(&self) -> String {
        runc::container_id(&self.job, &self.process)
    }

    fn groups(&self) -> Result<cgroup::Name> {
        let instance = fs::read_to_string("/var/vcap/instance/id").context("read who this instance is")?;
        Ok(cgroup::Name::of(&instance, &self.id()))
    }

    fn config(&self) -> Result<Process> {
        let path = format!("/var/vcap/jobs/{}/config/bpm.yml", self.job);
        let config = JobConfig::read(Path::new(&path), &self.job)
            .map_err(|error| anyhow!("failed to parse job configuration: {error}"))?;
        config
            .process(&self.process)
            .cloned()
            .ok_or_else(|| anyhow!("process \"{}\" not present in job configuration ({path})", self.process))
    }

    /// One start or stop at a time, as with bpm: a start waits until a stop has finished.
    fn lock(&self) -> Result<Flock<File>> {
        let directory = Path::new("/var/vcap/data/bpm/locks");
        fs::create_dir_all(directory).context("make bpm's lock directory")?;
        let path = directory.join(format!("{}.{}.lock", self.job, self.process));
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("open {}", path.display()))?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, error)| anyhow!("lock {}: {error}", path.display()))
    }

    /// What became of its container, whoever ran it: the deployment may have another runner by now.
    fn seen(&self) -> Result<(BpmRunner, Seen)> {
        let record = atomic_file::read_json::<Running>(&self.record(), RECORD_BYTES_MAX)
            .with_context(|| format!("read {}", self.record().display()))?;
        let seen = match record {
            Stored::Present(record) if process::is_same_and_alive(record.pid, record.started) => {
                Seen::Running(record.pid)
            }
            // Torn after a power loss, or of a container that ended: bpm cleans up and starts anew.
            Stored::Present(_) | Stored::Unusable(_) => Seen::Ended,
            Stored::Absent if runc::knows(&self.id()) => {
                return Ok((BpmRunner::Runc, Runc::find()?.seen(&self.id())?));
            }
            Stored::Absent => Seen::Absent,
        };
        Ok((BpmRunner::Namespaces, seen))
    }

    /// Ends what is left of the container and forgets it.
    fn remove(&self, runner: BpmRunner, seen: Seen) -> Result<()> {
        match (runner, seen) {
            (BpmRunner::Runc, Seen::Running(_) | Seen::Ended) => Runc::find()?.delete(&self.id())?,
            (BpmRunner::Namespaces, Seen::Running(pid)) => {
                // Ignored: it may have ended by itself; the condition tells.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                if !process::wait_until(KILL_WAIT, || !process::is_alive(pid)) {
                    bail!("{} did not end after SIGKILL", self.process);
                }
            }
            (BpmRunner::Namespaces, Seen::Ended) | (_, Seen::Absent) => {}
        }
        cgroup::remove(&self.groups()?)?;
        for path in [self.record(), self.pidfile(), self.bundle().join("config.json")] {
            if path.exists() {
                atomic_file::remove(&path).with_context(|| format!("remove {}", path.display()))?;
            }
        }
        remove_empty(&self.bundle());
        Ok(())
    }
}

/// Removes directories that hold nothing but directories: the mount points of a container's root. Never a file, so
/// that a mount which is still there loses nothing.
fn remove_empty(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    // Ignored: what stays is used again by the next start.
    let _ = fs::remove_dir(directory);
}

/// `bpm start`: nothing if it runs already, else a fresh container.
///
/// Returns what an operator should be warned of.
pub fn start(unit: &Unit, runner: BpmRunner) -> Result<Vec<String>> {
    let _lock = unit.lock()?;
    let process = unit.config()?;
    match unit.seen() {
        Ok((_, Seen::Running(_))) => return Ok(Vec::new()),
        Ok((earlier, seen)) => unit.remove(earlier, seen).context("failed to clean up stale job-process")?,
        Err(error) => {
            journal::warn("failed-getting-job", &serde_json::json!({"why": report::chain(&error)}));
            Runc::find()?.delete_torn(&unit.id()).context("failed to clean up stale job-process")?;
        }
    }
    launch(unit, &process, runner).context("failed to start job-process")
}

fn launch(unit: &Unit, process: &Process, runner: BpmRunner) -> Result<Vec<String>> {
    let vcap = Vcap::find()?;
    system_files(unit, process, vcap).context("failed to create system files")?;
    journal::append_to(open_log(&unit.log("bpm"), vcap)?);
    journal::info("starting", &serde_json::json!({"job": unit.job, "process": unit.process}));
    let (stdout, stderr) = (
        open_log(&unit.log(&format!("{}.stdout", unit.process)), vcap)?,
        open_log(&unit.log(&format!("{}.stderr", unit.process)), vcap)?,
    );
    refuse(unit, process, runner)?;
    let limits = group_limits(process)?;
    let (mut container, mut warnings) = describe(unit, process, vcap)?;
    let runc = match runner {
        BpmRunner::Namespaces => {
            let made = cgroup::make(&unit.groups()?, limits)?;
            container.groups = made.join;
            let told = |(limit, why)| format!("{}: limits.{limit} is not enforced: {why}", unit.process);
            warnings.extend(made.missing.into_iter().map(told));
            None
        }
        BpmRunner::Runc => {
            let runc = Runc::find()?;
            bundle(unit, process, &mut container, limits, &runc)?;
            Some(runc)
        }
    };
    for warning in &warnings {
        journal::warn("limits differ from production", &serde_json::json!({"why": warning}));
    }
    if let Some(hooks) = &process.hooks {
        run_hook(&hooks.pre_start, &container.env, &stdout, &stderr).context("prestart hook failed")?;
    }
    match runc {
        Some(runc) => runc.run(&unit.id(), &unit.bundle(), &unit.pidfile(), stdout, stderr)?,
        None => run(unit, &container, stdout, stderr)?,
    }
    journal::info("started", &serde_json::json!({"process": unit.process, "runner": runner.word()}));
    Ok(warnings)
}

/// Runs a container of our own.
fn run(unit: &Unit, container: &Container, stdout: File, stderr: File) -> Result<()> {
    let pid = container.launch(stdout, stderr)?;
    // Gone again already: monit will see a dead pid, as it does with bpm.
    let started = process::stat(pid).map_or(0, |stat| stat.started);
    atomic_file::write_json(&unit.record(), &Running { pid, started }, 0o600)
        .with_context(|| format!("write {}", unit.record().display()))?;
    atomic_file::write(&unit.pidfile(), format!("{pid}\n").as_bytes(), 0o644)
        .with_context(|| format!("write {}", unit.pidfile().display()))
}

/// Writes what runc reads of a container.
fn bundle(
    unit: &Unit,
    process: &Process,
    container: &mut Container,
    limits: cgroup::Limits,
    runc: &Runc,
) -> Result<()> {
    // runc knows no mounts that may be missing.
    container.mounts.retain(|mount| !mount.optional || Path::new(&mount.source).exists());
    let extras = oci::Extras {
        init: &runc.init(),
        capabilities: &process.capabilities,
        limits,
        counts_swap: cgroup::counts_swap()?,
        groups: &unit.groups()?.path().display().to_string(),
    };
    runc::write_bundle(&unit.bundle(), &oci::config(container, &extras)).context("bundle build failure")
}

/// What is to run, as far as all runners have it, and where it differs from what `bpm.yml` says.
fn describe(unit: &Unit, process: &Process, vcap: Vcap) -> Result<(Container, Vec<String>)> {
    let limits = &process.limits;
    let mut warnings = Vec::new();
    let mut afford = |name: &str, resource: Resource, wanted: Option<u64>| {
        let limit = affordable(resource, wanted).with_context(|| format!("read the limit of {name}"))?;
        if let (Some(limit), Some(wanted)) = (limit, wanted.filter(|wanted| limit != Some(*wanted))) {
            warnings.push(format!(
                "{}: limits.{name} is {limit} instead of {wanted}, the most this machine allows",
                unit.process
            ));
        }
        anyhow::Ok(limit)
    };
    let open_files = afford("open_files", Resource::RLIMIT_NOFILE, limits.open_files)?;
    let core_file_size = afford("core_file_size", Resource::RLIMIT_CORE, limits.core_file_size)?;
    let mut argv = vec![process.executable.clone()];
    argv.extend(process.args.iter().cloned());
    let workdir = Some(process.workdir.clone()).filter(|workdir| !workdir.is_empty());
    let container = Container {
        rootfs: unit.bundle().join("rootfs").display().to_string(),
        mounts: mounts::mounts(&unit.job, process),
        argv,
        env: mounts::environment(&unit.job, process),
        workdir: workdir.unwrap_or_else(|| format!("/var/vcap/jobs/{}", unit.job)),
        user: (vcap.user, vcap.group),
        open_files,
        core_file_size,
        groups: Vec::new(),
    };
    Ok((container, warnings))
}

/// The hook runs outside the container, as root, with the container's environment and the caller's directory.
fn run_hook(hook: &str, env: &[(String, String)], stdout: &File, stderr: &File) -> Result<()> {
    if hook.is_empty() {
        // `hooks` without a hook that bpm knows: its words.
        bail!("exec: no command");
    }
    let status = Command::new(hook)
        .env_clear()
        .envs(env.iter().cloned())
        .stdin(std::process::Stdio::null())
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?)
        .status()
        .with_context(|| format!("run {hook}"))?;
    if status.success() { Ok(()) } else { bail!("{hook}: {status}") }
}

/// Directories bpm makes at each start, with its owners and modes.
fn system_files(unit: &Unit, process: &Process, vcap: Vcap) -> Result<()> {
    let job = &unit.job;
    let pidfile = unit.pidfile();
    make(pidfile.parent().context("a pidfile lies in a directory")?, 0o700)?;
    make(&unit.bundle(), 0o700)?;
    make(&unit.bundle().join("rootfs"), 0o755)?;
    for volume in &process.additional_volumes {
        let path = Path::new(&volume.path);
        if volume.shared {
            sandbox::share(path)?;
        }
        if volume.mount_only {
            continue;
        }
        if path.is_dir() {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))
                .with_context(|| format!("make {} vcap's alone", volume.path))?;
        } else if !path.exists() {
            make(path, 0o700)?;
        }
        give(path, vcap)?;
    }
    let mut own = vec![format!("/var/vcap/sys/run/{job}"), format!("/var/vcap/data/{job}/tmp")];
    if process.ephemeral_disk {
        own.push(format!("/var/vcap/data/{job}"));
    }
    if process.persistent_disk {
        if !Path::new("/var/vcap/store").exists() {
            bail!("requested persistent disk does not exist");
        }
        own.push(format!("/var/vcap/store/{job}"));
    }
    make(Path::new(&format!("/var/vcap/sys/log/{job}")), 0o750)?;
    give(Path::new(&format!("/var/vcap/sys/log/{job}")), vcap)?;
    own.iter().map(Path::new).try_for_each(|path| make(path, 0o700).and_then(|()| give(path, vcap)))
}

/// Makes what is missing of a path; what is there keeps its mode.
fn make(path: &Path, mode: u32) -> Result<()> {
    let outcome = DirBuilder::new().recursive(true).mode(mode).create(path);
    outcome.with_context(|| format!("make {}", path.display()))
}

/// Gives this one inode to vcap, not what lies in it.
fn give(path: &Path, vcap: Vcap) -> Result<()> {
    chown(path, Some(vcap.user), Some(vcap.group)).with_context(|| format!("give {} to vcap", path.display()))
}

fn open_log(path: &Path, vcap: Vcap) -> Result<File> {
    let tell = || format!("open {}", path.display());
    // The directory belongs to vcap: no symlink laid there is followed by root.
    let flags = nix::fcntl::OFlag::O_NOFOLLOW.bits();
    let file = OpenOptions::new().create(true).append(true).mode(0o600).custom_flags(flags).open(path);
    let file = file.with_context(tell)?;
    std::os::unix::fs::fchown(&file, Some(vcap.user), Some(vcap.group)).with_context(tell)?;
    Ok(file)
}

/// The limit that can be set here. Root without `CAP_SYS_RESOURCE` cannot go beyond its own hard limit.
fn affordable(resource: Resource, wanted: Option<u64>) -> Result<Option<u64>> {
    let Some(wanted) = wanted else { return Ok(None) };
    let (soft, hard) = getrlimit(resource)?;
    let can = wanted <= hard || setrlimit(resource, soft, wanted).is_ok();
    Ok(Some(if can { wanted } else { hard }))
}

/// What control groups limit. bpm reads the size only now, and says so in these words.
fn group_limits(process: &Process) -> Result<cgroup::Limits> {
    let memory = process.limits.memory.as_deref();
    let memory = memory.map(|text| size::bytes(text).ok_or_else(|| anyhow!(size::UNREADABLE))).transpose()?;
    let processes = process.limits.processes.and_then(|count| u64::try_from(count).ok());
    let some = |limit: &u64| *limit > 0;
    Ok(cgroup::Limits { memory_bytes: memory.filter(some), processes: processes.filter(some) })
}

/// What would give a process more than this director does is refused, not left out.
fn refuse(unit: &Unit, process: &Process, runner: BpmRunner) -> Result<()> {
    let exceptions = &process.exceptions;
    if exceptions.privileged || exceptions.host_pid_namespace || !exceptions.unrestricted_volumes.is_empty() {
        bail!(
            "{}: etcd-local does not play bpm's `unsafe`; remove it or deploy with a Director",
            unit.process
        );
    }
    if runner == BpmRunner::Namespaces && !process.capabilities.is_empty() {
        bail!(
            "{}: only runc gives `capabilities`; remove them, or deploy with --bpm runc or with a Director",
            unit.process
        );
    }
    Ok(())
}

/// `bpm stop`: the first signal, 15 s, SIGQUIT, 2 s, SIGKILL for all that is in the container. What is not there is
/// stopped, whatever its `bpm.yml` says; of what is there a broken one keeps it running.
pub fn stop(unit: &Unit) -> Result<()> {
    let _lock = unit.lock()?;
    let (runner, seen) = unit.seen().context("failed to get job-process status")?;
    if seen == Seen::Absent {
        return Ok(());
    }
    let process = unit.config()?;
    journal::append_to(open_log(&unit.log("bpm"), Vcap::find()?)?);
    journal::info("stopping", &serde_json::json!({"job": unit.job, "process": unit.process}));
    let mut left = seen;
    if let Seen::Running(pid) = seen {
        let first = if process.shutdown_signal == "INT" { Signal::SIGINT } else { Signal::SIGTERM };
        if ask_to_end(unit, runner, pid, first)? {
            left = Seen::Ended;
        }
    }
    unit.remove(runner, left).context("failed to cleanup job-process")
}

/// Whether the container ended when it was asked to.
fn ask_to_end(unit: &Unit, runner: BpmRunner, pid: i32, first: Signal) -> Result<bool> {
    let started = process::stat(pid).map_or(0, |stat| stat.started);
    for (signal, wait) in [(first, TERM_WAIT), (Signal::SIGQUIT, QUIT_WAIT)] {
        // Ignored: it may have ended by itself; the condition tells.
        let _ = match runner {
            BpmRunner::Namespaces => kill(Pid::from_raw(pid), signal).map_err(anyhow::Error::new),
            BpmRunner::Runc => Runc::find()?.signal(&unit.id(), signal),
        };
        let told = serde_json::json!({"process": unit.process, "signal": signal.as_str()});
        if process::wait_until(wait, || !process::is_same_and_alive(pid, started)) {
            journal::info("stopped", &told);
            return Ok(true);
        }
        journal::warn("failed-to-stop", &told);
    }
    Ok(false)
}

/// `bpm pid`: the pid of the container's init, as the machine counts.
pub fn pid(unit: &Unit) -> Result<i32> {
    match unit.seen().context("failed to get job")? {
        (_, Seen::Running(pid)) => Ok(pid),
        (_, Seen::Absent | Seen::Ended) => bail!("process is not running or could not be found"),
    }
}

/// `bpm list`: every process of every job that has a `bpm.yml`, and what is wrong with those that cannot be read.
pub fn list() -> Result<(String, Vec<String>)> {
    let mut rows = vec![["Name", "Pid", "Status"].map(str::to_owned)];
    let mut faults = Vec::new();
    let entries = fs::read_dir("/var/vcap/jobs").context("list the jobs")?;
    let mut jobs: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    jobs.sort();
    for job in jobs {
        let path = format!("/var/vcap/jobs/{job}/config/bpm.yml");
        let config = match JobConfig::read(Path::new(&path), &job) {
            Err(ConfigError::Unreadable(error)) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => {
                faults.push(format!("invalid config for {job}: {error}"));
                continue;
            }
            Ok(config) => config,
        };
        for process in config.processes {
            let name = if process.name == job { job.clone() } else { format!("{job}.{}", process.name) };
            let (pid, status) = match (Unit { job: job.clone(), process: process.name }).seen() {
                Ok((_, Seen::Running(pid))) => (pid.to_string(), "running"),
                Ok((_, Seen::Ended)) => ("-".to_owned(), "failed"),
                // What runc cannot read is not in its own list either.
                Ok((_, Seen::Absent)) | Err(_) => ("-".to_owned(), "stopped"),
            };
            rows.push([name, pid, status.to_owned()]);
        }
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (name, pid) = (width(0), width(1));
    let lines: Vec<String> =
        rows.iter().map(|row| format!("{:name$} {:pid$} {}", row[0], row[1], row[2])).collect();
    Ok((lines.join("\n"), faults))
}

/// `bpm logs`: becomes `tail`.
pub fn logs(unit: &Unit, which: Logs, follow: bool, lines: u32) -> anyhow::Error {
    let mut command = Command::new("tail");
    command.arg("-n").arg(lines.to_string());
    if follow {
        command.arg("-f");
    }
    let names: &[&str] = match which {
        Logs::Stdout => &["stdout"],
        Logs::Stderr => &["stderr"],
        Logs::Both => &["stdout", "stderr"],
    };
    command.args(names.iter().map(|name| unit.log(&format!("{}.{name}", unit.process))));
    anyhow::Error::new(command.exec()).context("run tail")
}

/// Which streams `bpm logs` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logs {
    /// Only stdout.
    Stdout,
    /// Only stderr.
    Stderr,
    /// Both.
    Both,
}

/// The line by which the supervisor recognises warnings among the output of a start program.
pub const WARNING_PREFIX: &str = "Warning: ";

/// Tells warnings on stderr, which monit's log takes.
pub fn tell(warnings: &[String]) -> Result<()> {
    let mut stderr = std::io::stderr().lock();
    for warning in warnings {
        writeln!(stderr, "{WARNING_PREFIX}{warning}")?;
    }
    Ok(())
}

/// Prints an answer of bpm.
pub fn answer(text: &str) -> Result<()> {
    report::answer(text).context("print")
}
