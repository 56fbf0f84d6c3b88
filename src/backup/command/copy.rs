//! `etcd-backup copy`.

use std::path::PathBuf;

use anyhow::Result;

use super::common::{self, Place, named, size};
use crate::backup::catalog::{Catalog, Entry, catalog};
use crate::backup::copy::copy;
use crate::backup::layout::{ROOT, SetId};
use crate::datadir_tool::progress::{Listener, Progress};
use crate::lifecycle::block_on;
use crate::report::{self, Complaint, Exit};

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
        let (wanted, mut left) = wanted(args, &catalog)?;
        let there = to.list(ROOT).await.map_err(|error| error.complaint())?;
        // Without what is over there already: it would make the time left a guess.
        let has = |entry: &Entry| -> u64 {
            there.iter().filter(|listed| entry.names.contains(&listed.name)).map(|listed| listed.bytes).sum()
        };
        let of: u64 = wanted.iter().map(|entry| entry.bytes.saturating_sub(has(entry))).sum();
        let mut progress = Progress::begin(args.progress, "copying");
        let (mut done, mut objects) = (0, 0);
        // The oldest first, so that what is interrupted is a store as it was some time ago.
        for entry in wanted.iter().rev() {
            let copied = copy(&from, &to, entry, &there, |bytes| {
                done += bytes;
                progress.tell(done, of.max(done));
            });
            match copied.await {
                Ok(copied) => objects += copied,
                // With --all, one that is damaged does not hold the others back.
                Err(error) if args.all && error.is_of_the_set() => {
                    left.push((entry.set().clone(), error.to_string()));
                }
                Err(error) => return Err(error.complaint().into()),
            }
        }
        drop(progress);
        let sets = wanted.iter().filter(|entry| left.iter().all(|(set, _)| set != entry.set())).count();
        report::answer(&format!(
            "{objects} objects, {}, copied to {}; the rest of {sets} sets was there",
            size(done),
            to.url(),
        ))?;
        if left.is_empty() {
            return Ok(Exit::Done);
        }
        Err(not_copied(left, to.url()).into())
    })
}

/// Sets that are not copied, and why.
type Left = Vec<(SetId, String)>;

/// The sets to copy, the newest first, and those that cannot be, with the reason.
fn wanted<'a>(args: &Args, catalog: &'a Catalog) -> Result<(Vec<&'a Entry>, Left)> {
    if args.all {
        let broken =
            catalog.sets.iter().filter_map(|entry| Some((entry.set().clone(), entry.broken.clone()?)));
        let left = broken.chain(catalog.unreadable.iter().cloned()).collect();
        return Ok((catalog.sets.iter().filter(|entry| entry.broken.is_none()).collect(), left));
    }
    Ok((named(catalog, &args.sets)?, Vec::new()))
}

fn not_copied(mut left: Left, to: &str) -> Complaint {
    left.sort();
    let told: Vec<String> = left.iter().map(|(set, why)| format!("\n    - {set}: {why}")).collect();
    Complaint::failed(
        format!("{} sets were not copied:{}", left.len(), told.concat()),
        format!("they are not in {to}, and cannot be restored from here either"),
        "`etcd-backup verify --all` says what is wrong with each; the others are copied",
    )
}
