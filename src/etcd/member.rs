//! One member, as the member list shows it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::id::{ClientUrl, MemberId, PeerUrl};

/// One member, as the member list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// Its name as published; `None` until it has once started.
    pub name: Option<String>,
    /// Where its peers reach it.
    pub peer_urls: BTreeSet<PeerUrl>,
    /// Where clients reach it, as published.
    pub client_urls: BTreeSet<ClientUrl>,
    /// Whether it is a learner.
    pub is_learner: bool,
}
