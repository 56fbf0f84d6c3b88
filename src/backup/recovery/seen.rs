//! What the launchers of all instances say.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::PAGE_LIMIT;
use super::choose::Wanted;
use crate::etcd::connect::Target;
use crate::etcd::id::ClusterId;
use crate::job::config::{JobConfig, Peer};
use crate::job::reach::{self, Reach};
use crate::lifecycle::launch::attestation::{InstanceId, PeerState};
use crate::lifecycle::launch::listener::RestoreFiles;
use crate::lifecycle::launch::observation::Unreachable;
use crate::lifecycle::launch::standing::Standing;
use crate::lifecycle::launcher_page;

/// Reading a whole log takes a moment on a slow disk.
const STANDING_LIMIT: std::time::Duration = std::time::Duration::from_mins(1);

/// What one launcher says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Its attestation.
    pub state: PeerState,
    /// What it decided, in a sentence.
    pub because: String,
    /// What the errand has written there.
    pub files: RestoreFiles,
    /// Whether its etcd serves linearizable reads.
    pub ready: bool,
    /// How far its disk is, if that was asked for and there is data.
    pub standing: Option<Standing>,
}

impl Look {
    /// Whether it has carried out this request, as its source.
    pub(super) fn has_restored(&self, request: Uuid) -> bool {
        self.state.restored.as_ref().is_some_and(|restored| restored.request == request)
    }

    /// Whether its disk is of this cluster.
    pub(super) fn is_in(&self, cluster: ClusterId) -> bool {
        self.state.cluster_id == Some(cluster)
    }
}

/// What all of them say; the reason, of those that do not answer.
pub(super) type Looks = BTreeMap<InstanceId, Result<Look, String>>;

/// What the page has beside the attestation.
#[derive(Deserialize)]
struct Page {
    #[serde(flatten)]
    state: PeerState,
    #[serde(default)]
    because: String,
    #[serde(default)]
    restore: RestoreFiles,
}

/// Asks every launcher of the link.
pub(super) async fn all(job: &JobConfig, reach: &Reach, wanted: Wanted) -> Looks {
    let mut looks = Looks::new();
    // One after the other: there are few, and who is silent is waited for by the caller.
    for peer in &job.instances {
        let mut look = one(job, peer, reach).await;
        if let (Ok(look), Wanted::Newest) = (&mut look, wanted) {
            look.standing = standing(job, peer, reach).await;
        }
        looks.insert(InstanceId(peer.instance.clone()), look);
    }
    looks
}

/// Asks one.
pub(super) async fn one(job: &JobConfig, peer: &Peer, reach: &Reach) -> Result<Look, String> {
    let target = target(job, peer);
    let page: Option<Page> = json(&target, "/state", reach, PAGE_LIMIT).await?;
    let page = page.ok_or_else(|| Unreachable::Undecided.to_string())?;
    let readiness = launcher_page(&target, "/readyz", reach, PAGE_LIMIT).await;
    let ready = readiness.is_ok_and(|answer| answer.status == 200);
    if page.state.instance.0 != peer.instance {
        return Err(format!("{} answers at its address", page.state.instance));
    }
    Ok(Look { state: page.state, because: page.because, files: page.restore, ready, standing: None })
}

async fn standing(job: &JobConfig, peer: &Peer, reach: &Reach) -> Option<Standing> {
    json(&target(job, peer), "/standing", reach, STANDING_LIMIT).await.ok().flatten()
}

fn target(job: &JobConfig, peer: &Peer) -> Target {
    if peer.instance == job.spec.id { reach::own_launcher(job) } else { reach::launcher(peer) }
}

async fn json<T: DeserializeOwned>(
    target: &Target,
    page: &str,
    reach: &Reach,
    limit: std::time::Duration,
) -> Result<T, String> {
    let answer = launcher_page(target, page, reach, limit).await.map_err(|error| error.to_string())?;
    if answer.status != 200 {
        return Err(format!(
            "{page} answers {}: {}",
            answer.status,
            String::from_utf8_lossy(&answer.body).trim()
        ));
    }
    serde_json::from_slice(&answer.body).map_err(|error| format!("{page} cannot be understood: {error}"))
}
