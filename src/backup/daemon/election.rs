//! Which instance takes the backups: who holds a lease with a fixed id, of which etcd grants only one. As with the
//! mutex of membership changes (docs/contract.md#mutex), nothing appears among the users' keys.
//!
//! Two instances may be active for a moment, when one is cut off from etcd and its lease ends. That does no harm: each
//! writes objects of its own, and readers take what continues the chain.
//!
//! A cluster without space grants no lease, and needs its backups and its defragmentation all the more. There the
//! instance takes them whose own member leads, until a lease is granted again.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::backup::cluster::{Cluster, NoMember};
use crate::backup::step::Step;
use crate::etcd::client::{EtcdClient, EtcdError};

/// `etcd-bak` in ASCII.
const LEASE_ID: i64 = i64::from_be_bytes(*b"etcd-bak");
/// How long a dead instance keeps the others waiting.
const TTL: Duration = Duration::from_secs(15);
/// Two renewals may fail.
const RENEW_EVERY: Duration = Duration::from_secs(4);

/// The place of the one that is active.
pub(super) struct Lead {
    /// By then it may be somebody else's.
    until: Instant,
    by: By,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Lease,
    /// The own member leads, and no lease can be granted.
    Leadership,
}

impl Lead {
    /// Takes it if it is free; an error is why etcd does not tell.
    pub(super) async fn try_take(cluster: &Cluster) -> Result<Option<Self>, String> {
        let mut client = client(cluster).await.map_err(|error| error.to_string())?;
        // Measured before the question is sent: etcd's clock starts later.
        let until = Instant::now() + TTL;
        match client.grant_lease(LEASE_ID, TTL.as_secs().cast_signed()).await {
            Ok(()) => {
                Step::Elected.reach();
                Ok(Some(Self { until, by: By::Lease }))
            }
            Err(EtcdError::LeaseExists) => Ok(None),
            Err(EtcdError::NoSpace) if cluster.first_leads().await => {
                Ok(Some(Self { until, by: By::Leadership }))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Keeps it; returns when it is lost.
    pub(super) async fn keep(&mut self, cluster: &Cluster) {
        let mut connected: Option<EtcdClient> = None;
        loop {
            if timeout_at(self.until, sleep(RENEW_EVERY)).await.is_err() {
                return;
            }
            let before = Instant::now();
            if self.by == By::Leadership {
                match timeout_at(self.until, Self::try_take(cluster)).await {
                    // By now it may be a lease.
                    Ok(Ok(Some(again))) => *self = again,
                    Ok(Ok(None)) | Err(_) => return,
                    // Nobody leads, or another one: it says so by the lease, or in time.
                    Ok(Err(_)) => {}
                }
                continue;
            }
            let renewal = async {
                let mut client = match connected.take() {
                    Some(client) => client,
                    None => client(cluster).await.ok()?,
                };
                let renewed = client.renew_lease(LEASE_ID).await;
                connected = renewed.is_ok().then_some(client);
                Some(renewed)
            };
            match timeout_at(self.until, renewal).await {
                Ok(Some(Ok(()))) => self.until = before + TTL,
                Ok(Some(Err(EtcdError::LeaseNotFound))) | Err(_) => return,
                Ok(Some(Err(_)) | None) => {}
            }
        }
    }

    /// Gives it back, if it is certainly ours. Best effort: it ends by itself.
    pub(super) async fn release(self, cluster: &Cluster) {
        Step::WorkEnded.reach();
        let revoke = async {
            if let Ok(mut client) = client(cluster).await
                && Instant::now() < self.until
                && self.by == By::Lease
            {
                // Ignored, as said.
                let _ = client.revoke_lease(LEASE_ID).await;
                Step::LeaseReturned.reach();
            }
        };
        let _ = timeout_at(self.until, revoke).await;
    }
}

async fn client(cluster: &Cluster) -> Result<EtcdClient, NoMember> {
    cluster.source().await.map(|(answering, _)| answering.client)
}
