//! How long the drain of a member that goes for good takes, next to a bare `etcdctl member remove` of the same
//! member.
//!
//! Both take a follower that runs away from a cluster of three. drain holds the mutex, as in life: pre-stop took
//! it, and is not part of the figure, as it is not part of drain.

use std::path::Path;

use anyhow::{Context, Result};
use etcd_release::local::agent::drain::Cause;

use crate::figure::Figure;
use crate::inside::{self, Inside, Launched};
use crate::samples::Samples;
use crate::support::fleet::Fleet;

/// How often each way is taken, alternating.
const ROUNDS: usize = 9;

/// `leave_drain`, `bare_member_remove` and their ratio.
pub fn measure(fleet: &Fleet) -> Result<Vec<Figure>> {
    let rounds = inside::as_new(fleet, ROUNDS, one_round)?;

    Ok(vec![
        Figure::median("bare_member_remove", &Samples::of(rounds.iter().map(|(bare, _)| *bare)), "ms"),
        Figure::median("leave_drain", &Samples::of(rounds.iter().map(|(_, drain)| *drain)), "ms"),
        Figure::median("leave_drain_ratio", &Samples::ratios(&rounds), "ratio").goal(2.1),
    ])
}

/// Bare and by drain, the order changing with each round.
fn one_round(inside: &Inside, logs: &Path, round: usize) -> Result<(f64, f64)> {
    let bare = || {
        removed(inside, logs, || {
            let entry = inside.entry()?.context("this instance is listed")?;
            inside.etcdctl(&["member", "remove", &entry.to_string()])
        })
    };
    let drained = || removed(inside, logs, || inside.drain(&Cause::Obsolete));
    if round.is_multiple_of(2) {
        let bare = bare()?;
        Ok((bare, drained()?))
    } else {
        let drained = drained()?;
        Ok((bare()?, drained))
    }
}

/// A new follower that runs, then is removed; its disk is empty afterwards.
fn removed(inside: &Inside, logs: &Path, remove: impl FnOnce() -> Result<f64>) -> Result<f64> {
    inside.pre_start()?;
    let launcher = Launched::start(logs.join("log"))?;
    launcher.settles()?;
    let took = remove()?;
    let listed = inside.entry()?;
    launcher.stop()?;
    inside.becomes_new()?;
    match listed {
        None => Ok(took),
        Some(member) => anyhow::bail!("{member} is still listed after it was removed"),
    }
}
