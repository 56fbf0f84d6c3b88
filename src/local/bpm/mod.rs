//! bpm as this director plays it: `/var/vcap/jobs/bpm/bin/bpm` inside an instance is a shim that comes
//! here. `start`, `stop`, `pid`, `list` and `logs` as bpm has them, without cgroups and seccomp.
//! docs/contract.md#bpm

pub mod config;
pub mod container;
pub mod mounts;
pub mod vcap;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use self::config::{JobConfig, Process};
use self::container::Container;
use self::vcap::Vcap;
use super::process;
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

/// The init of a running container. The start time guards against another process with its pid.
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
        format!("/var/vcap/sys/run/bpm-runc/{}/{}.json", self.job, self.process).into()
    }

    fn rootfs(&self) -> PathBuf {
        format!("/var/vcap/data/bpm/bundles/{}/{}/rootfs", self.job, self.process).into()
    }

    fn log(&self, name: &str) -> PathBuf {
        format!("/var/vcap/sys/log/{}/{name}.log", self.job).into()
    }

    fn config(&self) -> Result<(JobConfig, Process)> {
        let path = format!("/var/vcap/jobs/{}/config/bpm.yml", self.job);
        let config = JobConfig::read(Path::new(&path), &self.job)
            .map_err(|error| anyhow!("failed to parse job configuration: {error}"))?;
        let process = config.process(&self.process).cloned().ok_or_else(|| {
            anyhow!("process \"{}\" not present in job configuration ({path})", self.process)
        })?;
        Ok((config, process))
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

    fn running(&self) -> Result<Option<Running>> {
        let record = atomic_file::read_json::<Running>(&self.record(), RECORD_BYTES_MAX)
            .with_context(|| format!("read {}", self.record().display()))?;
        Ok(match record {
            Stored::Present(record) if process::is_same_and_alive(record.pid, record.started) => Some(record),
            // Torn after a power loss, or of a container that ended: bpm cleans up and starts anew.
            Stored::Present(_) | Stored::Absent | Stored::Unusable(_) => None,
        })
    }

    fn forget(&self) -> Result<()> {
        for path in [self.record(), self.pidfile()] {
            if path.exists() {
                atomic_file::remove(&path).with_context(|| format!("remove {}", path.display()))?;
            }
        }
        Ok(())
    }
}

/// `bpm start`: nothing if it runs already, else a fresh container.
///
/// Returns what an operator should be warned of.
pub fn start(unit: &Unit) -> Result<Vec<String>> {
    let _lock = unit.lock()?;
    let (_, process) = unit.config()?;
    if unit.running()?.is_some() {
        return Ok(Vec::new());
    }
    unit.forget()?;
    launch(unit, &process).context("failed to start job-process")
}

fn launch(unit: &Unit, process: &Process) -> Result<Vec<String>> {
    let vcap = Vcap::find()?;
    system_files(unit, process, vcap).context("failed to create system files")?;
    journal::append_to(open_log(&unit.log("bpm"), None)?);
    journal::info("starting", &serde_json::json!({"job": unit.job, "process": unit.process}));
    let (stdout, stderr) = (
        open_log(&unit.log(&format!("{}.stdout", unit.process)), Some(vcap))?,
        open_log(&unit.log(&format!("{}.stderr", unit.process)), Some(vcap))?,
    );
    let (open_files, mut warnings) = affordable_open_files(unit, process.limits.open_files)?;
    warnings.extend(not_played(unit, process)?);
    for warning in &warnings {
        journal::warn("limits differ from production", &serde_json::json!({"why": warning}));
    }
    let env = mounts::environment(&unit.job, process);
    if !process.hooks.pre_start.is_empty() {
        run_hook(&process.hooks.pre_start, &env, &stdout, &stderr).context("prestart hook failed")?;
    }
    let mut argv = vec![process.executable.clone()];
    argv.extend(process.args.iter().cloned());
    let workdir = Some(process.workdir.clone()).filter(|workdir| !workdir.is_empty());
    let container = Container {
        rootfs: unit.rootfs().display().to_string(),
        mounts: mounts::mounts(&unit.job, process),
        argv,
        env,
        workdir: workdir.unwrap_or_else(|| format!("/var/vcap/jobs/{}", unit.job)),
        user: (vcap.user, vcap.group),
        open_files,
        core_file_size: process.limits.core_file_size,
    };
    let pid = container.launch(stdout, stderr)?;
    // Gone again already: monit will see a dead pid, as it does with bpm.
    let started = process::stat(pid).map_or(0, |stat| stat.started);
    atomic_file::write_json(&unit.record(), &Running { pid, started }, 0o600)
        .with_context(|| format!("write {}", unit.record().display()))?;
    atomic_file::write(&unit.pidfile(), format!("{pid}\n").as_bytes(), 0o644)
        .with_context(|| format!("write {}", unit.pidfile().display()))?;
    journal::info("started", &serde_json::json!({"process": unit.process, "pid": pid}));
    Ok(warnings)
}

/// The hook runs outside the container, as root, with the container's environment.
fn run_hook(hook: &str, env: &[(String, String)], stdout: &File, stderr: &File) -> Result<()> {
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
    directory(Path::new("/var/vcap/sys/run/bpm"), 0o700, None)?;
    for path in [unit.pidfile(), unit.record()] {
        directory(path.parent().expect("both have a directory"), 0o700, None)?;
    }
    directory(&unit.rootfs(), 0o755, None)?;
    directory(Path::new(&format!("/var/vcap/sys/log/{job}")), 0o750, Some(vcap))?;
    directory(Path::new(&format!("/var/vcap/sys/run/{job}")), 0o700, Some(vcap))?;
    directory(Path::new(&format!("/var/vcap/data/{job}")), 0o700, Some(vcap))?;
    directory(Path::new(&format!("/var/vcap/data/{job}/tmp")), 0o700, Some(vcap))?;
    if process.persistent_disk {
        if !Path::new("/var/vcap/store").exists() {
            bail!("requested persistent disk does not exist");
        }
        directory(Path::new(&format!("/var/vcap/store/{job}")), 0o700, Some(vcap))?;
    }
    for volume in process.additional_volumes.iter().filter(|volume| !volume.mount_only) {
        directory(Path::new(&volume.path), 0o700, Some(vcap))?;
    }
    Ok(())
}

/// Makes a directory; mode and owner of this one inode are set at every start, not those of its content.
fn directory(path: &Path, mode: u32, owner: Option<Vcap>) -> Result<()> {
    let tell = || format!("make {}", path.display());
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path).with_context(tell)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(tell)?;
    owner.map_or(Ok(()), |vcap| chown(path, Some(vcap.user), Some(vcap.group)).with_context(tell))
}

fn open_log(path: &Path, owner: Option<Vcap>) -> Result<File> {
    let tell = || format!("open {}", path.display());
    // The directory belongs to vcap: no symlink laid there is followed by root.
    let flags = nix::fcntl::OFlag::O_NOFOLLOW.bits();
    let file = OpenOptions::new().create(true).append(true).mode(0o600).custom_flags(flags).open(path);
    let file = file.with_context(tell)?;
    if let Some(vcap) = owner {
        std::os::unix::fs::fchown(&file, Some(vcap.user), Some(vcap.group)).with_context(tell)?;
    }
    Ok(file)
}

/// The limit that can be set here. Root without `CAP_SYS_RESOURCE` cannot go beyond its own hard limit.
fn affordable_open_files(unit: &Unit, wanted: Option<u64>) -> Result<(Option<u64>, Vec<String>)> {
    let Some(wanted) = wanted else { return Ok((None, Vec::new())) };
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("read the limit of open files")?;
    if wanted <= hard {
        return Ok((Some(wanted), Vec::new()));
    }
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).context("read the limit of open files")?;
    if nix::sys::resource::setrlimit(Resource::RLIMIT_NOFILE, soft, wanted).is_ok() {
        return Ok((Some(wanted), Vec::new()));
    }
    let warning = format!(
        "{}: limits.open_files is {hard} instead of {wanted}, the most this machine allows (ulimit -Hn)",
        unit.process
    );
    Ok((Some(hard), vec![warning]))
}

/// What production would enforce and this machine does not; what would change behaviour is refused.
fn not_played(unit: &Unit, process: &Process) -> Result<Vec<String>> {
    if process.exceptions.is_some() || !process.capabilities.is_empty() {
        bail!(
            "{}: etcd-local does not play bpm's `unsafe` and `capabilities`; remove them or deploy with a Director",
            unit.process
        );
    }
    let ignored =
        [("memory", process.limits.memory.is_some()), ("processes", process.limits.processes.is_some())];
    Ok(ignored
        .iter()
        .filter(|(_, set)| *set)
        .map(|(name, _)| format!("{}: limits.{name} is not enforced on this machine", unit.process))
        .collect())
}

/// `bpm stop`: the first signal, 15 s, SIGQUIT, 2 s, SIGKILL for all that is in the container.
pub fn stop(unit: &Unit) -> Result<()> {
    let _lock = unit.lock()?;
    let (_, process) = unit.config()?;
    let Some(running) = unit.running()? else { return unit.forget() };
    journal::append_to(open_log(&unit.log("bpm"), None)?);
    journal::info("stopping", &serde_json::json!({"job": unit.job, "process": unit.process}));
    let gone = || !process::is_same_and_alive(running.pid, running.started);
    let first = if process.shutdown_signal == "INT" { Signal::SIGINT } else { Signal::SIGTERM };
    for (signal, wait) in [(first, TERM_WAIT), (Signal::SIGQUIT, QUIT_WAIT), (Signal::SIGKILL, KILL_WAIT)] {
        // Ignored: it may have ended by itself; the condition tells.
        let _ = kill(Pid::from_raw(running.pid), signal);
        if process::wait_until(wait, gone) {
            journal::info(
                "stopped",
                &serde_json::json!({"process": unit.process, "signal": signal.as_str()}),
            );
            return unit.forget();
        }
        journal::warn(
            "failed-to-stop",
            &serde_json::json!({"process": unit.process, "signal": signal.as_str()}),
        );
    }
    bail!("{} did not end after SIGKILL", unit.process)
}

/// `bpm pid`: the pid of the container's init, as the machine counts.
pub fn pid(unit: &Unit) -> Result<i32> {
    unit.running()?
        .map(|running| running.pid)
        .ok_or_else(|| anyhow!("process is not running or could not be found"))
}

/// `bpm list`: every process of every job that has a `bpm.yml`.
pub fn list() -> Result<String> {
    let mut rows = vec![("Name".to_owned(), "Pid".to_owned(), "Status".to_owned())];
    for entry in fs::read_dir("/var/vcap/jobs").context("list the jobs")? {
        let job = entry.context("list the jobs")?.file_name().to_string_lossy().into_owned();
        let path = PathBuf::from(format!("/var/vcap/jobs/{job}/config/bpm.yml"));
        if !path.exists() {
            continue;
        }
        for process in JobConfig::read(&path, &job)?.processes {
            let unit = Unit { job: job.clone(), process: process.name };
            let (pid, status) = match (unit.running()?, unit.record().exists()) {
                (Some(running), _) => (running.pid.to_string(), "running"),
                (None, true) => ("-".to_owned(), "failed"),
                (None, false) => ("-".to_owned(), "stopped"),
            };
            rows.push((unit.process, pid, status.to_owned()));
        }
    }
    rows[1..].sort();
    let width = |column: fn(&(String, String, String)) -> &String| {
        rows.iter().map(|row| column(row).len()).max().unwrap_or(0)
    };
    let (name, pid) = (width(|row| &row.0), width(|row| &row.1));
    let lines: Vec<String> =
        rows.iter().map(|row| format!("{:name$}  {:pid$}  {}", row.0, row.1, row.2)).collect();
    Ok(lines.join("\n"))
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
