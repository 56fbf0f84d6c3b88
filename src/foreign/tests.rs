//! What real programs have written, a few bytes changed.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::datadir::fuzz::tests::{below, changed, changes};

/// The kept inputs of a target.
fn kept(target: &str) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files = Vec::new();
    below(&root, &mut files);
    assert!(!files.is_empty(), "fuzz/corpus/{target} is empty");
    files.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn of_the_repository(names: &[&str]) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    names.iter().map(|name| fs::read(root.join(name)).unwrap()).collect()
}

/// Calls a target with each of these as it is, and then with many that are a little different.
fn fuzz(seeds: &[Vec<u8>], target: fn(&[u8])) {
    for seed in seeds {
        target(seed);
    }
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(10_000));
    let run = runner.run(&changes(), |what| {
        target(&changed(seeds, &what));
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn next_states() {
    fuzz(&kept("next_state"), next_state);
}

#[test]
fn job_configurations() {
    let seeds = [kept("job_config"), vec![crate::job::config::tests::job_json().to_string().into_bytes()]];
    assert!(seeds.iter().flatten().all(|seed| JobConfig::of(seed).is_ok()), "what is kept is understood");
    fuzz(&seeds.concat(), job_config);
}

#[test]
fn states_of_launchers() {
    let seeds = kept("launcher_state");
    assert!(seeds.iter().all(|seed| serde_json::from_slice::<PeerState>(seed).is_ok()));
    fuzz(&seeds, launcher_state);
}

#[test]
fn records_of_disks() {
    fuzz(&kept("records"), records);
}

#[test]
fn manifests_of_stores() {
    fuzz(&kept("manifests"), manifests);
}

#[test]
fn pages_of_metrics() {
    let seeds = kept("metrics");
    let read = |seed: &Vec<u8>| {
        active_peers::page(&Answer { status: 200, cluster_id: None, body: seed.clone() }).is_ok()
    };
    assert!(seeds.iter().all(read), "what is kept is understood");
    fuzz(&seeds, metrics);
}

#[test]
fn files_of_certificates() {
    let seeds = kept("certificates");
    assert!(seeds.iter().all(|seed| certificates_in(seed).is_ok()), "what is kept is understood");
    fuzz(&seeds, certificates);
}

#[test]
fn manifests_of_deployments() {
    let names =
        ["deployment/etcd.yml", "deployment/create-env.yml", "jobs/etcd/monit", "jobs/etcd-backup/monit"];
    fuzz(&[of_the_repository(&names), kept("deployments")].concat(), deployments);
}
