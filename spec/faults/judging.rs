//! The judge finds each kind of broken promise, made by hand, and has nothing against what keeps them all.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::dice::Dice;
use crate::history::{Call, Event, History, Lease, Operation, Outcome};
use crate::judge::judge;

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// A register as etcd is one: each call takes effect at some moment between its beginning and its end.
fn history(seed: u64, calls: u64) -> History {
    let mut dice = Dice(seed);
    let mut history = History { first_revision: 1, ..History::default() };
    let mut holds: BTreeMap<String, u64> = BTreeMap::new();
    let (mut revision, mut events, mut now) = (1, Vec::new(), 10);
    for number in 1..=calls {
        now += 1 + dice.below(3);
        let key = format!("key/{}", dice.below(2));
        let before = holds.get(&key).copied();
        let call = match (dice.below(3), before) {
            (0, _) => Call::Read,
            (1, Some(value)) => {
                Call::Swap { from: if dice.below(4) == 0 { value + 1_000 } else { value }, to: number }
            }
            _ => Call::Write(number),
        };
        let is_done = match call {
            Call::Read => false,
            Call::Write(_) => true,
            Call::Swap { from, .. } => before == Some(from),
        };
        // What is not told may have been done or not.
        let is_told = dice.below(10) != 0;
        let is_done = is_done && (is_told || dice.below(2) == 0);
        if is_done {
            revision += 1;
            holds.insert(key.clone(), number);
            let changes = [(key.clone(), Some(number.to_string()))].into();
            events.push(Event { revision, changes, heard: ms(now) });
        }
        let outcome = match (is_told, is_done) {
            (false, _) => Outcome::Unknown,
            (true, true) => Outcome::Written { revision },
            (true, false) => Outcome::Found { value: before, revision },
        };
        // It took effect now; it began a while ago and is told later, so that calls overlap.
        let (began, ended) = (ms(now - 1 - dice.below(8)), ms(now + 1 + dice.below(8)));
        let client = usize::try_from(number % 4).unwrap();
        history.operations.push(Operation { client, member: "a".into(), key, call, began, ended, outcome });
    }
    history.last = holds.into_iter().map(|(key, value)| (key, value.to_string())).collect();
    history.last_revision = revision;
    history.watched = ["a", "b", "c"].map(|member| (member.to_owned(), events.clone())).into();
    history
}

#[test]
fn what_keeps_all_promises_is_accepted() {
    for seed in 0..300 {
        let history = history(seed, 200);
        judge(&history).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}

#[test]
fn twenty_thousand_calls_are_judged_before_anybody_gets_up() {
    judge(&history(1, 20_000)).unwrap();
}

/// One key that was written twice, and read.
fn simple() -> History {
    let operation = |call, began, outcome| Operation {
        client: 0,
        member: "a".into(),
        key: "key/0".into(),
        call,
        began: ms(began),
        ended: ms(began + 5),
        outcome,
    };
    let event = |revision, value: u64, heard| Event {
        revision,
        changes: [("key/0".to_owned(), Some(value.to_string()))].into(),
        heard: ms(heard),
    };
    let events = vec![event(2, 1, 13), event(3, 2, 23)];
    History {
        operations: vec![
            operation(Call::Write(1), 10, Outcome::Written { revision: 2 }),
            operation(Call::Write(2), 20, Outcome::Written { revision: 3 }),
            operation(Call::Read, 30, Outcome::Found { value: Some(2), revision: 3 }),
        ],
        watched: [("a".to_owned(), events.clone()), ("b".to_owned(), events)].into(),
        leases: Vec::new(),
        first_revision: 1,
        last: [("key/0".to_owned(), "2".to_owned())].into(),
        last_revision: 3,
    }
}

type Breaking<'a> = &'a dyn Fn(&mut History);

#[test]
fn each_broken_promise_is_found() {
    let gone = |revision, heard| Event {
        revision,
        changes: [("lease/7".to_owned(), None)].into(),
        heard: ms(heard),
    };
    let held = Lease { key: "lease/7".into(), ttl: ms(5_000), renewed: ms(1_000) };
    let events = |history: &mut History, change: &dyn Fn(&mut Vec<Event>)| {
        history.watched.values_mut().for_each(change);
    };
    let breaks: [(&str, Breaking<'_>, &str); 14] = [
        ("nothing", &|_| (), ""),
        (
            "an acknowledged write is lost",
            &|history| {
                history.operations[1].outcome = Outcome::Written { revision: 2 };
            },
            "an acknowledged write is lost",
        ),
        (
            "a read of the past",
            &|history| history.operations[2].outcome = Outcome::Found { value: Some(1), revision: 2 },
            "a stale answer",
        ),
        (
            "a read of the past that calls itself new",
            &|history| history.operations[2].outcome = Outcome::Found { value: Some(1), revision: 3 },
            "it held",
        ),
        (
            "a watch misses a revision",
            &|history| _ = history.watched.get_mut("b").unwrap().remove(0),
            "was due",
        ),
        (
            "a watch tells a revision twice",
            &|history| events(history, &|events| events.insert(0, events[0].clone())),
            "was due",
        ),
        ("a watch ends early", &|history| _ = history.watched.get_mut("b").unwrap().pop(), "ends before"),
        (
            "two watches differ",
            &|history| {
                let changes = &mut history.watched.get_mut("b").unwrap()[0].changes;
                changes.insert("key/0".into(), Some("9".into()));
            },
            "for another",
        ),
        (
            "a value that nobody wrote",
            &|history| {
                events(history, &|events| _ = events[0].changes.insert("key/1".into(), Some("9".into())));
            },
            "nobody wrote",
        ),
        (
            "a swap that was refused and done",
            &|history| {
                let refused = Outcome::Found { value: Some(1), revision: 2 };
                history.operations[1].call = Call::Swap { from: 7, to: 2 };
                history.operations[1].outcome = refused;
            },
            "was told that it was not",
        ),
        (
            "a write seen before it was asked for",
            &|history| events(history, &|events| events[1].heard = ms(3)),
            "before it was written",
        ),
        (
            "a lease that ended early",
            &|history| {
                history.leases = vec![held.clone()];
                history.last_revision = 4;
                events(history, &|events| events.push(gone(4, 5_999)));
            },
            "had been renewed",
        ),
        (
            "a lease that never ends",
            &|history| {
                history.leases = vec![held.clone()];
                history.last.insert("lease/7".into(), "held".into());
            },
            "nobody renews",
        ),
        ("an end that differs", &|history| _ = history.last.insert("key/0".into(), "1".into()), "in the end"),
    ];
    for (what, broken, words) in breaks {
        let mut history = simple();
        broken(&mut history);
        match judge(&history) {
            Ok(_) => assert_eq!(words, "", "{what} is not found"),
            Err(why) => assert!(!words.is_empty() && why.contains(words), "{what}: {why}"),
        }
    }
}

/// Without the revisions, by the order of calls alone.
#[test]
fn the_search_for_an_order_needs_no_revision() {
    let call = |call, began, ended, outcome| Operation {
        client: 0,
        member: "a".into(),
        key: "key/0".into(),
        call,
        began: ms(began),
        ended: ms(ended),
        outcome,
    };
    let found = |value| Outcome::Found { value, revision: 0 };
    let written = Outcome::Written { revision: 0 };
    let cases: [(&str, Vec<Operation>, bool); 9] = [
        (
            "a read during a write sees it or not, and then stays with it",
            vec![
                call(Call::Write(1), 0, 10, written),
                call(Call::Read, 1, 2, found(None)),
                call(Call::Read, 3, 4, found(Some(1))),
            ],
            true,
        ),
        (
            "what was seen once is not unseen",
            vec![
                call(Call::Write(1), 0, 10, written),
                call(Call::Read, 1, 2, found(Some(1))),
                call(Call::Read, 3, 4, found(None)),
            ],
            false,
        ),
        (
            "a stale read",
            vec![
                call(Call::Write(1), 0, 1, written),
                call(Call::Write(2), 2, 3, written),
                call(Call::Read, 4, 5, found(Some(1))),
            ],
            false,
        ),
        (
            "a write nobody was told of may come late",
            vec![
                call(Call::Write(1), 0, 1, written),
                call(Call::Write(2), 2, 3, Outcome::Unknown),
                call(Call::Read, 4, 5, found(Some(1))),
                call(Call::Read, 6, 7, found(Some(2))),
            ],
            true,
        ),
        (
            "and not before it was asked for",
            vec![call(Call::Read, 0, 1, found(Some(2))), call(Call::Write(2), 2, 3, Outcome::Unknown)],
            false,
        ),
        (
            "nor twice",
            vec![
                call(Call::Write(2), 0, 1, Outcome::Unknown),
                call(Call::Read, 2, 3, found(Some(2))),
                call(Call::Write(3), 4, 5, written),
                call(Call::Read, 6, 7, found(Some(2))),
            ],
            false,
        ),
        (
            "one of two swaps of the same wins",
            vec![
                call(Call::Write(1), 0, 1, written),
                call(Call::Swap { from: 1, to: 2 }, 2, 5, written),
                call(Call::Swap { from: 1, to: 3 }, 2, 5, written),
            ],
            false,
        ),
        (
            "the other is told what it found",
            vec![
                call(Call::Write(1), 0, 1, written),
                call(Call::Swap { from: 1, to: 2 }, 2, 5, written),
                call(Call::Swap { from: 1, to: 3 }, 2, 5, found(Some(2))),
            ],
            true,
        ),
        (
            "an unknown swap that was seen has replaced what was seen before",
            vec![
                call(Call::Write(1), 0, 1, Outcome::Unknown),
                call(Call::Swap { from: 1, to: 2 }, 2, 3, Outcome::Unknown),
                call(Call::Read, 4, 5, found(Some(2))),
                call(Call::Read, 6, 7, found(Some(1))),
            ],
            false,
        ),
    ];
    for (what, operations, fits) in cases {
        let all: Vec<&Operation> = operations.iter().collect();
        assert_eq!(crate::linear::judge(&all).is_ok(), fits, "{what}");
    }
}
