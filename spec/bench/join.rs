//! How long a new instance takes to be listed, next to a bare `etcdctl member add --learner` of the same
//! instance, to vote and to serve.
//!
//! The same instance joins again and again; before each time its entry is removed and its disk emptied. etcdctl
//! runs where the launcher does, with the job's certificates and the other members as endpoints.

use std::path::Path;

use anyhow::Result;

use crate::figure::Figure;
use crate::inside::{self, Inside, Launched};
use crate::samples::Samples;
use crate::support::fleet::Fleet;

/// How often each way is taken, alternating.
const ROUNDS: usize = 11;

/// Milliseconds since just before the fork of the launcher.
#[derive(Debug, Clone, Copy)]
struct Joined {
    /// It has the mutex, was reached by the others, and has written down that it is about to be added.
    intended: f64,
    /// `member add` is answered, and the answer written down.
    added: f64,
    /// It was promoted.
    votes: f64,
    /// It answered a linearizable read: post-start waits for this.
    serves: f64,
}

/// `join_exec_to_added`, `bare_member_add` and their ratio; where the time went;
/// `join_exec_to_vote` and `join_exec_to_serve`.
pub fn measure(fleet: &Fleet) -> Result<Vec<Figure>> {
    let rounds = inside::as_new(fleet, ROUNDS, one_round)?;

    let of = |value: fn(&Joined) -> f64| Samples::of(rounds.iter().map(|(_, joined)| value(joined)));
    let added: Vec<(f64, f64)> = rounds.iter().map(|(bare, joined)| (*bare, joined.added)).collect();
    Ok(vec![
        Figure::median("bare_member_add", &Samples::of(rounds.iter().map(|(bare, _)| *bare)), "ms"),
        Figure::median("join_exec_to_intended", &of(|joined| joined.intended), "ms"),
        Figure::median("join_exec_to_added", &of(|joined| joined.added), "ms"),
        Figure::median("join_exec_to_added_ratio", &Samples::ratios(&added), "ratio").goal(1.2),
        Figure::median("join_exec_to_vote", &of(|joined| joined.votes), "ms"),
        Figure::median("join_exec_to_serve", &of(|joined| joined.serves), "ms"),
    ])
}

/// Bare and launched, the order changing with each round; each leaves the instance as new.
fn one_round(inside: &Inside, logs: &Path, round: usize) -> Result<(f64, Joined)> {
    if round.is_multiple_of(2) {
        let bare = bare(inside)?;
        Ok((bare, launched(inside, logs)?))
    } else {
        let launched = launched(inside, logs)?;
        Ok((bare(inside)?, launched))
    }
}

fn bare(inside: &Inside) -> Result<f64> {
    let took = inside.add_learner()?;
    inside.becomes_new()?;
    Ok(took)
}

fn launched(inside: &Inside, logs: &Path) -> Result<Joined> {
    inside.pre_start()?;
    let launcher = Launched::start(logs.join("log"))?;
    let joined = Joined {
        intended: launcher.until("join", &[("phase", "intended")])?,
        added: launcher.until("join", &[("phase", "added")])?,
        votes: launcher.until("this member votes", &[])?,
        serves: launcher.serves()?,
    };
    launcher.stop()?;
    inside.becomes_new()?;
    Ok(joined)
}
