//! One membership change or planned stop at a time: a lease with a fixed id, of which etcd grants only one
//! (docs/contract.md#mutex).
//!
//! A lease rather than a key, so that nothing appears in the keyspace of the users. It carries no owner;
//! who holds it knows for how long: etcd never ends a lease before its time has passed since it was asked
//! for, and a change of leader only makes it longer. After that time nobody releases or relies on it.

use std::time::{Duration, Instant};

use super::client::{EtcdClient, EtcdError};

/// The lease's id: `etcd-rel` in ASCII. An id this large is never drawn by accident from etcd's own,
/// which begin with a member id.
pub const LEASE_ID: i64 = i64::from_be_bytes(*b"etcd-rel");

/// How long the mutex is held without being renewed: longer than a process killed with -9 needs to be back,
/// shorter than anybody wants to wait for one that is not.
pub const TTL: Duration = Duration::from_secs(30);

/// Renewed after this much of it: two renewals may fail before it is lost.
pub const RENEW_EVERY: Duration = Duration::from_secs(10);

/// The mutex, held until `until` unless renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// By this moment it may be somebody else's.
    pub until: Instant,
}

impl Held {
    /// Whether it is certainly still ours, with `margin` to spare.
    pub fn for_another(self, margin: Duration) -> bool {
        Instant::now() + margin < self.until
    }
}

/// Takes the mutex if it is free; `None` = somebody holds it.
pub async fn try_take(client: &mut EtcdClient) -> Result<Option<Held>, EtcdError> {
    // Measured before the question is sent: etcd's clock starts later.
    let until = Instant::now() + TTL;
    match client.grant_lease(LEASE_ID, TTL.as_secs().cast_signed()).await {
        Ok(()) => Ok(Some(Held { until })),
        Err(EtcdError::LeaseExists) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Holds it for another full time; `None` = it has run out and is not ours any more.
pub async fn renew(client: &mut EtcdClient, held: Held) -> Result<Option<Held>, EtcdError> {
    if !held.for_another(Duration::ZERO) {
        return Ok(None);
    }
    let until = Instant::now() + TTL;
    match client.renew_lease(LEASE_ID).await {
        Ok(()) => Ok(Some(Held { until })),
        Err(EtcdError::LeaseNotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives it back; one that may be somebody else's by now is left alone.
pub async fn release(client: &mut EtcdClient, held: Held) -> Result<(), EtcdError> {
    if !held.for_another(Duration::ZERO) {
        return Ok(());
    }
    match client.revoke_lease(LEASE_ID).await {
        Ok(()) | Err(EtcdError::LeaseNotFound) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_a_lease_id_etcd_accepts_and_renewing_leaves_room_for_two_failures() {
        const { assert!(LEASE_ID > 0) };
        assert!(RENEW_EVERY * 3 <= TTL);
    }

    #[test]
    fn what_has_run_out_is_not_ours() {
        let now = Instant::now();
        assert!(Held { until: now + TTL }.for_another(Duration::from_secs(1)));
        assert!(!Held { until: now }.for_another(Duration::ZERO));
    }
}
