//! Whether a cluster kept what it had promised.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::history::{Call, Event, History, Operation, Outcome};
use crate::linear;

/// How much was judged: a run in which nothing happened proves nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) writes: usize,
    pub(crate) reads: usize,
    pub(crate) swaps: usize,
    pub(crate) unknown: usize,
    pub(crate) events: usize,
    pub(crate) leases: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} writes, {} swaps and {} reads answered, {} calls without an answer, {} revisions watched, {} leases",
            self.writes, self.swaps, self.reads, self.unknown, self.events, self.leases
        )
    }
}

/// What it broke, in a sentence.
pub(crate) fn judge(history: &History) -> Result<Summary, String> {
    let log = watches_agree(history)?;
    writes_are_in_the_log(history, &log)?;
    answers_are_of_their_time(history, &log)?;
    every_key_is_linearizable(history)?;
    leases_end_in_time(history, &log)?;
    the_end_is_what_was_watched(history, &log)?;
    let count = |is: fn(&Operation) -> bool| history.operations.iter().filter(|one| is(one)).count();
    Ok(Summary {
        writes: count(|one| matches!((one.call, one.outcome), (Call::Write(_), Outcome::Written { .. }))),
        reads: count(|one| matches!((one.call, one.outcome), (Call::Read, Outcome::Found { .. }))),
        swaps: count(|one| matches!((one.call, one.outcome), (Call::Swap { .. }, Outcome::Written { .. }))),
        unknown: count(|one| one.outcome == Outcome::Unknown),
        events: log.len(),
        leases: history.leases.len(),
    })
}

type Log<'a> = BTreeMap<i64, &'a Event>;

/// Every watch has every revision once and in its order, and all tell the same of it.
fn watches_agree(history: &History) -> Result<Log<'_>, String> {
    let mut log = Log::new();
    for (member, events) in &history.watched {
        let mut expected = history.first_revision + 1;
        for event in events {
            if event.revision != expected {
                return Err(format!(
                    "the watch at {member} told revision {} where {expected} was due",
                    event.revision
                ));
            }
            expected += 1;
            let known = *log.entry(event.revision).or_insert(event);
            if known.changes != event.changes {
                return Err(format!(
                    "revision {} is {:?} for the watch at {member}, and {:?} for another",
                    event.revision, event.changes, known.changes
                ));
            }
        }
        if expected != history.last_revision + 1 {
            return Err(format!(
                "the watch at {member} ends before revision {expected}, the cluster is at {}",
                history.last_revision
            ));
        }
    }
    Ok(log)
}

/// What was acknowledged is in the log, at its revision and nowhere else; and nothing is there that nobody asked for.
fn writes_are_in_the_log(history: &History, log: &Log<'_>) -> Result<(), String> {
    let mut asked: BTreeMap<(&str, u64), &Operation> = BTreeMap::new();
    for operation in &history.operations {
        let Some(value) = operation.call.written() else { continue };
        asked.insert((&operation.key, value), operation);
        let Outcome::Written { revision } = operation.outcome else { continue };
        let there = log.get(&revision).and_then(|event| event.changes.get(&operation.key)).cloned().flatten();
        if there != Some(value.to_string()) {
            return Err(format!(
                "{} = {value} was acknowledged by {} as revision {revision}, where the log has {there:?}: an acknowledged write is lost",
                operation.key, operation.member
            ));
        }
    }
    let mut seen = BTreeSet::new();
    for event in log.values() {
        for (key, value) in &event.changes {
            let Some(value) = value.as_ref().filter(|_| key.starts_with("key/")) else { continue };
            let number = value.parse::<u64>().map_err(|_| format!("{key} = {value}: nobody wrote that"))?;
            let by = asked
                .get(&(key.as_str(), number))
                .ok_or_else(|| format!("{key} = {value}: nobody wrote that"))?;
            if matches!(by.outcome, Outcome::Found { .. }) {
                return Err(format!("{key} = {value} was written, and its client was told that it was not"));
            }
            if event.heard < by.began {
                return Err(format!("{key} = {value} was seen before it was written"));
            }
            if !seen.insert((key, number)) {
                return Err(format!("{key} = {value} was written twice"));
            }
        }
    }
    Ok(())
}

/// A call that began after another had ended knows at least as much; and what was read is what the key held then.
fn answers_are_of_their_time(history: &History, log: &Log<'_>) -> Result<(), String> {
    let mut ended: Vec<&Operation> =
        history.operations.iter().filter(|one| one.revision().is_some()).collect();
    let mut began = ended.clone();
    ended.sort_by_key(|one| one.ended);
    began.sort_by_key(|one| one.began);
    let mut told = ended.into_iter().peekable();
    let mut newest: Option<&Operation> = None;
    for operation in began {
        while let Some(before) = told.next_if(|before| before.ended < operation.began) {
            if newest.is_none_or(|newest| newest.revision() < before.revision()) {
                newest = Some(before);
            }
        }
        let revision = operation.revision().unwrap_or_default();
        let writes = matches!(operation.outcome, Outcome::Written { .. });
        if let Some(newest) = newest
            && (revision < newest.revision().unwrap_or_default()
                || writes && Some(revision) == newest.revision())
        {
            return Err(format!(
                "{} answered {:?} of {} at revision {revision}, when {} had told revision {} before that was asked: a stale answer",
                operation.member,
                operation.call,
                operation.key,
                newest.member,
                newest.revision().unwrap_or_default()
            ));
        }
    }
    // Key by key, along the log.
    let mut held: BTreeMap<&str, Vec<(i64, Option<&str>)>> = BTreeMap::new();
    for (revision, event) in log {
        for (key, value) in &event.changes {
            held.entry(key).or_default().push((*revision, value.as_deref()));
        }
    }
    for operation in &history.operations {
        let Outcome::Found { value, revision } = operation.outcome else { continue };
        let changes = held.get(operation.key.as_str()).map_or(&[][..], Vec::as_slice);
        let at = changes.partition_point(|(changed, _)| *changed <= revision);
        let holds = at.checked_sub(1).and_then(|at| changes[at].1);
        if holds.map(str::to_owned) != value.map(|value| value.to_string()) {
            return Err(format!(
                "{} answered that {} holds {value:?} at revision {revision}; it held {holds:?}",
                operation.member, operation.key
            ));
        }
    }
    Ok(())
}

fn every_key_is_linearizable(history: &History) -> Result<(), String> {
    let mut keys: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in &history.operations {
        keys.entry(&operation.key).or_default().push(operation);
    }
    keys.iter()
        .try_for_each(|(key, operations)| linear::judge(operations).map_err(|why| format!("{key}: {why}")))
}

/// No key goes before its lease may have ended, and none stays once nobody renews it.
fn leases_end_in_time(history: &History, log: &Log<'_>) -> Result<(), String> {
    for lease in &history.leases {
        let gone = log.values().find(|event| event.changes.get(&lease.key) == Some(&None));
        match gone {
            Some(event) if event.heard < lease.renewed + lease.ttl => {
                return Err(format!(
                    "{} was gone at {:?}, although its lease of {:?} had been renewed at {:?}",
                    lease.key, event.heard, lease.ttl, lease.renewed
                ));
            }
            None if history.last.contains_key(&lease.key) => {
                return Err(format!("{} is there although nobody renews its lease", lease.key));
            }
            Some(_) | None => {}
        }
    }
    Ok(())
}

fn the_end_is_what_was_watched(history: &History, log: &Log<'_>) -> Result<(), String> {
    let mut replayed: BTreeMap<&str, &str> = BTreeMap::new();
    for event in log.values() {
        for (key, value) in &event.changes {
            match value {
                Some(value) => replayed.insert(key, value),
                None => replayed.remove(key.as_str()),
            };
        }
    }
    let ours = |key: &str| key.starts_with("key/") || key.starts_with("list/") || key.starts_with("lease/");
    let there: BTreeMap<&str, &str> = history
        .last
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .filter(|(key, _)| ours(key))
        .collect();
    replayed.retain(|key, _| ours(key));
    let differs = replayed
        .iter()
        .find(|(key, value)| there.get(*key) != Some(*value))
        .or_else(|| there.iter().find(|(key, value)| replayed.get(*key) != Some(*value)));
    match differs {
        None => Ok(()),
        Some((key, _)) => Err(format!(
            "in the end {key} holds {:?}, and the watches told {:?}",
            there.get(key),
            replayed.get(key)
        )),
    }
}
