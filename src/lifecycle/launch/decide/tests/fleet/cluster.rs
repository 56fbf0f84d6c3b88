//! A cluster: what its log says, and etcd's rules for changing that (docs/contract.md#quorum).

use std::collections::{BTreeMap, BTreeSet};

use super::disk::Log;
use crate::etcd::id::{ClientUrl, MemberId, PeerUrl};
use crate::etcd::member::Member;
use crate::etcd::quorum::quorum;
use crate::etcd::version::EtcdVersion;

/// How strict etcd is about adding members.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Patch {
    /// It asks for a quorum.
    Relaxed,
    /// It asks for everybody.
    Strict,
}

impl Patch {
    pub(super) fn version(self) -> EtcdVersion {
        match self {
            Self::Relaxed => EtcdVersion::new(3, 6, 11),
            Self::Strict => EtcdVersion::new(3, 6, 10),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Voter,
    Learner,
}

#[derive(Clone)]
pub(super) struct Entry {
    pub(super) url: PeerUrl,
    pub(super) role: Role,
    /// The members of a first boot have names, and so count as started, before they run.
    pub(super) named: bool,
}

/// The member list.
#[derive(Clone)]
pub(super) struct Config {
    pub(super) members: BTreeMap<MemberId, Entry>,
    pub(super) voters: BTreeSet<MemberId>,
}

impl Config {
    fn of(members: BTreeMap<MemberId, Entry>) -> Self {
        let votes = |(id, entry): (&MemberId, &Entry)| (entry.role == Role::Voter).then_some(*id);
        Self { voters: members.iter().filter_map(votes).collect(), members }
    }

    pub(super) fn quorum(&self) -> usize {
        quorum(self.voters.len())
    }
}

/// The mutex: a lease without a name; whose it is only the model knows.
pub(super) struct Lease {
    pub(super) holder: u64,
    pub(super) until: u64,
}

/// The one log that is committed, and what the model remembers beside it. What a member knows of it is
/// the part that its own log has: a prefix.
pub(in super::super) struct Cluster {
    /// The member list from this length of the log on.
    configs: Vec<(usize, Config)>,
    /// How many entries are committed.
    pub(super) len: usize,
    /// The entry with which each member published itself.
    pub(super) published: BTreeMap<MemberId, usize>,
    /// The log of each member that ever had one.
    pub(super) logs: BTreeMap<MemberId, u64>,
    /// Removed for ever.
    pub(super) gone: BTreeSet<MemberId>,
    /// The disks that its first boot counts on, by instance.
    pub(super) founders: BTreeMap<usize, u64>,
    pub(super) lease: Option<Lease>,
    pub(super) served: bool,
    /// An operator put disks back with which an older state of it can serve: nobody can keep that safe.
    pub(super) revived: bool,
}

impl Cluster {
    pub(super) fn founded(
        members: impl Iterator<Item = (MemberId, PeerUrl)>,
        founders: BTreeMap<usize, u64>,
    ) -> Self {
        let members = members.map(|(id, url)| (id, Entry { url, role: Role::Voter, named: true }));
        let config = Config::of(members.collect());
        let len = config.members.len();
        Self {
            configs: vec![(len, config)],
            len,
            published: BTreeMap::new(),
            logs: BTreeMap::new(),
            gone: BTreeSet::new(),
            founders,
            lease: None,
            served: false,
            revived: false,
        }
    }

    /// How many entries every founding member begins with.
    pub(super) fn founding(&self) -> usize {
        self.configs[0].0
    }

    pub(super) fn config(&self) -> &Config {
        &self.configs.last().expect("it was founded").1
    }

    /// What a log of this length knows; a log without the founding entries knows nobody.
    pub(super) fn config_at(&self, position: usize) -> Option<&Config> {
        self.configs.iter().rev().find(|(from, _)| *from <= position).map(|(_, config)| config)
    }

    /// The newest entry changes the member list.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut BTreeMap<MemberId, Entry>)) {
        let mut members = self.config().members.clone();
        change(&mut members);
        let gone: Vec<MemberId> =
            self.config().members.keys().filter(|id| !members.contains_key(id)).copied().collect();
        self.gone.extend(gone);
        self.configs.push((self.len, Config::of(members)));
    }

    pub(super) fn at_url(&self, url: &PeerUrl) -> Option<MemberId> {
        self.config().members.iter().find(|(_, entry)| entry.url == *url).map(|(id, _)| *id)
    }

    pub(super) fn list_at(&self, position: usize) -> Vec<Member> {
        let entry = |(id, entry): (&MemberId, &Entry)| {
            let published = self.published.get(id).is_some_and(|at| *at <= position);
            let client = ClientUrl::https(entry.url.host(), 2379);
            Member {
                id: *id,
                name: (entry.named || published).then(|| entry.url.host().to_owned()),
                peer_urls: [entry.url.clone()].into(),
                client_urls: published.then_some(client).into_iter().collect(),
                is_learner: entry.role == Role::Learner,
            }
        };
        self.config_at(position).into_iter().flat_map(|config| &config.members).map(entry).collect()
    }

    /// Who of these would be elected: a voter, as far as its own log knows, whose log is not behind those
    /// of a quorum of the voters it knows.
    pub(super) fn elect(&self, logs: &[(usize, &Log)]) -> Option<usize> {
        let electable = logs.iter().filter(|(_, log)| self.is_electable(log, logs));
        let first = electable.max_by_key(|(index, log)| (log.position, std::cmp::Reverse(*index)))?;
        Some(first.0)
    }

    /// Whether one of these could be elected although its log lacks something that is committed.
    pub(super) fn could_forget(&self, logs: &[(usize, &Log)]) -> bool {
        logs.iter().any(|(_, log)| log.position < self.len && self.is_electable(log, logs))
    }

    fn is_electable(&self, candidate: &Log, logs: &[(usize, &Log)]) -> bool {
        let Some(config) = self.config_at(candidate.position) else { return false };
        let votes = |log: &Log| config.voters.contains(&log.member) && log.position <= candidate.position;
        votes(candidate) && logs.iter().filter(|(_, log)| votes(log)).count() >= config.quorum()
    }

    fn started(&self, but: Option<MemberId>) -> usize {
        let Config { members, voters } = self.config();
        let started = |id: &&MemberId| members[*id].named || self.published.contains_key(*id);
        voters.iter().filter(|id| Some(**id) != but).filter(started).count()
    }

    /// Whether etcd adds a learner, with these voters connected for five seconds.
    pub(super) fn takes_one_more(&self, connected: &BTreeSet<MemberId>, patch: Patch) -> bool {
        let voters = self.config().voters.len();
        let needed = match patch {
            Patch::Relaxed => quorum(voters + 1),
            Patch::Strict => voters,
        };
        voters == 1 || connected.len() >= needed
    }

    pub(super) fn has_learner(&self) -> bool {
        self.config().members.len() > self.config().voters.len()
    }

    /// Whether etcd removes this member, with these voters connected for five seconds. Who is not connected at all, not
    /// even just now, costs nobody anything.
    pub(super) fn lets_go(&self, id: MemberId, connected: &BTreeSet<MemberId>, active: bool) -> bool {
        let voters = &self.config().voters;
        if !voters.contains(&id) {
            return true;
        }
        let enough = |rest: usize| rest >= quorum(voters.len() - 1);
        let others_connected = connected.iter().filter(|other| **other != id).count();
        enough(self.started(Some(id))) && (!active || enough(others_connected))
    }

    /// Whether etcd makes this learner, whose log has so many entries, a voter. It counts as started.
    pub(super) fn promotes(&self, position: usize) -> bool {
        position * 10 > self.len * 9 && self.started(None) + 1 >= quorum(self.config().voters.len() + 1)
    }
}
