//! The keys of the other cluster, read beside those of a file: both in their order.

use std::collections::VecDeque;

use crate::etcd::client::keys::{Pages, Pair};
use crate::etcd::client::{EtcdClient, EtcdError};

/// Goes through the keys over there.
pub(super) struct There {
    pages: Pages,
    ready: VecDeque<Pair>,
    /// Keys that nobody asked for.
    pub(super) others: u64,
}

impl There {
    pub(super) fn over(pages: Pages) -> Self {
        Self { pages, ready: VecDeque::new(), others: 0 }
    }

    /// What is there under a key, which is larger than the one before.
    pub(super) async fn find(
        &mut self,
        client: &mut EtcdClient,
        key: &[u8],
    ) -> Result<Option<Pair>, EtcdError> {
        while self.fill(client).await? {
            match self.ready.front() {
                Some(next) if next.key.as_slice() < key => {
                    self.ready.pop_front();
                    self.others += 1;
                }
                Some(next) if next.key == key => return Ok(self.ready.pop_front()),
                _ => break,
            }
        }
        Ok(None)
    }

    /// Reads what is left.
    pub(super) async fn rest(&mut self, client: &mut EtcdClient) -> Result<(), EtcdError> {
        while self.fill(client).await? {
            self.others += self.ready.drain(..).count() as u64;
        }
        Ok(())
    }

    async fn fill(&mut self, client: &mut EtcdClient) -> Result<bool, EtcdError> {
        if self.ready.is_empty()
            && let Some(page) = self.pages.next(client).await?
        {
            self.ready = page.pairs.into();
        }
        Ok(!self.ready.is_empty())
    }
}
