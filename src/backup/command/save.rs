//! `etcd-backup save`.

use std::path::PathBuf;

use anyhow::Result;

use super::common::{Place, size};
use crate::backup::cluster::Cluster;
use crate::backup::codec::Packing;
use crate::backup::full::{self, FullError};
use crate::backup::manifest::{Compression, Full};
use crate::datadir_tool::progress::{Listener, Progress};
use crate::etcd::id::ClientUrl;
use crate::etcd::tls::Files;
use crate::job::paths::Paths;
use crate::lifecycle::block_on;
use crate::report::{self, Exit};

/// Its flags.
#[derive(Debug, clap::Args)]
pub(in crate::backup) struct Args {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    members: Members,
    /// Do not compress it
    #[arg(long)]
    uncompressed: bool,
    /// At most so much goes to the store, in bytes per second
    #[arg(long, value_name = "BYTES")]
    upload_bytes_per_second: Option<u64>,
    /// Print the manifest of the new set
    #[arg(long)]
    json: bool,
    /// How to tell how far it is
    #[arg(long, value_enum, value_name = "HOW", default_value = "auto")]
    progress: Listener,
}

/// Which cluster.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Cluster [default: that of this VM's job etcd]")]
pub(super) struct Members {
    #[arg(
        long = "etcd",
        value_name = "URL",
        help = "A member's client URL (again for more), such as https://10.0.0.5:2379"
    )]
    endpoints: Vec<ClientUrl>,
    /// The CA of the members' certificates
    #[arg(long = "etcd-cacert", value_name = "FILE", requires_all = ["endpoints", "cert", "key"])]
    cacert: Option<PathBuf>,
    /// A certificate of etcd's user root
    #[arg(long = "etcd-cert", value_name = "FILE", requires = "cacert")]
    cert: Option<PathBuf>,
    /// Its key
    #[arg(long = "etcd-key", value_name = "FILE", requires = "cacert")]
    key: Option<PathBuf>,
}

impl Members {
    /// Whether it is the cluster of this VM's job etcd.
    pub(super) fn of_job(&self) -> bool {
        self.endpoints.is_empty()
    }

    pub(super) fn cluster(&self) -> Result<Cluster> {
        if self.of_job() {
            return Ok(Cluster::of_job(&Paths::default())?);
        }
        let files = match (&self.cacert, &self.cert, &self.key) {
            (Some(ca), Some(certificate), Some(key)) => {
                Some(Files { ca: ca.clone(), certificate: certificate.clone(), key: key.clone() })
            }
            _ => None,
        };
        Ok(Cluster::at(&self.endpoints, files.as_ref())?)
    }
}

/// Runs it.
pub(in crate::backup) fn run(args: &Args) -> Result<Exit> {
    let opened = args.place.open()?;
    let cluster = args.members.cluster()?;
    let packing = Packing {
        compression: if args.uncompressed { Compression::None } else { Compression::Zstd },
        recipients: opened.recipients.clone(),
        bytes_per_second: args.upload_bytes_per_second,
    };
    block_on(async {
        let mut progress = Progress::begin(args.progress, "saving");
        let mut tell = |done, of| progress.tell(done, of);
        let taken = full::take(&opened.store, &packing, &cluster, full::random(), &mut tell).await;
        drop(progress);
        let full = taken.map_err(|error| FullError::complaint(&error))?;
        if args.json {
            report::answer_json(&full)?;
        } else {
            report::answer(&human(&full, opened.store.url()))?;
        }
        Ok(Exit::Done)
    })
}

fn human(full: &Full, url: &str) -> String {
    format!(
        "{}: revision {} of cluster {}, {} ({} in the store) in {url}",
        full.set,
        full.revisions.last,
        full.cluster.id,
        size(full.object.content_bytes),
        size(full.object.bytes),
    )
}
