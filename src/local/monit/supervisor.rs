//! The supervisor: one loop, one thread. While it waits for a start or stop program nothing else is
//! looked at, as in monit.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::setsid;
use serde::{Deserialize, Serialize};

use super::config::{self, Program, Service};
use super::{Answer, Request, ServiceState, Status, Which};
use crate::atomic_file;
use crate::journal;
use crate::local::bpm::{WARNING_PREFIX, cgroup};
use crate::local::layout::InstanceDir;
use crate::local::{process, sandbox};

/// monit's files inside an instance.
pub const DIRECTORY: &str = "/var/vcap/monit";
/// How long a client may take to say what it wants.
const CLIENT_WAIT: Duration = Duration::from_secs(5);
/// How long switching off may take.
const SWITCH_OFF_WAIT: Duration = Duration::from_secs(10);
/// A request or a state is a few hundred bytes.
const STATE_BYTES_MAX: u64 = 1 << 20;
/// How long a program may take to end after its effect is there.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(1);
/// The program whose end settles whether its effect will come.
const BPM_SHIM: &str = "/var/vcap/jobs/bpm/bin/bpm";
/// All that start and stop programs inherit.
const PATH: &str = "/bin:/usr/bin:/sbin:/usr/sbin";

/// What survives the supervisor: which services it should monitor.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Memory {
    monitored: BTreeMap<String, bool>,
}

struct Watched {
    service: Service,
    status: Status,
}

struct Supervisor {
    instance: InstanceDir,
    home: process::Home,
    cycle: Duration,
    watched: Vec<Watched>,
    ignored: Vec<String>,
    build: String,
}

/// The supervisor's whole life. It ends when asked to, when its instance's directory is gone, or at
/// once if another one watches this instance.
pub fn main(instance: &InstanceDir, cycle: Duration) -> Result<()> {
    // Ignored: it fails only if this process leads its group already, which is what is wanted.
    let _ = setsid();
    // Containers become orphans at once; here they are reaped, whatever pid 1 of this machine does.
    prctl::set_child_subreaper(true).context("become the reaper of orphans")?;
    sandbox::enter(instance)?;
    let directory = Path::new(DIRECTORY);
    let Some(_lock) = lock(&directory.join("monit.lock"))? else { return Ok(()) };
    let socket = directory.join("monit.sock");
    if socket.exists() {
        fs::remove_file(&socket).context("remove the socket of an earlier supervisor")?;
    }
    let listener = UnixListener::bind(&socket).context("listen on monit.sock")?;
    let home = process::Home::of(Path::new("/var/vcap")).context("the instance has no packages directory")?;
    let mut supervisor = Supervisor {
        instance: instance.clone(),
        home,
        cycle,
        watched: Vec::new(),
        ignored: Vec::new(),
        build: build(),
    };
    supervisor.reload()?;
    supervisor.run(&listener)
}

/// Which build this is: a command of a newer build replaces an older supervisor.
pub fn build() -> String {
    let stamp = fs::metadata("/proc/self/exe")
        .map(|metadata| format!("{}-{}.{}", metadata.len(), metadata.mtime(), metadata.mtime_nsec()));
    format!("{} {}", env!("CARGO_PKG_VERSION"), stamp.unwrap_or_default())
}

fn lock(path: &Path) -> Result<Option<Flock<File>>> {
    let file = OpenOptions::new().create(true).append(true).open(path).context("open monit.lock")?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(anyhow!("lock monit.lock: {error}")),
    }
}

impl Supervisor {
    fn run(&mut self, listener: &UnixListener) -> Result<()> {
        let mut next_look = Instant::now();
        loop {
            let wait = next_look.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                if !self.instance.root().exists() {
                    // Nobody could ever stop it otherwise.
                    self.home.switch_off(SWITCH_OFF_WAIT)?;
                    return cgroup::remove_all(&self.instance.id());
                }
                self.look();
                next_look = Instant::now() + self.cycle;
                continue;
            }
            let mut waiting = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(wait.min(Duration::from_secs(1))).unwrap_or(PollTimeout::MAX);
            let ready = poll(&mut waiting, timeout);
            reap();
            if matches!(ready, Ok(count) if count > 0) {
                let (conversation, _) = listener.accept().context("accept a client")?;
                match self.serve(conversation) {
                    Ok(Request::Quit) => return Ok(()),
                    Ok(_) => {}
                    Err(error) => {
                        journal::warn(
                            "a client was not served",
                            &serde_json::json!({"why": format!("{error:#}")}),
                        );
                    }
                }
            }
        }
    }

    fn serve(&mut self, mut conversation: UnixStream) -> Result<Request> {
        conversation.set_read_timeout(Some(CLIENT_WAIT))?;
        let mut line = String::new();
        BufReader::new(conversation.try_clone()?).take(STATE_BYTES_MAX).read_line(&mut line)?;
        let request: Request = serde_json::from_str(&line).context("read the request")?;
        let mut answer = self
            .carry_out(&request)
            .unwrap_or_else(|error| Answer { error: Some(format!("{error:#}")), ..Answer::default() });
        answer.build.clone_from(&self.build);
        answer.cycle_ms = u64::try_from(self.cycle.as_millis()).unwrap_or(u64::MAX);
        answer.services = self.watched.iter().map(Watched::state).collect();
        serde_json::to_writer(&mut conversation, &answer)?;
        conversation.write_all(b"\n")?;
        Ok(request)
    }

    fn carry_out(&mut self, request: &Request) -> Result<Answer> {
        let mut warnings = Vec::new();
        match request {
            Request::Summary | Request::Quit => {}
            Request::Reload => {
                self.reload()?;
                warnings.extend(
                    self.ignored.iter().map(|statement| format!("monit: not played here: {statement}")),
                );
            }
            Request::Start(which) => {
                for watched in self.chosen(which)? {
                    warnings.extend(watched.start());
                }
            }
            Request::Stop(which) => self.chosen(which)?.for_each(Watched::stop),
            Request::Restart(which) => {
                for watched in self.chosen(which)? {
                    watched.stop();
                    warnings.extend(watched.start());
                }
            }
            Request::Monitor(which) => self.chosen(which)?.for_each(|watched| {
                if watched.status == Status::Unknown {
                    watched.status = Status::Starting;
                }
            }),
            Request::Unmonitor(which) => {
                self.chosen(which)?.for_each(|watched| watched.status = Status::Unknown);
            }
        }
        self.remember()?;
        Ok(Answer { warnings, ..Answer::default() })
    }

    fn chosen<'a>(&'a mut self, which: &'a Which) -> Result<impl Iterator<Item = &'a mut Watched>> {
        let fits = move |watched: &Watched| match which {
            Which::All => true,
            Which::Vcap => watched.service.group.as_deref() == Some("vcap"),
            Which::Service(name) => watched.service.name == *name,
        };
        if matches!(which, Which::Service(_)) && !self.watched.iter().any(fits) {
            return Err(anyhow!("there is no service named '{}'", name_of(which)));
        }
        Ok(self.watched.iter_mut().filter(move |watched| fits(watched)))
    }

    /// Reads the monit files; what is known about services that stay is kept.
    fn reload(&mut self) -> Result<()> {
        let memory = atomic_file::read_json::<Memory>(&memory_file(), STATE_BYTES_MAX)
            .context("read what was monitored")?
            .present()
            .unwrap_or_default();
        let mut watched = Vec::new();
        let mut ignored = Vec::new();
        for path in monit_files()? {
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            let file = config::parse(&text).with_context(|| format!("in {}", path.display()))?;
            ignored.extend(file.ignored);
            for service in file.services {
                let known = self.watched.iter().find(|known| known.service.name == service.name);
                let remembered = match memory.monitored.get(&service.name) {
                    Some(true) => Status::Starting,
                    Some(false) | None => Status::Unknown,
                };
                let status = known.map_or(remembered, |known| known.status);
                watched.push(Watched { service, status });
            }
        }
        (self.watched, self.ignored) = (watched, ignored);
        self.remember()
    }

    fn remember(&self) -> Result<()> {
        let monitored = self
            .watched
            .iter()
            .map(|watched| (watched.service.name.clone(), watched.status != Status::Unknown))
            .collect();
        atomic_file::write_json(&memory_file(), &Memory { monitored }, 0o600)
            .context("write what is monitored")
    }

    /// One cycle: what should run and does not is started.
    fn look(&mut self) {
        for watched in &mut self.watched {
            if watched.status == Status::Unknown {
                continue;
            }
            if watched.pid().is_some() {
                watched.status = Status::Running;
            } else {
                journal::warn(
                    "process is not running",
                    &serde_json::json!({"service": watched.service.name}),
                );
                watched.start();
            }
        }
    }
}

fn name_of(which: &Which) -> &str {
    match which {
        Which::Service(name) => name,
        Which::All | Which::Vcap => "",
    }
}

fn memory_file() -> PathBuf {
    Path::new(DIRECTORY).join("state.json")
}

fn monit_files() -> Result<Vec<PathBuf>> {
    let directory = Path::new(DIRECTORY).join("job");
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(&directory).context("list monit files")?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some())
        .collect();
    paths.sort();
    Ok(paths)
}

impl Watched {
    fn state(&self) -> ServiceState {
        let (name, group) = (self.service.name.clone(), self.service.group.clone());
        ServiceState { name, group, status: self.status, pid: self.pid() }
    }

    /// The pid in the pidfile, if that process is alive.
    fn pid(&self) -> Option<i32> {
        let text = fs::read_to_string(&self.service.pidfile).ok()?;
        text.trim().parse().ok().filter(|pid| process::is_alive(*pid))
    }

    /// Starts what is not alive. The start program's exit code means nothing, only the pidfile does.
    fn start(&mut self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.pid().is_none() {
            journal::info("start", &serde_json::json!({"service": self.service.name}));
            let program = self.service.start.clone();
            warnings = run(&program, || self.pid().is_some());
        }
        self.status = if self.pid().is_some() { Status::Running } else { Status::Failing };
        if self.status == Status::Failing {
            journal::error("failed to start", &serde_json::json!({"service": self.service.name}));
        }
        warnings
    }

    /// Stops what is alive. Whatever comes of it, it ends unmonitored, as in monit.
    fn stop(&mut self) {
        self.status = Status::Unknown;
        if self.pid().is_some() {
            journal::info("stop", &serde_json::json!({"service": self.service.name}));
            let program = self.service.stop.clone();
            run(&program, || self.pid().is_none());
            if self.pid().is_some() {
                journal::error("failed to stop", &serde_json::json!({"service": self.service.name}));
            }
        }
    }
}

/// Runs a start or stop program and waits for its effect; returns the warnings it printed.
///
/// Not waited for beyond the effect: monit runs programs detached.
fn run(program: &Program, mut effect: impl FnMut() -> bool) -> Vec<String> {
    let Some(executable) = program.argv.first() else { return Vec::new() };
    let output = Path::new(DIRECTORY).join("monit.log");
    let started = OpenOptions::new().create(true).append(true).open(&output).and_then(|mut log| {
        let before = log.seek(SeekFrom::End(0))?;
        let child = Command::new(executable)
            .args(&program.argv[1..])
            .env_clear()
            .env("PATH", PATH)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok((child, before))
    });
    let (mut child, before) = match started {
        Ok(started) => started,
        Err(error) => {
            journal::error(
                "a program cannot be run",
                &serde_json::json!({"program": executable, "why": error.to_string()}),
            );
            return Vec::new();
        }
    };
    // monit looks at the pidfile only, until the timeout. bpm writes the pidfile before it ends, so when it
    // has ended without effect nothing more is to come, and the loop need not stand still.
    let settles_when_it_ends = executable == BPM_SHIM;
    let mut ended = false;
    process::wait_until(program.timeout, || {
        ended = ended || !matches!(child.try_wait(), Ok(None));
        effect() || (ended && settles_when_it_ends)
    });
    process::wait_until(LAST_WORDS_WAIT, || ended || !matches!(child.try_wait(), Ok(None)));
    warnings_since(&output, before)
}

fn warnings_since(log: &Path, offset: u64) -> Vec<String> {
    let mut text = String::new();
    let read = File::open(log).and_then(|mut file| {
        file.seek(SeekFrom::Start(offset))?;
        file.take(STATE_BYTES_MAX).read_to_string(&mut text)
    });
    // Ignored: the warnings are in the log for whoever looks there.
    drop(read);
    text.lines().filter_map(|line| line.strip_prefix(WARNING_PREFIX)).map(str::to_owned).collect()
}

/// Reaps orphans. Called only between programs, so it cannot take the exit of one that is waited for.
fn reap() {
    while matches!(
        waitpid(None, Some(WaitPidFlag::WNOHANG)),
        Ok(status) if status != WaitStatus::StillAlive
    ) {}
}
