//! What clients notice of a rolling restart, next to the same without handing leadership over.
//!
//! The other way is what a release does whose launcher passes no signal on: each etcd ends by SIGKILL, one
//! after the other, and the next only once all serve again.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};

use crate::figure::Figure;
use crate::place::Place;
use crate::samples::Samples;
use crate::support::fleet::{Fleet, all_ready, voters};
use crate::support::load::{Load, Report, assert_nothing_lost};

/// How often each way is taken, alternating.
const ROUNDS: usize = 3;
/// For how long the same load runs while nothing happens.
const AT_REST: Duration = Duration::from_secs(10);

/// Failed writes and the longest time between two acknowledged ones, for both ways and at rest.
pub fn measure(fleet: &Fleet) -> Result<Vec<Figure>> {
    let (mut rest, mut handed_over, mut killed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        rest.push(under_load(fleet, || {
            #[expect(
                clippy::disallowed_methods,
                reason = "the span is what is measured; nothing is waited for"
            )]
            std::thread::sleep(AT_REST);
            Ok(())
        })?);
        handed_over.push(under_load(fleet, || {
            fleet.cli(&["restart"]).succeeded();
            Ok(())
        })?);
        all_serve(fleet);
        killed.push(under_load(fleet, || kill_each(fleet))?);
        all_serve(fleet);
    }
    Ok(vec![
        failed("rolling_restart_failed_writes", &handed_over).goal(0.0),
        longest("rolling_restart_longest_gap", &handed_over).goal(60.0),
        failed("without_hand_over_failed_writes", &killed),
        longest("without_hand_over_longest_gap", &killed),
        longest("at_rest_longest_gap", &rest),
    ])
}

fn under_load(fleet: &Fleet, happens: impl FnOnce() -> Result<()>) -> Result<Report> {
    let load = Load::start(fleet);
    happens()?;
    let report = load.finish();
    assert_nothing_lost(fleet, &report);
    Ok(report)
}

fn kill_each(fleet: &Fleet) -> Result<()> {
    for place in Place::all(fleet) {
        let container = place.container()?;
        kill(container, Signal::SIGKILL).with_context(|| format!("kill the container of {}", place.slug))?;
        let restarted = || place.container().is_ok_and(|now| now != container);
        fleet.eventually("three voters, all ready, one of them restarted", |seen| {
            restarted() && voters(seen) == 3 && all_ready(seen)
        });
    }
    Ok(())
}

fn all_serve(fleet: &Fleet) {
    fleet.eventually("three voters, all ready", |seen| voters(seen) == 3 && all_ready(seen));
}

/// The sum of all rounds: a median would hide one that failed.
fn failed(name: &str, reports: &[Report]) -> Figure {
    let sum: usize = reports.iter().map(|report| report.failed_writes).sum();
    Figure::exact(name, f64::from(u32::try_from(sum).unwrap_or(u32::MAX)), "writes")
}

fn longest(name: &str, reports: &[Report]) -> Figure {
    let gaps = reports.iter().map(|report| report.longest_gap.as_secs_f64() * 1e3);
    Figure::median(name, &Samples::of(gaps), "ms")
}
