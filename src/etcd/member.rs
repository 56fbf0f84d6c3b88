//! One member, as the member list shows it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::id::{ClientUrl, MemberId, PeerUrl};

/// One member, as the member list shows it. Found by id or peer URL, never by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// Its name; `None` for a member that was added and has never started. May be anything.
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
    ///
    /// Only client URLs tell: the members of a static bootstrap carry their names from the first moment,
    /// long before they start (seen with 3.6.16 in `/members`).
    pub fn has_published(&self) -> bool {
        !self.client_urls.is_empty()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The first member of a static bootstrap lists the others with their names before they run; taking
    /// them for started left the first boot of three waiting for ever.
    #[test]
    fn a_name_alone_does_not_say_that_a_member_has_started() {
        let listed = Member {
            id: MemberId(1),
            name: Some("a".to_owned()),
            peer_urls: BTreeSet::from([PeerUrl::https("a", 2380)]),
            client_urls: BTreeSet::new(),
            is_learner: false,
        };
        let published =
            Member { client_urls: BTreeSet::from([ClientUrl::https("a", 2379)]), ..listed.clone() };

        assert!(!listed.has_published());
        assert!(published.has_published());
    }
}
