//! Who founds a cluster: names and peer URLs from some source, checked and with the ids that etcd computes.
//!
//! A source only lists ([`Listed`]): what is typed ([`initial_cluster`]), a file ([`members_file`]), DNS
//! ([`dns_srv`]), or the link of the job. [`Membership::found`] is the one place that judges a list, by the rules of
//! docs/contract.md#membership-sources.

use std::collections::{BTreeMap, BTreeSet};

use crate::etcd::id::{ClusterId, MemberId, MemberName, PeerUrl};

pub mod dns_srv;
pub mod initial_cluster;
pub mod members_file;

mod unfit;
mod url;

pub use unfit::Unfit;
pub use url::peer_urls;

/// What a source lists: each member's name with its peer URLs.
pub type Listed = BTreeMap<MemberName, BTreeSet<PeerUrl>>;

/// One of the first members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Founder {
    /// Its id, as etcd computes it (docs/contract.md#ids).
    pub id: MemberId,
    /// Its name.
    pub name: MemberName,
    /// Where its peers reach it.
    pub peer_urls: BTreeSet<PeerUrl>,
}

/// The first members of a cluster, and which of them this one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    own: usize,
    cluster_id: ClusterId,
    members: Vec<Founder>,
}

impl Membership {
    /// Judges a list of members and computes their ids.
    ///
    /// `own` is the name of the member that is made, `advertised` the peer URLs it is started with. They have to be
    /// those of the list: etcd starts with others, but its peers then wait at the listed ones.
    pub fn found(
        listed: &Listed,
        token: &str,
        own: &MemberName,
        advertised: &BTreeSet<PeerUrl>,
    ) -> Result<Self, Unfit> {
        let mut by_url: BTreeMap<&PeerUrl, &MemberName> = BTreeMap::new();
        for (name, urls) in listed {
            if urls.is_empty() {
                return Err(Unfit::NoUrl { name: name.clone() });
            }
            for url in urls {
                if let Some(other) = by_url.insert(url, name) {
                    return Err(Unfit::SharedUrl {
                        url: url.clone(),
                        one: other.clone(),
                        other: name.clone(),
                    });
                }
            }
        }
        let own_urls = listed.get(own).ok_or_else(|| Unfit::NotListed {
            name: own.clone(),
            listed: listed.keys().cloned().collect(),
            advertised: advertised.iter().find_map(|url| by_url.get(url)).map(|name| (*name).clone()),
        })?;
        if own_urls != advertised {
            return Err(Unfit::OtherUrls {
                name: own.clone(),
                listed: own_urls.clone(),
                advertised: advertised.clone(),
            });
        }
        let mut by_id: BTreeMap<MemberId, Founder> = BTreeMap::new();
        for (name, urls) in listed {
            let id = MemberId::bootstrapped(urls, token);
            let founder = Founder { id, name: name.clone(), peer_urls: urls.clone() };
            if id.0 == 0 {
                return Err(Unfit::NoId { name: name.clone() });
            }
            if let Some(other) = by_id.insert(id, founder) {
                return Err(Unfit::SameId { id, one: other.name, other: name.clone() });
            }
        }
        let cluster_id = ClusterId::bootstrapped(&by_id.keys().copied().collect());
        let members: Vec<Founder> = by_id.into_values().collect();
        let own = members
            .iter()
            .position(|founder| founder.name == *own)
            .expect("the own name is one of the list, and each name of it is here");
        Ok(Self { own, cluster_id, members })
    }

    /// The member that is made.
    pub fn own(&self) -> &Founder {
        &self.members[self.own]
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> ClusterId {
        self.cluster_id
    }

    /// All members, by ascending id.
    pub fn members(&self) -> &[Founder] {
        &self.members
    }
}

#[cfg(test)]
mod tests;
