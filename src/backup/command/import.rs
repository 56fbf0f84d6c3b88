//! `etcd-backup import`.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Result;

use super::common::size;
use super::interruption;
use super::save::Members;
use crate::backup::import::conflict::Rule;
use crate::backup::import::source::{Selection, Source};
use crate::backup::import::{ImportError, Imported, Importing, Phase, import};
use crate::datadir_tool::progress::{Listener, Progress};
use crate::report::{self, Exit};

/// Its flags.
#[derive(Debug, clap::Args)]
pub(in crate::backup) struct Args {
    /// What `etcd-backup export` wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only keys that begin with this; users and roles are then left out
    #[arg(long, value_name = "PREFIX", default_value = "")]
    prefix: String,
    /// Call them so instead: what --prefix says is replaced by this
    #[arg(long = "as", value_name = "PREFIX", requires = "prefix")]
    renamed: Option<String>,
    /// There may be keys already: what is equal is skipped, so that an interrupted import goes on
    #[arg(long)]
    into_existing: bool,
    /// What to do with keys, roles and users that are there and differ
    #[arg(long, value_enum, value_name = "RULE", default_value = "refuse", requires = "into_existing")]
    on_conflict: Rule,
    /// Leave out users and roles
    #[arg(long)]
    no_users: bool,
    #[command(flatten)]
    members: Members,
    /// How to show how far it is
    #[arg(long, value_enum, value_name = "HOW", default_value = "auto")]
    progress: Listener,
}

/// Runs it.
pub(in crate::backup) fn run(args: &Args) -> Result<Exit> {
    let cluster = args.members.cluster()?;
    let mut progress = Progress::begin(args.progress, "proving the file");
    let source = Source::prove(&args.file, &mut |done, of| progress.tell(done, of));
    drop(progress);
    let source = source.map_err(|error| ImportError::File(error).complaint())?;
    interruption::block_on(async {
        let selection = Selection {
            prefix: args.prefix.clone().into_bytes(),
            renamed: args.renamed.clone().map(String::into_bytes),
        };
        let part = !selection.prefix.is_empty() || selection.renamed.is_some();
        let importing = Importing {
            source: &source,
            selection: &selection,
            into_existing: args.into_existing,
            rule: args.on_conflict,
            access: !part && !args.no_users,
        };
        let mut showing: Option<(Phase, Progress)> = None;
        let imported = import(&importing, &cluster, &mut |phase, done, of| {
            let begun = showing.take().filter(|(showing, _)| *showing == phase);
            let (_, mut progress) =
                begun.unwrap_or_else(|| (phase, Progress::begin(args.progress, name(phase))));
            progress.tell(done, of);
            showing = Some((phase, progress));
        })
        .await;
        drop(showing);
        let imported = imported.map_err(|error| error.complaint())?;
        report::answer(&human(args, &source, &imported))?;
        Ok(Exit::Done)
    })
}

fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Comparing => "comparing",
        Phase::Writing => "writing",
        Phase::ReadingBack => "reading back",
    }
}

fn human(args: &Args, source: &Source, imported: &Imported) -> String {
    let mut text = format!(
        "{}: {} keys written into cluster {}, {} were there; all read back at revision {} ({})",
        args.file.display(),
        imported.written,
        imported.cluster,
        imported.same,
        imported.revision,
        size(source.bytes),
    );
    let mut line = |told: std::fmt::Arguments<'_>| {
        write!(text, "\n  {told}").expect("writing to a String cannot fail");
    };
    line(format_args!(
        "from      revision {} of cluster {}, etcd {}",
        source.head.revision, source.head.cluster_id, source.head.etcd
    ));
    if imported.kept > 0 {
        line(format_args!("kept      {} keys that differ are as they were", imported.kept));
    }
    if imported.leases > 0 {
        line(format_args!("leases    {} granted, their time begins now", imported.leases));
    }
    for (ours, there) in &imported.renamed {
        line(format_args!("leases    {ours} was taken: its keys hang on {there}"));
    }
    if imported.left_out > 0 {
        line(format_args!("left out  {} keys whose leases ended during the export", imported.left_out));
    }
    if imported.expired > 0 {
        line(format_args!(
            "expired   {} keys, with their leases, since they were written: run it again with --into-existing to have them again",
            imported.expired
        ));
    }
    if imported.roles + imported.users > 0 {
        line(format_args!("users     {} and {} roles", imported.users, imported.roles));
    }
    if !imported.new_users.is_empty() {
        line(format_args!(
            "passwords none yet for {}: `etcdctl user passwd NAME`",
            imported.new_users.join(", ")
        ));
    }
    if source.auth.is_some_and(|auth| auth.enabled) && imported.roles + imported.users > 0 {
        line(format_args!("auth      it was on over there: `etcdctl auth enable` turns it on here"));
    }
    text
}
