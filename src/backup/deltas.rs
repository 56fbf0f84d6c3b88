//! Deltas: every change behind a full snapshot, cut from a watch by time or by size, without a gap.
//!
//! What is read waits in memory, at most one delta being filled and one on its way to the store. If the store is slow,
//! the watch is not read any further: etcd keeps what comes, as long as it is not compacted, and then a new full
//! snapshot is needed, which is said. Nothing is spooled to a disk: the persistent one is etcd's.

mod filling;
mod follow;
mod upload;

pub use filling::{Batch, Filling, Gap};
pub use follow::{End, Following, Limits, NeedsFull, Told, follow};

use super::catalog::{Catalog, Entry, continuous};
use super::layout::SetId;
use crate::etcd::id::ClusterId;

/// What deltas continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// The set.
    pub set: SetId,
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The last revision that is in the store.
    pub last: i64,
    /// The name of the object that has it.
    pub previous: String,
}

impl Base {
    /// Where the newest set of a cluster ends, in the store; `None` if there is none, or a broken one.
    pub fn newest(catalog: &Catalog, cluster_id: ClusterId) -> Option<Self> {
        let newest = catalog.sets.iter().find(|entry| entry.full.cluster.id == cluster_id)?;
        newest.broken.is_none().then(|| Self::end_of(newest))
    }

    fn end_of(entry: &Entry) -> Self {
        let chain = continuous(entry.full.revisions.last, &entry.deltas);
        let object = |stem: &str| {
            let prefix = format!("{stem}.delta");
            entry.names.iter().find(|name| name.starts_with(&prefix)).cloned()
        };
        let last = chain.last().and_then(|delta| Some((delta.last, object(&delta.stem)?)));
        let (last, previous) =
            last.unwrap_or_else(|| (entry.full.revisions.last, entry.full.object.name.clone()));
        Self { set: entry.set().clone(), cluster_id: entry.full.cluster.id, last, previous }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::catalog::catalog;
    use crate::backup::config::StoreConfig;
    use crate::backup::fixture::{delta, full, put_delta, put_full};
    use crate::backup::store::Store;

    #[tokio::test]
    async fn one_goes_on_where_the_chain_in_the_store_ends() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("file://{}", directory.path().display());
        let store = Store::open(&StoreConfig { url, ..StoreConfig::default() }).unwrap();
        let base = async || {
            let catalog = catalog(&store).await.unwrap();
            Base::newest(&catalog, "cdf818194e3a8c32".parse().unwrap())
        };

        assert_eq!(base().await, None);

        let set = full(0, 10);
        put_full(&store, &set).await;
        let at_full = Base {
            set: set.set.clone(),
            cluster_id: set.cluster.id,
            last: 10,
            previous: set.object.name.clone(),
        };
        assert_eq!(base().await, Some(at_full.clone()));

        put_delta(&store, &delta(0, 11, 15, 2)).await;
        put_delta(&store, &delta(0, 16, 20, 3)).await;
        // Behind a gap: what is between has to come first.
        put_delta(&store, &delta(0, 30, 40, 4)).await;
        let reached = base().await.unwrap();
        assert_eq!(reached.last, 20);
        assert_eq!(reached.previous, delta(0, 16, 20, 3).1.object.name);

        let other = Base::newest(&catalog(&store).await.unwrap(), ClusterId(7));
        assert_eq!(other, None);
    }
}
