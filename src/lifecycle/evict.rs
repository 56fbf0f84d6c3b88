//! Eviction: an instance that was hard-stopped and then deleted runs no script, so its entry stays in
//! the member list until the others remove it. Told in docs/contract.md#evict.
//!
//! Everything must speak for it, since a wrong removal costs a member: it was one of ours, nobody's link
//! has it any more, its launcher is silent, no live voter is connected to it (twice, a minute apart), and
//! the rest keeps its quorum without it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use crate::etcd::id::{ClusterId, MemberId, PeerUrl};
use crate::etcd::member::{Member, voters};
use crate::etcd::quorum::has_quorum;
use crate::lifecycle::launch::attestation::LinkHash;
use crate::lifecycle::launch::observation::{Connected, Unreachable};

/// A second look counts only after this long.
pub const CONFIRM_AFTER: Duration = Duration::from_mins(1);

/// What one live voter saw on one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EvictSeen {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// This member.
    pub own: MemberId,
    /// The linearizable member list.
    pub members: Vec<Member>,
    /// Every voter that answers, this one included, and what it says.
    pub live: BTreeMap<MemberId, LiveVoter>,
    /// Peer URLs that were in this group's link at any earlier time, as noted on this disk.
    pub linked_before: BTreeSet<PeerUrl>,
    /// What the launcher at each peer URL that nobody's link has any more answers.
    pub launchers: BTreeMap<PeerUrl, Launcher>,
    /// Members that every live voter found disconnected in a run at least [`CONFIRM_AFTER`] ago, and in
    /// every run since.
    pub confirmed: BTreeSet<MemberId>,
}

/// What a live voter says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LiveVoter {
    /// Fingerprint of its link.
    pub link_hash: LinkHash,
    /// The peer URLs in its link.
    pub link: BTreeSet<PeerUrl>,
    /// Whom it is connected to; who is missing here was never connected since its start.
    pub connected: BTreeMap<MemberId, Connected>,
}

/// What the launcher of a member that is to be evicted answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "launcher", rename_all = "kebab-case")]
pub enum Launcher {
    /// It answers.
    Answers,
    /// It does not.
    Silent {
        /// Why not.
        why: Unreachable,
    },
}

/// What follows for one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Eviction {
    /// The entry to remove, by id: at most one per run.
    pub evict: Option<MemberId>,
    /// Why each other entry stays.
    pub keep: BTreeMap<MemberId, Keep>,
    /// Members that no live voter is connected to and that only lack the second look: to be confirmed.
    pub suspects: BTreeSet<MemberId>,
}

/// Why an entry stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "keep", rename_all = "kebab-case")]
pub enum Keep {
    /// It is in the link of a live voter.
    InLink,
    /// It never was in this group's link: somebody else's member.
    External,
    /// Live voters were deployed with different lists.
    LinksDiffer,
    /// Those who answer are no quorum.
    TooFewAnswer,
    /// A live voter is connected to it.
    Connected {
        /// Which.
        to: MemberId,
    },
    /// Its launcher answers, or fails in a way that only somebody alive can.
    LauncherThere {
        /// What it said, in a few words.
        said: String,
    },
    /// It was seen dead only once yet.
    SecondLook,
    /// Another one goes first.
    OneAtATime,
    /// Another live voter does it.
    NotOurTurn {
        /// The one with the lowest id.
        turn: MemberId,
    },
}

/// Which entry to remove, if any.
pub fn decide(seen: &EvictSeen) -> Eviction {
    let mut result = Eviction { evict: None, keep: BTreeMap::new(), suspects: BTreeSet::new() };
    for member in &seen.members {
        match verdict(seen, member) {
            Ok(()) if result.evict.is_none() => result.evict = Some(member.id),
            Ok(()) => {
                result.keep.insert(member.id, Keep::OneAtATime);
            }
            Err(keep) => {
                if keep == Keep::SecondLook {
                    result.suspects.insert(member.id);
                }
                result.keep.insert(member.id, keep);
            }
        }
    }
    result
}

fn verdict(seen: &EvictSeen, member: &Member) -> Result<(), Keep> {
    let in_link = |voter: &LiveVoter| member.peer_urls.iter().any(|url| voter.link.contains(url));
    if member.id == seen.own || seen.live.contains_key(&member.id) || seen.live.values().any(in_link) {
        return Err(Keep::InLink);
    }
    if !member.peer_urls.iter().all(|url| seen.linked_before.contains(url)) || member.peer_urls.is_empty() {
        return Err(Keep::External);
    }
    let hashes: BTreeSet<&LinkHash> = seen.live.values().map(|voter| &voter.link_hash).collect();
    if hashes.len() != 1 {
        return Err(Keep::LinksDiffer);
    }
    let all = voters(&seen.members);
    let live: BTreeSet<MemberId> = all.iter().copied().filter(|id| seen.live.contains_key(id)).collect();
    // A live quorum of all, without the entry, is a quorum of what stays as well.
    if !has_quorum(live.len(), all.len()) {
        return Err(Keep::TooFewAnswer);
    }
    let connected = |voter: &LiveVoter| voter.connected.get(&member.id) == Some(&Connected::Up);
    if let Some((to, _)) = seen.live.iter().find(|(_, voter)| connected(voter)) {
        return Err(Keep::Connected { to: *to });
    }
    launcher_is_silent(seen, member)?;
    if !seen.confirmed.contains(&member.id) {
        return Err(Keep::SecondLook);
    }
    match live.first() {
        Some(turn) if *turn == seen.own => Ok(()),
        Some(turn) => Err(Keep::NotOurTurn { turn: *turn }),
        None => Err(Keep::TooFewAnswer),
    }
}

/// Silence of every URL of the entry. A handshake or a login that fails is not silence.
fn launcher_is_silent(seen: &EvictSeen, member: &Member) -> Result<(), Keep> {
    for url in &member.peer_urls {
        let said = match seen.launchers.get(url) {
            Some(Launcher::Silent { why }) if may_be_gone(why) => continue,
            Some(Launcher::Silent { why }) => why.to_string(),
            Some(Launcher::Answers) => "answers".to_owned(),
            None => "was not asked".to_owned(),
        };
        return Err(Keep::LauncherThere { said });
    }
    Ok(())
}

fn may_be_gone(why: &Unreachable) -> bool {
    match why {
        Unreachable::Refused
        | Unreachable::Timeout
        | Unreachable::Dns { .. }
        | Unreachable::Network { .. } => true,
        Unreachable::Tls { .. } | Unreachable::Auth { .. } | Unreachable::Protocol { .. } => false,
    }
}

#[cfg(test)]
mod tests;
