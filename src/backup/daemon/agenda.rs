//! What the active instance does next. Pure: what was seen and a clock in, one thing to do out.

use jiff::Timestamp;

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Observation {
    /// Our clock.
    pub(super) now: Timestamp,
    /// When the set behind the newest one is due; `None` = there is no set of this cluster that can be restored.
    pub(super) due: Option<Timestamp>,
    /// Deltas cannot continue the newest set.
    pub(super) needs_full: bool,
    /// A full snapshot has failed, and is not tried before.
    pub(super) full_not_before: Option<Timestamp>,
    /// Retention has been applied since the newest set.
    pub(super) pruned: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// A new set.
    Full(Because),
    /// Remove what retention does not keep.
    Prune,
    /// Deltas of the newest set.
    Follow {
        /// Until then.
        until: Timestamp,
    },
    /// Nothing.
    Wait {
        /// Until then.
        until: Timestamp,
    },
}

/// Why a new set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Because {
    /// There is none of this cluster.
    First,
    /// Deltas cannot go on.
    Broken,
    /// It is time.
    Due,
}

impl Because {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::First => "there is no set of this cluster",
            Self::Broken => "deltas cannot go on",
            Self::Due => "it is due",
        }
    }
}

/// Decides.
pub(super) fn next(seen: &Observation) -> Next {
    let because = match seen.due {
        None => Some(Because::First),
        Some(_) if seen.needs_full => Some(Because::Broken),
        Some(due) => (due <= seen.now).then_some(Because::Due),
    };
    let later = seen.full_not_before.filter(|then| *then > seen.now);
    match (because, later, seen.due) {
        (Some(because), None, _) => Next::Full(because),
        // The old set is followed for as long as there is no new one.
        (Some(Because::Due), Some(later), _) => Next::Follow { until: later },
        (Some(Because::First | Because::Broken), Some(until), _) => Next::Wait { until },
        (None, _, _) if !seen.pruned => Next::Prune,
        (None, _, Some(due)) => Next::Follow { until: due },
        (None, _, None) => Next::Wait { until: seen.now },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000 + second).unwrap()
    }

    #[test]
    fn the_agenda() {
        use Because::{Broken, Due, First};
        use Next::{Follow, Full, Prune, Wait};
        let (due, later) = (at(60), at(30));
        //   row  due        needs full  failed, not before  pruned   next
        for (row, due, needs_full, full_not_before, pruned, wanted) in [
            (1, None, false, None, true, Full(First)),
            (2, None, true, None, false, Full(First)),
            (3, None, false, Some(later), true, Wait { until: later }),
            (4, None, false, Some(at(0)), true, Full(First)),
            (5, Some(due), false, None, true, Follow { until: due }),
            (6, Some(due), false, None, false, Prune),
            (7, Some(due), true, None, false, Full(Broken)),
            (8, Some(due), true, Some(later), false, Wait { until: later }),
            (9, Some(at(0)), false, None, false, Full(Due)),
            (10, Some(at(-9)), false, Some(later), true, Follow { until: later }),
            (11, Some(due), false, Some(later), true, Follow { until: due }),
        ] {
            let seen = Observation { now: at(0), due, needs_full, full_not_before, pruned };
            assert_eq!(next(&seen), wanted, "row {row}");
        }
    }

    /// Whatever was seen, something is done or waited for, and nothing in the past.
    #[test]
    fn each_combination_has_an_answer_that_moves_on() {
        let times = [None, Some(at(-5)), Some(at(0)), Some(at(5))];
        for (due, full_not_before) in times.iter().flat_map(|due| times.map(|later| (*due, later))) {
            for (needs_full, pruned) in [(false, false), (false, true), (true, false), (true, true)] {
                let seen = Observation { now: at(0), due, needs_full, full_not_before, pruned };
                match next(&seen) {
                    Next::Follow { until } | Next::Wait { until } => assert!(until > at(0), "{seen:?}"),
                    Next::Full(_) | Next::Prune => {}
                }
            }
        }
    }
}
