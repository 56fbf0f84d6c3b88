//! Which entry goes. Strict, because a wrong eviction costs data (docs/contract.md#evict).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::etcd::id::{MemberId, PeerUrl};
use crate::etcd::member::Member;
use crate::etcd::quorum::quorum;

/// What one live voter attests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attested {
    /// The fingerprint of its link.
    pub link_hash: String,
    /// The peer URLs in its link.
    pub link: BTreeSet<PeerUrl>,
    /// Members its etcd has no active peer connection to.
    pub disconnected: BTreeSet<MemberId>,
}

/// What is known when a deploy is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// This member.
    pub own: MemberId,
    /// The linearizable member list.
    pub members: Vec<Member>,
    /// Every live voter that attests, this one included.
    pub live_voters: BTreeMap<MemberId, Attested>,
    /// Live voters that do not tell their link or whom they are connected to.
    pub unattested: BTreeSet<MemberId>,
    /// Peer URLs that were once in this group's link.
    pub once_in_link: BTreeSet<PeerUrl>,
    /// Peer URLs whose launcher does not answer.
    pub launcher_silent: BTreeSet<PeerUrl>,
    /// Members for which all of this already held a minute ago.
    pub a_minute_ago: BTreeSet<MemberId>,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Verdict {
    /// Nobody, for this reason.
    Nobody {
        /// Why.
        because: &'static str,
    },
    /// This one, if it still holds in a minute.
    LookAgain {
        /// The entry.
        member: MemberId,
    },
    /// Remove this entry, by id.
    Evict {
        /// The entry.
        member: MemberId,
    },
}

/// One entry a run at the most, by the live voter with the lowest id.
pub fn decide(seen: &Seen) -> Verdict {
    let nobody = |because| Verdict::Nobody { because };
    if seen.live_voters.keys().next() != Some(&seen.own) {
        return nobody("another live voter has the lowest id");
    }
    if !seen.unattested.is_empty() {
        return nobody("a live voter does not tell its link or its connections");
    }
    let voters = seen.members.iter().filter(|member| !member.is_learner).count();
    if seen.live_voters.len() < quorum(voters) {
        return nobody("the live voters are no quorum");
    }
    let hashes: BTreeSet<&str> = seen.live_voters.values().map(|voter| voter.link_hash.as_str()).collect();
    if hashes.len() != 1 {
        return nobody("the live voters do not have the same link yet");
    }
    let Some(member) = seen.members.iter().find(|member| is_orphan(seen, member)) else {
        return nobody("every entry has an instance, or was never in the link");
    };
    let rest = voters - usize::from(!member.is_learner);
    if rest == 0 || seen.live_voters.len() < quorum(rest) {
        return nobody("the rest would not keep a live quorum");
    }
    if seen.a_minute_ago.contains(&member.id) {
        Verdict::Evict { member: member.id }
    } else {
        Verdict::LookAgain { member: member.id }
    }
}

/// Entries that this instance's link does not explain. Without any, nobody else needs to be asked.
pub fn suspects(members: &[Member], link: &BTreeSet<PeerUrl>) -> BTreeSet<MemberId> {
    members.iter().filter(|member| member.peer_urls.is_disjoint(link)).map(|member| member.id).collect()
}

fn is_orphan(seen: &Seen, member: &Member) -> bool {
    !seen.live_voters.contains_key(&member.id)
        && !member.peer_urls.is_empty()
        && member.peer_urls.is_subset(&seen.once_in_link)
        && member.peer_urls.is_subset(&seen.launcher_silent)
        && seen
            .live_voters
            .values()
            .all(|voter| voter.link.is_disjoint(&member.peer_urls) && voter.disconnected.contains(&member.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(number: u64) -> PeerUrl {
        PeerUrl::https(&format!("etcd-{number}"), 2380)
    }

    fn member(number: u64) -> Member {
        Member {
            id: MemberId(number),
            name: Some(format!("etcd-{number}")),
            peer_urls: BTreeSet::from([url(number)]),
            client_urls: BTreeSet::new(),
            is_learner: false,
        }
    }

    /// Members 1 to 4, of which 4 is gone: not in the link, silent, disconnected.
    fn gone() -> Seen {
        let attested = Attested {
            link_hash: "same".to_owned(),
            link: (1..=3).map(url).collect(),
            disconnected: BTreeSet::from([MemberId(4)]),
        };
        Seen {
            own: MemberId(1),
            members: (1..=4).map(member).collect(),
            live_voters: (1..=3).map(|number| (MemberId(number), attested.clone())).collect(),
            unattested: BTreeSet::new(),
            once_in_link: (1..=4).map(url).collect(),
            launcher_silent: BTreeSet::from([url(4)]),
            a_minute_ago: BTreeSet::from([MemberId(4)]),
        }
    }

    #[test]
    fn an_entry_without_an_instance_goes_after_a_second_look() {
        assert_eq!(decide(&gone()), Verdict::Evict { member: MemberId(4) });
        let first_look = Seen { a_minute_ago: BTreeSet::new(), ..gone() };
        assert_eq!(decide(&first_look), Verdict::LookAgain { member: MemberId(4) });
    }

    #[test]
    fn any_doubt_keeps_the_entry() {
        type Doubt = (&'static str, fn(&mut Seen));
        let doubts: [Doubt; 10] = [
            ("another voter has the lowest id", |seen| seen.own = MemberId(2)),
            ("it was never in the link", |seen| {
                seen.once_in_link.remove(&url(4));
            }),
            ("its launcher answers", |seen| seen.launcher_silent.clear()),
            ("one voter is connected to it", |seen| {
                seen.live_voters.get_mut(&MemberId(2)).unwrap().disconnected.clear();
            }),
            ("one voter still has it in the link", |seen| {
                seen.live_voters.get_mut(&MemberId(3)).unwrap().link.insert(url(4));
            }),
            ("links differ", |seen| {
                seen.live_voters.get_mut(&MemberId(3)).unwrap().link_hash = "other".to_owned();
            }),
            ("it is alive", |seen| {
                let attested = seen.live_voters[&MemberId(1)].clone();
                seen.live_voters.insert(MemberId(4), attested);
            }),
            ("the live voters are no quorum", |seen| {
                seen.live_voters.remove(&MemberId(2));
                seen.live_voters.remove(&MemberId(3));
            }),
            ("a live voter does not attest", |seen| {
                let gone = seen.live_voters.pop_last().expect("three live voters").0;
                seen.unattested.insert(gone);
            }),
            ("it has no peer URL", |seen| seen.members[3].peer_urls.clear()),
        ];
        for (doubt, apply) in doubts {
            let mut seen = gone();
            apply(&mut seen);
            assert!(matches!(decide(&seen), Verdict::Nobody { .. }), "{doubt}");
        }
    }

    #[test]
    fn an_eviction_never_takes_quorum() {
        // Of five voters two are dead: the three that live are a quorum of five and of four.
        let mut seen = gone();
        seen.members.push(member(5));
        assert_eq!(decide(&seen), Verdict::Evict { member: MemberId(4) });
        // Of five voters three are dead.
        seen.live_voters.remove(&MemberId(3));
        assert!(matches!(decide(&seen), Verdict::Nobody { .. }));
    }

    /// It votes for nothing, but blocks every join: etcd takes one learner at a time.
    #[test]
    fn a_learner_without_an_instance_goes_by_the_same_rule() {
        let mut seen = gone();
        seen.members[3].is_learner = true;
        assert_eq!(decide(&seen), Verdict::Evict { member: MemberId(4) });
        // Two of three voters are a quorum, which is all a learner's removal needs.
        seen.live_voters.remove(&MemberId(3));
        assert_eq!(decide(&seen), Verdict::Evict { member: MemberId(4) });
    }

    #[test]
    fn only_entries_outside_the_link_are_worth_asking_about() {
        let link: BTreeSet<PeerUrl> = (1..=3).map(url).collect();
        let members: Vec<Member> = (1..=4).map(member).collect();

        assert_eq!(suspects(&members, &link), BTreeSet::from([MemberId(4)]));
        assert!(suspects(&members[..3], &link).is_empty());
    }
}
