//! docs/lost.md: each disaster is typed on a machine of its own, behind the lines that stand before the first of them
//! and make a cluster with data. So each of them begins with a cluster that nothing has happened to.

use std::collections::BTreeSet;
use std::path::Path;

use super::machine::Machine;
use super::page::{Page, Section};
use super::typing::type_blocks;

/// The page.
pub(crate) const PAGE: &str = "docs/lost.md";

/// The headings that have a test below.
const DISASTERS: [&str; 5] = ["One disk", "One VM", "Quorum", "Everything", "A deleted prefix"];

fn sections() -> Vec<Section> {
    Page::open(Path::new(PAGE)).sections()
}

fn happens(disaster: &str) {
    let sections = sections();
    let section = sections.iter().find(|section| section.heading == disaster);
    let section = section.unwrap_or_else(|| panic!("{PAGE} has no section '{disaster}'"));
    assert!(section.blocks.iter().any(|block| block.info == "sh test"), "nothing to type in '{disaster}'");
    let machine = Machine::new();

    type_blocks(&machine, PAGE, &sections[0].blocks);
    type_blocks(&machine, PAGE, &section.blocks);
}

#[test]
fn one_disk_is_lost_and_it_ends_as_the_page_says() {
    happens(DISASTERS[0]);
}

#[test]
fn one_vm_is_lost_and_it_ends_as_the_page_says() {
    happens(DISASTERS[1]);
}

#[test]
fn quorum_is_lost_and_it_ends_as_the_page_says() {
    happens(DISASTERS[2]);
}

#[test]
fn everything_is_lost_and_it_ends_as_the_page_says() {
    happens(DISASTERS[3]);
}

#[test]
fn a_prefix_is_deleted_and_it_ends_as_the_page_says() {
    happens(DISASTERS[4]);
}

#[test]
fn every_disaster_of_the_page_is_typed() {
    let headings: BTreeSet<String> = sections().into_iter().skip(1).map(|section| section.heading).collect();

    assert_eq!(headings, DISASTERS.map(str::to_owned).into());
}
