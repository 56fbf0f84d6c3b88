//! What becomes of a key, a role or a user that is there already. Pure.

use std::collections::BTreeSet;

use clap::ValueEnum;

use crate::etcd::client::access::Grant;

/// etcd's administrator. What it may do is etcd's own knowledge, and not stored.
const ROOT: &str = "root";

/// What an operator wants where both sides differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Rule {
    /// Nothing is imported, and what differs is told
    Refuse,
    /// What is there stays
    Keep,
    /// What is in the file takes its place
    Overwrite,
}

/// What is there under the name of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// The same value, on the same lease.
    Same,
    /// Something else, written by this revision.
    Other(i64),
}

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is written, if what is there was still written by this revision (0: if nothing is there).
    Put(i64),
    /// It is there already.
    Skip,
    /// Something else is there and stays.
    Keep,
    /// Something else is there, and nobody said what to do.
    Refuse,
}

/// What becomes of a key.
pub fn step(found: Found, rule: Rule) -> Step {
    match (found, rule) {
        (Found::Nothing, _) => Step::Put(0),
        (Found::Same, _) => Step::Skip,
        (Found::Other(revision), Rule::Overwrite) => Step::Put(revision),
        (Found::Other(_), Rule::Keep) => Step::Keep,
        (Found::Other(_), Rule::Refuse) => Step::Refuse,
    }
}

/// What has to be done to make a set of permissions or roles what it is in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change<T> {
    /// Whether who has them is not there yet.
    pub new: bool,
    /// What is missing.
    pub give: Vec<T>,
    /// What is too much.
    pub take: Vec<T>,
}

impl<T> Change<T> {
    /// Whether everything is as it should be.
    pub fn is_empty(&self) -> bool {
        !self.new && self.give.is_empty() && self.take.is_empty()
    }
}

/// What becomes of a role; `None`: it differs, and nobody said what to do. One that lacks something is completed under
/// every rule, since that is what an interrupted import leaves.
pub fn role(name: &str, wanted: &[Grant], there: Option<&[Grant]>, rule: Rule) -> Option<Change<Grant>> {
    if name == ROOT {
        return Some(Change { new: there.is_none(), give: Vec::new(), take: Vec::new() });
    }
    let change = change(wanted, there, rule)?;
    // A permission for the same keys is replaced when the other is given.
    let replaced = |grant: &Grant| {
        change.give.iter().any(|given| (&given.key, &given.range_end) == (&grant.key, &grant.range_end))
    };
    let take = change.take.iter().filter(|grant| !replaced(grant)).cloned().collect();
    Some(Change { take, ..change })
}

/// What becomes of a user; `None`: it differs, and nobody said what to do.
pub fn user(wanted: &[String], there: Option<&[String]>, rule: Rule) -> Option<Change<String>> {
    change(wanted, there, rule)
}

fn change<T: Ord + Clone>(wanted: &[T], there: Option<&[T]>, rule: Rule) -> Option<Change<T>> {
    let ours: BTreeSet<&T> = wanted.iter().collect();
    let theirs: BTreeSet<&T> = there.into_iter().flatten().collect();
    let without = |one: &BTreeSet<&T>, other: &BTreeSet<&T>| -> Vec<T> {
        one.difference(other).map(|item| (*item).clone()).collect()
    };
    let change =
        Change { new: there.is_none(), give: without(&ours, &theirs), take: without(&theirs, &ours) };
    match (change.take.is_empty(), rule) {
        (true, _) | (_, Rule::Overwrite) => Some(change),
        (false, Rule::Keep) => Some(Change { new: false, give: Vec::new(), take: Vec::new() }),
        (false, Rule::Refuse) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::client::access::Kind;

    #[test]
    fn a_key_that_is_there_is_touched_only_if_that_was_said() {
        let all = [Rule::Refuse, Rule::Keep, Rule::Overwrite];
        for (found, steps) in [
            (Found::Nothing, [Step::Put(0), Step::Put(0), Step::Put(0)]),
            (Found::Same, [Step::Skip, Step::Skip, Step::Skip]),
            (Found::Other(7), [Step::Refuse, Step::Keep, Step::Put(7)]),
        ] {
            assert_eq!(all.map(|rule| step(found, rule)), steps, "{found:?}");
        }
    }

    #[test]
    fn a_role_is_completed_and_loses_something_only_if_that_was_said() {
        let grant = |key: &str, kind| Grant { key: key.into(), range_end: vec![], kind };
        let (a, b, c) = (grant("a", Kind::Read), grant("b", Kind::Write), grant("c", Kind::Read));
        let a_written = grant("a", Kind::ReadWrite);
        let change = |new, give: &[&Grant], take: &[&Grant]| {
            let all = |grants: &[&Grant]| grants.iter().map(|grant| (*grant).clone()).collect();
            Some(Change { new, give: all(give), take: all(take) })
        };
        let nothing = || change(false, &[], &[]);
        let ours = [a.clone(), b.clone()];
        for (what, there, refuse, keep, overwrite) in [
            (
                "a new one",
                None,
                change(true, &[&a, &b], &[]),
                change(true, &[&a, &b], &[]),
                change(true, &[&a, &b], &[]),
            ),
            ("the same", Some(vec![b.clone(), a.clone()]), nothing(), nothing(), nothing()),
            (
                "half of it",
                Some(vec![b.clone()]),
                change(false, &[&a], &[]),
                change(false, &[&a], &[]),
                change(false, &[&a], &[]),
            ),
            ("more", Some(vec![a.clone(), b.clone(), c.clone()]), None, nothing(), change(false, &[], &[&c])),
            // Giving replaces: taking it afterwards would leave nothing.
            (
                "another kind",
                Some(vec![a_written.clone(), b.clone()]),
                None,
                nothing(),
                change(false, &[&a], &[]),
            ),
        ] {
            for (rule, wanted) in [(Rule::Refuse, refuse), (Rule::Keep, keep), (Rule::Overwrite, overwrite)] {
                assert_eq!(role("reader", &ours, there.as_deref(), rule), wanted, "{what} {rule:?}");
            }
        }
        assert_eq!(role("root", &ours, Some(&[]), Rule::Refuse), nothing());
        assert_eq!(role("root", &ours, None, Rule::Refuse), change(true, &[], &[]));
    }

    #[test]
    fn a_user_is_treated_as_a_role_is() {
        let roles = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (ours, more) = (roles(&["a", "b"]), roles(&["b", "c"]));

        assert_eq!(user(&ours, Some(&more), Rule::Refuse), None);
        let change = user(&ours, Some(&more), Rule::Overwrite).unwrap();
        assert_eq!((change.give, change.take), (roles(&["a"]), roles(&["c"])));
        assert!(user(&ours, Some(&more), Rule::Keep).unwrap().is_empty());
        assert!(!user(&[], None, Rule::Refuse).unwrap().is_empty());
    }
}
