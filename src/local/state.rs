//! What this director remembers of a deployment, written after every step: a command that is killed
//! anywhere leaves a record from which the next one goes on.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::layout::{DeploymentDir, InstanceDir, StateDir};
use super::model::{BpmRunner, Identity, Machine, NetworkMode};
use super::package::Fingerprints;
use super::process;
use crate::atomic_file::{self, Stored};
use crate::report::Complaint;

/// The version of the record that this program writes.
const VERSION: u32 = 1;
/// A thousand instances fit.
const RECORD_BYTES_MAX: u64 = 16 << 20;
/// How long a command waits for another one to finish.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// One deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Format of this file.
    pub version: u32,
    /// Name of the deployment.
    pub name: String,
    /// Directory of the release its jobs come from.
    pub release: PathBuf,
    /// Directory of its built packages.
    pub packages: PathBuf,
    /// Where generated variables are kept.
    pub vars_store: PathBuf,
    /// How often processes are looked at, in milliseconds.
    pub monit_cycle_ms: u64,
    /// Who runs the containers of processes that are started from now on.
    #[serde(default)]
    pub bpm: BpmRunner,
    /// Whether any deploy ever succeeded.
    pub deployed: bool,
    /// How its instances are connected; as it was first deployed.
    #[serde(default)]
    pub network: NetworkMode,
    /// First three bytes of the networks it has reserved.
    pub subnets: Vec<[u8; 3]>,
    /// How many addresses were handed out; none is handed out twice.
    pub addresses_used: u32,
    /// Its instances.
    pub instances: Vec<Instance>,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Who it is.
    pub identity: Identity,
    /// How an operator wants it.
    pub desired: Desired,
    /// Whether its machine exists: a directory with an agent.
    pub has_vm: bool,
    /// What its machine was made as.
    #[serde(default)]
    pub machine: Option<Machine>,
    /// Its persistent disk.
    pub disk: Option<Disk>,
    /// A disk that the content of `disk` is being copied to.
    #[serde(default)]
    pub disk_to_come: Option<Disk>,
    /// The disk that `disk` has replaced, not put aside yet.
    #[serde(default)]
    pub disk_to_go: Option<Disk>,
    /// What was applied last.
    pub applied: Option<Applied>,
    /// Whether something was begun and not finished: it is always updated next time.
    pub dirty: bool,
    /// Whether an operator wants it left alone.
    #[serde(default)]
    pub ignored: bool,
    /// Who it was before its group got another name; its names stay those until it is updated.
    #[serde(default)]
    pub former: Option<Identity>,
}

/// How an operator wants an instance; kept across deploys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// Running.
    Started,
    /// Stopped, its machine kept.
    Stopped,
    /// Stopped, its machine gone, its disk kept.
    Detached,
}

impl Desired {
    /// As `bosh instances --details` prints it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Detached => "detached",
        }
    }
}

/// A persistent disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Its name below `disks/`.
    pub id: String,
    /// Its size, which nothing here enforces.
    pub mib: u32,
    /// Name of its type, if its size came from one.
    #[serde(default)]
    pub type_name: Option<String>,
}

/// What an instance was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Hash of everything rendered.
    pub configuration_hash: String,
    /// Its packages.
    pub packages: Fingerprints,
    /// Its jobs, in the order of the manifest.
    pub jobs: Vec<String>,
}

impl Instance {
    /// A new instance without machine and disk.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            desired: Desired::Started,
            has_vm: false,
            machine: None,
            disk: None,
            disk_to_come: None,
            disk_to_go: None,
            applied: None,
            dirty: true,
            ignored: false,
            former: None,
        }
    }

    /// Who others know it as.
    pub fn known_as(&self) -> &Identity {
        self.former.as_ref().unwrap_or(&self.identity)
    }

    /// Size of its persistent disk, 0 without one.
    pub fn disk_mib(&self) -> u32 {
        self.disk.as_ref().map_or(0, |disk| disk.mib)
    }

    /// Names of the jobs it was given.
    pub fn jobs(&self) -> Vec<String> {
        self.applied.as_ref().map_or_else(Vec::new, |applied| applied.jobs.clone())
    }
}

/// A deployment's record in memory and on disk; shared by the workers of a command.
#[derive(Debug)]
pub struct Deployment {
    directory: DeploymentDir,
    record: Mutex<Record>,
    /// Held while names are published.
    publishing: Mutex<()>,
}

impl Deployment {
    /// Opens a deployment that exists.
    pub fn open(state: &StateDir, name: &str) -> Result<Option<Self>> {
        let directory = state.deployment(name);
        let path = directory.record();
        let stored = atomic_file::read_json::<Record>(&path, RECORD_BYTES_MAX)
            .with_context(|| format!("read {}", path.display()))?;
        match stored {
            Stored::Absent => Ok(None),
            Stored::Present(record) if record.version == VERSION => {
                Ok(Some(Self { directory, record: Mutex::new(record), publishing: Mutex::default() }))
            }
            Stored::Present(record) => Err(unusable(&path, &format!("its version is {}", record.version))),
            Stored::Unusable(why) => Err(unusable(&path, &why)),
        }
    }

    /// Begins a deployment; nothing is written yet.
    pub fn begin(state: &StateDir, name: &str, network: NetworkMode) -> Self {
        let record = Record {
            version: VERSION,
            name: name.to_owned(),
            release: PathBuf::new(),
            packages: PathBuf::new(),
            vars_store: PathBuf::new(),
            monit_cycle_ms: 0,
            bpm: BpmRunner::default(),
            deployed: false,
            network,
            subnets: Vec::new(),
            addresses_used: 0,
            instances: Vec::new(),
        };
        Self { directory: state.deployment(name), record: Mutex::new(record), publishing: Mutex::default() }
    }

    /// Where it lies.
    pub fn directory(&self) -> &DeploymentDir {
        &self.directory
    }

    /// Where an instance lies.
    pub fn instance_directory(&self, identity: &Identity) -> InstanceDir {
        self.directory.instance(&identity.id)
    }

    /// A copy of the record.
    pub fn record(&self) -> Record {
        self.locked().clone()
    }

    /// A copy of what is known about an instance.
    pub fn instance(&self, id: &str) -> Option<Instance> {
        self.locked().instances.iter().find(|instance| instance.identity.id == id).cloned()
    }

    /// Changes the record and writes it.
    pub fn change(&self, change: impl FnOnce(&mut Record)) -> Result<()> {
        let mut record = self.locked();
        change(&mut record);
        fs::create_dir_all(self.directory.path())
            .with_context(|| format!("make {}", self.directory.path().display()))?;
        let path = self.directory.record();
        atomic_file::write_json(&path, &*record, 0o600).with_context(|| format!("write {}", path.display()))
    }

    /// Changes what is known about an instance and writes it.
    pub fn change_instance(&self, id: &str, change: impl FnOnce(&mut Instance)) -> Result<()> {
        self.change(|record| {
            if let Some(instance) = record.instances.iter_mut().find(|instance| instance.identity.id == id) {
                change(instance);
            }
        })
    }

    /// Waits for the turn to tell machines the names: an older text must not overwrite a newer one.
    pub fn publishing(&self) -> MutexGuard<'_, ()> {
        self.publishing.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn locked(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("no worker panics while it holds the record")
    }
}

fn unusable(path: &std::path::Path, why: &str) -> anyhow::Error {
    Complaint::refused(
        format!("{} cannot be used: {why}", path.display()),
        "it says which instances, disks and addresses there are",
        "restore the file, or use the etcd-local that wrote it",
    )
    .into()
}

/// Names of all deployments.
pub fn deployments(state: &StateDir) -> Result<Vec<String>> {
    let Ok(entries) = fs::read_dir(state.deployments()) else { return Ok(Vec::new()) };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| state.deployment(name).record().exists())
        .collect();
    names.sort();
    Ok(names)
}

/// Held by the one command that changes something in a state directory.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock, or says who has it.
    pub fn take(state: &StateDir, command: &str) -> Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state.path())
            .with_context(|| format!("make the state directory {}", state.path().display()))?;
        let path = state.lock();
        let mut held = None;
        let mut failure = None;
        process::wait_until(LOCK_WAIT, || match try_lock(&path) {
            Ok(lock) => {
                held = lock;
                held.is_some()
            }
            Err(error) => {
                failure = Some(error);
                true
            }
        });
        if let Some(error) = failure {
            return Err(error.context(format!("lock {}", path.display())));
        }
        let Some(mut file) = held else {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            return Err(Complaint::try_again(
                format!("another command works on {}: {}", state.path().display(), holder.trim()),
                "two at once would undo each other's work",
                "wait until it ends, or use another --state-dir",
            )
            .into());
        };
        let note = format!("{} (pid {})\n", command, std::process::id());
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)).map(drop))
            .context("note who holds the lock")?;
        file.write_all(note.as_bytes()).context("note who holds the lock")?;
        Ok(Self { _file: file })
    }
}

fn try_lock(path: &std::path::Path) -> Result<Option<Flock<File>>> {
    let file =
        OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(anyhow!(error)),
    }
}

/// The number of the next task. Call it with the lock held.
pub fn next_task(state: &StateDir) -> Result<u32> {
    let path = state.last_task();
    let mut text = String::new();
    if path.exists() {
        File::open(&path)
            .and_then(|file| file.take(64).read_to_string(&mut text))
            .with_context(|| format!("read {}", path.display()))?;
    }
    // An unreadable number only makes the count begin again.
    let number = text.trim().parse::<u32>().unwrap_or(0) + 1;
    atomic_file::write(&path, format!("{number}\n").as_bytes(), 0o600)
        .with_context(|| format!("write {}", path.display()))?;
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_command_is_told_who_holds_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::at(directory.path());

        let first = Lock::take(&state, "deploy").unwrap();
        assert!(try_lock(&state.lock()).unwrap().is_none());
        assert!(fs::read_to_string(state.lock()).unwrap().starts_with("deploy (pid "));
        drop(first);
        Lock::take(&state, "stop").unwrap();
    }

    #[test]
    fn a_record_is_kept_and_a_foreign_one_refused() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::at(directory.path());
        assert!(Deployment::open(&state, "etcd").unwrap().is_none());

        let deployment = Deployment::begin(&state, "etcd", NetworkMode::Loopback);
        deployment.change(|record| record.deployed = true).unwrap();
        assert!(Deployment::open(&state, "etcd").unwrap().unwrap().record().deployed);
        assert_eq!(deployments(&state).unwrap(), ["etcd"]);

        deployment.change(|record| record.version = 99).unwrap();
        let error = Deployment::open(&state, "etcd").unwrap_err().to_string();
        assert!(error.contains("its version is 99"), "{error}");
    }

    #[test]
    fn tasks_are_numbered() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::at(directory.path());

        assert_eq!([next_task(&state).unwrap(), next_task(&state).unwrap()], [1, 2]);
    }
}
