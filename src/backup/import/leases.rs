//! Leases over there: with the same ids where they are free.

use std::collections::{BTreeMap, BTreeSet};

use crate::etcd::client::{EtcdClient, EtcdError};
use crate::etcd::id::LeaseId;

/// The leases of a file, and what they are over there.
#[derive(Debug, Default)]
pub(super) struct Leases {
    /// For how long each is granted.
    seconds: BTreeMap<LeaseId, i64>,
    there: BTreeMap<LeaseId, i64>,
    /// What the other cluster said of its own leases.
    asked: BTreeMap<i64, Option<i64>>,
    /// Those that have ended since they were granted here, whether or not they were granted again for later keys.
    ended: BTreeSet<LeaseId>,
    /// Whether a lease with the same id and the same time is taken for one that an import before has granted.
    again: bool,
    /// Those that were granted now.
    pub(super) granted: u64,
    /// Those whose id was taken, and what they are called over there.
    pub(super) renamed: BTreeMap<LeaseId, LeaseId>,
}

impl Leases {
    pub(super) fn new(seconds: BTreeMap<LeaseId, i64>, again: bool) -> Self {
        Self { seconds, again, ..Self::default() }
    }

    /// Whether a lease over there stands for one of the file: it was granted for it, or has the same time, as what an
    /// import before has granted. That is remembered: each stands for one.
    pub(super) async fn same(
        &mut self,
        client: &mut EtcdClient,
        ours: Option<LeaseId>,
        theirs: i64,
    ) -> Result<bool, EtcdError> {
        let Some(ours) = ours else { return Ok(theirs == 0) };
        if let Some(known) = self.there.get(&ours) {
            return Ok(*known == theirs);
        }
        if theirs == 0 || self.there.values().any(|taken| *taken == theirs) {
            return Ok(false);
        }
        let seconds = match self.asked.get(&theirs) {
            Some(seconds) => *seconds,
            None => client.lease_seconds(theirs).await?,
        };
        self.asked.insert(theirs, seconds);
        let same = seconds.is_some() && seconds == self.seconds.get(&ours).copied();
        if same {
            self.there.insert(ours, theirs);
            self.note(ours, theirs);
        }
        Ok(same)
    }

    /// The lease over there, granted if it is not there yet.
    pub(super) async fn of(&mut self, client: &mut EtcdClient, ours: LeaseId) -> Result<i64, EtcdError> {
        if let Some(there) = self.there.get(&ours) {
            return Ok(*there);
        }
        let seconds = self.seconds.get(&ours).copied().unwrap_or_default();
        let id = ours.0.cast_signed();
        let there = match client.grant_lease(id, seconds).await {
            Ok(()) => {
                self.granted += 1;
                id
            }
            Err(EtcdError::LeaseExists) if self.again && client.lease_seconds(id).await? == Some(seconds) => {
                id
            }
            Err(EtcdError::LeaseExists) => {
                self.granted += 1;
                client.grant_new_lease(seconds).await?
            }
            Err(error) => return Err(error),
        };
        self.there.insert(ours, there);
        self.note(ours, there);
        Ok(there)
    }

    /// Forgets a lease if it has ended over there; whether it has, now or before.
    pub(super) async fn ended(&mut self, client: &mut EtcdClient, ours: LeaseId) -> Result<bool, EtcdError> {
        if let Some(there) = self.there.get(&ours)
            && client.lease_seconds(*there).await?.is_none()
        {
            self.there.remove(&ours);
            self.renamed.remove(&ours);
            self.ended.insert(ours);
        }
        Ok(self.ended.contains(&ours))
    }

    fn note(&mut self, ours: LeaseId, there: i64) {
        let there = LeaseId(there.cast_unsigned());
        if there != ours {
            self.renamed.insert(ours, there);
        }
    }
}
