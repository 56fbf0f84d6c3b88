//! `etcd-backup list`.

use std::fmt::Write;

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;

use super::common::{Place, ago, size, time};
use crate::backup::catalog::{Catalog, Entry, catalog};
use crate::backup::layout::SetId;
use crate::etcd::id::ClusterId;
use crate::lifecycle::block_on;
use crate::report::{self, Exit};
use crate::table::Table;

/// Its flags.
#[derive(Debug, clap::Args)]
pub(in crate::backup) struct Args {
    #[command(flatten)]
    place: Place,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// A set, for programs.
#[derive(Debug, Serialize)]
struct Row<'a> {
    set: &'a SetId,
    cluster_id: ClusterId,
    begun: Timestamp,
    ended: Timestamp,
    etcd: &'a str,
    first_revision: i64,
    last_revision: i64,
    deltas: usize,
    bytes: u64,
    encrypted: bool,
    verified: Option<Timestamp>,
    broken: Option<&'a str>,
}

impl<'a> From<&'a Entry> for Row<'a> {
    fn from(entry: &'a Entry) -> Self {
        Self {
            set: entry.set(),
            cluster_id: entry.full.cluster.id,
            begun: entry.full.begun,
            ended: entry.full.ended,
            etcd: &entry.full.cluster.etcd,
            first_revision: entry.full.revisions.last,
            last_revision: entry.last_revision(),
            deltas: entry.deltas.len(),
            bytes: entry.bytes,
            encrypted: entry.full.object.encryption != crate::backup::manifest::Encryption::None,
            verified: entry.verified.last().copied(),
            broken: entry.broken.as_deref(),
        }
    }
}

/// Runs it.
pub(in crate::backup) fn run(args: &Args) -> Result<Exit> {
    let opened = args.place.open()?;
    let catalog = block_on(async { Ok(catalog(&opened.store).await.map_err(|error| error.complaint())?) })?;
    let rows: Vec<Row> = catalog.sets.iter().map(Row::from).collect();
    if args.json {
        report::answer_json(&serde_json::json!({
            "store": opened.store.url(),
            "sets": rows,
            "unfinished": catalog.unfinished.iter().map(|one| &one.set).collect::<Vec<_>>(),
            "unreadable": catalog.unreadable.iter().map(|(set, why)| serde_json::json!({"set": set, "why": why}))
                .collect::<Vec<_>>(),
        }))?;
    } else {
        report::answer(&human(opened.store.url(), &rows, &catalog, Timestamp::now()))?;
    }
    Ok(Exit::Done)
}

fn human(url: &str, rows: &[Row], catalog: &Catalog, now: Timestamp) -> String {
    let cells = |row: &Row| {
        vec![
            row.set.to_string(),
            format!("{} ago", ago(row.begun, now)),
            format!("{} to {}", row.first_revision, row.last_revision),
            row.deltas.to_string(),
            size(row.bytes),
            row.etcd.to_owned(),
            row.cluster_id.to_string(),
            row.verified.map(time).unwrap_or_default(),
            row.broken.unwrap_or("whole").to_owned(),
        ]
    };
    let table = Table {
        title: format!("Backups in {url}"),
        content: "sets",
        header: vec![
            "Set",
            "Begun",
            "Revisions",
            "Deltas",
            "Size",
            "etcd",
            "Cluster",
            "Verified",
            "By names and sizes",
        ],
        rows: rows.iter().map(cells).collect(),
        count: None,
    };
    let mut text = table.human();
    for (set, why) in &catalog.unreadable {
        writeln!(text, "\nnot readable: {set}: {why}").expect("writing to a String cannot fail");
    }
    for unfinished in &catalog.unfinished {
        writeln!(
            text,
            "\nnot finished: {}, {} (an upload that goes on or was interrupted; `etcd-backup prune` removes it after a day)",
            unfinished.set,
            size(unfinished.bytes),
        )
        .expect("writing to a String cannot fail");
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::catalog::Unfinished;
    use crate::backup::fixture::{full, minute, set};
    use crate::backup::layout::DeltaStem;

    #[test]
    fn a_list_tells_what_can_be_restored_and_what_cannot() {
        let whole = Entry {
            full: full(60, 1000),
            deltas: vec![DeltaStem { first: 1001, last: 1200, stem: "d".to_owned() }],
            verified: vec![minute(90)],
            bytes: 5 << 20,
            broken: None,
            names: vec![],
        };
        let broken = Entry {
            full: full(0, 500),
            deltas: vec![],
            verified: vec![],
            broken: Some("v1/x/full.db is not in the store".to_owned()),
            ..whole.clone()
        };
        let catalog = Catalog {
            sets: vec![whole, broken],
            unreadable: vec![(set(10), "it is of version 2; this release knows 1".to_owned())],
            unfinished: vec![Unfinished { set: set(120), bytes: 1024, modified: minute(120), names: vec![] }],
        };
        let rows: Vec<Row> = catalog.sets.iter().map(Row::from).collect();

        insta::assert_snapshot!(human("s3://bucket/etcd", &rows, &catalog, minute(200)));
    }
}
