//! Whether what clients were told of one key fits into one order in which every call takes effect at some moment between
//! its beginning and its end: the search of Wing and Gong, with the memory of Lowe.
//!
//! Why not a crate: what there is (stateright's tester) brings a model checker and knows no call whose outcome is
//! unknown. Since no number is written twice, such a call is easy here: if nobody has seen its number, leaving it out
//! changes nothing for anybody; if somebody has, it had taken effect by the end of whoever saw it first.

use std::collections::HashSet;
use std::time::Duration;

use crate::history::{Call, Operation, Outcome};

/// A call as far as order counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    began: Duration,
    ended: Duration,
    effect: Effect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// The key holds this.
    Holds(Option<u64>),
    Becomes(u64),
    Turns {
        from: u64,
        to: u64,
    },
    /// It holds something else.
    HoldsNot(u64, Option<u64>),
}

impl Effect {
    /// Whether this can happen now.
    fn fits(self, holds: Option<u64>) -> bool {
        match self {
            Self::Holds(value) => holds == value,
            Self::Becomes(_) => true,
            Self::Turns { from, .. } => holds == Some(from),
            Self::HoldsNot(from, value) => holds == value && value != Some(from),
        }
    }

    /// What the key holds afterwards.
    fn leaves(self, holds: Option<u64>) -> Option<u64> {
        match self {
            Self::Holds(_) | Self::HoldsNot(..) => holds,
            Self::Becomes(to) | Self::Turns { to, .. } => Some(to),
        }
    }
}

/// The calls that count, in the order in which they began.
fn steps(operations: &[&Operation]) -> Vec<Step> {
    // Who has seen a number, and by when.
    let mut seen: std::collections::HashMap<u64, Duration> = std::collections::HashMap::new();
    let mut see = |value: u64, by: Duration| {
        let first = seen.entry(value).or_insert(by);
        let earlier = by < *first;
        *first = by.min(*first);
        earlier
    };
    for operation in operations {
        match (operation.call, operation.outcome) {
            (_, Outcome::Found { value: Some(value), .. }) => see(value, operation.ended),
            (Call::Swap { from, .. }, Outcome::Written { .. }) => see(from, operation.ended),
            _ => false,
        };
    }
    // An unknown swap that somebody has seen has itself seen what it replaced.
    let unknown: Vec<(u64, u64)> = operations
        .iter()
        .filter(|operation| operation.outcome == Outcome::Unknown)
        .filter_map(|operation| match operation.call {
            Call::Swap { from, to } => Some((from, to)),
            Call::Read | Call::Write(_) => None,
        })
        .collect();
    loop {
        let mut changed = false;
        for (from, to) in &unknown {
            if let Some(by) = seen.get(to).copied() {
                let known = seen.get(from).copied();
                if known.is_none_or(|known| by < known) {
                    seen.insert(*from, by);
                    changed = true;
                }
            }
        }
        if !changed {
            break;
        }
    }
    let mut steps: Vec<Step> = operations
        .iter()
        .filter_map(|operation| {
            let (effect, ended) = match (operation.call, operation.outcome) {
                (Call::Read, Outcome::Found { value, .. }) => (Effect::Holds(value), operation.ended),
                (Call::Swap { from, .. }, Outcome::Found { value, .. }) => {
                    (Effect::HoldsNot(from, value), operation.ended)
                }
                (Call::Write(to), Outcome::Written { .. }) => (Effect::Becomes(to), operation.ended),
                (Call::Swap { from, to }, Outcome::Written { .. }) => {
                    (Effect::Turns { from, to }, operation.ended)
                }
                (Call::Write(to), Outcome::Unknown) => (Effect::Becomes(to), *seen.get(&to)?),
                (Call::Swap { from, to }, Outcome::Unknown) => (Effect::Turns { from, to }, *seen.get(&to)?),
                (Call::Read, _) | (Call::Write(_), Outcome::Found { .. }) => return None,
            };
            // Seen before it was asked for: no order has room for it, and the search says so.
            Some(Step { began: operation.began, ended: ended.max(operation.began), effect })
        })
        .collect();
    steps.sort_by_key(|step| (step.began, step.ended));
    steps
}

/// What was taken so far: everything before `low`, and these behind it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Taken {
    low: usize,
    behind: Vec<usize>,
    holds: Option<u64>,
}

impl Taken {
    fn has(&self, index: usize) -> bool {
        index < self.low || self.behind.binary_search(&index).is_ok()
    }

    fn with(&self, index: usize, holds: Option<u64>) -> Self {
        let mut behind = self.behind.clone();
        if let Err(place) = behind.binary_search(&index) {
            behind.insert(place, index);
        }
        let mut low = self.low;
        while behind.first() == Some(&low) {
            behind.remove(0);
            low += 1;
        }
        Self { low, behind, holds }
    }

    /// Which may come next: those that had begun before any that is left ended.
    fn next(&self, steps: &[Step]) -> Vec<usize> {
        let mut first_end = Duration::MAX;
        let mut next = Vec::new();
        for (index, step) in steps.iter().enumerate().skip(self.low) {
            if step.began > first_end {
                break;
            }
            if !self.has(index) {
                first_end = first_end.min(step.ended);
                next.push(index);
            }
        }
        next.retain(|index| steps[*index].began <= first_end);
        next
    }
}

/// Whether there is such an order, for a key that holds nothing at first. Otherwise what could not be fitted in: the call
/// that no order came behind.
pub(crate) fn judge(operations: &[&Operation]) -> Result<(), String> {
    let steps = steps(operations);
    let mut known: HashSet<Taken> = HashSet::new();
    let first = Taken { low: 0, behind: Vec::new(), holds: None };
    let mut furthest = 0;
    let mut left = vec![first];
    while let Some(taken) = left.pop() {
        furthest = furthest.max(taken.low);
        if taken.low == steps.len() {
            return Ok(());
        }
        // The first to begin is tried first.
        for index in taken.next(&steps).into_iter().rev() {
            let effect = steps[index].effect;
            if effect.fits(taken.holds) {
                let more = taken.with(index, effect.leaves(taken.holds));
                if known.insert(more.clone()) {
                    left.push(more);
                }
            }
        }
    }
    let stuck = steps[furthest];
    Err(format!(
        "no order of the calls explains {:?}, asked at {:?} and told at {:?}",
        stuck.effect, stuck.began, stuck.ended
    ))
}
