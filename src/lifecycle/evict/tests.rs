//! Everything must speak for an eviction; each line takes one thing away.

use std::collections::{BTreeMap, BTreeSet};

use super::{EvictSeen, Keep, Launcher, LiveVoter, decide};
use crate::etcd::id::{ClientUrl, ClusterId, MemberId, PeerUrl};
use crate::etcd::member::Member;
use crate::lifecycle::launch::attestation::LinkHash;
use crate::lifecycle::launch::observation::{Connected, Unreachable};

const DEAD: MemberId = MemberId(4);

fn url(id: u64) -> PeerUrl {
    PeerUrl::https(&format!("m{id}.etcd"), 2380)
}

fn member(id: u64) -> Member {
    Member {
        id: MemberId(id),
        name: Some(format!("m{id}")),
        peer_urls: [url(id)].into(),
        client_urls: [ClientUrl::https(&format!("m{id}.etcd"), 2379)].into(),
        is_learner: false,
    }
}

fn voter() -> LiveVoter {
    LiveVoter {
        link_hash: LinkHash("123".to_owned()),
        link: (1..=3).map(url).collect(),
        connected: (1..=3).map(|id| (MemberId(id), Connected::Up)).collect(),
    }
}

/// Members 1 to 4; the instance of 4 was deleted while it was stopped; this is 1.
fn deleted() -> EvictSeen {
    EvictSeen {
        cluster_id: ClusterId(1),
        own: MemberId(1),
        members: (1..=4).map(member).collect(),
        live: (1..=3).map(|id| (MemberId(id), voter())).collect(),
        linked_before: (1..=4).map(url).collect(),
        launchers: [(url(4), Launcher::Silent { why: Unreachable::Timeout })].into(),
        confirmed: [DEAD].into(),
    }
}

fn after(change: impl Fn(&mut EvictSeen)) -> EvictSeen {
    let mut seen = deleted();
    change(&mut seen);
    seen
}

fn kept(change: impl Fn(&mut EvictSeen)) -> Keep {
    let result = decide(&after(change));
    assert_eq!(result.evict, None);
    result.keep[&DEAD].clone()
}

#[test]
fn the_entry_of_a_deleted_instance_goes_by_id() {
    let result = decide(&deleted());

    assert_eq!(result.evict, Some(DEAD));
    let others: BTreeMap<MemberId, Keep> = (1..=3).map(|id| (MemberId(id), Keep::InLink)).collect();
    assert_eq!(result.keep, others);
}

#[test]
fn each_missing_piece_of_evidence_keeps_it() {
    let live = |seen: &mut EvictSeen, id: u64, change: fn(&mut LiveVoter)| {
        change(seen.live.get_mut(&MemberId(id)).unwrap());
    };
    let answers = |seen: &mut EvictSeen, launcher| {
        seen.launchers.insert(url(4), launcher);
    };
    let silent = |why| Launcher::Silent { why };
    let tls = || Unreachable::Tls { why: "expired".to_owned() };

    assert_eq!(
        kept(|seen| live(seen, 2, |voter| {
            voter.link.insert(url(4));
        })),
        Keep::InLink
    );
    assert_eq!(
        kept(|seen| {
            seen.linked_before.remove(&url(4));
        }),
        Keep::External
    );
    assert_eq!(
        kept(|seen| live(seen, 3, |voter| voter.link_hash = LinkHash("1234".to_owned()))),
        Keep::LinksDiffer
    );
    assert_eq!(
        kept(|seen| {
            seen.live.remove(&MemberId(2));
            seen.live.remove(&MemberId(3));
        }),
        Keep::TooFewAnswer
    );
    assert_eq!(
        kept(|seen| live(seen, 3, |voter| {
            voter.connected.insert(DEAD, Connected::Up);
        })),
        Keep::Connected { to: MemberId(3) }
    );
    assert_eq!(
        kept(|seen| answers(seen, Launcher::Answers)),
        Keep::LauncherThere { said: "answers".to_owned() }
    );
    assert_eq!(
        kept(|seen| answers(seen, silent(tls()))),
        Keep::LauncherThere { said: "TLS: expired".to_owned() }
    );
    assert_eq!(
        kept(|seen| {
            seen.launchers.remove(&url(4));
        }),
        Keep::LauncherThere { said: "was not asked".to_owned() }
    );
    assert_eq!(
        kept(|seen| {
            seen.confirmed.remove(&DEAD);
        }),
        Keep::SecondLook
    );
    assert_eq!(kept(|seen| seen.own = MemberId(2)), Keep::NotOurTurn { turn: MemberId(1) });
}

#[test]
fn a_name_that_no_longer_resolves_is_silence() {
    for why in [
        Unreachable::Refused,
        Unreachable::Dns { why: "no such host".to_owned() },
        Unreachable::Network { why: "no route".to_owned() },
    ] {
        let seen = after(|seen| {
            seen.launchers.insert(url(4), Launcher::Silent { why: why.clone() });
        });
        assert_eq!(decide(&seen).evict, Some(DEAD), "{why}");
    }
}

#[test]
fn one_look_makes_a_suspect_and_nothing_more() {
    let result = decide(&after(|seen| seen.confirmed.clear()));

    assert_eq!(result.evict, None);
    assert_eq!(result.suspects, BTreeSet::from([DEAD]));
}

#[test]
fn one_at_a_time() {
    let seen = after(|seen| {
        seen.members.push(member(5));
        seen.linked_before.insert(url(5));
        seen.launchers.insert(url(5), Launcher::Silent { why: Unreachable::Timeout });
        seen.confirmed.insert(MemberId(5));
    });

    let result = decide(&seen);

    assert_eq!(result.evict, Some(DEAD));
    assert_eq!(result.keep[&MemberId(5)], Keep::OneAtATime);
}

/// Five voters of which three are alive: the two dead ones may go one by one. Three of which two are
/// alive: the dead one may go. Fewer answers are no quorum to begin with.
#[test]
fn what_stays_keeps_its_quorum() {
    for (voters, alive) in [(4u64, 3u64), (5, 3), (3, 2), (5, 4), (7, 4)] {
        let mut seen = deleted();
        seen.members = (1..=voters).map(member).collect();
        seen.linked_before = (1..=voters).map(url).collect();
        seen.live = (1..=alive)
            .map(|id| {
                let link = (1..=alive).map(url).collect();
                (MemberId(id), LiveVoter { link, connected: BTreeMap::new(), ..voter() })
            })
            .collect();
        seen.launchers =
            (1..=voters).map(|id| (url(id), Launcher::Silent { why: Unreachable::Refused })).collect();
        seen.confirmed = (1..=voters).map(MemberId).collect();

        let gone = decide(&seen).evict.expect("all evidence is there");

        assert!(gone.0 > alive, "{gone} is alive");
    }
}

/// Its vote does not count, so nobody's quorum depends on it.
#[test]
fn a_dead_learner_goes_as_well() {
    let seen = after(|seen| seen.members[3].is_learner = true);

    assert_eq!(decide(&seen).evict, Some(DEAD));
}
