//! All instances but the source: stop for it, and join what it makes.

use std::time::{Duration, Instant};

use anyhow::Result;
use uuid::Uuid;

use super::Errand;
use super::seen::{Look, Looks};
use crate::lifecycle::launch::attestation::InstanceId;
use crate::lifecycle::launch::observe::unix_secs;
use crate::lifecycle::launch::records::{RestorePhase, RestoreRequest};
use crate::report::Complaint;

/// What another run left behind is not believed to be of this one before.
const STALE_FOR: Duration = Duration::from_mins(1);

/// What the source has for us.
enum Offered {
    /// Nothing yet.
    Nothing,
    /// To stop and to join.
    Request(Box<RestoreRequest>),
    /// This instance is in the new cluster already.
    Done(Box<RestoreRequest>),
    /// It gave up.
    Failed { request: Uuid, why: String },
}

impl Errand {
    /// Takes the source's request, and waits until this instance serves in the new cluster.
    pub(super) async fn follow(&self, source: &InstanceId, looks: &Looks) -> Result<()> {
        self.say(&format!(
            "{source} makes the new cluster; this instance stops when the data lies ready there"
        ))?;
        let own_cluster = self.look_at(&self.own).await.ok().and_then(|look| look.state.cluster_id);
        let began = Instant::now();
        let first = looks.get(source).and_then(|look| look.as_ref().ok());
        let left_behind =
            first.and_then(|look| look.files.progress.as_ref()).map(|progress| progress.request);
        let what = format!("waiting until the data lies ready on {source}");
        let request = self
            .wait_for(source, &what, |look| {
                Ok(match self.offered(source, look, own_cluster) {
                    Offered::Nothing => None,
                    Offered::Request(request) => Some((request, true)),
                    Offered::Done(request) => Some((request, false)),
                    Offered::Failed { request, why } => {
                        if left_behind != Some(request) || began.elapsed() >= STALE_FOR {
                            return Err(Complaint::failed(
                                format!("{source} gave up: {why}"),
                                "nothing is restored; this member goes on as it was",
                                format!("the errand's output of {source} says what to do"),
                            )
                            .into());
                        }
                        None
                    }
                })
            })
            .await?;
        let (request, stops) = request;
        if stops {
            self.say(&format!("stopping for request {}: {}", request.id, request.point))?;
            self.leave(&request).await?;
        }
        let what = format!("waiting to join cluster {}", request.cluster_id);
        self.wait_for(&self.own, &what, |look| {
            let here = look.state.cluster_id == Some(request.cluster_id);
            Ok((here && look.ready).then_some(()))
        })
        .await?;
        self.say(&format!("serves as a member of cluster {}", request.cluster_id))
    }

    fn offered(
        &self,
        source: &InstanceId,
        look: &Look,
        own_cluster: Option<crate::etcd::id::ClusterId>,
    ) -> Offered {
        let request = look.files.request.as_ref().filter(|request| {
            request.source == *source
                && request.asked == self.asked
                && request.phase == RestorePhase::Prepared
                && request.members.contains_key(&self.own)
                && request.expires_unix_secs > unix_secs()
        });
        if let Some(request) = request {
            let done = look.state.restored.as_ref().is_some_and(|restored| restored.request == request.id);
            if own_cluster != Some(request.cluster_id) {
                return Offered::Request(Box::new(request.clone()));
            }
            if done && !self.typed.again {
                return Offered::Done(Box::new(request.clone()));
            }
        }
        match &look.files.progress {
            Some(progress) => match &progress.failed {
                Some(why) => Offered::Failed { request: progress.request, why: why.clone() },
                None => Offered::Nothing,
            },
            None => Offered::Nothing,
        }
    }
}
