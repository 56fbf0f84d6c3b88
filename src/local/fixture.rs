//! Small deployments for the tests of this room.

use std::fmt::Write;
use std::net::Ipv4Addr;

use super::manifest::Manifest;
use super::model::Identity;
use super::release::{Catalog, Job, LinkConsumed, LinkProvided, Property, Release};

/// A manifest with the given `instance_groups` items (YAML, not indented) and plain settings around them.
pub(super) fn manifest(groups: &str) -> Manifest {
    Manifest::parse(&manifest_yaml(groups)).expect("the test's manifest is right")
}

/// The text of [`manifest`].
pub(super) fn manifest_yaml(groups: &str) -> String {
    format!(
        "name: dep\n\
         releases: [{{name: rel, version: latest}}, {{name: other, version: 1}}]\n\
         stemcells: [{{alias: default, os: ubuntu-jammy, version: latest}}]\n\
         update: {{canaries: 1, max_in_flight: 1, canary_watch_time: 1-2, update_watch_time: 3}}\n\
         instance_groups:\n{groups}"
    )
}

/// One item of `instance_groups` with the given keys over plain ones.
pub(super) fn group(name: &str, keys: &str) -> String {
    let mut text = format!("- name: {name}\n  {keys}\n");
    for (key, value) in [("instances", "1"), ("jobs", "[]"), ("networks", "[{name: net}]")] {
        if !keys.lines().any(|line| line.trim_start().starts_with(&format!("{key}:"))) {
            writeln!(text, "  {key}: {value}").expect("writing to a String cannot fail");
        }
    }
    text
}

/// Instance `group/index` whose UUID starts with `id`, at 127.0.9.(index + 1), in the zone if one is given.
pub(super) fn identity(group: &str, index: u32, id: &str, az: Option<&str>) -> Identity {
    Identity {
        deployment: "dep".into(),
        group: group.into(),
        id: id.into(),
        index,
        az: az.map(str::to_owned),
        network: "net".into(),
        ip: Ipv4Addr::new(127, 0, 9, u8::try_from(index + 1).expect("tests have few instances")),
        bootstrap: index == 0,
    }
}

/// A job of release `rel`.
#[derive(Default)]
pub(super) struct JobFixture(Job);

pub(super) fn job(name: &str) -> JobFixture {
    JobFixture(Job { name: name.to_owned(), ..Job::default() })
}

impl JobFixture {
    pub(super) fn provides(mut self, name: &str, link_type: &str, properties: &[&str]) -> Self {
        let properties = properties.iter().map(|name| (*name).to_owned()).collect();
        self.0.provides.push(LinkProvided { name: name.into(), link_type: link_type.into(), properties });
        self
    }

    pub(super) fn consumes(mut self, name: &str, link_type: &str, optional: bool) -> Self {
        self.0.consumes.push(LinkConsumed { name: name.into(), link_type: link_type.into(), optional });
        self
    }

    pub(super) fn property(mut self, name: &str, default: Option<serde_json::Value>) -> Self {
        self.0.properties.push(Property { name: name.into(), default });
        self
    }
}

/// Release `rel` with these jobs.
pub(super) fn catalog(jobs: Vec<JobFixture>) -> Catalog {
    let mut release = Release::played("rel", &[]);
    release.jobs = jobs.into_iter().map(|job| (job.0.name.clone(), job.0)).collect();
    let mut catalog = Catalog::default();
    catalog.add(release);
    catalog
}
