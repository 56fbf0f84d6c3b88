//! Lifecycle scripts of jobs: all jobs of an instance at once, with nothing but `PATH` in their
//! environment, output to the files BOSH writes. docs/contract.md#scripts

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::drain::{Cause, DrainCall, Verdict, verdict};
use crate::local::layout::InstanceDir;
use crate::local::{process, sandbox};

/// The whole environment of a script besides what the Director says.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// How long killed left-overs may take to go.
const LEFT_OVER_WAIT: Duration = Duration::from_secs(10);
/// An integer and blanks; more is a mistake anyway.
const DRAIN_STDOUT_BYTES_MAX: u64 = 64 * 1024;

/// A script that BOSH runs in every job that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// Before the processes start.
    PreStart,
    /// After the processes of the instance run.
    PostStart,
    /// After all instances of the deployment are done.
    PostDeploy,
    /// Before anything is stopped, still under monit.
    PreStop,
    /// After the processes have stopped.
    PostStop,
}

impl Script {
    /// Its file name below `bin/`.
    pub fn name(self) -> &'static str {
        match self {
            Self::PreStart => "pre-start",
            Self::PostStart => "post-start",
            Self::PostDeploy => "post-deploy",
            Self::PreStop => "pre-stop",
            Self::PostStop => "post-stop",
        }
    }
}

/// Runs one script in all `jobs` that have it.
pub fn run(
    instance: &InstanceDir,
    jobs: &[String],
    script: Script,
    environment: &[(String, String)],
) -> Result<()> {
    phase(instance, jobs, script.name(), |job| {
        let name = script.name();
        let mut command = command(instance, job, name, environment);
        command.stdout(log(instance, job, &format!("{name}.stdout"))?);
        command.stderr(log(instance, job, &format!("{name}.stderr"))?);
        let status = Running::start(instance, job, name, command)?.wait()?;
        succeeded(status)
    })
}

/// Runs drain in all `jobs` that have it, asking again as long as they say so.
///
/// Strict: a drain that fails but prints an integer has failed, which a Director would not see.
pub fn drain(
    instance: &InstanceDir,
    jobs: &[String],
    cause: &Cause,
    disk_mib: u32,
    wanted_disk_mib: u32,
) -> Result<()> {
    phase(instance, jobs, "drain", |job| {
        let mut call = cause.drain(disk_mib, wanted_disk_mib);
        loop {
            match drain_once(instance, job, &call)? {
                Verdict::DoneAfter(seconds) => {
                    std::thread::sleep(Duration::from_secs(seconds));
                    return Ok(());
                }
                Verdict::AskAgainAfter(seconds) => {
                    std::thread::sleep(Duration::from_secs(seconds));
                    call = DrainCall::check_status(disk_mib);
                }
            }
        }
    })
}

fn drain_once(instance: &InstanceDir, job: &str, call: &DrainCall) -> Result<Verdict> {
    let mut command = command(instance, job, "drain", &call.environment);
    command.args(&call.args).stdout(Stdio::piped());
    // A Director keeps drain's stderr only in the agent's debug log; here it has a file.
    command.stderr(log(instance, job, "drain.stderr")?);
    let mut running = Running::start(instance, job, "drain", command)?;
    let mut stdout = String::new();
    let pipe = running.child.stdout.take().expect("stdout is piped");
    pipe.take(DRAIN_STDOUT_BYTES_MAX).read_to_string(&mut stdout).context("read drain's stdout")?;
    let status = running.wait()?;
    succeeded(status)?;
    verdict(&stdout).map_err(|text| anyhow!(text))
}

fn succeeded(status: ExitStatus) -> Result<()> {
    if status.success() { Ok(()) } else { bail!("{status}") }
}

/// Runs `act` for every job that has the script, all at once, and judges the phase in BOSH's words.
fn phase(
    instance: &InstanceDir,
    jobs: &[String],
    script: &str,
    act: impl Fn(&str) -> Result<()> + Sync,
) -> Result<()> {
    let having: Vec<&String> =
        jobs.iter().filter(|job| instance.job(job).join("bin").join(script).exists()).collect();
    // In the order in which they end.
    let ended = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for job in &having {
            scope.spawn(|| {
                let outcome = act(job);
                let mut ended = ended.lock().expect("no thread panics while it holds this");
                ended.push(((*job).clone(), outcome));
            });
        }
    });
    let outcomes = ended.into_inner().expect("no thread panics while it holds this");
    judge(script, &outcomes)
}

fn judge(script: &str, outcomes: &[(String, Result<()>)]) -> Result<()> {
    let (failed, passed): (Vec<_>, Vec<_>) = outcomes.iter().partition(|(_, outcome)| outcome.is_err());
    if failed.is_empty() {
        return Ok(());
    }
    let names = |some: &[&(String, Result<()>)]| {
        some.iter().map(|(job, _)| job.as_str()).collect::<Vec<_>>().join(", ")
    };
    let mut text = format!(
        "{} of {} {script} scripts failed. Failed Jobs: {}.",
        failed.len(),
        outcomes.len(),
        names(&failed)
    );
    if !passed.is_empty() {
        text.push_str(&format!(" Successful Jobs: {}.", names(&passed)));
    }
    // BOSH says why only in the agent's log; one is rarely far away, but here nobody need look.
    for (job, outcome) in &failed {
        if let Err(error) = outcome {
            text.push_str(&format!("\n{job}: {error:#}; see /var/vcap/sys/log/{job}/{script}.stderr.log"));
        }
    }
    bail!(text)
}

fn command(
    instance: &InstanceDir,
    job: &str,
    script: &str,
    environment: &[(String, String)],
) -> std::process::Command {
    let program = format!("/var/vcap/jobs/{job}/bin/{script}");
    let mut command = sandbox::noted_command(instance, &instance.running_scripts(), &program);
    command
        .env_clear()
        .env("PATH", PATH)
        .envs(environment.iter().cloned())
        .current_dir("/")
        .stdin(Stdio::null())
        .process_group(0);
    command
}

fn log(instance: &InstanceDir, job: &str, name: &str) -> Result<File> {
    let directory = instance.logs(job);
    let path = directory.join(format!("{name}.log"));
    let opened = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(&directory)
        .and_then(|()| OpenOptions::new().create(true).append(true).mode(0o640).open(&path));
    opened.with_context(|| format!("open {}", path.display()))
}

/// A script that runs, with a note of its process group for a command that finds it left over.
struct Running {
    child: Child,
    note: PathBuf,
}

impl Running {
    fn start(
        instance: &InstanceDir,
        job: &str,
        script: &str,
        mut command: std::process::Command,
    ) -> Result<Self> {
        let directory = instance.running_scripts();
        fs::create_dir_all(&directory).context("make the directory of running scripts")?;
        let child = command.spawn().with_context(|| format!("run {script} of {job}"))?;
        let note = directory.join(child.id().to_string());
        Ok(Self { child, note })
    }

    fn wait(mut self) -> Result<ExitStatus> {
        let status = self.child.wait().context("wait for a script")?;
        match fs::remove_file(&self.note) {
            // It could not even enter the instance.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            removed => removed.context("remove the note of a script that ended")?,
        }
        Ok(status)
    }
}

/// Ends scripts that a killed command left running: two of a kind must never run at the same time.
pub fn end_left_overs(instance: &InstanceDir) -> Result<()> {
    let directory = instance.running_scripts();
    let (Some(home), true) = (process::Home::of(&instance.root()), directory.exists()) else { return Ok(()) };
    for entry in fs::read_dir(&directory).context("list running scripts")? {
        let entry = entry.context("list running scripts")?;
        let group: Option<i32> = entry.file_name().to_str().and_then(|name| name.parse().ok());
        // A process of this instance: the number alone could belong to somebody else by now.
        let left = || -> Vec<i32> {
            let in_group = |pid: &i32| process::stat(*pid).map(|stat| stat.group) == group;
            home.inhabitants().into_iter().filter(in_group).collect()
        };
        let gone = process::wait_until(LEFT_OVER_WAIT, || {
            let left = left();
            for pid in &left {
                // Ignored: it may have ended meanwhile; the loop looks again.
                let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
            }
            left.is_empty()
        });
        if !gone {
            bail!("a script left over from a killed command does not end: processes {:?}", left());
        }
        fs::remove_file(entry.path()).context("remove the note of a left-over script")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_in_the_agents_words() {
        let outcomes = [
            ("a".to_owned(), Ok(())),
            ("b".to_owned(), Err(anyhow!("exit status: 3"))),
            ("c".to_owned(), Ok(())),
        ];

        let text = judge("pre-start", &outcomes).unwrap_err().to_string();
        assert!(
            text.starts_with("1 of 3 pre-start scripts failed. Failed Jobs: b. Successful Jobs: a, c.\n"),
            "{text}"
        );
        assert!(text.contains("b: exit status: 3"));
        assert!(judge("pre-start", &outcomes[..1]).is_ok());
        let text = judge("drain", &outcomes[1..2]).unwrap_err().to_string();
        assert!(text.starts_with("1 of 1 drain scripts failed. Failed Jobs: b.\n"), "{text}");
    }
}
