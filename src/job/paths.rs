//! Every path of the job, derived from one root. No other module builds a path below `/var/vcap`.
//!
//! bpm shows the process only `store/etcd`, `data/etcd`, `jobs/etcd`, `sys/log/etcd` and the packages
//! (docs/contract.md#files), so everything the launcher writes lies in the first two.

use std::path::{Path, PathBuf};

use crate::etcd::release_line::ReleaseLine;

/// What else lies in etcd's data directory; a write-ahead log of its own has another name.
pub const BESIDE_DATA: [&str; 5] = ["member", "aside", ".launcher", ".seeding", "lost+found"];

/// The paths of job `etcd` below one root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    root: PathBuf,
    wal_dir: Option<PathBuf>,
}

impl Default for Paths {
    fn default() -> Self {
        Self::below("/var/vcap")
    }
}

impl Paths {
    /// Paths below another root. Only unit tests do that: processes always see `/var/vcap`.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), wal_dir: None }
    }

    /// The same, with the write-ahead log where the job's properties put it.
    #[must_use]
    pub fn with_wal_dir(&self, wal_dir: Option<&Path>) -> Self {
        Self { wal_dir: wal_dir.map(Path::to_path_buf), ..self.clone() }
    }

    /// Where the write-ahead log lies, if not in the data directory's `member/wal`.
    pub fn wal_dir(&self) -> Option<&Path> {
        self.wal_dir.as_deref()
    }

    /// The directory of the write-ahead log, wherever it lies.
    pub fn log_dir(&self) -> PathBuf {
        self.wal_dir.clone().unwrap_or_else(|| self.data_dir().join("member/wal"))
    }

    /// etcd's data directory, which is the job's directory on the persistent disk.
    pub fn data_dir(&self) -> PathBuf {
        self.root.join("store/etcd")
    }

    /// Where the persistent disk is mounted.
    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// The launcher's records, on the same disk as the data they describe. 0700 vcap.
    pub fn records(&self) -> PathBuf {
        self.data_dir().join(".launcher")
    }

    /// Where data that is to be restored lies ready.
    pub fn restoring(&self) -> PathBuf {
        self.records().join("restore")
    }

    /// Where data is moved aside; the launcher never deletes any.
    pub fn aside(&self) -> PathBuf {
        self.data_dir().join("aside")
    }

    /// The job's ephemeral directory.
    pub fn ephemeral(&self) -> PathBuf {
        self.root.join("data/etcd")
    }

    /// What the launcher last decided and why.
    pub fn status(&self) -> PathBuf {
        self.ephemeral().join("status.json")
    }

    /// The configuration etcd was started with.
    pub fn etcd_configuration(&self) -> PathBuf {
        self.ephemeral().join("etcd.conf.yml")
    }

    /// Says that this VM once had data on its disk: an empty disk is then not a virgin one.
    pub fn initialised_mark(&self) -> PathBuf {
        self.ephemeral().join("initialised")
    }

    /// Laid by an operator: data is not checked before etcd starts on it.
    pub fn skip_validation(&self) -> PathBuf {
        self.ephemeral().join("skip-validation")
    }

    /// The version of the installed etcd, noted so that it need not be asked at each start.
    pub fn etcd_version(&self) -> PathBuf {
        self.ephemeral().join("etcd-version.json")
    }

    /// Until when the mutex is this launcher's: one that was killed goes on with its turn.
    pub fn launcher_mutex(&self) -> PathBuf {
        self.ephemeral().join("mutex.json")
    }

    /// What bpm's `pre_start` hook saw of the persistent disk.
    pub fn store_seen(&self) -> PathBuf {
        self.ephemeral().join("store-seen.json")
    }

    /// The job's directory.
    pub fn job(&self) -> PathBuf {
        self.root.join("jobs/etcd")
    }

    /// Certificates and `job.json`, 0640 root:vcap.
    pub fn config(&self) -> PathBuf {
        self.job().join("config")
    }

    /// Properties, links and spec as ERB printed them.
    pub fn job_json(&self) -> PathBuf {
        self.config().join("job.json")
    }

    /// What root's scripts tell each other until the next boot. 0700 root.
    pub fn run(&self) -> PathBuf {
        self.root.join("sys/run/etcd")
    }

    /// What pre-stop was told about the next state.
    pub fn intent(&self) -> PathBuf {
        self.run().join("intent.json")
    }

    /// Until when the mutex in etcd is this instance's.
    pub fn mutex(&self) -> PathBuf {
        self.run().join("mutex.json")
    }

    /// Laid by an operator: refusals and holds of a stop do not count.
    pub fn force_leave(&self) -> PathBuf {
        self.run().join("force-leave")
    }

    /// How far drain got.
    pub fn drain_progress(&self) -> PathBuf {
        self.run().join("drain.json")
    }

    /// The job's logs.
    pub fn logs(&self) -> PathBuf {
        self.root.join("sys/log/etcd")
    }

    /// Where the binaries of a release line of etcd are.
    pub fn etcd_package(&self, line: ReleaseLine) -> PathBuf {
        self.root.join("packages").join(line.package()).join("bin")
    }

    /// The public key that tokens are checked with, when they are signed ones.
    pub fn jwt_public_key(&self) -> PathBuf {
        self.config().join("jwt.pub")
    }

    /// The private key that tokens are signed with, likewise.
    pub fn jwt_private_key(&self) -> PathBuf {
        self.config().join("jwt.key")
    }

    /// The binary that validates a data directory.
    pub fn datadir_tool(&self) -> PathBuf {
        self.root.join("packages/etcd-tools/bin/etcd-datadir")
    }

    /// The binary that reads backups.
    pub fn backup_tool(&self) -> PathBuf {
        self.root.join("packages/etcd-tools/bin/etcd-backup")
    }

    /// The properties of job `etcd-backup` on the same VM; bpm shows them to this job if they are there.
    pub fn backup_job_json(&self) -> PathBuf {
        self.root.join("jobs/etcd-backup/config/job.json")
    }

    /// The root itself.
    pub fn root(&self) -> &Path {
        &self.root
    }
}
