//! What clients notice of a rolling restart, next to the same without handing leadership over.
//!
//! The other way is what a release does whose launcher passes no signal on: each etcd ends by SIGKILL, one
//! after the other, and the next only once all serve again.

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};

use crate::figure::Figure;
use crate::place::Place;
use crate::support::fleet::{Fleet, all_ready, voters};
use crate::writer::{at_rest, failed, longest, under_load};

/// How often each way is taken, alternating.
const ROUNDS: usize = 3;

/// Failed writes and the longest time between two acknowledged ones, for both ways and at rest.
pub fn measure(fleet: &Fleet) -> Result<Vec<Figure>> {
    let (mut rest, mut handed_over, mut killed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        rest.push(at_rest(fleet)?);
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
