//! Handing leadership to another member before this one stops, so that no election has to time out.
//!
//! etcd does it itself when it stops gracefully, but only after it has begun to refuse clients; the
//! predecessors' launchers did not even pass SIGTERM on, which cost a second of writes for each leader.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use super::client::{EtcdClient, EtcdError};
use super::connect::Target;
use super::id::MemberId;
use super::member::Member;

/// How a handover ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handover {
    /// This member does not lead.
    NotLeader,
    /// It was the only voter.
    OnlyVoter,
    /// Leadership moved.
    Moved {
        /// The new leader.
        to: MemberId,
    },
    /// It still leads, for this reason.
    Kept {
        /// Why nobody took over.
        why: String,
    },
}

/// A voter that could lead next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Who.
    pub id: MemberId,
    /// How far its applied log reaches.
    pub raft_applied_index: u64,
}

/// Moves leadership away from the member at `own` if it leads; everything within `limit`.
pub async fn hand_over(own: &Target, tls: &Arc<ClientConfig>, limit: Duration) -> Handover {
    match tokio::time::timeout(limit, move_away(own, tls, limit)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => Handover::Kept { why: error.to_string() },
        Err(_) => Handover::Kept { why: format!("not done within {} ms", limit.as_millis()) },
    }
}

async fn move_away(own: &Target, tls: &Arc<ClientConfig>, limit: Duration) -> Result<Handover, EtcdError> {
    let deadline = Instant::now() + limit;
    let mut client = EtcdClient::connect(own, tls.clone(), limit).await?;
    let status = client.status().await?;
    if status.leader != Some(status.member_id) {
        return Ok(Handover::NotLeader);
    }
    let members = client.local_members().await?.members;
    let voters: Vec<&Member> = members.iter().filter(|m| !m.is_learner && m.id != status.member_id).collect();
    if voters.is_empty() {
        return Ok(Handover::OnlyVoter);
    }
    let mut candidates = ask(&voters, tls, limit / 3).await;
    // The next best one is asked when etcd refuses the best.
    while let Some(best) = most_caught_up(&candidates) {
        match client.move_leader(best).await {
            Ok(()) => return Ok(Handover::Moved { to: best }),
            Err(EtcdError::NotLeader) => return Ok(Handover::NotLeader),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => candidates.retain(|candidate| candidate.id != best),
        }
    }
    Ok(Handover::Kept { why: "no other voter answers".to_owned() })
}

/// The voter with the longest applied log; the lower id if two are equal, so that the choice is the same
/// whoever makes it.
pub fn most_caught_up(candidates: &[Candidate]) -> Option<MemberId> {
    candidates
        .iter()
        .max_by_key(|candidate| (candidate.raft_applied_index, std::cmp::Reverse(candidate.id)))
        .map(|best| best.id)
}

async fn ask(voters: &[&Member], tls: &Arc<ClientConfig>, limit: Duration) -> Vec<Candidate> {
    let mut questions = tokio::task::JoinSet::new();
    for voter in voters {
        let Some(url) = voter.client_urls.first() else { continue };
        let target = Target::named(url.host(), url.port());
        let (id, tls) = (voter.id, tls.clone());
        questions.spawn(async move {
            let mut client = EtcdClient::connect(&target, tls, limit).await.ok()?;
            let status = client.status().await.ok()?;
            (status.member_id == id && status.leader.is_some())
                .then_some(Candidate { id, raft_applied_index: status.raft_applied_index })
        });
    }
    questions.join_all().await.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_caught_up_voter_is_chosen_and_ties_go_to_the_lower_id() {
        let candidate = |id, raft_applied_index| Candidate { id: MemberId(id), raft_applied_index };
        assert_eq!(most_caught_up(&[]), None);
        assert_eq!(most_caught_up(&[candidate(1, 5), candidate(2, 9), candidate(3, 7)]), Some(MemberId(2)));
        assert_eq!(most_caught_up(&[candidate(3, 9), candidate(2, 9)]), Some(MemberId(2)));
    }
}
