//! A full snapshot: streamed from a member into the store. What passes by is hashed, compared with etcd's own hash at
//! its end, and read for the revisions it has; nothing is kept on a disk here, and nothing is listed before all of it
//! is in the store.

use std::collections::VecDeque;

use jiff::Timestamp;
use ring::digest::{Context, SHA256};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::mpsc::{self, Sender};

use super::cluster::{Answering, Cluster, NoMember};
use super::codec::{CodecError, Packing, pack};
use super::layout::{self, SetId};
use super::manifest::{self, Full, KeyHash, Member, Object, Revisions, VERSION};
use super::seal::sealed;
use super::step::Step;
use super::store::{Piece, Store, StoreError};
use crate::datadir::bolt::passing::{Passed, Passing, Untold};
use crate::etcd::client::snapshot::SnapshotStream;
use crate::etcd::client::{EtcdError, Membership};
use crate::report::Complaint;

/// Pieces between etcd and the codec: of 32 KiB each, as etcd sends them.
const PIECES_WAITING: usize = 16;
/// What etcd sends last.
const HASH_BYTES: usize = 32;

/// Why there is no new backup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FullError {
    /// Nobody to ask.
    #[error(transparent)]
    NoMember(#[from] NoMember),
    /// The member broke it off, or the connection.
    #[error("the snapshot of member {member} broke off: {error}")]
    BrokenOff {
        /// Where it is.
        member: String,
        /// What it said.
        error: EtcdError,
    },
    /// What came is not what etcd sent.
    #[error("the snapshot of member {member} arrived with another hash than etcd computed")]
    Hash {
        /// Where it is.
        member: String,
    },
    /// What came cannot be understood.
    #[error("the snapshot of member {member} does not tell its revisions: {why}")]
    Untold {
        /// Where it is.
        member: String,
        /// Why not.
        why: Untold,
    },
    /// It did not get into the store.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Its manifest did not get into the store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl FullError {
    /// The same for an operator.
    pub fn complaint(&self) -> Complaint {
        let what = self.to_string();
        match self {
            Self::NoMember(error) => error.complaint(),
            Self::Codec(error) => error.complaint(),
            Self::Store(error) => error.complaint(),
            Self::BrokenOff { .. } => Complaint::try_again(
                what,
                "half a snapshot is none: nothing was kept of it",
                "look at `etcd-status`, and repeat it",
            ),
            Self::Hash { .. } => Complaint::failed(
                what,
                "something between etcd and here changes bytes: nothing was kept of it",
                "repeat it; if it stays, suspect the memory of one of the two machines",
            ),
            Self::Untold { .. } => Complaint::failed(
                what,
                "deltas could not be joined to it: nothing is listed",
                "repeat it; if it stays, `etcd-datadir validate` on that member says whether its data is sound",
            ),
        }
    }
}

/// Takes one. `random` makes its name unique; `progress` hears how many bytes are done, of how many.
pub async fn take(
    store: &Store,
    packing: &Packing,
    cluster: &Cluster,
    random: [u8; 4],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Full, FullError> {
    let (Answering { target, mut client, status }, membership) = cluster.source().await?;
    let member = format!("{}:{}", target.name, target.port);
    let begun = Timestamp::now();
    let set = SetId::new(begun, random);
    let broken_off = |error| FullError::BrokenOff { member: member.clone(), error };
    let stream = client.snapshot().await.map_err(broken_off)?;

    let (sender, content) = mpsc::channel(PIECES_WAITING);
    let packed = pack(store, |suffix| layout::full_object(&set, suffix), packing, content);
    let (packed, pumped) = tokio::join!(packed, pump(stream, sender, progress));
    let (object, passed) = match (packed, pumped) {
        (Err(error), _) => return Err(error.into()),
        (Ok(_), Err(Broken::Etcd(error))) => return Err(broken_off(error)),
        (Ok(_), Err(Broken::Hash)) => return Err(FullError::Hash { member }),
        (Ok(_), Err(Broken::Untold(why))) => return Err(FullError::Untold { member, why }),
        // Nobody took the pieces any more, and that is told as an error of the codec.
        (Ok(None), Ok(_)) | (Ok(_), Ok(None)) => {
            return Err(broken_off(EtcdError::Other("the upload ended early".to_owned())));
        }
        (Ok(Some(object)), Ok(Some(passed))) => (object, passed),
    };
    let ended = Timestamp::now();
    Step::FullUploaded.reach();

    // At the member it is of, and soon: what is compacted in between has no hash any more.
    let hash = client.hash_kv(passed.last).await.ok();
    let hash = hash.map(|hash| KeyHash { revision: passed.last, compacted: hash.compacted, hash: hash.hash });
    let keys = client.count_at(passed.last).await.ok();
    let cluster = described(cluster, &status.version, status.member_id, &membership);
    let full = written(set, cluster, passed, (begun, ended), (hash, keys), object);
    let name = layout::full_manifest(&full.set);
    store.put_new(&name, sealed(&full)).await?;
    Step::FullListed.reach();
    Ok(full)
}

/// Four bytes that nobody else draws, for a name.
pub(super) fn random() -> [u8; 4] {
    let mut bytes = [0; 4];
    SystemRandom::new().fill(&mut bytes).expect("the system has random numbers");
    bytes
}

/// Who writes.
pub(super) fn written_by() -> String {
    format!("etcd-backup {}", env!("CARGO_PKG_VERSION"))
}

fn written(
    set: SetId,
    cluster: manifest::Cluster,
    passed: Passed,
    (begun, ended): (Timestamp, Timestamp),
    (hash, keys): (Option<KeyHash>, Option<u64>),
    object: Object,
) -> Full {
    let revisions = Revisions { compacted: passed.compacted, last: passed.last };
    let (version, written_by) = (VERSION, written_by());
    Full { version, set, cluster, revisions, begun, ended, hash, keys, object, written_by }
}

fn described(
    cluster: &Cluster,
    etcd: &str,
    member: crate::etcd::id::MemberId,
    membership: &Membership,
) -> manifest::Cluster {
    let members = membership.members.iter().map(|member| Member {
        id: member.id,
        name: member.name.clone(),
        peer_urls: member.peer_urls.iter().map(ToString::to_string).collect(),
        learner: member.is_learner,
    });
    manifest::Cluster {
        id: membership.cluster_id,
        deployment: cluster.deployment.clone(),
        etcd: etcd.to_owned(),
        member,
        members: members.collect(),
        properties: cluster.properties.clone(),
    }
}

enum Broken {
    Etcd(EtcdError),
    Hash,
    Untold(Untold),
}

/// From etcd to the codec; `None` if nobody takes the pieces any more. The end is told only if the hash fits.
async fn pump(
    mut stream: SnapshotStream,
    codec: Sender<Piece>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Option<Passed>, Broken> {
    let mut hashed = Hashed::new();
    let mut done = 0;
    while let Some(piece) = stream.next().await.map_err(Broken::Etcd)? {
        done += piece.bytes.len() as u64;
        progress(done, done + piece.remaining);
        hashed.add(&piece.bytes);
        if codec.send(Piece::Data(piece.bytes)).await.is_err() {
            return Ok(None);
        }
    }
    let passed = hashed.finish()?;
    Step::FullSent.reach();
    Ok(codec.send(Piece::End).await.is_ok().then_some(passed))
}

/// Pages with their hash behind them, of which nobody knows where it begins before the end.
struct Hashed {
    sha256: Context,
    passing: Passing,
    /// The last bytes so far: they may be the hash.
    last: VecDeque<u8>,
}

impl Hashed {
    fn new() -> Self {
        Self { sha256: Context::new(&SHA256), passing: Passing::new(), last: VecDeque::new() }
    }

    fn add(&mut self, bytes: &[u8]) {
        let (pages, kept) = bytes.split_at(bytes.len().saturating_sub(HASH_BYTES));
        let all = self.last.len() + bytes.len();
        // What was kept of earlier bytes and is now further than a hash from the end.
        let freed = all.saturating_sub(HASH_BYTES).min(self.last.len());
        let freed: Vec<u8> = self.last.drain(..freed).collect();
        for part in [freed.as_slice(), pages] {
            self.sha256.update(part);
            self.passing.add(part);
        }
        self.last.extend(kept);
    }

    fn finish(self) -> Result<Passed, Broken> {
        let hash = Vec::from(self.last);
        if self.sha256.finish().as_ref() != hash.as_slice() {
            return Err(Broken::Hash);
        }
        self.passing.finish().map_err(Broken::Untold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_fits(content: &[u8], step: usize) -> bool {
        let mut hashed = Hashed::new();
        content.chunks(step).for_each(|chunk| hashed.add(chunk));
        // These are no pages: who comes as far as reading them has passed the hash.
        matches!(hashed.finish(), Err(Broken::Untold(Untold::NoHeader)))
    }

    #[test]
    fn the_hash_at_the_end_is_compared_however_the_bytes_are_cut() {
        let pages = vec![7; 5_000];
        let whole = [pages.as_slice(), &crate::datadir::snapshot_file::hash(&pages)].concat();

        for step in [1, 7, 31, 32, 33, 100, 4_999, 5_000, 5_016, 6_000] {
            assert!(hash_fits(&whole, step), "{step}");
            assert!(!hash_fits(&whole[..whole.len() - 1], step), "{step}");
            let mut changed = whole.clone();
            changed[2_500] ^= 1;
            assert!(!hash_fits(&changed, step), "{step}");
        }
        assert!(!hash_fits(&[], 1));
    }
}
