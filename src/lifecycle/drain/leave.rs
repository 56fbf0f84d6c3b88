//! Leaving the cluster: under the mutex, by id, through a survivor, and seen by one to be done.
//!
//! Each round observes and decides again and then takes one step, so that whatever changed meanwhile counts,
//! and a drain that was killed begins where it was (docs/contract.md#leave).

use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;

use super::act::tell;
use super::decide::{Decision, Plan, decide};
use super::doubt::Doubt;
use super::observation::{Cluster, Life, StopSeen};
use super::observe::Eyes;
use super::step::Step;
use crate::etcd::client::{EtcdClient, EtcdError};
use crate::etcd::connect::Target;
use crate::etcd::handover::hand_over;
use crate::etcd::id::MemberId;
use crate::etcd::mutex::{self, Held};
use crate::job::reach;
use crate::journal;
use crate::lifecycle::held_mutex;
use crate::report::Complaint;

/// Between two rounds. etcd refuses a removal for five seconds after a connection was lost.
const AGAIN: Duration = Duration::from_millis(500);
/// A member that does not vote waits no longer for the mutex: its removal costs nobody anything, and who
/// holds the mutex may be its own launcher, joining.
const NO_VOTE_WAITS: Duration = Duration::from_secs(5);
/// The mutex counts as held only with this much to spare: a removal is answered within it.
const TO_SPARE: Duration = Duration::from_secs(10);

/// How leaving ended.
pub enum Left {
    /// The cluster does not list this member (any more).
    Gone,
    /// Something changed meanwhile: this is to be done instead.
    Overruled(Box<(StopSeen, Decision)>),
}

/// What a round does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    HandOver,
    TakeMutex,
    Remove,
}

/// What this drain knows of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Progress {
    /// Whether handing leadership over was tried.
    handed_over: bool,
    /// Whether the mutex is ours and was so before this round's look.
    holds_mutex: bool,
    /// For how long the mutex was asked for in vain.
    waited: Duration,
}

/// The order of the steps.
fn next(plan: &Plan, progress: Progress) -> Next {
    let votes = matches!(plan, Plan::Leave { .. });
    if votes && !progress.handed_over {
        Next::HandOver
    } else if progress.holds_mutex || (!votes && progress.waited >= NO_VOTE_WAITS) {
        Next::Remove
    } else {
        Next::TakeMutex
    }
}

/// Leaves, within `drain_timeout`.
pub async fn leave(eyes: &mut Eyes<'_>) -> anyhow::Result<Left> {
    let started = Instant::now();
    let limit = eyes.job.properties.observe_timeout;
    let mut held = held_mutex::load(eyes.paths).context("read whether the mutex is held")?;
    let (mut doubt, mut handed_over, mut told) = (Doubt::default(), false, String::new());
    loop {
        let seen = eyes.look().await;
        let decision = decide(&seen);
        let (Plan::Leave { member } | Plan::RemoveEntry { member: Some(member) }) = decision.plan else {
            if doubt.about(&decision.plan, Instant::now()) {
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            give_back(eyes, &seen).await;
            return Ok(match decision.plan {
                Plan::RemoveEntry { member: None } => Left::Gone,
                _ => Left::Overruled(Box::new((seen, decision))),
            });
        };
        held = renewed(held, eyes, &seen).await;
        let holds_mutex = held.is_some();
        let step =
            match next(&decision.plan, Progress { handed_over, holds_mutex, waited: started.elapsed() }) {
                Next::HandOver => {
                    Step::HandOver.reach();
                    tell(&hand_over(&reach::own_etcd(eyes.job), &eyes.reach.grpc, limit * 3).await);
                    handed_over = true;
                    continue;
                }
                Next::TakeMutex => {
                    Step::TakeMutex.reach();
                    take(eyes, &seen).await.map(|taken| held = taken)
                }
                Next::Remove => match remove(eyes, &seen, member).await {
                    Ok(()) => {
                        give_back(eyes, &seen).await;
                        return Ok(Left::Gone);
                    }
                    Err(error) => Err(error),
                },
            };
        let why = match step {
            // Taken: look again, since what was seen before does not count.
            Ok(()) if held.is_some() => continue,
            Ok(()) => "another member is being added, removed or stopped".to_owned(),
            Err(error) => error.to_string(),
        };
        if started.elapsed() >= eyes.job.properties.drain_timeout {
            give_back(eyes, &seen).await;
            return Err(too_late(member, &why).into());
        }
        if told != why {
            journal::warn("leaving is tried again", &json!({"why": why}));
            told = why;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The other live voters, and this member behind them: a survivor sees the removal through.
fn ways(eyes: &Eyes<'_>, seen: &StopSeen) -> Vec<Target> {
    let mut ways = survivors(seen);
    if matches!(seen.cluster, Cluster::Serves { own_serves: true, .. }) {
        ways.push(reach::own_etcd(eyes.job));
    }
    ways
}

fn survivors(seen: &StopSeen) -> Vec<Target> {
    seen.others()
        .iter()
        .filter(|voter| voter.life == Life::Alive)
        .filter_map(|voter| voter.client_url.as_ref())
        .map(|url| Target::named(url.host(), url.port()))
        .collect()
}

async fn connect(eyes: &Eyes<'_>, ways: &[Target]) -> Result<EtcdClient, EtcdError> {
    EtcdClient::connect_to_one_of(ways, &eyes.reach.grpc, eyes.job.properties.observe_timeout).await
}

async fn take(eyes: &Eyes<'_>, seen: &StopSeen) -> Result<Option<Held>, EtcdError> {
    let taken = mutex::try_take(&mut connect(eyes, &ways(eyes, seen)).await?).await?;
    if let Some(held) = taken {
        note(eyes, held);
    }
    Ok(taken)
}

/// The mutex with enough time left, renewed if necessary.
async fn renewed(held: Option<Held>, eyes: &Eyes<'_>, seen: &StopSeen) -> Option<Held> {
    let held = held?;
    if held.for_another(mutex::TTL.saturating_sub(mutex::RENEW_EVERY)) {
        return Some(held);
    }
    let renewed = async { mutex::renew(&mut connect(eyes, &ways(eyes, seen)).await?, held).await };
    match renewed.await {
        Ok(Some(held)) => {
            note(eyes, held);
            Some(held)
        }
        Ok(None) => None,
        Err(_) => Some(held).filter(|held| held.for_another(TO_SPARE)),
    }
}

fn note(eyes: &Eyes<'_>, held: Held) {
    if let Err(error) = held_mutex::keep(eyes.paths, held) {
        // Then a drain that is killed here waits until it runs out.
        journal::warn("the mutex is held but not noted", &json!({"why": error.to_string()}));
    }
}

async fn give_back(eyes: &Eyes<'_>, seen: &StopSeen) {
    let limit = eyes.job.properties.observe_timeout;
    held_mutex::give_back(eyes.paths, &ways(eyes, seen), eyes.reach, limit).await;
}

/// Removes the entry and sees on a survivor that it is gone.
async fn remove(eyes: &Eyes<'_>, seen: &StopSeen, member: MemberId) -> Result<(), EtcdError> {
    Step::Remove.reach();
    match connect(eyes, &ways(eyes, seen)).await?.remove_member(member).await {
        Ok(()) => journal::info("the member was removed", &json!({"member": member})),
        Err(EtcdError::MemberNotFound) => {
            journal::info("the member was removed before", &json!({"member": member}));
        }
        Err(error) => return Err(error),
    }
    Step::Confirm.reach();
    let list = connect(eyes, &survivors(seen)).await?.linearizable_members().await?;
    if list.members.iter().any(|listed| listed.id == member) {
        return Err(EtcdError::RefusedForNow("a survivor still lists the member".to_owned()));
    }
    journal::info(
        "a survivor does not list the member",
        &json!({"member": member, "survivor": list.answered_by}),
    );
    Ok(())
}

fn too_late(member: MemberId, why: &str) -> Complaint {
    Complaint::failed(
        format!("member {member} did not leave the cluster within drain_timeout: {why}"),
        "gone without leaving, it would count against the quorum for ever",
        format!(
            "`etcd-status` shows who is down or busy; then deploy again, or `etcdctl member remove {member}` on a member that stays; docs/drain.md#did-not-leave"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leadership_then_the_mutex_then_the_entry() {
        let voter = Plan::Leave { member: MemberId(1) };
        let learner = Plan::RemoveEntry { member: Some(MemberId(1)) };
        let of = |plan: &Plan, handed_over, holds_mutex, secs| {
            next(plan, Progress { handed_over, holds_mutex, waited: Duration::from_secs(secs) })
        };
        assert_eq!(of(&voter, false, false, 0), Next::HandOver);
        // A mutex that pre-stop took changes nothing in the order.
        assert_eq!(of(&voter, false, true, 0), Next::HandOver);
        assert_eq!(of(&voter, true, false, 0), Next::TakeMutex);
        assert_eq!(of(&voter, true, true, 0), Next::Remove);
        // A voter never goes without the mutex.
        assert_eq!(of(&voter, true, false, 3600), Next::TakeMutex);
        assert_eq!(of(&learner, false, false, 0), Next::TakeMutex);
        assert_eq!(of(&learner, false, true, 0), Next::Remove);
        assert_eq!(of(&learner, false, false, 5), Next::Remove);
    }
}
