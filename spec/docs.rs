//! The pages hold: what they link to exists, what they tell to type does what they say, and what they list
//! is what the release has.
//!
//! Command blocks are marked by the second word behind their fence:
//!
//! - `sh test`: typed on a machine with `etcd-local`; run here, in order, and must succeed
//! - `sh fails`: the same, and must fail
//! - `sh director`: needs a BOSH Director; the files it names must exist
//! - `sh machine`: changes the machine (`ci/try`); the scripts it names must exist
//!
//! A `text` block right behind one that is run is part of what it prints; `…` stands for anything.

#![allow(missing_docs, unreachable_pub, reason = "a test target has no public items")]
#![allow(clippy::unwrap_used, reason = "a spec that cannot go on has failed")]

#[path = "docs/lost.rs"]
mod lost;
#[path = "docs/machine.rs"]
mod machine;
#[path = "docs/page.rs"]
mod page;
mod support;
#[cfg(test)] // so that lints know it: it prints how long each block took
#[path = "docs/typing.rs"]
mod typing;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use etcd_release::job::aliases::SPELLINGS;
use serde_json::Value;

use machine::Machine;
use page::{Page, references, repository};
use typing::type_blocks;

/// Pages whose commands are typed in this order, on one deployment. The first leaves nothing behind; the
/// second deploys again, and the others start from three members that serve, and end so.
const TYPED: [&str; 13] = [
    "README.md",
    "docs/deploy.md",
    "docs/etcdctl.md",
    "docs/drain.md",
    "docs/scale.md",
    "docs/replace-disk.md",
    "docs/certificates.md",
    "docs/recover.md",
    "docs/restore.md",
    "docs/export.md",
    "docs/datadir.md",
    "docs/seed.md",
    "docs/public-interface.md",
];

/// Pages for people who change the release. Nobody runs their commands here.
const FOR_DEVELOPERS: [&str; 2] = ["docs/development.md", "docs/releasing.md"];

/// Where text may send readers to a page.
const SENDING: [&str; 7] = ["src", "jobs", "packages", "deployment", "templates", "spec", "ci"];

fn files_below(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_below(&path, found) } else { found.push(path) }
    }
}

/// `docs/../x` → `x`.
fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut normal, component| {
        match component {
            Component::ParentDir => assert!(normal.pop(), "{} leaves the repository", path.display()),
            other => normal.push(other),
        }
        normal
    })
}

fn anchors() -> BTreeMap<PathBuf, BTreeSet<String>> {
    Page::all().into_iter().map(|page| (page.path.clone(), page.anchors())).collect()
}

#[test]
fn every_link_of_a_page_leads_somewhere() {
    let anchors = anchors();
    let mut broken = Vec::new();

    for page in Page::all() {
        for (line, target) in page.links() {
            if target.starts_with("https://") || target.starts_with("http://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file = match file {
                "" => page.path.clone(),
                file => normal(&page.path.parent().unwrap_or(Path::new("")).join(file)),
            };
            let there = repository().join(&file).exists()
                && (anchor.is_empty() || anchors.get(&file).is_some_and(|known| known.contains(anchor)));
            if !there {
                broken.push(format!("{}:{line}: {target}", page.path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_path_of_the_repository_that_a_page_names_exists() {
    let mut missing = Vec::new();

    for page in Page::all() {
        for (line, span) in page.code_spans() {
            let path = span.split(' ').next().unwrap_or_default();
            let ours = ["ci/", "deployment/", "docs/", "spec/"].iter().any(|top| path.starts_with(top));
            let exact = !path.contains(['*', '{', '…', '#']) && !path.contains("NAME");
            if ours && exact && !repository().join(path).exists() {
                missing.push(format!("{}:{line}: {path}", page.path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Messages end with `docs/PAGE.md#ANCHOR`: at three in the morning that must not lead nowhere.
#[test]
fn every_page_that_code_and_scripts_send_readers_to_has_that_anchor() {
    let anchors = anchors();
    let (mut broken, mut seen) = (Vec::new(), 0);

    for top in SENDING {
        let mut files = Vec::new();
        files_below(&repository().join(top), &mut files);
        for file in files {
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            for (page, anchor) in references(&text) {
                seen += 1;
                let there = anchors
                    .get(Path::new(&page))
                    .is_some_and(|known| anchor.as_ref().is_none_or(|anchor| known.contains(anchor)));
                if !there {
                    let file = file.strip_prefix(repository()).unwrap().display();
                    broken.push(format!("{file}: {page}#{}", anchor.unwrap_or_default()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(seen > 50, "only {seen} references found: does this test still read them?");
}

#[test]
fn every_command_block_says_where_it_can_be_typed() {
    let mut faults = Vec::new();

    for page in Page::all() {
        let name = page.path.display().to_string();
        for block in page.blocks() {
            let mut fault = |what: &str| faults.push(format!("{name}:{}: {what}", block.line));
            match block.info.as_str() {
                "sh test" | "sh fails" if !TYPED.contains(&name.as_str()) && name != lost::PAGE => {
                    fault("commands of this page are never run: add it to TYPED");
                }
                "sh director" | "sh machine" => {
                    for missing in named_files(&block.text).filter(|path| !repository().join(path).exists()) {
                        fault(&format!("{missing} does not exist"));
                    }
                }
                "sh test" | "sh fails" | "text" | "yaml" | "json" => {}
                _ if FOR_DEVELOPERS.contains(&name.as_str()) => {}
                other => fault(&format!("a block marked {other:?}")),
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Words that name a file of the repository.
fn named_files(text: &str) -> impl Iterator<Item = &str> {
    let ours = |word: &&str| word.starts_with("deployment/") || word.starts_with("ci/");
    text.split_whitespace().filter(ours)
}

#[test]
fn every_command_of_the_pages_does_what_the_page_says() {
    let machine = Machine::new();
    for name in TYPED {
        type_blocks(&machine, name, &Page::open(Path::new(name)).blocks());
    }
}

fn properties() -> BTreeMap<String, Value> {
    let text = std::fs::read_to_string(repository().join("jobs/etcd/spec")).unwrap();
    let spec: Value = serde_yaml::from_str(&text).unwrap();
    serde_json::from_value(spec["properties"].clone()).unwrap()
}

/// `spec/release.rs` demands a row for each property; here no row may be left of one that is gone.
#[test]
fn the_table_of_properties_has_no_row_too_many() {
    let rows = Page::open(Path::new("docs/deploy.md")).rows_below("## Properties");
    let listed: Vec<String> =
        rows.into_iter().skip(2).map(|row| row[0].trim_matches('`').to_owned()).collect();

    let former: Vec<&str> = SPELLINGS.iter().map(|(former, _)| *former).collect();
    let known: BTreeSet<String> =
        properties().into_keys().filter(|name| !former.contains(&name.as_str())).collect();
    assert_eq!(listed.len(), known.len());
    assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), known);
}

#[test]
fn the_public_interface_lists_the_links_of_the_job() {
    let text = std::fs::read_to_string(repository().join("jobs/etcd/spec")).unwrap();
    let spec: Value = serde_yaml::from_str(&text).unwrap();
    let expected: BTreeSet<Vec<String>> = spec["provides"]
        .as_array()
        .unwrap()
        .iter()
        .map(|link| {
            let shared = link["properties"]
                .as_array()
                .unwrap()
                .iter()
                .map(|name| format!("`{}`", name.as_str().unwrap()));
            let text = |key: &str| format!("`{}`", link[key].as_str().unwrap());
            vec![text("name"), text("type"), shared.collect::<Vec<_>>().join(", ")]
        })
        .collect();

    let rows = Page::open(Path::new("docs/public-interface.md")).rows_below("## Links");
    let listed: BTreeSet<Vec<String>> = rows.into_iter().skip(2).map(|row| row[..3].to_vec()).collect();
    assert_eq!(listed, expected);
}
