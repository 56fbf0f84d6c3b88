//! A real cluster under faults that a seed decides, and clients who know what they were promised: nothing that was
//! acknowledged is lost, no answer is of the past, revisions only grow, and once the faults end the cluster is whole.

#![allow(missing_docs, reason = "test names are sentences")]
#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]
#![allow(clippy::print_stdout, reason = "what happened, and with which seed, is what a person needs")]
#![allow(clippy::disallowed_methods, reason = "fixtures need no durability")]

#[path = "support/dice.rs"]
mod dice;
#[path = "faults/history.rs"]
mod history;
#[path = "faults/judge.rs"]
mod judge;
#[path = "faults/judging.rs"]
mod judging;
#[path = "faults/linear.rs"]
mod linear;
#[path = "faults/nemesis.rs"]
mod nemesis;
#[path = "faults/schedule.rs"]
mod schedule;
mod support;
#[path = "faults/workload.rs"]
mod workload;

use std::env;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use nemesis::Nemesis;
use schedule::schedule;
use support::fleet::{Fleet, all_ready, repository, voters};
use workload::Workload;

/// What happens in one schedule.
const BLOWS: usize = 6;
const SEED: &str = "FAULTS_SEED";

/// One seed after the other, or those that a person asks for.
fn seeds() -> std::ops::RangeInclusive<u64> {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let first = number(SEED).unwrap_or(now * 100);
    first..=first + number("FAULTS_SCHEDULES").unwrap_or(1) - 1
}

/// Carries one schedule out and judges it. `lane` keeps the seeds of tests apart that began in the same second.
fn survives(lane: u64) {
    for seed in seeds() {
        let seed = if env::var_os(SEED).is_some() { seed } else { seed + lane };
        println!("{SEED}={seed}");
        survives_seed(seed);
    }
}

fn survives_seed(seed: u64) {
    let blows = schedule(seed, 3, BLOWS);
    let mut fleet = Fleet::new(&["bootstrap.yml"]).in_namespaces().with_monit_cycle("1").deployed();
    let before = fleet.eventually("three voters", |seen| voters(seen) == 3 && all_ready(seen));
    let workload = Workload::begin(&fleet, seed);
    let mut nemesis = Nemesis::of(&mut fleet, seed);
    nemesis.carry_out(&blows);
    let after = nemesis.whole();
    drop(nemesis);
    let history = workload.end();
    let hashes = nemesis::hashes(&fleet, history.last_revision);
    let judged = judge::judge(&history);

    let kept = || {
        let path = repository().join(format!("target/faults-{seed}.txt"));
        let told: Vec<String> = blows.iter().map(ToString::to_string).collect();
        let text = format!("{}\n\n{history:#?}\n\n{}", told.join("\n"), fleet.log_tails());
        fs::write(&path, text).expect("keep what happened");
        format!(
            "everything is in {}; once more: {SEED}={seed} ci/test cluster a_schedule_of_faults",
            path.display()
        )
    };
    assert_eq!(before["cluster_id"], after["cluster_id"], "seed {seed}: {}", kept());
    let equal = hashes.values().all(|hash| Some(hash) == hashes.values().next());
    assert!(
        equal,
        "seed {seed}: members differ at revision {}: {hashes:?}; {}",
        history.last_revision,
        kept()
    );
    match judged {
        Ok(summary) => {
            println!("seed {seed}: {summary}");
            // A run in which nothing happened proves nothing.
            let enough =
                summary.writes >= 50 && summary.reads >= 20 && summary.events >= 50 && summary.leases > 0;
            assert!(enough, "seed {seed}: {summary}; {}", kept());
        }
        Err(why) => panic!("seed {seed}: {why}; {}", kept()),
    }
}

#[test]
fn the_first_schedule_of_faults_breaks_no_promise() {
    survives(0);
}

#[test]
fn a_second_schedule_of_faults_breaks_no_promise() {
    survives(1);
}

#[test]
fn a_third_schedule_of_faults_breaks_no_promise() {
    survives(2);
}

#[test]
fn a_fourth_schedule_of_faults_breaks_no_promise() {
    survives(3);
}

#[test]
fn a_fifth_schedule_of_faults_breaks_no_promise() {
    survives(4);
}
