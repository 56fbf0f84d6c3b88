//! One member, as the member list shows it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::id::{ClientUrl, MemberId, PeerUrl};

/// One member, as the member list shows it. Found by id or peer URL, never by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// Its name as published; `None` until it has once started. Others' names may be anything.
    pub name: Option<String>,
    /// Where its peers reach it.
    pub peer_urls: BTreeSet<PeerUrl>,
    /// Where clients reach it, as published.
    pub client_urls: BTreeSet<ClientUrl>,
    /// Whether it is a learner.
    pub is_learner: bool,
}

impl Member {
    /// Whether it has once published itself. A dead member stays published: this says nothing about
    /// now (docs/contract.md#healthy).
    pub fn has_published(&self) -> bool {
        self.name.is_some() || !self.client_urls.is_empty()
    }

    /// Whether its vote counts.
    pub fn is_voter(&self) -> bool {
        !self.is_learner
    }

    /// Whether peers reach it at `url`.
    pub fn listens_at(&self, url: &PeerUrl) -> bool {
        self.peer_urls.contains(url)
    }
}

/// The ids of those whose vote counts.
pub fn voters(members: &[Member]) -> BTreeSet<MemberId> {
    members.iter().filter(|member| member.is_voter()).map(|member| member.id).collect()
}
