//! `etcd-backup copy`.

use std::path::PathBuf;

use anyhow::Result;

use super::common::{self, Place, size};
use crate::backup::catalog::{Entry, catalog};
use crate::backup::chain::{Point, choose};
use crate::backup::copy::copy;
use crate::backup::layout::{ROOT, SetId};
use crate::datadir_tool::progress::{Listener, Progress};
use crate::lifecycle::block_on;
use crate::report::{self, Exit};

/// Its flags.
#[derive(Debug, clap::Args)]
pub(in crate::backup) struct Args {
    #[command(flatten)]
    place: Place,
    /// Where to: a URL and credentials as for --store
    #[arg(long, value_name = "URL", required_unless_present = "to_job_config")]
    to: Option<String>,
    /// Where to, with credentials: a file like the job's job.json
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    to_job_config: Option<PathBuf>,
    /// Which set (again for more) [default: the newest one that is whole]
    #[arg(long = "set", value_name = "SET")]
    sets: Vec<SetId>,
    /// All sets
    #[arg(long, conflicts_with = "sets")]
    all: bool,
    /// Whom to tell how far it is
    #[arg(long, value_enum, default_value_t = Listener::Auto)]
    progress: Listener,
}

/// Runs it.
pub(in crate::backup) fn run(args: &Args) -> Result<Exit> {
    let from = args.place.open()?.store;
    let to = common::store(args.to.as_deref(), args.to_job_config.as_deref())?;
    block_on(async {
        let catalog = catalog(&from).await.map_err(|error| error.complaint())?;
        let wanted: Vec<&Entry> = if args.all {
            catalog.sets.iter().filter(|entry| entry.broken.is_none()).collect()
        } else if args.sets.is_empty() {
            vec![choose(&catalog.sets, None, Point::Latest).map_err(|error| error.complaint())?]
        } else {
            let found = args.sets.iter().map(|set| choose(&catalog.sets, Some(set), Point::Latest));
            found.collect::<Result<_, _>>().map_err(|error| error.complaint())?
        };
        let there = to.list(ROOT).await.map_err(|error| error.complaint())?;
        let of: u64 = wanted.iter().map(|entry| entry.bytes).sum();
        let mut progress = Progress::begin(args.progress, "copy");
        let (mut done, mut objects) = (0, 0);
        // The oldest first, so that what is interrupted is a store as it was some time ago.
        for entry in wanted.iter().rev() {
            let copied = copy(&from, &to, entry, &there, |bytes| {
                done += bytes;
                progress.tell(done, of.max(done));
            });
            objects += copied.await.map_err(|error| error.complaint())?;
        }
        drop(progress);
        report::answer(&format!(
            "{objects} objects, {}, copied to {}; the rest of {} sets was there",
            size(done),
            to.url(),
            wanted.len(),
        ))?;
        Ok(Exit::Done)
    })
}
