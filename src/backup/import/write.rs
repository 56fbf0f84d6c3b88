//! Writes that belong together, in one transaction if the cluster takes it.

use std::collections::BTreeSet;

use super::{ImportError, Run};
use crate::backup::export::record::printable;
use crate::etcd::client::EtcdError;
use crate::etcd::client::keys::Put;
use crate::etcd::id::LeaseId;

/// Leases may end between their grant and the write; not again and again.
const LEASE_RETRIES: usize = 2;

/// A write and the lease it is to hang on.
pub(super) struct Write {
    pub(super) put: Put,
    pub(super) lease: Option<LeaseId>,
}

impl Run<'_> {
    /// Writes all of them; if the cluster takes less at once than others, in halves.
    pub(super) async fn put(&mut self, writes: Vec<Write>) -> Result<(), ImportError> {
        let mut waiting = vec![writes];
        while let Some(mut writes) = waiting.pop() {
            match self.put_together(&mut writes).await? {
                Together::Done => {}
                Together::TooLarge if writes.len() > 1 => {
                    let later = writes.split_off(writes.len() / 2);
                    waiting.extend([later, writes]);
                }
                Together::TooLarge => self.put_alone(&writes).await?,
            }
        }
        Ok(())
    }

    async fn put_together(&mut self, writes: &mut [Write]) -> Result<Together, ImportError> {
        let mut retries = 0;
        loop {
            for write in &mut *writes {
                if let Some(lease) = write.lease {
                    let there = self.leases.of(&mut self.client, lease).await;
                    write.put.lease =
                        there.map_err(|error| self.failed(&printable(&write.put.key), error))?;
                }
            }
            let puts: Vec<&Put> = writes.iter().map(|write| &write.put).collect();
            let (Some(first), Some(last)) = (puts.first(), puts.last()) else { return Ok(Together::Done) };
            match self.client.put_all(&puts).await {
                Ok(true) => return Ok(Together::Done),
                Ok(false) => {
                    return Err(ImportError::Moved { first: first.key.clone(), last: last.key.clone() });
                }
                Err(EtcdError::TooLarge(_)) => return Ok(Together::TooLarge),
                Err(EtcdError::LeaseNotFound) if retries < LEASE_RETRIES => {
                    retries += 1;
                    let leases: BTreeSet<LeaseId> = writes.iter().filter_map(|write| write.lease).collect();
                    for lease in leases {
                        let ended = self.leases.ended(&mut self.client, lease).await;
                        ended.map_err(|error| self.failed(&printable(&first.key), error))?;
                    }
                }
                Err(error) => return Err(self.refused(first, error)),
            }
        }
    }

    /// One that is just below the limit for a write, and above it for a transaction.
    async fn put_alone(&mut self, writes: &[Write]) -> Result<(), ImportError> {
        for write in writes {
            match self.client.put_one(&write.put).await {
                Ok(()) => {}
                Err(EtcdError::TooLarge(_)) => {
                    let Put { key, value, .. } = &write.put;
                    return Err(ImportError::TooLarge { key: key.clone(), bytes: value.len() });
                }
                Err(error) => return Err(self.refused(&write.put, error)),
            }
        }
        Ok(())
    }

    fn refused(&self, put: &Put, error: EtcdError) -> ImportError {
        match error {
            EtcdError::NoSpace => ImportError::NoSpace { key: put.key.clone() },
            error => self.failed(&printable(&put.key), error),
        }
    }
}

enum Together {
    Done,
    TooLarge,
}
