//! How long the drain of a member that comes back takes: of a follower, which has nothing to hand over, and of the
//! leader, next to a bare `etcdctl move-leader`.
//!
//! The member is not stopped afterwards: only drain is measured.

use anyhow::{Context, Result, bail};
use etcd_release::local::agent::drain::Cause;

use crate::figure::Figure;
use crate::inside::Inside;
use crate::place::Place;
use crate::samples::Samples;
use crate::support::fleet::Fleet;

/// How often each is taken, alternating.
const ROUNDS: usize = 21;

/// What a round took, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Round {
    following: f64,
    bare_move: f64,
    leading: f64,
}

/// `hand_over_drain_following`, `hand_over_drain_leading` and `bare_move_leader`.
pub fn measure(fleet: &Fleet) -> Result<Vec<Figure>> {
    let places = Place::all(fleet);
    let place = places.last().context("there is no instance")?;
    let rounds = place.inside(|| {
        let inside = Inside::here()?;
        (0..ROUNDS).map(|_| one_round(&inside)).collect::<Result<Vec<_>>>()
    })?;
    let of = |value: fn(&Round) -> f64| Samples::of(rounds.iter().map(value));
    Ok(vec![
        Figure::median("hand_over_drain_following", &of(|round| round.following), "ms").goal(20.0),
        Figure::median("hand_over_drain_leading", &of(|round| round.leading), "ms"),
        Figure::median("bare_move_leader", &of(|round| round.bare_move), "ms"),
    ])
}

fn one_round(inside: &Inside) -> Result<Round> {
    inside.make_lead(false)?;
    let following = inside.drain(&Cause::Stop)?;
    let bare_move = inside.make_lead(true)?.context("a follower did not lead before")?;
    let leading = inside.drain(&Cause::Stop)?;
    if inside.leads()? {
        bail!("the leader's drain did not hand over");
    }
    Ok(Round { following, bare_move, leading })
}
