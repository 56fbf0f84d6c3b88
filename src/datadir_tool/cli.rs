//! The command line of `etcd-datadir`: what may be typed, and what it means.

use std::ffi::OsString;
use std::fmt::Display;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use super::endpoints::Vacancy;
use super::progress::{Listener, Progress};
use super::source::Source;
use crate::datadir::inspect::{self, ConfChanges, Running};
use crate::datadir::restore::{HashRule, Restoring, Run, restore};
use crate::datadir::seed::{self, Seeding};
use crate::datadir::validate;
use crate::datadir::verdict::Mode;
use crate::etcd::version::EtcdVersion;
use crate::report::{self, Complaint, Exit};

const EXAMPLES: &str = "\
Examples:
  etcd-datadir inspect
  etcd-datadir validate --mode full
  etcd-datadir populate --from-link --initial-cluster-token \"$TOKEN\" --data-dir /var/vcap/store/etcd
  etcd-datadir restore backup.db --from-link --initial-cluster-token \"$TOKEN\" --data-dir /var/vcap/store/etcd

Environment:
  ETCDCTL_CACERT, ETCDCTL_CERT, ETCDCTL_KEY  as --cacert, --cert, --key of --check-endpoints

Exit codes: 0 done, 1 failed, 2 usage, 3 refused (a person must decide), 4 try again;
of validate also: 10 repairable, 11 damaged, 12 foreign, 13 locked";

/// Looks into etcd's data directory, judges it and makes one, without any etcd.
#[derive(Debug, Parser)]
#[command(name = "etcd-datadir", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what a data directory holds, and what a start of etcd would make of it
    #[command(
        after_help = "Example: etcd-datadir inspect\nExample: etcd-datadir inspect --json | jq .member_id"
    )]
    Inspect(InspectArgs),
    /// Judge a data directory: would etcd start on it, and serve what was written?
    #[command(after_help = VALIDATE_EXAMPLES)]
    Validate(ValidateArgs),
    /// Make an empty database
    #[command(after_help = "Example: etcd-datadir init --output blank.db")]
    Init(InitArgs),
    /// Make the data directory of a member of a new cluster
    #[command(after_help = POPULATE_EXAMPLES)]
    Populate(PopulateArgs),
    /// Make the data directory of a member of a new cluster from a snapshot file
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore(RestoreArgs),
}

const VALIDATE_EXAMPLES: &str = "\
Examples:
  etcd-datadir validate --mode full
  etcd-datadir validate --mode sanity --json --data-dir n1.etcd | jq .verdict

Exit codes: 0 sound, 10 repairable, 11 damaged, 12 foreign, 13 locked; 1 it could not be read";

const POPULATE_EXAMPLES: &str = "\
Examples:
  etcd-datadir populate --name n1 --initial-cluster n1=https://a.test:2380,n2=https://b.test:2380 \\
    --initial-cluster-token 2d711642 --data-dir /var/vcap/store/etcd
  etcd-datadir populate --name n1 --members-file members.yml --initial-cluster-token 2d711642 --data-dir n1.etcd

Run it once for each member, with the same list and the same token.";

const RESTORE_EXAMPLES: &str = "\
Examples:
  etcd-datadir restore backup.db --from-link --initial-cluster-token 2d711642 \\
    --data-dir /var/vcap/store/etcd --bump-revision 1000000000 --mark-compacted
  etcd-datadir restore backup.db --name n1 --initial-cluster n1=https://a.test:2380 \\
    --initial-cluster-token 2d711642 --data-dir n1.etcd --dry-run

Run it once for each member, with the same file, the same list and the same token.";

/// What is looked at.
#[derive(Debug, Args)]
struct Subject {
    /// Data directory
    #[arg(long, value_name = "DIR", default_value = "/var/vcap/store/etcd")]
    data_dir: PathBuf,
    /// Directory of the write-ahead log, if it is not in the data directory
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct InspectArgs {
    #[command(flatten)]
    subject: Subject,
    /// Also list every change of the membership in the log
    #[arg(long)]
    conf_changes: bool,
    /// Read although an etcd runs on it: parts may not fit each other
    #[arg(long)]
    while_running: bool,
    /// Print JSON (version 1; fields are added, never changed)
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ValidateArgs {
    #[command(flatten)]
    subject: Subject,
    /// How much is read
    #[arg(long, value_enum, value_name = "HOW MUCH", default_value = "full")]
    mode: Depth,
    /// How to show how far it is
    #[arg(long, value_enum, value_name = "HOW", default_value = "auto")]
    progress: Listener,
    /// Print JSON (version 1; fields are added, never changed)
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Depth {
    /// Where trouble shows at once: milliseconds, whatever the size
    Sanity,
    /// Every byte that is in use
    Full,
}

#[derive(Debug, Args)]
struct InitArgs {
    /// The file to make; one that exists is never overwritten
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

/// Where the member is made.
#[derive(Debug, Args)]
struct Target {
    /// Data directory; absent or without data
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Directory of the write-ahead log, if it is not in the data directory
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct PopulateArgs {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    target: Target,
    /// An empty database that `init` made [default: one is made]
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    #[command(flatten)]
    vacancy: Vacancy,
    /// Print JSON (version 1; fields are added, never changed)
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
struct RestoreArgs {
    /// What `etcdctl snapshot save` made, or a copy of a stopped member's member/snap/db
    #[arg(value_name = "SNAPSHOT")]
    snapshot: PathBuf,
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    target: Target,
    /// Take a file without a hash, or with a wrong one
    #[arg(long)]
    skip_hash_check: bool,
    /// Raise the revision by this much, so that no client sees an old one again
    #[arg(long, value_name = "N", requires = "mark_compacted", value_parser = clap::value_parser!(u64).range(1..))]
    bump_revision: Option<u64>,
    /// Mark everything up to the raised revision as compacted, so that watchers notice
    #[arg(long, requires = "bump_revision")]
    mark_compacted: bool,
    /// Lower the cluster's version, for an older etcd than that of the snapshot
    #[arg(long, value_name = "X.Y", value_parser = minor_release)]
    target_version: Option<EtcdVersion>,
    /// Read and check everything, and say what would be written
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    vacancy: Vacancy,
    /// How to show how far it is
    #[arg(long, value_enum, value_name = "HOW", default_value = "auto")]
    progress: Listener,
    /// Print JSON (version 1; fields are added, never changed)
    #[arg(long)]
    json: bool,
}

/// Parses and runs a command line, program name first.
pub fn run(args: &[OsString]) -> Result<Exit> {
    // Help, version and usage errors: clap prints them and knows the exit code.
    let cli = Cli::try_parse_from(args).unwrap_or_else(|error| error.exit());
    match cli.command {
        Command::Inspect(args) => look(&args),
        Command::Validate(args) => judge(&args),
        Command::Init(args) => {
            seed::init(&args.output).map_err(|error| error.complaint())?;
            report::answer(&format!("an empty database is in {}", args.output.display()))?;
            Ok(Exit::Done)
        }
        Command::Populate(args) => populate(&args),
        Command::Restore(args) => restored(&args),
    }
}

fn look(args: &InspectArgs) -> Result<Exit> {
    let options = inspect::Options {
        conf_changes: if args.conf_changes { ConfChanges::Listed } else { ConfChanges::Omitted },
        running: if args.while_running { Running::Read } else { Running::Refuse },
    };
    let (data_dir, wal_dir) = (&args.subject.data_dir, args.subject.wal_dir.as_deref());
    let inspection = inspect::inspect(data_dir, wal_dir, options).map_err(|error| match error {
        inspect::Error::Locked { .. } => Complaint::refused(
            error.to_string(),
            "what is read while etcd writes may not fit together",
            "stop the member first, or add --while-running and expect contradictions",
        ),
        inspect::Error::Io(_) => Complaint::failed(
            error.to_string(),
            "what cannot be read cannot be told; nothing was changed",
            "run it as root, and look at the disk with `dmesg`",
        ),
    })?;
    if args.json {
        report::answer_json(&inspection)?;
    } else {
        report::answer(&inspect::page(&inspection))?;
    }
    Ok(Exit::Done)
}

fn judge(args: &ValidateArgs) -> Result<Exit> {
    let mode = match args.mode {
        Depth::Sanity => Mode::Sanity,
        Depth::Full => Mode::Full,
    };
    let (data_dir, wal_dir) = (&args.subject.data_dir, args.subject.wal_dir.as_deref());
    let mut progress = Progress::begin(args.progress, "validating");
    let judged = validate::validate(data_dir, wal_dir, mode, &mut |done, of| progress.tell(done, of));
    drop(progress);
    let judged = judged.map_err(|error| {
        Complaint::failed(
            format!("{} cannot be read: {error}", data_dir.display()),
            "what cannot be read cannot be judged: it may be sound or damaged; nothing was changed",
            "run it as root, and look at the disk with `dmesg`",
        )
    })?;
    if args.json {
        report::answer_json(&judged)?;
    } else {
        report::answer(&validate::page(&judged))?;
    }
    Ok(Exit::Code(judged.verdict.exit_code()))
}

fn populate(args: &PopulateArgs) -> Result<Exit> {
    let membership = args.source.membership()?;
    args.vacancy.check()?;
    let seeding = Seeding {
        membership: &membership,
        data_dir: &args.target.data_dir,
        wal_dir: args.target.wal_dir.as_deref(),
        db: args.db.as_deref(),
    };
    let seeded = seed::populate(&seeding).map_err(|error| error.complaint())?;
    tell(&seeded, args.json)
}

fn restored(args: &RestoreArgs) -> Result<Exit> {
    let membership = args.source.membership()?;
    args.vacancy.check()?;
    let restoring = Restoring {
        snapshot: &args.snapshot,
        membership: &membership,
        data_dir: &args.target.data_dir,
        wal_dir: args.target.wal_dir.as_deref(),
        hash: if args.skip_hash_check { HashRule::Skipped } else { HashRule::Demanded },
        bump: args.bump_revision,
        target_version: args.target_version,
        run: if args.dry_run { Run::Dry } else { Run::Real },
    };
    let mut progress = Progress::begin(args.progress, "restoring");
    let restored = restore(&restoring, &mut |done, of| progress.tell(done, of));
    drop(progress);
    let restored = restored.map_err(|error| error.complaint())?;
    tell(&restored, args.json)
}

/// Prints what was done, for a program or for a person.
fn tell<T: Display + Serialize>(done: &T, json: bool) -> Result<Exit> {
    if json {
        report::answer_json(done)?;
    } else {
        report::answer(&done.to_string())?;
    }
    Ok(Exit::Done)
}

/// `3.5`, or a whole version, of which the patch is dropped.
fn minor_release(text: &str) -> Result<EtcdVersion, String> {
    let whole = if text.matches('.').count() == 1 { format!("{text}.0") } else { text.to_owned() };
    whole.parse().map_err(|_| "it is no minor release of etcd, such as 3.5".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parses(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_is_one_that_clap_can_parse() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_member_comes_from_exactly_one_source_and_marks_come_in_pairs() {
        let restore = "etcd-datadir restore s.db --initial-cluster-token t --data-dir d";
        for fits in [
            "--name a --initial-cluster a=https://a:1",
            "--from-link",
            "--from-link job.json",
            "--name a --members-file -",
            "--name a --dns-srv a.test --initial-advertise-peer-urls https://a:1 --dns-server 192.0.2.1",
            "--from-link --bump-revision 5 --mark-compacted",
            "--from-link --target-version 3.5",
        ] {
            assert!(parses(&format!("{restore} {fits}")).is_ok(), "{fits}");
        }
        for wrong in [
            "",
            "--initial-cluster a=https://a:1",
            "--name a --initial-cluster a=https://a:1 --members-file -",
            "--name a --dns-srv a.test",
            "--from-link --dns-server 192.0.2.1",
            "--from-link --bump-revision 5",
            "--from-link --bump-revision 0 --mark-compacted",
            "--from-link --mark-compacted",
            "--from-link --target-version three",
        ] {
            assert!(parses(&format!("{restore} {wrong}")).is_err(), "{wrong}");
        }
    }
}
