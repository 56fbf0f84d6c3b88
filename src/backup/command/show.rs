//! `etcd-backup show`.

use std::fmt::Write;

use anyhow::Result;
use jiff::Timestamp;

use super::common::{Place, ago, size, time};
use crate::backup::catalog::{BackupSet, catalog, load};
use crate::backup::chain::{Chain, NoChain, Point, Why, chain};
use crate::backup::layout::SetId;
use crate::backup::manifest::{Compression, Encryption};
use crate::lifecycle::block_on;
use crate::report::{self, Exit};

/// Its flags.
#[derive(Debug, clap::Args)]
pub(in crate::backup) struct Args {
    /// The set [default: the newest one]
    set: Option<SetId>,
    #[command(flatten)]
    place: Place,
    /// The manifests, as they are in the store
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(in crate::backup) fn run(args: &Args) -> Result<Exit> {
    let opened = args.place.open()?;
    let set = block_on(async {
        let catalog = catalog(&opened.store).await.map_err(|error| error.complaint())?;
        // Also one that is broken: to see what is wrong with it.
        let entry = match &args.set {
            None => catalog.sets.first().ok_or(NoChain::Nothing),
            Some(set) => {
                let found = catalog.sets.iter().find(|entry| entry.set() == set);
                found.ok_or_else(|| NoChain::NoSet(set.clone()))
            }
        };
        let entry = entry.map_err(|error| error.complaint())?;
        let set = load(&opened.store, entry).await.map_err(|error| error.complaint())?;
        Ok((set, entry.broken.clone()))
    })?;
    let (set, broken) = set;
    if args.json {
        report::answer_json(&serde_json::json!({
            "full": set.full,
            "deltas": set.deltas.iter().map(|(_, delta)| delta).collect::<Vec<_>>(),
            "verifications": set.verifications,
        }))?;
    } else {
        report::answer(&human(&set, broken.as_deref(), Timestamp::now()))?;
    }
    Ok(Exit::Done)
}

fn human(set: &BackupSet, broken: Option<&str>, now: Timestamp) -> String {
    let chain = chain(set, Point::Latest);
    let mut text = String::new();
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        writeln!(text, "{arguments}").expect("writing to a String cannot fail");
    };
    let full = &set.full;
    let cluster = &full.cluster;
    line(format_args!("Set {}", full.set));
    line(format_args!(
        "  cluster     {}{}, etcd {}",
        cluster.id,
        cluster.deployment.as_ref().map(|name| format!(" of deployment '{name}'")).unwrap_or_default(),
        cluster.etcd,
    ));
    for member in &cluster.members {
        line(format_args!(
            "  member      {} {}{} {}",
            member.id,
            member.name.as_deref().unwrap_or("(never started)"),
            if member.learner { " (learner)" } else { "" },
            member.peer_urls.join(","),
        ));
    }
    line(format_args!(
        "  begun       {} ({} ago) from member {}",
        time(full.begun),
        ago(full.begun, now),
        cluster.member
    ));
    line(format_args!("  revisions   {} to {} can be restored", full.revisions.last, chain.last));
    line(format_args!(
        "  compacted   {}",
        if full.revisions.compacted == 0 {
            "never".to_owned()
        } else {
            format!("up to {}", full.revisions.compacted)
        }
    ));
    line(format_args!("  packed      {}", packed(set)));
    match set.verifications.last() {
        None => line(format_args!("  verified    never")),
        Some(last) => line(format_args!(
            "  verified    {} ({} ago), up to revision {}, {}",
            time(last.at),
            ago(last.at, now),
            last.revision,
            if last.deep { "restored for it" } else { "every object read" },
        )),
    }
    if let Some(broken) = broken {
        line(format_args!("  broken      {broken}"));
    }
    line(format_args!("\nObjects"));
    line(format_args!("  {}  {}", full.object.name, size(full.object.bytes)));
    for delta in &chain.deltas {
        line(format_args!(
            "  {}  {}  {} changes until {}",
            delta.object.name,
            size(delta.object.bytes),
            delta.events,
            time(delta.ended),
        ));
    }
    told_ignored(&mut text, &chain);
    text.trim_end().to_owned()
}

fn told_ignored(text: &mut String, chain: &Chain) {
    if chain.ignored.is_empty() {
        return;
    }
    text.push_str("\nNot used\n");
    for ignored in &chain.ignored {
        let why = match ignored.why {
            Why::Repeated => "others have the same changes".to_owned(),
            Why::Gap(revision) => format!("revision {revision} is in none"),
            Why::Behind => "behind the point".to_owned(),
            Why::Strange => "of another set or cluster".to_owned(),
        };
        writeln!(text, "  {}  {why}", ignored.name).expect("writing to a String cannot fail");
    }
}

fn packed(set: &BackupSet) -> String {
    let object = &set.full.object;
    let compressed = match object.compression {
        Compression::None => "not compressed",
        Compression::Zstd => "zstd",
    };
    match &object.encryption {
        Encryption::None => format!("{compressed}, not encrypted"),
        Encryption::Age { recipients } => format!("{compressed}, encrypted for {}", recipients.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::fixture::{delta, full, minute, set};
    use crate::backup::manifest::{Member, VERSION, Verification};

    #[test]
    fn a_set_is_shown_with_all_that_is_in_it() {
        let mut shown = BackupSet {
            full: full(0, 10),
            deltas: vec![delta(0, 11, 20, 5), delta(0, 12, 19, 6), delta(0, 25, 30, 7)],
            verifications: vec![Verification {
                version: VERSION,
                set: set(0),
                at: minute(30),
                deep: true,
                revision: 20,
                objects: 2,
                bytes: 30,
            }],
        };
        shown.full.cluster.members = vec![
            Member {
                id: "8e9e05c52164694d".parse().unwrap(),
                name: Some("5a6ff2b0".to_owned()),
                peer_urls: vec!["https://q-m0.etcd:2380".to_owned()],
                learner: false,
            },
            Member {
                id: "1".parse().unwrap(),
                name: None,
                peer_urls: vec!["https://q-m1.etcd:2380".to_owned()],
                learner: true,
            },
        ];

        insta::assert_snapshot!(human(&shown, Some("full.db is not in the store"), minute(200)));
    }
}
