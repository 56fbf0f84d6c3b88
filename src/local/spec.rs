//! What an instance was given last, kept beside its machine: `--no-converge` goes by it, whatever became
//! of the deploy that gave it.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::change::Wanted;
use super::layout::InstanceDir;
use super::manifest::WatchTime;
use super::model::Identity;
use super::render::RenderedInstance;
use crate::atomic_file::{self, Stored};
use crate::report::Complaint;

/// The version of the file that this program writes.
const VERSION: u32 = 2;
/// Rendered jobs are a few hundred kilobytes.
const BYTES_MAX: u64 = 64 << 20;

/// All that an instance needs to be made again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSpec {
    version: u32,
    /// How it should be.
    pub wanted: Wanted,
    /// Its jobs; they carry secrets.
    pub rendered: RenderedInstance,
    /// How long its processes may take to run.
    pub watch: WatchTime,
}

impl InstanceSpec {
    /// A specification to keep.
    pub fn new(wanted: Wanted, rendered: RenderedInstance, watch: WatchTime) -> Self {
        Self { version: VERSION, wanted, rendered, watch }
    }

    /// Keeps it.
    pub fn keep(&self, instance: &InstanceDir) -> Result<()> {
        let path = instance.spec();
        atomic_file::write_json(&path, self, 0o600).with_context(|| format!("write {}", path.display()))
    }

    /// What `identity` was given last.
    pub fn of(instance: &InstanceDir, identity: &Identity) -> Result<Self> {
        let path = instance.spec();
        let stored = atomic_file::read_json::<Self>(&path, BYTES_MAX)
            .with_context(|| format!("read {}", path.display()))?;
        let why = match stored {
            Stored::Present(spec) if spec.version == VERSION => return Ok(spec),
            Stored::Present(spec) => format!("its version is {}", spec.version),
            Stored::Unusable(why) => why,
            Stored::Absent => "it was never given any jobs".to_owned(),
        };
        Err(Complaint::failed(
            format!("{identity} cannot be worked on alone: {why}"),
            "--no-converge goes by what an instance was given last",
            "run `etcd-local deploy`",
        )
        .into())
    }
}
