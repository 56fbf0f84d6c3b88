//! Talking to an instance's supervisor, and starting it when it is not there.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::supervisor::{self, DIRECTORY};
use super::{Answer, Request, SUPERVISE};
use crate::local::layout::InstanceDir;
use crate::local::{instance as machine, process};

/// How long a supervisor may take to come up.
const UP_WAIT: Duration = Duration::from_secs(20);
/// How long a request may take: all services of an instance one after another, each within its timeout.
const ANSWER_WAIT: Duration = Duration::from_mins(5);

/// Asks the supervisor of an instance, from outside; starts it first when it is not there or of another build.
pub fn ask(instance: &InstanceDir, cycle: Duration, request: &Request) -> Result<Answer> {
    ensure(instance, cycle)?;
    let conversation = connect(&instance.monit()).context("talk to the supervisor")?;
    answered(exchange(conversation, request)?)
}

/// Asks the supervisor only if it is there.
pub fn ask_if_there(instance: &InstanceDir, request: &Request) -> Option<Answer> {
    exchange(connect(&instance.monit()).ok()?, request).ok()
}

/// Asks the supervisor of the instance this process is in.
pub fn ask_from_inside(request: &Request) -> Result<Answer> {
    let conversation = connect(Path::new(DIRECTORY)).context("monit is not running in this instance")?;
    answered(exchange(conversation, request)?)
}

/// Makes sure that a supervisor of this build looks after the instance every `cycle`.
pub fn ensure(instance: &InstanceDir, cycle: Duration) -> Result<()> {
    let fits = |answer: &Answer| {
        answer.build == supervisor::build() && u128::from(answer.cycle_ms) == cycle.as_millis()
    };
    if let Some(answer) = ask_if_there(instance, &Request::Summary) {
        if fits(&answer) {
            return Ok(());
        }
        ask_if_there(instance, &Request::Quit);
    }
    machine::switch_on(instance)?;
    let log = instance.monit().join("monit.log");
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log)
        .with_context(|| format!("open {}", log.display()))?;
    let up = || ask_if_there(instance, &Request::Summary).is_some_and(|answer| fits(&answer));
    let start = || -> Result<_> {
        Command::new("/proc/self/exe")
            .arg0("etcd-local")
            .arg(SUPERVISE)
            .arg("--instance")
            .arg(instance.path())
            .arg("--cycle-ms")
            .arg(cycle.as_millis().to_string())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?)
            .spawn()
            .context("start the supervisor")
    };
    let mut child = start()?;
    let mut restarts = Ok(());
    let came_up = process::wait_until(UP_WAIT, || {
        // The one that was asked to quit may still hold the lock; then the new one ends at once.
        if matches!(child.try_wait(), Ok(Some(_))) && !up() {
            match start() {
                Ok(next) => child = next,
                Err(error) => restarts = Err(error),
            }
        }
        restarts.is_err() || up()
    });
    restarts?;
    if !came_up {
        bail!(
            "the supervisor did not answer within {} s; its log is {}",
            UP_WAIT.as_secs(),
            instance.monit().join("monit.log").display()
        );
    }
    Ok(())
}

fn answered(answer: Answer) -> Result<Answer> {
    match answer.error {
        None => Ok(answer),
        Some(error) => Err(anyhow!(error)),
    }
}

/// Connects through the directory's descriptor: the path of a state directory may be longer than the
/// 107 bytes an address of a socket can have.
fn connect(directory: &Path) -> io::Result<UnixStream> {
    let directory = File::open(directory)?;
    UnixStream::connect(format!("/proc/self/fd/{}/monit.sock", directory.as_raw_fd()))
}

fn exchange(mut conversation: UnixStream, request: &Request) -> Result<Answer> {
    conversation.set_read_timeout(Some(ANSWER_WAIT))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    conversation.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(conversation).read_line(&mut answer).context("read the supervisor's answer")?;
    serde_json::from_str(&answer).context("read the supervisor's answer")
}

/// Ends the supervisor of an instance, if there is one; its processes go on.
pub fn quit(instance: &InstanceDir) -> Result<()> {
    let gone = || {
        ask_if_there(instance, &Request::Quit);
        connect(&instance.monit()).is_err()
    };
    if process::wait_until(UP_WAIT, gone) { Ok(()) } else { bail!("the supervisor does not end") }
}
