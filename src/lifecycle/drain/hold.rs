//! The hold rule: may this instance stop now, although it comes back? Told in docs/contract.md#hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use super::observation::{Absence, ClusterSeen, Serving, StopSeen};
use crate::etcd::id::MemberId;
use crate::etcd::member::voters;
use crate::etcd::quorum::has_quorum;
use crate::lifecycle::launch::attestation::Progress;

/// A voter that vanished this recently may just be restarting.
pub const RESTART_GRACE: Duration = Duration::from_mins(1);

/// What the hold rule says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "hold", rename_all = "kebab-case")]
pub enum Hold {
    /// Stop.
    Go {
        /// Why that is all right.
        because: Harmless,
    },
    /// Wait for these, then ask again.
    Hold {
        /// Who is on the way back.
        recovering: BTreeSet<MemberId>,
    },
    /// Do not stop: without this member the cluster would lose its quorum.
    Fail {
        /// Who is missing.
        missing: BTreeMap<MemberId, Absence>,
        /// Whether the patience ran out on somebody who was on the way back.
        waited: Waited,
    },
}

/// Why stopping is all right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Harmless {
    /// This member serves nobody: stopping it cannot make anything worse.
    NotServing,
    /// The cluster has no quorum to lose.
    NoQuorum,
    /// All other voters are alive.
    OthersAlive,
    /// The others have quorum without this one.
    QuorumWithout,
}

/// Whether a wait was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Waited {
    /// Nobody was on the way back.
    No,
    /// `hold_timeout` is over.
    TimedOut,
}

/// First match wins.
pub fn hold(seen: &StopSeen) -> Hold {
    let ClusterSeen::Healthy(cluster) = &seen.cluster else {
        return Hold::Go { because: Harmless::NoQuorum };
    };
    if seen.own.serving == Serving::No {
        return Hold::Go { because: Harmless::NotServing };
    }
    let own = cluster.entry(&seen.own).map(|entry| entry.id);
    let (alive, missing) = cluster.other_voters(own);
    if missing.is_empty() {
        return Hold::Go { because: Harmless::OthersAlive };
    }
    if has_quorum(alive.len(), voters(&cluster.members).len()) {
        return Hold::Go { because: Harmless::QuorumWithout };
    }
    let absence = |id: &MemberId| cluster.absences.get(id);
    let recovering: BTreeSet<MemberId> =
        missing.iter().copied().filter(|id| absence(id).is_some_and(is_recovering)).collect();
    if !recovering.is_empty() && seen.held < seen.hold_timeout {
        return Hold::Hold { recovering };
    }
    let unknown = Absence { instance: None, progress: None, since: None };
    Hold::Fail {
        missing: missing
            .into_iter()
            .map(|id| (id, absence(&id).cloned().unwrap_or_else(|| unknown.clone())))
            .collect(),
        waited: if recovering.is_empty() { Waited::No } else { Waited::TimedOut },
    }
}

fn is_recovering(absence: &Absence) -> bool {
    match absence.progress {
        Some(Progress::New | Progress::Progress) => true,
        // Its launcher says that etcd serves, or nothing at all: then only the time counts.
        Some(Progress::Success) | None => absence.since.is_some_and(|since| since < RESTART_GRACE),
        Some(Progress::Failed) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::id::{ClientUrl, ClusterId, PeerUrl};
    use crate::etcd::member::Member;
    use crate::lifecycle::drain::observation::{ClusterAlive, Force, OwnMember, Place, Script};
    use crate::lifecycle::launch::attestation::DiskClass;

    const GO: &str = "go";
    const HOLD: &str = "hold";
    const FAIL: &str = "fail";

    fn member(id: u64) -> Member {
        let host = format!("m{id}.etcd");
        Member {
            id: MemberId(id),
            name: Some(id.to_string()),
            peer_urls: [PeerUrl::https(&host, 2380)].into(),
            client_urls: [ClientUrl::https(&host, 2379)].into(),
            is_learner: false,
        }
    }

    /// Member 1 of `voters` asks; `alive` of the others are alive; the rest is as `absence` says.
    fn seen(voters: u64, alive: u64, absence: &Absence) -> StopSeen {
        StopSeen {
            script: Script::PreStop { next: None },
            own: OwnMember {
                peer_url: PeerUrl::https("m1.etcd", 2380),
                disk: DiskClass::Data,
                member_id: Some(MemberId(1)),
                voters_on_disk: None,
                place: Place::OwnDisk,
                serving: Serving::Yes,
            },
            cluster: ClusterSeen::Healthy(ClusterAlive {
                cluster_id: ClusterId(1),
                leader: MemberId(1),
                members: (1..=voters).map(member).collect(),
                alive: (1..=alive + 1).map(MemberId).collect(),
                absences: (alive + 2..=voters).map(|id| (MemberId(id), absence.clone())).collect(),
            }),
            force: Force::No,
            held: Duration::ZERO,
            hold_timeout: Duration::from_mins(10),
        }
    }

    fn outcome(seen: &StopSeen) -> &'static str {
        match hold(seen) {
            Hold::Go { .. } => GO,
            Hold::Hold { .. } => HOLD,
            Hold::Fail { .. } => FAIL,
        }
    }

    fn absence(progress: Option<Progress>, since: Option<u64>) -> Absence {
        Absence { instance: None, progress, since: since.map(Duration::from_secs) }
    }

    #[test]
    fn who_may_stop_while_others_are_missing() {
        let gone = absence(None, None);
        //  voters  others alive  outcome
        let table = [
            (1, 0, GO),
            (2, 1, GO),
            (3, 2, GO),
            (3, 1, FAIL),
            (5, 4, GO),
            (5, 3, GO),
            (5, 2, FAIL),
            (4, 3, GO),
            (4, 2, FAIL),
        ];
        for (voters, alive, expected) in table {
            assert_eq!(outcome(&seen(voters, alive, &gone)), expected, "{alive} others of {voters} alive");
        }
    }

    #[test]
    fn who_serves_nobody_or_has_no_quorum_may_always_stop() {
        let gone = absence(None, None);
        let mut idle = seen(3, 1, &gone);
        idle.own.serving = Serving::No;
        let mut headless = seen(3, 1, &gone);
        headless.cluster = ClusterSeen::NoQuorum { said: BTreeMap::new() };

        assert_eq!(hold(&idle), Hold::Go { because: Harmless::NotServing });
        assert_eq!(hold(&headless), Hold::Go { because: Harmless::NoQuorum });
    }

    #[test]
    fn who_is_on_the_way_back_is_waited_for() {
        use Progress::{Failed, New, Success};
        let table = [
            (absence(Some(New), None), HOLD),
            (absence(Some(Progress::Progress), None), HOLD),
            (absence(Some(Failed), Some(5)), FAIL),
            (absence(Some(Success), Some(5)), HOLD),
            (absence(Some(Success), Some(60)), FAIL),
            (absence(None, Some(59)), HOLD),
            (absence(None, Some(60)), FAIL),
            (absence(None, None), FAIL),
        ];
        for (absence, expected) in table {
            assert_eq!(outcome(&seen(3, 1, &absence)), expected, "{absence:?}");
        }
    }

    #[test]
    fn patience_ends_with_hold_timeout_and_that_is_told() {
        let mut late = seen(3, 1, &absence(Some(Progress::New), None));
        late.held = late.hold_timeout;

        let Hold::Fail { missing, waited } = hold(&late) else { panic!("patience ended") };
        assert_eq!(missing.into_keys().collect::<Vec<_>>(), [MemberId(3)]);
        assert_eq!(waited, Waited::TimedOut);
    }

    /// A learner's vote does not count, so it may always go while the cluster decides.
    #[test]
    fn a_learner_may_stop() {
        let mut learner = seen(4, 2, &absence(None, None));
        let ClusterSeen::Healthy(cluster) = &mut learner.cluster else { panic!("healthy") };
        cluster.members[0].is_learner = true;

        assert_eq!(outcome(&learner), GO);
    }
}
