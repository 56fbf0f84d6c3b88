//! docs/contract.md tells the decision tables, once. What the code decides and where it sends people is
//! compared with it here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::drain::decide::Row as StopRow;
use super::launch::decide::row::Row;

const CONTRACT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/contract.md"));

/// A row of a table: its number, and what is set in bold in its last column.
struct Told {
    number: u8,
    plans: BTreeSet<String>,
}

/// The first table below `anchor`.
fn table(anchor: &str) -> Vec<Told> {
    let (_, below) = CONTRACT.split_once(&format!("<a id=\"{anchor}\"></a>")).expect("the anchor is there");
    below
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .filter_map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let plans = cells.last()?.split("**").skip(1).step_by(2).map(str::to_owned).collect();
            Some(Told { number: cells.first()?.parse().ok()?, plans })
        })
        .collect()
}

#[test]
fn the_launch_table_is_told_row_by_row_with_its_plans() {
    let told = table("launch");

    assert_eq!(told.len(), Row::ALL.len());
    for (told, row) in told.iter().zip(Row::ALL) {
        let plans: BTreeSet<String> = row.plans().iter().map(|plan| (*plan).to_owned()).collect();
        assert_eq!((told.number, &told.plans), (row.number(), &plans), "row {row}");
    }
}

#[test]
fn the_stop_table_is_told_row_by_row() {
    let told: Vec<u8> = table("stop").iter().map(|told| told.number).collect();

    assert_eq!(told, StopRow::ALL.map(StopRow::number));
}

fn anchors() -> BTreeSet<&'static str> {
    CONTRACT.split("<a id=\"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0)).collect()
}

fn files_below(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory of this repository").flatten() {
        let path = entry.path();
        match path.extension().and_then(std::ffi::OsStr::to_str) {
            _ if path.is_dir() => files_below(&path, found),
            Some("rs" | "tera" | "erb" | "md" | "yml") => found.push(path),
            Some(_) | None => {}
        }
    }
}

/// A link that leads nowhere is worse than none.
#[test]
fn every_link_into_the_contract_has_an_anchor() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for directory in ["src", "spec", "docs", "jobs", "templates", "deployment"] {
        let directory = root.join(directory);
        if directory.is_dir() {
            files_below(&directory, &mut files);
        }
    }
    let anchors = anchors();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a text file of this repository");
        for rest in text.split("contract.md#").skip(1) {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(rest.len());
            let anchor = &rest[..end];
            // Made at run time from `anchor()`, whose values the tables' own tests check.
            if !anchor.is_empty() {
                assert!(anchors.contains(anchor), "{}: #{anchor}", file.display());
            }
        }
    }
    for rest in CONTRACT.split("](#").skip(1) {
        let (anchor, _) = rest.split_once(')').expect("a closed link");
        assert!(anchors.contains(anchor), "docs/contract.md itself: #{anchor}");
    }
}
