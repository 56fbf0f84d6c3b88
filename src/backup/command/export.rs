//! `etcd-backup export`.

use std::ffi::OsStr;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::Result;

use super::common::size;
use super::interruption;
use super::save::Members;
use crate::backup::export::live::{ExportError, Exported, export};
use crate::backup::export::new_file::{NewFile, NoFile};
use crate::datadir_tool::progress::{Listener, Progress, Unit};
use crate::report::{self, Exit};

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
    #[command(flatten)]
    members: Members,
    /// How to show how far it is
    #[arg(long, value_enum, value_name = "HOW", default_value = "auto")]
    progress: Listener,
}

/// Runs it.
pub(in crate::backup) fn run(args: &Args) -> Result<Exit> {
    let cluster = args.members.cluster()?;
    interruption::block_on(async {
        let mut progress = Progress::counting(args.progress, "exporting", Unit::Keys);
        let mut tell = |done, of| progress.tell(done, of);
        let prefix = args.prefix.as_bytes();
        let told = |error: ExportError| error.complaint();
        let exported = if args.file.as_os_str() == OsStr::new("-") {
            let out = BufWriter::with_capacity(BUFFER_BYTES, report::stdout());
            let (_, exported) = export(&cluster, prefix, out, &mut tell).await.map_err(told)?;
            drop(progress);
            for line in [human(args, &exported), remarks(&exported)].iter().filter(|line| !line.is_empty()) {
                writeln!(std::io::stderr(), "{line}")?;
            }
            return Ok(Exit::Done);
        } else {
            let file = NewFile::begin(&args.file).map_err(|error| error.complaint())?;
            let out = BufWriter::with_capacity(BUFFER_BYTES, file);
            let (out, exported) = export(&cluster, prefix, out, &mut tell).await.map_err(told)?;
            let file = out.into_inner().map_err(|error| {
                let (path, source) = (args.file.clone(), error.into_error());
                NoFile::Io { path, source }.complaint()
            })?;
            file.keep().map_err(|error| error.complaint())?;
            exported
        };
        drop(progress);
        report::answer(&human(args, &exported))?;
        let remarks = remarks(&exported);
        if !remarks.is_empty() {
            writeln!(std::io::stderr(), "{remarks}")?;
        }
        Ok(Exit::Done)
    })
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
fn remarks(exported: &Exported) -> String {
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
    remarks.join("\n")
}
