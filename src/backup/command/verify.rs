//! `etcd-backup verify`.

use std::path::PathBuf;

use anyhow::Result;

use super::common::{Opened, Place, named, random, size};
use super::interruption;
use super::scratch::Scratch;
use crate::backup::catalog::{Entry, catalog, load};
use crate::backup::layout::{self, SetId};
use crate::backup::verify::{Verified, read_back, record, restore_and_judge, whole};
use crate::datadir_tool::progress::{Listener, Progress};
use crate::report::{self, Complaint, Exit};

/// Its flags.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(in crate::backup) struct Args {
    /// Which set (again for more) [default: the newest one]
    #[arg(long = "set", value_name = "SET")]
    sets: Vec<SetId>,
    /// All sets
    #[arg(long, conflicts_with = "sets")]
    all: bool,
    /// Restore each into a temporary directory, judge what came out and compare etcd's hash of the keys
    #[arg(long)]
    deep: bool,
    /// Where --deep has room for a whole database
    #[arg(long, value_name = "DIR", requires = "deep")]
    temporary_dir: Option<PathBuf>,
    /// Leave no note in the store
    #[arg(long)]
    no_record: bool,
    #[command(flatten)]
    place: Place,
    /// Print JSON (fields are added, never changed)
    #[arg(long)]
    json: bool,
    /// How to show how far it is
    #[arg(long, value_enum, value_name = "HOW", default_value = "auto")]
    progress: Listener,
}

/// Runs it.
pub(in crate::backup) fn run(args: &Args) -> Result<Exit> {
    let opened = args.place.open()?;
    interruption::block_on(async {
        let catalog = catalog(&opened.store).await.map_err(|error| error.complaint())?;
        let entries: Vec<&Entry> =
            if args.all { catalog.sets.iter().collect() } else { named(&catalog, &args.sets)? };
        let mut verified = Vec::new();
        for entry in entries {
            let one = verify(args, &opened, entry).await;
            let is_sound = one.as_ref().is_ok_and(Verified::is_sound);
            if args.all && !is_sound && is_gone(&opened, entry).await {
                continue;
            }
            verified.push(one?);
        }
        let unreadable = if args.all { &catalog.unreadable[..] } else { &[] };
        told(args, &opened, &verified, unreadable)
    })
}

/// Whether a set is listed no more: the job removes old ones while we read. A store that does not answer removes none.
async fn is_gone(opened: &Opened, entry: &Entry) -> bool {
    let listed = catalog(&opened.store).await;
    listed.is_ok_and(|catalog| catalog.sets.iter().all(|other| other.set() != entry.set()))
}

fn told(args: &Args, opened: &Opened, verified: &[Verified], unreadable: &[(SetId, String)]) -> Result<Exit> {
    if args.json {
        report::answer_json(&verified)?;
    } else {
        for one in verified.iter().filter(|one| one.is_sound()) {
            report::answer(&human(one))?;
        }
    }
    let faults = verified.iter().flat_map(|one| &one.faults);
    let faults = faults.map(|fault| format!("\n    - {}: {}", fault.object, fault.why));
    let sets = unreadable.iter().map(|(set, why)| format!("\n    - {}: {why}", layout::full_manifest(set)));
    let faults: Vec<String> = faults.chain(sets).collect();
    if faults.is_empty() {
        return Ok(Exit::Done);
    }
    Err(Complaint::failed(
        format!("{} of what is in {} cannot be used:{}", faults.len(), opened.store.url(), faults.concat()),
        "a restore would refuse it, or stop before it",
        next(verified),
    )
    .into())
}

async fn verify(args: &Args, opened: &Opened, entry: &Entry) -> Result<Verified> {
    let Opened { store, keys, .. } = opened;
    let set = load(store, entry).await.map_err(|error| error.complaint())?;
    let chain = whole(&set);
    let mut progress = Progress::begin(args.progress, "verifying");
    let told = move |done, of| progress.tell(done, of);
    let verified = if args.deep {
        let temporary = args.temporary_dir.clone().unwrap_or_else(std::env::temp_dir);
        let scratch = Scratch::below(&temporary).map_err(|error| {
            Complaint::failed(
                format!("no directory can be made in {}: {error}", temporary.display()),
                "a deep verification restores the backup for a moment",
                "name a directory with room for the database: --temporary-dir DIR",
            )
        })?;
        restore_and_judge(store, &chain, keys, scratch.path(), told).await
    } else {
        read_back(store, &chain, keys, told).await
    };
    let verified = verified.map_err(|error| error.complaint())?;
    if let (true, Some(revision), false) = (verified.is_sound(), verified.revision, args.no_record) {
        record(store, &verified, revision, random()).await.map_err(|error| error.complaint())?;
    }
    Ok(verified)
}

fn human(verified: &Verified) -> String {
    let how = match (verified.deep, verified.hash_compared, verified.keys_compared) {
        (false, _, _) => "every object read back",
        (true, false, false) => "restored and judged",
        (true, true, false) => "restored and judged, its keys have the hash that etcd told",
        (true, false, true) => "restored and judged, its keys are as many as etcd told",
        (true, true, true) => "restored and judged, its keys have the hash that etcd told and are as many",
    };
    let keys = verified.keys.map(|keys| format!("{keys} keys, ")).unwrap_or_default();
    format!(
        "{}: whole up to revision {}, {how} ({keys}{} objects, {})",
        verified.set,
        verified.revision.unwrap_or_default(),
        verified.objects,
        size(verified.bytes),
    )
}

fn next(verified: &[Verified]) -> String {
    let intact =
        verified.iter().filter_map(|one| Some((&one.set, one.revision?))).max_by_key(|(set, _)| *set);
    match intact {
        Some((set, revision)) => format!(
            "what is proven can be restored: `etcd-backup restore --set {set} --to {revision}`; take a new full: `etcd-backup save`"
        ),
        None => "take a new full: `etcd-backup save`; `etcd-backup verify --all` says which sets are whole"
            .to_owned(),
    }
}
