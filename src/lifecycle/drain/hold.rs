//! May this member stop for a while, or would that take the quorum? First match wins
//! (docs/contract.md#hold).

use std::time::Duration;

use serde::Serialize;

use super::decide::Plan;
use super::observation::{Cluster, Life, Override, OwnEntry, StopSeen, Voter, alive};
use crate::etcd::id::MemberId;
use crate::etcd::quorum::quorum;

/// A voter that vanished less long ago may just be restarting.
pub const GRACE: Duration = Duration::from_mins(1);

/// What the rule says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Hold {
    /// Stop.
    Go {
        /// Why that costs nothing.
        because: &'static str,
    },
    /// Wait for these to come back.
    Hold {
        /// Who is missing, and what is known of them.
        missing: Vec<String>,
        /// The first of them.
        dead: MemberId,
    },
    /// Do not stop: the quorum would be gone.
    Fail {
        /// Who is missing, and what is known of them.
        missing: Vec<String>,
        /// The first of them.
        dead: MemberId,
    },
}

/// Applies the rule.
pub fn hold(cluster: &Cluster) -> Hold {
    let Cluster::Serves { own_serves: true, others, .. } = cluster else {
        // Stopping cannot make it worse, and this deploy may be the repair.
        return Hold::Go { because: "this member does not serve, or the cluster has no quorum" };
    };
    let voters = others.len() + 1;
    let missing: Vec<&Voter> = others.iter().filter(|voter| voter.life != Life::Alive).collect();
    let Some(dead) = missing.first().map(|voter| voter.id) else {
        return Hold::Go { because: "all other voters are alive" };
    };
    if alive(others) >= quorum(voters) {
        return Hold::Go { because: "the other live voters are a quorum" };
    }
    let told = missing.iter().map(|voter| describe(voter)).collect();
    if missing.iter().any(|voter| is_recovering(voter)) {
        Hold::Hold { missing: told, dead }
    } else {
        Hold::Fail { missing: told, dead }
    }
}

/// Whether this stop takes the mutex, so that no other member stops, joins or leaves while it is down: where
/// there is a quorum to lose, and nobody has accepted the loss.
pub fn takes_mutex(seen: &StopSeen, plan: &Plan) -> bool {
    let Cluster::Serves { own: OwnEntry::Voter(_), own_serves: true, others } = &seen.cluster else {
        return false;
    };
    *plan == Plan::HandOver && seen.forced == Override::None && !others.is_empty()
}

fn is_recovering(voter: &Voter) -> bool {
    match &voter.life {
        Life::Alive => false,
        Life::Missing { recovering, for_so_long, .. } => *recovering || *for_so_long < GRACE,
    }
}

/// A missing voter, for people.
pub fn describe(voter: &Voter) -> String {
    match &voter.life {
        Life::Alive => format!("{} (member {})", voter.name, voter.id),
        Life::Missing { why, .. } => format!("{} (member {}): {why}", voter.name, voter.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_hours(1);

    fn missing(recovering: bool, for_so_long: Duration) -> Life {
        Life::Missing { why: "connection refused".to_owned(), for_so_long, recovering }
    }

    fn serving(others: &[Life]) -> Cluster {
        let others = others
            .iter()
            .enumerate()
            .map(|(number, life)| Voter {
                id: MemberId(number as u64 + 2),
                name: format!("v{}", number + 2),
                client_url: None,
                life: life.clone(),
            })
            .collect();
        Cluster::Serves { own: OwnEntry::Voter(MemberId(1)), own_serves: true, others }
    }

    #[test]
    fn first_match_wins() {
        let (alive, dead) = (Life::Alive, missing(false, LONG));
        let go = |cluster: &Cluster| matches!(hold(cluster), Hold::Go { .. });
        let holds = |cluster: &Cluster| matches!(hold(cluster), Hold::Hold { .. });
        let fails = |cluster: &Cluster| matches!(hold(cluster), Hold::Fail { .. });
        // 1: not serving, or no quorum
        assert!(go(&Cluster::NoQuorum { why: String::new() }));
        let Cluster::Serves { own, others, .. } = serving(&[dead.clone(), dead.clone()]) else {
            unreachable!()
        };
        assert!(go(&Cluster::Serves { own, own_serves: false, others }));
        // 2: all others alive, also with one or two voters
        assert!(go(&serving(&[])));
        assert!(go(&serving(std::slice::from_ref(&alive))));
        assert!(go(&serving(&[alive.clone(), alive.clone()])));
        // 3: the others are a quorum without me
        assert!(go(&serving(&[alive.clone(), alive.clone(), alive.clone(), dead.clone()])));
        // 4: a missing one is recovering, or only just gone
        assert!(holds(&serving(&[alive.clone(), missing(true, LONG)])));
        assert!(holds(&serving(&[alive.clone(), missing(false, Duration::from_secs(59))])));
        // 5: otherwise
        assert!(fails(&serving(&[alive.clone(), dead.clone()])));
        assert!(fails(&serving(&[alive.clone(), missing(false, GRACE)])));
        assert!(fails(&serving(&[alive.clone(), alive, dead.clone(), dead])));
    }

    #[test]
    fn whoever_is_missing_is_named_with_what_is_known() {
        let Hold::Fail { missing, dead } = hold(&serving(&[Life::Alive, missing(false, LONG)])) else {
            panic!("row 5")
        };
        assert_eq!(missing, ["v3 (member 3): connection refused"]);
        assert_eq!(dead, MemberId(3));
    }
}
