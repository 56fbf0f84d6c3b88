//! Follows a cluster: reads the watch, cuts deltas and uploads them, for as long as that goes on without a gap.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use jiff::Timestamp;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::upload::upload;
use super::{Base, Batch, Filling, Gap};
use crate::backup::cluster::Cluster;
use crate::backup::codec::{CodecError, Packing};
use crate::backup::delta::Lease;
use crate::backup::full::random;
use crate::backup::manifest::Delta;
use crate::backup::store::Store;
use crate::etcd::client::watch::{Revision, Seen, WatchStream};
use crate::etcd::client::{EtcdClient, EtcdError};
use crate::etcd::id::ClusterId;

/// The first pause after a failure; each one is twice as long, up to the second.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// What waits when it ends has so long to get into the store.
const FLUSH_WITHIN: Duration = Duration::from_secs(20);
/// Leases that are remembered as written down. Whoever has more gets some of them twice, which does no harm.
const LEASES_MAX: usize = 65_536;

/// What to follow, and where to.
pub struct Following<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The store.
    pub store: &'a Store,
    /// How deltas are packed.
    pub packing: &'a Packing,
    /// When they are cut.
    pub limits: Limits,
    /// Hears what happens.
    pub tell: &'a dyn Fn(&Told),
}

/// When a delta is cut, whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// So long after the first change in it.
    pub period: Duration,
    /// With so many bytes.
    pub bytes: usize,
}

/// What happens meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The watch goes on, at this member, from this revision on.
    Watching {
        /// The member.
        member: String,
        /// The next revision.
        from: i64,
    },
    /// The watch broke; it is begun anew.
    Broken(String),
    /// Everything up to this revision has been read.
    Read(i64),
    /// A delta is in the store.
    Delta(Delta),
    /// One could not be uploaded; it is tried again.
    Failed(CodecError),
}

/// Why following ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Somebody wanted it.
    Stopped,
    /// Deltas cannot go on.
    NeedsFull(NeedsFull),
}

/// Why only a full snapshot helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NeedsFull {
    /// etcd does not have the next revision any more.
    #[error("etcd compacted up to revision {0} before everything was read")]
    Compacted(i64),
    /// A revision was skipped.
    #[error(transparent)]
    Gap(#[from] Gap),
    /// The cluster was replaced, by a restore for example.
    #[error("the members are now of cluster {0}")]
    OtherCluster(ClusterId),
    /// The cluster is behind what is in the store: it lost its data, and is not the same any more.
    #[error("etcd is at revision {now}, behind revision {stored} in the store")]
    Behind {
        /// etcd's.
        now: i64,
        /// The store's.
        stored: i64,
    },
}

/// Follows from `base` on until `stop` or until deltas cannot go on; what was read by then gets into the store if the
/// store takes it in time. Gives where the chain ends.
pub async fn follow(following: &Following<'_>, base: Base, stop: impl Future<Output = ()>) -> (Base, End) {
    let mut stop = pin!(stop);
    let mut watching = Watching::from(base.last + 1);
    let mut base = base;
    let mut uploading: Option<LocalBoxFuture<'_, Delta>> = None;
    let end = loop {
        let limits = following.limits;
        let due = watching.due;
        let overdue = due.is_some_and(|due| due <= Instant::now());
        if uploading.is_none()
            && (overdue || watching.filling.bytes() >= limits.bytes)
            && let Some(batch) = watching.cut()
        {
            uploading = Some(following.upload(base.clone(), batch).boxed_local());
        }
        // What is full waits for the upload, and etcd with it.
        let room = watching.filling.bytes() < limits.bytes;
        tokio::select! {
            biased;
            () = &mut stop => break End::Stopped,
            delta = async { uploading.as_mut().expect("looked at before").await }, if uploading.is_some() => {
                uploading = None;
                base = after(&base, &delta);
            }
            () = async { sleep_until(due.expect("looked at before")).await }, if due.is_some() && uploading.is_none() => {}
            read = watching.read(following, base.cluster_id), if room => match read {
                Ok(()) => {}
                Err(why) => break End::NeedsFull(why),
            }
        }
    };
    // Best effort: what does not get there is read again by the next one.
    let flush = async {
        if let Some(uploading) = uploading {
            base = after(&base, &uploading.await);
        }
        if let Some(batch) = watching.cut() {
            let delta = following.upload(base.clone(), batch).await;
            base = after(&base, &delta);
        }
    };
    let _ = timeout(FLUSH_WITHIN, flush).await;
    (base, end)
}

fn after(base: &Base, delta: &Delta) -> Base {
    Base { last: delta.last, previous: delta.object.name.clone(), ..base.clone() }
}

impl Following<'_> {
    /// Uploads until it succeeds.
    async fn upload(&self, base: Base, batch: Batch) -> Delta {
        let mut pause = PAUSE;
        loop {
            match upload(self.store, self.packing, &base, &batch, random()).await {
                Ok(delta) => {
                    (self.tell)(&Told::Delta(delta.clone()));
                    return delta;
                }
                Err(error) => (self.tell)(&Told::Failed(error)),
            }
            sleep(pause).await;
            pause = PAUSE_MAX.min(pause * 2);
        }
    }
}

/// The watch, its reconnections, and what it has brought.
struct Watching {
    filling: Filling,
    /// When what waits is to be cut.
    due: Option<Instant>,
    stream: Option<(EtcdClient, WatchStream)>,
    not_before: Instant,
    pause: Duration,
    leases: BTreeSet<i64>,
}

impl Watching {
    fn from(next: i64) -> Self {
        Self {
            filling: Filling::new(next),
            due: None,
            stream: None,
            not_before: Instant::now(),
            pause: PAUSE,
            leases: BTreeSet::new(),
        }
    }

    fn cut(&mut self) -> Option<Batch> {
        self.due = None;
        self.filling.cut()
    }

    /// Reads one thing more; may be given up at any time but while leases are asked for, which is short. Fails only for
    /// good: a broken connection is begun anew.
    async fn read(&mut self, following: &Following<'_>, cluster: ClusterId) -> Result<(), NeedsFull> {
        if self.stream.is_none() {
            sleep_until(self.not_before).await;
            match self.connect(following, cluster).await? {
                Ok(stream) => self.stream = Some(stream),
                Err(why) => self.broke(following, why),
            }
        }
        let Some((_, stream)) = &mut self.stream else { return Ok(()) };
        match stream.next().await {
            Ok(Seen::Revision(revision)) => {
                // The revision is out of the stream: if it were given up now, it would be missing, so the stream goes
                // as well.
                let (mut client, stream) = self.stream.take().expect("it was just read");
                let leases = match new_leases(&mut client, &revision, &mut self.leases).await {
                    Ok(leases) => leases,
                    Err(error) => {
                        self.broke(following, error.to_string());
                        return Ok(());
                    }
                };
                self.stream = Some((client, stream));
                self.pause = PAUSE;
                self.filling.add(&revision, leases, Timestamp::now())?;
                let due = Instant::now() + following.limits.period;
                self.due.get_or_insert(due);
                (following.tell)(&Told::Read(revision.revision));
            }
            Ok(Seen::Progress(_)) => {
                // etcd's word for how far that is counts less than what came: not all versions wait for what is under
                // way, and a gap shows at the next revision.
                self.pause = PAUSE;
                (following.tell)(&Told::Read(self.filling.next() - 1));
            }
            Err(EtcdError::Compacted(up_to)) => return Err(NeedsFull::Compacted(up_to)),
            Err(error) => self.broke(following, error.to_string()),
        }
        Ok(())
    }

    fn broke(&mut self, following: &Following<'_>, why: String) {
        self.stream = None;
        self.not_before = Instant::now() + self.pause;
        self.pause = PAUSE_MAX.min(self.pause * 2);
        (following.tell)(&Told::Broken(why));
    }

    async fn connect(
        &self,
        following: &Following<'_>,
        cluster: ClusterId,
    ) -> Result<Result<(EtcdClient, WatchStream), String>, NeedsFull> {
        let mut answering = match following.cluster.source().await {
            Ok((answering, _)) => answering,
            Err(error) => return Ok(Err(error.to_string())),
        };
        if answering.status.cluster_id != cluster {
            return Err(NeedsFull::OtherCluster(answering.status.cluster_id));
        }
        // A watch from a revision that does not exist yet is silent until it does, and would then lack what lies before:
        // the store has more than the cluster.
        match answering.client.revision().await {
            Ok(now) if now + 1 < self.filling.next() => {
                return Err(NeedsFull::Behind { now, stored: self.filling.next() - 1 });
            }
            Ok(_) => {}
            Err(error) => return Ok(Err(error.to_string())),
        }
        let from = self.filling.next();
        match answering.client.watch_all(from).await {
            Ok(stream) => {
                let member = format!("{}:{}", answering.target.name, answering.target.port);
                (following.tell)(&Told::Watching { member, from });
                Ok(Ok((answering.client, stream)))
            }
            Err(error) => Ok(Err(error.to_string())),
        }
    }
}

/// The leases that a revision names and that were not asked for yet. One that has ended meanwhile is not among them:
/// the keys that hang on it end in a later revision.
async fn new_leases(
    client: &mut EtcdClient,
    revision: &Revision,
    known: &mut BTreeSet<i64>,
) -> Result<Vec<Lease>, EtcdError> {
    let mut leases = Vec::new();
    for change in &revision.changes {
        if change.lease == 0 || known.contains(&change.lease) {
            continue;
        }
        if let Some(seconds) = client.lease_seconds(change.lease).await? {
            leases.push(Lease { id: change.lease, seconds });
        }
        if known.len() >= LEASES_MAX {
            known.clear();
        }
        known.insert(change.lease);
    }
    Ok(leases)
}
