//! Puts an export into a running cluster: the file is proven, both sides are compared, and only then anything is
//! written; in the end everything is read back at one revision.
//!
//! Killed anywhere, the next run compares again and writes what is missing: nothing is noted down anywhere.

use std::collections::BTreeMap;

use crate::backup::cluster::{Answering, Cluster};
use crate::backup::export::record::{Key, printable};
use crate::etcd::client::keys::{Pages, Pair, Put, Span};
use crate::etcd::client::{EtcdClient, EtcdError};
use crate::etcd::id::{ClusterId, LeaseId};
use crate::fail_point;

mod access;
pub mod batch;
pub mod conflict;
mod error;
mod leases;
pub mod source;
mod there;
mod write;

pub use error::ImportError;

use access::Plan;
use conflict::{Found, Rule, Step, step};
use leases::Leases;
use source::{Selection, Source};
use there::There;
use write::Write;

/// So many keys without a look at anything else.
const AT_ONCE: u64 = 1_000;
/// So many are named; the others are counted.
const NAMED: usize = 5;

/// What is to be imported, and how.
#[derive(Debug)]
pub struct Importing<'a> {
    /// The file.
    pub source: &'a Source,
    /// Which of its keys.
    pub selection: &'a Selection,
    /// Whether there may be keys already.
    pub into_existing: bool,
    /// What to do where they differ.
    pub rule: Rule,
    /// Whether roles and users are imported.
    pub access: bool,
}

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Both sides are compared.
    Comparing,
    /// Keys are written.
    Writing,
    /// They are read back.
    ReadingBack,
}

/// What was imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Into which cluster.
    pub cluster: ClusterId,
    /// At this revision everything was read back.
    pub revision: i64,
    /// Keys that were written.
    pub written: u64,
    /// Keys that were there already.
    pub same: u64,
    /// Keys that differ and stayed as they were.
    pub kept: u64,
    /// Keys of leases that had ended during the export.
    pub left_out: u64,
    /// Keys that ended with their leases during the import.
    pub expired: u64,
    /// Leases that were granted.
    pub leases: u64,
    /// Leases whose ids were taken, with their new ones.
    pub renamed: BTreeMap<LeaseId, LeaseId>,
    /// Roles of the file.
    pub roles: usize,
    /// Users of the file.
    pub users: usize,
    /// Users that were made, without a password.
    pub new_users: Vec<String>,
}

/// Imports. `told` hears what is going on, how many bytes of the file are done, and of how many.
pub async fn import(
    importing: &Importing<'_>,
    cluster: &Cluster,
    told: &mut dyn FnMut(Phase, u64, u64),
) -> Result<Imported, ImportError> {
    let source = importing.source;
    let (Answering { target, client, .. }, membership) = cluster.source().await?;
    let seconds = source.leases.values().filter_map(|lease| Some((lease.id, lease.seconds?))).collect();
    let span = Span::prefix(&importing.selection.prefix_there(&source.head.prefix.0));
    let leases = Leases::new(seconds, importing.into_existing);
    let member = format!("{}:{}", target.name, target.port);
    let mut run = Run { importing, client, member, span, leases, left_out: 0, looked_up: 0 };

    run.expect_room().await?;
    let (roles, users) = if importing.access { (&*source.roles, &*source.users) } else { (&[][..], &[][..]) };
    let plan = Plan::of(&mut run.client, roles, users, importing.rule).await;
    let plan = plan.map_err(|error| run.failed("users and roles", error))?;
    let (same, kept) =
        run.compare(&plan.conflicts, &mut |done| told(Phase::Comparing, done, source.bytes)).await?;
    let written = run.write(&mut |done| told(Phase::Writing, done, source.bytes)).await?;
    fail_point::reach("import:written");
    let carried_out = plan.carry_out(&mut run.client).await;
    carried_out.map_err(|(place, error)| run.failed(&place, error))?;
    let back = run.read_back(kept, &mut |done| told(Phase::ReadingBack, done, source.bytes)).await?;
    let after = Plan::of(&mut run.client, roles, users, importing.rule).await;
    let undone = after.map_err(|error| run.failed("users and roles", error))?.undone();
    if !undone.is_empty() {
        let count = undone.len() as u64;
        return Err(ImportError::Differs { revision: back.revision, count, first: first(undone) });
    }
    Ok(Imported {
        cluster: membership.cluster_id,
        revision: back.revision,
        written,
        same,
        kept,
        left_out: run.left_out,
        expired: back.expired,
        leases: run.leases.granted,
        renamed: run.leases.renamed,
        roles: roles.len(),
        users: users.len(),
        new_users: plan.new_users(),
    })
}

/// One import that is going on.
struct Run<'a> {
    importing: &'a Importing<'a>,
    client: EtcdClient,
    member: String,
    /// Where its keys come over there.
    span: Span,
    leases: Leases,
    /// Keys of leases that nobody knows the time of: they ended with them.
    left_out: u64,
    looked_up: u64,
}

/// A key as it is to be over there.
struct Wanted {
    key: Vec<u8>,
    value: Vec<u8>,
    lease: Option<LeaseId>,
}

struct Back {
    revision: i64,
    expired: u64,
}

impl Run<'_> {
    /// Nothing may be there, unless that was said.
    async fn expect_room(&mut self) -> Result<(), ImportError> {
        if self.importing.into_existing {
            return Ok(());
        }
        let page = Pages::now(self.span.clone()).next(&mut self.client).await;
        match page.map_err(|error| self.failed("its first key", error))? {
            Some(page) => {
                let first = page.pairs.into_iter().next().map(|pair| pair.key).unwrap_or_default();
                Err(ImportError::NotEmpty { count: page.remaining, first })
            }
            None => Ok(()),
        }
    }

    /// What a key of the file is to be over there; `None`: nothing.
    fn wanted(&self, key: Key) -> Option<Wanted> {
        let gone =
            |id: &LeaseId| self.importing.source.leases.get(id).is_none_or(|lease| lease.seconds.is_none());
        let name = self.importing.selection.name(&key.key.0)?;
        Some(Wanted { key: name, value: key.value.0, lease: key.lease })
            .filter(|_| !key.lease.as_ref().is_some_and(gone))
    }

    /// What becomes of a key, given what is there.
    async fn step(&mut self, wanted: &Wanted, there: Option<&Pair>) -> Result<Step, ImportError> {
        let found = match there {
            None => Found::Nothing,
            Some(pair) => {
                let same = pair.value == wanted.value;
                let lease = self.leases.same(&mut self.client, wanted.lease, pair.lease).await;
                let lease = lease.map_err(|error| self.failed(&printable(&wanted.key), error))?;
                if same && lease { Found::Same } else { Found::Other(pair.mod_revision) }
            }
        };
        Ok(step(found, self.importing.rule))
    }

    /// Compares everything before anything is written: how many keys are there already, and how many stay as they are.
    async fn compare(
        &mut self,
        conflicts: &[String],
        told: &mut dyn FnMut(u64),
    ) -> Result<(u64, u64), ImportError> {
        let mut there = There::over(Pages::now(self.span.clone()));
        let mut keys = self.importing.source.keys()?;
        let (mut same, mut kept) = (0, 0);
        let (mut count, mut named) = (conflicts.len() as u64, conflicts.to_vec());
        self.left_out = 0;
        while let Some(key) = keys.read()? {
            told(keys.bytes());
            if self.importing.selection.name(&key.key.0).is_none() {
                continue;
            }
            let Some(wanted) = self.wanted(key) else {
                self.left_out += 1;
                continue;
            };
            let found = self.find(&mut there, &wanted.key).await?;
            match self.step(&wanted, found.as_ref()).await? {
                Step::Put(_) => {}
                Step::Skip => same += 1,
                Step::Keep => kept += 1,
                Step::Refuse => {
                    count += 1;
                    if named.len() < NAMED {
                        named.push(printable(&wanted.key));
                    }
                }
            }
        }
        if count > 0 {
            return Err(ImportError::Conflicts { count, first: first(named) });
        }
        Ok((same, kept))
    }

    /// Writes what is missing, in the order of keys; how many that were.
    async fn write(&mut self, told: &mut dyn FnMut(u64)) -> Result<u64, ImportError> {
        let mut there = There::over(Pages::now(self.span.clone()));
        let mut keys = self.importing.source.keys()?;
        let (mut batch, mut written) = (batch::Batch::default(), 0);
        while let Some(key) = keys.read()? {
            let Some(wanted) = self.wanted(key) else { continue };
            let found = self.find(&mut there, &wanted.key).await?;
            let seen = match self.step(&wanted, found.as_ref()).await? {
                Step::Put(seen) => seen,
                Step::Skip | Step::Keep => continue,
                // It was not so when both were compared.
                Step::Refuse => {
                    return Err(ImportError::Moved { first: wanted.key.clone(), last: wanted.key });
                }
            };
            written += 1;
            let weight = batch::weight(&wanted.key, &wanted.value);
            let Wanted { key, value, lease } = wanted;
            let write = Write { put: Put { key, value, lease: 0, seen }, lease };
            if let Some(ready) = batch.add(write, weight) {
                self.put(ready).await?;
                told(keys.bytes());
                fail_point::reach("import:batch-written");
            }
        }
        if let Some(ready) = batch.take() {
            self.put(ready).await?;
        }
        Ok(written)
    }

    /// Compares every key with what is there now, at one revision.
    async fn read_back(&mut self, kept: u64, told: &mut dyn FnMut(u64)) -> Result<Back, ImportError> {
        let revision = self.client.revision_of(&self.span).await;
        let revision = revision.map_err(|error| self.failed("its revision", error))?;
        let mut there = There::over(Pages::at(self.span.clone(), revision));
        let mut keys = self.importing.source.keys()?;
        let (mut differing, mut named, mut other, mut expired) = (0_u64, Vec::new(), 0_u64, 0);
        while let Some(key) = keys.read()? {
            told(keys.bytes());
            let Some(wanted) = self.wanted(key) else { continue };
            let found = self.find(&mut there, &wanted.key).await?;
            let how = match (&found, self.step(&wanted, found.as_ref()).await?) {
                (_, Step::Skip) => continue,
                (None, _) if self.has_expired(&wanted).await? => {
                    expired += 1;
                    continue;
                }
                (None, _) => "is not there",
                (Some(_), Step::Keep) if other < kept => {
                    other += 1;
                    continue;
                }
                (Some(_), _) => "has another value or lease",
            };
            differing += 1;
            if named.len() < NAMED {
                named.push(format!("{} {how}", printable(&wanted.key)));
            }
        }
        there.rest(&mut self.client).await.map_err(|error| self.failed("its last keys", error))?;
        if there.others > 0 && !self.importing.into_existing {
            differing += there.others;
            named.push(format!("{} keys that are not in it", there.others));
        }
        if differing > 0 {
            return Err(ImportError::Differs {
                revision,
                count: differing.max(named.len() as u64),
                first: named,
            });
        }
        Ok(Back { revision, expired })
    }

    /// Whether a key is gone because its lease is.
    async fn has_expired(&mut self, wanted: &Wanted) -> Result<bool, ImportError> {
        let Some(lease) = wanted.lease else { return Ok(false) };
        let ended = self.leases.ended(&mut self.client, lease).await;
        ended.map_err(|error| self.failed(&printable(&wanted.key), error))
    }

    async fn find(&mut self, there: &mut There, key: &[u8]) -> Result<Option<Pair>, ImportError> {
        self.looked_up += 1;
        if self.looked_up.is_multiple_of(AT_ONCE) {
            // Where nothing is there nothing is waited for: signals are heard in between.
            tokio::task::yield_now().await;
        }
        there.find(&mut self.client, key).await.map_err(|error| self.failed(&printable(key), error))
    }

    fn failed(&self, place: &str, error: EtcdError) -> ImportError {
        ImportError::Etcd { member: self.member.clone(), place: place.to_owned(), error }
    }
}

fn first(mut names: Vec<String>) -> Vec<String> {
    names.truncate(NAMED);
    names
}
