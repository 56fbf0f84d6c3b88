//! `etcd-backup restore`.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use super::common::{Opened, Place, size, time};
use super::interruption;
use super::scratch::Scratch;
use crate::backup::catalog::{Catalog, Entry, catalog, load};
use crate::backup::chain::{Chain, Point, chain, choose, newest_or_named};
use crate::backup::codec::{CodecError, Keys};
use crate::backup::fetch::{FetchError, Fetched, fetch};
use crate::backup::layout::SetId;
use crate::backup::store::Store;
use crate::backup::verify::{read_back, whole};
use crate::datadir::membership::Membership;
use crate::datadir::restore::{HashRule, RestoreError, Restored, Restoring, Run, restore};
use crate::datadir::seed::expect_free;
use crate::datadir_tool::progress::{Listener, Progress};
use crate::datadir_tool::source::Source;
use crate::report::{self, Complaint, Exit};

/// Its flags.
#[derive(Debug, clap::Args)]
pub(in crate::backup) struct Args {
    /// Up to where: latest, a revision like 4711, or a time like 2026-11-26T11:38:00Z (the last change that had
    /// arrived by then)
    #[arg(long, value_name = "POINT", default_value = "latest")]
    to: Point,
    /// The set to restore from [default: the newest one from which the point can be reached]
    #[arg(long, value_name = "SET")]
    set: Option<SetId>,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    source: Source,
    /// Where the member's data is made; absent or without data
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Directory of the write-ahead log, if it is not in the data directory
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
    /// Raise the revision by this much, so that no client sees an old one again
    #[arg(long, value_name = "N", requires = "mark_compacted", value_parser = clap::value_parser!(u64).range(1..))]
    bump_revision: Option<u64>,
    /// Mark everything up to the raised revision as compacted, so that watchers notice
    #[arg(long, requires = "bump_revision")]
    mark_compacted: bool,
    /// Read and prove everything, and say what would be made
    #[arg(long)]
    dry_run: bool,
    /// Print JSON (version 1; fields are added, never changed)
    #[arg(long)]
    json: bool,
    /// How to show how far it is
    #[arg(long, value_enum, value_name = "HOW", default_value = "auto")]
    progress: Listener,
}

/// What was restored, and from what.
#[derive(Debug, Serialize)]
struct Outcome<'a> {
    #[serde(flatten)]
    restored: &'a Restored,
    set: &'a SetId,
    objects: usize,
    last_change: Option<jiff::Timestamp>,
}

/// Runs it.
pub(in crate::backup) fn run(args: &Args) -> Result<Exit> {
    let membership = args.source.membership()?;
    // Before anything is brought that would have no place.
    expect_free(&args.data_dir, args.wal_dir.as_deref()).map_err(|error| error.complaint())?;
    let opened = args.place.open()?;
    let wanted = Wanted {
        membership,
        data_dir: args.data_dir.clone(),
        wal_dir: args.wal_dir.clone(),
        bump: args.bump_revision,
        run: if args.dry_run { Run::Dry } else { Run::Real },
    };
    interruption::block_on(async {
        // Beside the target, so that it is the same disk, which has to have the room anyway; removed in the end.
        let beside = scratch_beside(&args.data_dir)?;
        let (chain, fetched) =
            bring(args.set.as_ref(), args.to, args.progress, &opened, beside.path()).await?;
        let database = fetched.database.clone();
        // On a thread of its own, so that a signal is heard meanwhile.
        let restored = tokio::task::spawn_blocking(move || wanted.make(&database)).await?;
        told(args, &opened, &restored.map_err(|error| error.complaint())?, &chain, &fetched)
    })
}

/// The member that is wanted.
struct Wanted {
    membership: Membership,
    data_dir: PathBuf,
    wal_dir: Option<PathBuf>,
    bump: Option<u64>,
    run: Run,
}

impl Wanted {
    fn make(&self, database: &Path) -> Result<Restored, RestoreError> {
        let restoring = Restoring {
            snapshot: database,
            membership: &self.membership,
            data_dir: &self.data_dir,
            wal_dir: self.wal_dir.as_deref(),
            hash: HashRule::Proven,
            bump: self.bump,
            target_version: None,
            run: self.run,
        };
        restore(&restoring, &mut |_, _| {})
    }
}

fn told(args: &Args, opened: &Opened, restored: &Restored, chain: &Chain, fetched: &Fetched) -> Result<Exit> {
    let outcome = Outcome {
        restored,
        set: chain.set(),
        objects: 1 + chain.deltas.len(),
        last_change: fetched.replayed.at,
    };
    if args.json {
        report::answer_json(&outcome)?;
    } else {
        report::answer(&human(&outcome, chain, opened.store.url()))?;
    }
    Ok(Exit::Done)
}

/// Resolves the point and brings everything that it needs.
pub(super) async fn bring(
    set: Option<&SetId>,
    to: Point,
    listener: Listener,
    opened: &Opened,
    into: &Path,
) -> Result<(Chain, Fetched)> {
    let Opened { store, keys, .. } = opened;
    let catalog = catalog(store).await.map_err(|error| error.complaint())?;
    let entry = choose(&catalog, set, to).map_err(|error| error.complaint())?;
    newest_or_named(&catalog, entry, set, to).map_err(|error| error.complaint())?;
    let loaded = load(store, entry).await.map_err(|error| error.complaint())?;
    let chain = chain(&loaded, to);
    let mut progress = Progress::begin(listener, "reading the backup");
    let fetched = fetch(store, &chain, keys, into, move |done, of| progress.tell(done, of)).await;
    match fetched {
        Ok(fetched) => Ok((chain, fetched)),
        Err(failure) => Err(offered(store, keys, &catalog, entry, failure).await.into()),
    }
}

/// What is wrong, and the newest point that was proven just now.
async fn offered(
    store: &Store,
    keys: &Keys,
    catalog: &Catalog,
    entry: &Entry,
    failure: FetchError,
) -> Complaint {
    let mut complaint = failure.error.complaint();
    if !matches!(failure.error, CodecError::Damaged { .. } | CodecError::Store(_)) {
        return complaint;
    }
    let intact = match failure.intact {
        Some(revision) => Some((entry, revision)),
        None => intact_before(store, keys, catalog, entry).await,
    };
    if let Some((older, revision)) = intact {
        let (set, cluster) = (older.set(), older.full.cluster.id);
        let whose = if cluster == entry.full.cluster.id {
            String::new()
        } else {
            format!(" (of another cluster, {cluster}, that came before)")
        };
        complaint.next = format!(
            "the newest intact point before it{whose}, read and proven just now: run it again with --set {set} --to {revision}"
        );
    }
    complaint
}

/// The end of the newest older set that is intact as far as it goes: it is read for it.
async fn intact_before<'a>(
    store: &Store,
    keys: &Keys,
    catalog: &'a Catalog,
    entry: &Entry,
) -> Option<(&'a Entry, i64)> {
    for older in catalog.sets.iter().skip_while(|one| one.set() != entry.set()).skip(1) {
        let Ok(set) = load(store, older).await else { continue };
        let Ok(verified) = read_back(store, &whole(&set), keys, |_, _| {}).await else { continue };
        if let Some(revision) = verified.revision {
            return Some((older, revision));
        }
    }
    None
}

pub(super) fn scratch_beside(data_dir: &Path) -> Result<Scratch> {
    let parent = match data_dir.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    Scratch::below(parent).with_context(|| format!("make a directory in {}", parent.display()))
}

fn human(outcome: &Outcome, chain: &Chain, url: &str) -> String {
    let mut text = outcome.restored.to_string();
    let full = &chain.full;
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        write!(text, "\n  {arguments}").expect("writing to a String cannot fail");
    };
    line(format_args!(
        "from      set {} in {url}, {} objects, {}",
        full.set,
        outcome.objects,
        size(chain.bytes())
    ));
    match outcome.last_change {
        Some(at) => line(format_args!("until     {}: the last change that is in it", time(at))),
        None => line(format_args!("until     {}: the full snapshot, no later change", time(full.ended))),
    }
    text
}
