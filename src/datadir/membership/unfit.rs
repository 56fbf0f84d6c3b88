//! Why a list of members founds no cluster, in the three parts an operator needs.

use std::collections::BTreeSet;

use crate::etcd::id::{Malformed, MemberId, MemberName, PeerUrl};
use crate::report::Complaint;

/// Why a list of members founds no cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Nobody is listed.
    #[error("the list of members is empty")]
    Empty,
    /// A part of `--initial-cluster` is no `name=URL`.
    #[error("'{entry}' in the list of members is not NAME=URL")]
    NoPair {
        /// As it was typed.
        entry: String,
    },
    /// A name that etcd or its tools could not take back.
    #[error("{0}")]
    Name(#[from] Malformed),
    /// A URL that etcd refuses, or of which it would compute another id than we do.
    #[error("'{text}' is no peer URL as etcd takes it: {why}")]
    Url {
        /// As it was written.
        text: String,
        /// What is wrong with it.
        why: &'static str,
        /// What was probably meant.
        corrected: Option<String>,
    },
    /// A member without any URL.
    #[error("member '{name}' has no peer URL")]
    NoUrl {
        /// Its name.
        name: MemberName,
    },
    /// One name, listed as two members by a source that has one entry for each.
    #[error("member '{name}' is listed twice")]
    SameName {
        /// The name.
        name: MemberName,
    },
    /// One URL of two members.
    #[error("{url} is the URL of two members, '{one}' and '{other}'")]
    SharedUrl {
        /// The URL.
        url: PeerUrl,
        /// The one.
        one: MemberName,
        /// The other.
        other: MemberName,
    },
    /// One URL, twice in the same member.
    #[error("{url} is listed twice for member '{name}'")]
    RepeatedUrl {
        /// The URL.
        url: PeerUrl,
        /// Its member.
        name: MemberName,
    },
    /// The own name is not in the list.
    #[error("member '{name}' is not among those listed: {}", joined(listed))]
    NotListed {
        /// The own name.
        name: MemberName,
        /// Who is listed.
        listed: BTreeSet<MemberName>,
        /// Who is listed with one of the own URLs.
        advertised: Option<MemberName>,
    },
    /// The own URLs are not those in the list.
    #[error("member '{name}' is listed with {}, but advertises {}", joined(listed), joined(advertised))]
    OtherUrls {
        /// The own name.
        name: MemberName,
        /// As listed.
        listed: BTreeSet<PeerUrl>,
        /// As advertised.
        advertised: BTreeSet<PeerUrl>,
    },
    /// Two members with one id.
    #[error("members '{one}' and '{other}' both get the id {id}")]
    SameId {
        /// The id.
        id: MemberId,
        /// The one.
        one: MemberName,
        /// The other.
        other: MemberName,
    },
    /// The one id that raft keeps for "nobody".
    #[error("member '{name}' gets the id 0")]
    NoId {
        /// Its name.
        name: MemberName,
    },
    /// A learner: the first members of a cluster all vote.
    #[error("member '{name}' is listed as a learner")]
    Learner {
        /// Its name.
        name: MemberName,
    },
    /// A file that cannot be understood.
    #[error("the list of members cannot be read: {0}")]
    Unreadable(String),
    /// DNS does not tell.
    #[error("the members cannot be found in DNS: {0}")]
    Dns(String),
}

impl Unfit {
    /// The same for an operator.
    pub fn complaint(&self) -> Complaint {
        let (why, next) = match self {
            Self::Empty | Self::NoPair { .. } => (
                "every member of the cluster must be in the list, with the URL its peers reach it at"
                    .to_owned(),
                "write --initial-cluster NAME=https://HOST:2380,NAME=https://HOST:2380".to_owned(),
            ),
            Self::Name(_) => {
                (BROKEN_LIST.to_owned(), "give the member another name; names are only labels".to_owned())
            }
            Self::Url { corrected, .. } => (
                "the ids of the members are computed from the letters of their URLs".to_owned(),
                corrected.as_ref().map_or_else(
                    || "write https://HOST:PORT, with a DNS name or an address".to_owned(),
                    |url| format!("write {url}"),
                ),
            ),
            Self::NoUrl { name } => {
                (BROKEN_LIST.to_owned(), format!("add its URL: {name}=https://HOST:2380"))
            }
            Self::SameName { .. } => (
                BROKEN_LIST.to_owned(),
                "give each member one entry with all its URLs, and a name of its own".to_owned(),
            ),
            Self::SharedUrl { .. } | Self::RepeatedUrl { .. } => (
                "etcd refuses a list that has a URL twice".to_owned(),
                "correct the list; a member may have several URLs, but each only once".to_owned(),
            ),
            Self::NotListed { advertised: Some(listed), .. } => (
                NOT_ITS_OWN.to_owned(),
                format!("its URL is that of '{listed}': pass --name {listed}, or rename it in the list"),
            ),
            Self::NotListed { advertised: None, .. } => {
                (NOT_ITS_OWN.to_owned(), "pass --name with one of these, or add the member".to_owned())
            }
            Self::OtherUrls { listed, .. } => (
                "its peers look for it at the listed URLs, and its id is computed from them".to_owned(),
                format!("pass --initial-advertise-peer-urls {}, or correct the list", joined(listed)),
            ),
            Self::SameId { .. } | Self::NoId { .. } => (
                "a member is known by its id, which is computed from its URLs and the token".to_owned(),
                "use another --initial-cluster-token, the same one for every member".to_owned(),
            ),
            Self::Learner { .. } => (
                "all members that a cluster begins with have a vote".to_owned(),
                "leave it out, and add it with `etcdctl member add --learner` once the cluster serves"
                    .to_owned(),
            ),
            Self::Unreadable(_) => (
                "without the members no id can be computed; nothing was written".to_owned(),
                "write `members:`, then for each `- {name: NAME, peer_urls: [\"https://HOST:2380\"]}`"
                    .to_owned(),
            ),
            Self::Dns(_) => (
                "without the members no id can be computed; nothing was written".to_owned(),
                "look at `dig +short SRV _etcd-server-ssl._tcp.DOMAIN`, or list the members yourself"
                    .to_owned(),
            ),
        };
        Complaint::refused(self.to_string(), why, next)
    }
}

const BROKEN_LIST: &str = "etcd would not take the list";
const NOT_ITS_OWN: &str = "the id of the member that is made comes from its own entry in the list";

fn joined<T: ToString>(items: &BTreeSet<T>) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
