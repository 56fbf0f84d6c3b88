//! `etcd-backup export`.

use std::ffi::OsStr;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::Result;

use super::common::{Place, size};
use super::interruption;
use super::restore::{bring, scratch_beside};
use super::save::Members;
use super::scratch::Scratch;
use crate::backup::chain::Point;
use crate::backup::export::new_file::{NewFile, NoFile};
use crate::backup::export::{Exported, live, stored};
use crate::backup::layout::SetId;
use crate::datadir_tool::progress::{Listener, Progress, Unit};
use crate::report::{self, Complaint, Exit};

/// A page is about as much.
const BUFFER_BYTES: usize = 1 << 20;

/// Its flags.
#[derive(Debug, clap::Args)]
pub(in crate::backup) struct Args {
    /// The new file; - is stdout
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only keys that begin with this; users and roles are then left out
    #[arg(long, value_name = "PREFIX", default_value = "")]
    prefix: String,
    /// From a backup in a store, and not from a running cluster: latest, a revision or a time, as for restore
    #[arg(long, value_name = "POINT")]
    to: Option<Point>,
    /// The set to take it from [default: the newest one from which the point can be reached]
    #[arg(long, value_name = "SET", requires = "to")]
    set: Option<SetId>,
    #[command(flatten)]
    members: Members,
    #[command(flatten)]
    place: Place,
    /// How to show how far it is
    #[arg(long, value_enum, value_name = "HOW", default_value = "auto")]
    progress: Listener,
}

/// Runs it.
pub(in crate::backup) fn run(args: &Args) -> Result<Exit> {
    if args.to.is_none() && args.place.is_named() {
        return Err(ambiguous(
            "a store is named, and no point: --to latest is the last change that is in it",
        )
        .into());
    }
    if args.to.is_some() && !args.members.of_job() {
        return Err(ambiguous("both a running cluster and a point of a backup are named").into());
    }
    interruption::block_on(async {
        let to_stdout = args.file.as_os_str() == OsStr::new("-");
        let exported = if to_stdout {
            export(args, report::stdout()).await?.1
        } else {
            let file = NewFile::begin(&args.file).map_err(|error| error.complaint())?;
            let (file, exported) = export(args, file).await?;
            file.keep().map_err(|error| error.complaint())?;
            exported
        };
        let mut remarks = remarks(&exported);
        if to_stdout {
            remarks.insert(0, human(args, &exported));
        } else {
            report::answer(&human(args, &exported))?;
        }
        for remark in remarks {
            writeln!(std::io::stderr(), "{remark}")?;
        }
        Ok(Exit::Done)
    })
}

fn ambiguous(what: &str) -> Complaint {
    Complaint::refused(
        what,
        "the keys of another cluster than the one that is meant would be a mistake nobody sees",
        "name a point with --to for a backup, or --etcd for a running cluster, and not both",
    )
}

/// Exports into `out`, and gives it back.
async fn export<W: Write>(args: &Args, out: W) -> Result<(W, Exported)> {
    let out = BufWriter::with_capacity(BUFFER_BYTES, out);
    let (out, exported) = if let Some(to) = args.to {
        export_backup(args, to, out).await?
    } else {
        let cluster = args.members.cluster()?;
        let mut progress = Progress::counting(args.progress, "exporting", Unit::Keys);
        let mut tell = |done, of| progress.tell(done, of);
        let exported = live::export(&cluster, args.prefix.as_bytes(), out, &mut tell).await;
        exported.map_err(|error| error.complaint())?
    };
    let out = out.into_inner().map_err(|error| {
        let (path, source) = (args.file.clone(), error.into_error());
        NoFile::Io { path, source }.complaint()
    })?;
    Ok((out, exported))
}

async fn export_backup<W: Write>(args: &Args, to: Point, out: W) -> Result<(W, Exported)> {
    let opened = args.place.open()?;
    // The database lies beside the file for a while.
    let scratch = match args.file.as_os_str() {
        name if name == OsStr::new("-") => Scratch::below(&std::env::temp_dir())?,
        _ => scratch_beside(&args.file)?,
    };
    let (chain, fetched) = bring(args.set.as_ref(), to, args.progress, &opened, scratch.path()).await?;
    let database = std::fs::File::open(&fetched.database)?;
    let mut progress = Progress::counting(args.progress, "exporting", Unit::Keys);
    let mut tell = |done, of| progress.tell(done, of);
    let (cluster, revision) = (&chain.full.cluster, fetched.revisions.last);
    let exported = stored::export(&database, cluster, revision, args.prefix.as_bytes(), out, &mut tell).await;
    Ok(exported.map_err(|error| error.complaint())?)
}

fn human(args: &Args, exported: &Exported) -> String {
    let counts = exported.counts;
    format!(
        "{}: {} keys at revision {} of cluster {}, {} leases, {} roles, {} users, {}",
        args.file.display(),
        counts.keys,
        exported.revision,
        exported.cluster,
        counts.leases,
        counts.roles,
        counts.users,
        size(exported.bytes),
    )
}

/// What is not in the file, and what follows from that.
fn remarks(exported: &Exported) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Some(why) = &exported.no_access {
        remarks.push(format!("users and roles are not in it: {why}"));
    } else if exported.counts.users > 0 {
        remarks
            .push("etcd tells nobody the passwords of its users: after an import they have none".to_owned());
    }
    if exported.auth == Some(true) {
        remarks.push(
            "authentication is on; an import does not turn it on: `etcdctl auth enable` does".to_owned(),
        );
    }
    remarks
}
