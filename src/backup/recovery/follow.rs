//! All instances but the source: stop for it, and join what it makes.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use uuid::Uuid;

use super::choose::{Wanted, suffices};
use super::seen::{Look, Looks};
use super::{Errand, told};
use crate::etcd::id::ClusterId;
use crate::lifecycle::launch::attestation::InstanceId;
use crate::lifecycle::launch::observe::unix_secs;
use crate::lifecycle::launch::records::{RestorePhase, RestoreRequest};
use crate::report::Complaint;

/// What another run left behind is not believed to be of this one before.
const STALE_FOR: Duration = Duration::from_mins(1);

/// What the source has for an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Offered {
    /// Nothing yet.
    Nothing,
    /// To stop and to join.
    Stop(RestoreRequest),
    /// To look again: the new cluster serves, and this instance was away when it was asked for.
    Join(RestoreRequest),
    /// This instance is in the new cluster already.
    Done(RestoreRequest),
    /// It gave up.
    Failed {
        /// On what.
        request: Uuid,
        /// Why.
        why: String,
    },
}

/// Who asks the source.
struct Follower<'a> {
    own: &'a InstanceId,
    /// The cluster on its disk.
    cluster: Option<ClusterId>,
    asked: &'a str,
    wanted: Wanted,
    again: bool,
    /// Whether it has waited for longer than a source needs to begin.
    waited: bool,
    now_unix_secs: u64,
}

impl Follower<'_> {
    fn offered(&self, source: &InstanceId, look: &Look) -> Offered {
        let request = look.files.request.as_ref().filter(|request| {
            request.source == *source
                && request.asked == self.asked
                && request.phase == RestorePhase::Prepared
                && request.expires_unix_secs > self.now_unix_secs
        });
        if let Some(request) = request {
            let done = look.has_restored(request.id);
            let suffices = suffices(look, self.wanted, self.again);
            let is_here = self.cluster == Some(request.cluster_id);
            let is_asked = request.members.contains_key(self.own);
            // Until it ends, a source says what it works on; what it did before `again` was asked for is over.
            let works_on = look.files.progress.as_ref().map(|progress| progress.request);
            let is_old = !suffices && works_on != Some(request.id) && (works_on.is_some() || !self.waited);
            match (is_here, done, is_asked) {
                (true, true, _) if suffices => return Offered::Done(request.clone()),
                (false, true, _) if is_old => {}
                (false, _, true) => return Offered::Stop(request.clone()),
                (false, true, false) if look.ready => return Offered::Join(request.clone()),
                _ => {}
            }
        }
        let failed = look
            .files
            .progress
            .as_ref()
            .and_then(|progress| Some((progress.request, progress.failed.clone()?)));
        failed.map_or(Offered::Nothing, |(request, why)| Offered::Failed { request, why })
    }
}

impl Errand {
    /// Takes the source's request, and waits until this instance serves in the new cluster.
    pub(super) async fn follow(&self, source: &InstanceId, looks: &Looks) -> Result<()> {
        self.say(&format!(
            "{source} makes the new cluster; this instance stops when the data lies ready there"
        ))?;
        let cluster = self.look_at(&self.own).await.ok().and_then(|look| look.state.cluster_id);
        let began = Instant::now();
        let first = looks.get(source).and_then(|look| look.as_ref().ok());
        let left_behind =
            first.and_then(|look| look.files.progress.as_ref()).map(|progress| progress.request);
        let what = format!("waiting until the data lies ready on {source}");
        let follower = |cluster| Follower {
            own: &self.own,
            cluster,
            asked: self.asked.as_str(),
            wanted: self.typed.from.wanted(),
            again: self.typed.again,
            waited: began.elapsed() >= STALE_FOR,
            now_unix_secs: unix_secs(),
        };
        let offered = self
            .wait_for(source, &what, |look| match follower(cluster).offered(source, look) {
                Offered::Failed { request, why }
                    if left_behind != Some(request) || began.elapsed() >= STALE_FOR =>
                {
                    Err(Complaint::failed(
                        format!("{source} gave up: {why}"),
                        "nothing is restored; this member goes on as it was",
                        format!("the errand's output of {source} says what to do"),
                    )
                    .into())
                }
                Offered::Nothing | Offered::Failed { .. } => Ok(None),
                offered => Ok(Some(offered)),
            })
            .await?;
        let mut request = match offered {
            Offered::Stop(request) => {
                self.stop_for(&request).await?;
                request
            }
            Offered::Join(request) => {
                self.say(&format!("{source} has restored {} meanwhile", request.point))?;
                self.wake_launcher().await?;
                request
            }
            Offered::Done(request) => request,
            Offered::Nothing | Offered::Failed { .. } => bail!("these were waited out"),
        };
        while let Some(newer) = self.joined_or_asked_anew(source, &request, &follower).await? {
            self.stop_for(&newer).await?;
            request = newer;
        }
        self.say(&format!("serves as a member of cluster {}", request.cluster_id))
    }

    async fn stop_for(&self, request: &RestoreRequest) -> Result<()> {
        self.say(&format!("stopping for request {}: {}", request.id, request.point))?;
        self.leave(request).await
    }

    /// Waits until this instance serves in the cluster of its request, or the source has begun another one and waits
    /// for it there.
    async fn joined_or_asked_anew<'a>(
        &'a self,
        source: &InstanceId,
        request: &RestoreRequest,
        follower: &impl Fn(Option<ClusterId>) -> Follower<'a>,
    ) -> Result<Option<RestoreRequest>> {
        let what = format!("waiting to join cluster {}", request.cluster_id);
        self.wait(&self.own, &what, async || {
            let own = self.look_at(&self.own).await;
            let cluster = match &own {
                Ok(look) if look.is_in(request.cluster_id) && look.ready => return Ok(Ok(None)),
                Ok(look) => look.state.cluster_id,
                Err(_) => None,
            };
            if let Ok(look) = self.look_at(source).await
                && let Offered::Stop(newer) = follower(cluster).offered(source, &look)
                && newer.id != request.id
            {
                return Ok(Ok(Some(newer)));
            }
            Ok(Err(told(&own)))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::super::choose::tests::{NEVER, begun, look};
    use super::*;
    use crate::lifecycle::launch::records::RestoreProgress;

    const OLD: ClusterId = ClusterId(1);
    const NEW: ClusterId = ClusterId(2);

    #[test]
    fn what_a_source_offers_depends_on_where_it_and_the_follower_are() {
        let source = InstanceId::from("b");
        let asked = |named: bool, done: bool| {
            let mut look = begun("b", "latest", done, NEVER).unwrap();
            let request = look.files.request.as_mut().unwrap();
            if named {
                request
                    .members
                    .insert(InstanceId::from("a"), crate::etcd::id::PeerUrl::https("a.etcd", 2380));
            }
            look
        };
        let offered = |look: &Look, cluster: Option<ClusterId>, again: bool| {
            let own = InstanceId::from("a");
            let follower = Follower {
                own: &own,
                cluster,
                asked: "latest",
                wanted: Wanted::Anybody,
                again,
                waited: false,
                now_unix_secs: 1_000,
            };
            match follower.offered(&source, look) {
                Offered::Nothing => "nothing",
                Offered::Stop(_) => "stop",
                Offered::Join(_) => "join",
                Offered::Done(_) => "done",
                Offered::Failed { .. } => "failed",
            }
        };

        assert_eq!(offered(&asked(true, false), Some(OLD), false), "stop");
        assert_eq!(offered(&asked(true, false), None, false), "stop", "an empty disk waits for it, too");
        assert_eq!(offered(&asked(true, true), Some(OLD), false), "stop", "it was quicker");
        assert_eq!(offered(&asked(true, true), Some(NEW), false), "done");
        assert_eq!(offered(&asked(true, true), Some(NEW), true), "nothing", "another one is to come");
        assert_eq!(offered(&asked(false, false), Some(OLD), false), "nothing", "it was away");
        assert_eq!(offered(&asked(false, true), Some(OLD), false), "join", "and comes late");
        assert_eq!(offered(&begun("b", "7", false, NEVER).unwrap(), Some(OLD), false), "nothing");
        assert_eq!(offered(&begun("b", "latest", false, 999).unwrap(), Some(OLD), false), "nothing");
        assert_eq!(offered(&begun("c", "latest", false, NEVER).unwrap(), Some(OLD), false), "nothing");

        // After a second disaster the request of the first still counts for a while.
        let works_on = |request: u128| {
            let mut look = asked(true, true);
            let request = Uuid::from_u128(request);
            look.files.progress = Some(RestoreProgress { version: 1, request, failed: None });
            look
        };
        assert_eq!(offered(&asked(true, true), None, false), "stop", "it was quicker");
        assert_eq!(offered(&asked(true, true), None, true), "nothing", "that was before");
        assert_eq!(offered(&asked(false, true), Some(OLD), true), "nothing", "that was before");
        assert_eq!(offered(&works_on(1), None, true), "stop", "this time, too, it was quicker");
        assert_eq!(offered(&works_on(2), None, true), "nothing", "another one is to come");
        let waited = |look: &Look| {
            let own = InstanceId::from("a");
            let follower = Follower {
                own: &own,
                cluster: None,
                asked: "latest",
                wanted: Wanted::Anybody,
                again: true,
                waited: true,
                now_unix_secs: 1_000,
            };
            matches!(follower.offered(&source, look), Offered::Stop(_))
        };
        assert!(waited(&asked(true, true)), "no other one has come");
        assert!(!waited(&works_on(2)), "the source needs longer than that");

        // A cluster that was made of the newest disk and serves is not made once more.
        let of_the_newest = |cluster: Option<ClusterId>, serves: bool| {
            let own = InstanceId::from("a");
            let mut look = asked(true, true);
            look.ready = serves;
            let follower = Follower {
                own: &own,
                cluster,
                asked: "latest",
                wanted: Wanted::Newest,
                again: true,
                waited: false,
                now_unix_secs: 1_000,
            };
            follower.offered(&source, &look)
        };
        assert!(matches!(of_the_newest(Some(NEW), true), Offered::Done(_)));
        assert!(matches!(of_the_newest(None, true), Offered::Stop(_)));
        assert_eq!(of_the_newest(Some(NEW), false), Offered::Nothing, "quorum is lost once more");
        assert_eq!(of_the_newest(None, false), Offered::Nothing);

        let gave_up = look(|look| {
            let failed = Some("no backup".to_owned());
            look.files.progress = Some(RestoreProgress { version: 1, request: Uuid::nil(), failed });
        });
        assert_eq!(offered(&gave_up.unwrap(), Some(OLD), false), "failed");
    }
}
