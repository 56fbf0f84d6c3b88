//! Defragments the members by a schedule: one at a time, the leader last, only while the others have a quorum without
//! it, and never while the membership changes or a member is stopped.

mod plan;

pub use plan::MinGain;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::sleep;

use self::plan::{Seen, Serving, Size, Step, Voter, may_disarm, next};
use super::board::{LastDefragmentation, Work};
use super::schedule::Schedule;
use super::{Duty, pause, span};
use crate::backup::cluster::Answering;
use crate::etcd::client::{EtcdClient, EtcdError};
use crate::etcd::id::MemberId;
use crate::etcd::member::Member;
use crate::etcd::mutex::{self, Held, RENEW_EVERY};
use crate::journal;

/// A database of the largest size that etcd suggests, 8 GiB, on a slow disk.
const DEFRAGMENTED_WITHIN: Duration = Duration::from_mins(10);
/// A member that was defragmented serves again within milliseconds.
const SERVES_WITHIN: Duration = Duration::from_mins(1);
/// Somebody else's turn may take so long; then the next time is waited for.
const MUTEX_WITHIN: Duration = Duration::from_mins(5);
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Leadership is not moved again and again: the members may not agree on who is able to lead.
const MOVES_MAX: u32 = 3;

/// When, and what it must be worth.
#[derive(Debug, Clone)]
pub struct Defragmentation {
    pub(super) schedule: Schedule,
    pub(super) least: MinGain,
}

/// Defragments when it is time, until somebody wants it to end. Who is ended in the middle leaves the mutex to run out:
/// the member may still be at it.
pub(super) async fn by_schedule(duty: Duty<'_>, mut quit: watch::Receiver<bool>) {
    let Some(defragmentation) = &duty.job.defragmentation else { return };
    let mut last = Timestamp::now();
    while !*quit.borrow() {
        let now = Timestamp::now();
        let due = defragmentation.schedule.due_after(last, now);
        duty.board.note(|active| active.next_defragmentation = Some(due));
        if due > now {
            pause(span(now, due), &mut quit).await;
            continue;
        }
        last = now;
        tokio::select! {
            () = run(duty, defragmentation.least) => {}
            _ = quit.changed() => return,
        }
    }
}

/// One run, and what came of it.
async fn run(duty: Duty<'_>, least: MinGain) {
    // etcd does not defragment while a snapshot is being read, and serves nothing while it waits for that.
    let _alone = duty.alone.lock().await;
    let mut turn = match Turn::take(duty).await {
        Ok(turn) => turn,
        Err(why) => return put_off(duty, &why),
    };
    let mut done = Done::default();
    let ended = turn.defragment(least, &mut done).await;
    let alarms = turn.end_alarms().await;
    turn.give_back().await;
    let (members, bytes) = (done.members.len(), done.gained_bytes);
    duty.board.note(|active| {
        active.defragmentation =
            Some(LastDefragmentation { at: Timestamp::now(), members, gained_bytes: bytes });
    });
    match ended {
        Ok(()) => journal::info("defragmentation ended", &json!({"members": members, "gained_bytes": bytes})),
        Err(why) => put_off(duty, &why),
    }
    if let Err(why) = alarms {
        journal::warn("the alarm for lack of space stays", &json!({"why": why}));
        duty.board.failed(Work::Defragmentation, &why);
    }
}

fn put_off(duty: Duty<'_>, why: &str) {
    journal::warn("no member is defragmented now", &json!({"why": why}));
    duty.board.failed(Work::Defragmentation, why);
}

/// What was done in this run.
#[derive(Debug, Default)]
struct Done {
    members: BTreeSet<MemberId>,
    gained_bytes: u64,
}

/// The mutex of joins, stops and evictions, held by this run.
struct Turn<'a> {
    duty: Duty<'a>,
    /// `None`: a full database grants no lease, neither to us nor to anybody who would change the membership.
    held: Option<Held>,
}

impl<'a> Turn<'a> {
    async fn take(duty: Duty<'a>) -> Result<Self, String> {
        let deadline = Instant::now() + MUTEX_WITHIN;
        loop {
            match mutex::try_take(&mut client(duty).await?).await {
                Ok(Some(held)) => return Ok(Self { duty, held: Some(held) }),
                Ok(None) if Instant::now() < deadline => sleep(LOOK_AGAIN).await,
                Ok(None) => return Err("a member joins, leaves or is stopped".to_owned()),
                Err(EtcdError::NoSpace) => return Ok(Self { duty, held: None }),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Member after member, until nothing more is worth it. An error is why not.
    async fn defragment(&mut self, least: MinGain, done: &mut Done) -> Result<(), String> {
        let mut moves = 0;
        loop {
            self.renew().await?;
            let (mut answers, seen) = self.observe(&done.members).await?;
            let mut connected = |id: MemberId| {
                let place = answers.iter().position(|answer| answer.status.member_id == id);
                place.map(|place| answers.swap_remove(place)).ok_or("a member is gone".to_owned())
            };
            match next(&seen, least) {
                Step::Done => return Ok(()),
                Step::PutOff(why) => return Err(why.to_string()),
                Step::MoveLeader { from, to } => {
                    moves += 1;
                    if moves > MOVES_MAX {
                        return Err(format!("member {from} leads again and again"));
                    }
                    match connected(from)?.client.move_leader(to).await {
                        Ok(()) => journal::info("leadership moved", &json!({"member_id": from, "to": to})),
                        Err(EtcdError::NotLeader) => {}
                        Err(error) => return Err(format!("member {from} keeps its leadership: {error}")),
                    }
                }
                Step::Defragment(id) => {
                    let voter = seen.voters.iter().find(|voter| voter.id == id);
                    let name = voter.map(|voter| voter.name.clone()).unwrap_or_default();
                    done.members.insert(id);
                    match self.one(connected(id)?, &name).await {
                        Ok(gained) => done.gained_bytes += gained,
                        Err(why) => {
                            // The member may still be at it: the mutex is left to run out.
                            self.held = None;
                            return Err(why);
                        }
                    }
                }
            }
        }
    }

    /// One member; gives how many bytes were gained.
    async fn one(&mut self, member: Answering, name: &str) -> Result<u64, String> {
        let Answering { target, mut client, status } = member;
        let begun = Instant::now();
        let failed = |error: EtcdError| format!("{name}: {error}");
        let mut defragmenting = std::pin::pin!(client.defragment(DEFRAGMENTED_WITHIN));
        loop {
            tokio::select! {
                ended = &mut defragmenting => break ended.map_err(failed)?,
                // Whoever waits for its turn waits until this is over, not only until the mutex has run out.
                () = sleep(RENEW_EVERY) => self.renew().await?,
            }
        }
        let deadline = Instant::now() + SERVES_WITHIN;
        let after = loop {
            let asked = async {
                let mut client = self.duty.cluster.connect(&target).await?;
                client.linearizable_read().await?;
                client.status().await
            };
            match asked.await {
                Ok(status) => break status,
                Err(error) if Instant::now() >= deadline => return Err(failed(error)),
                Err(_) => sleep(LOOK_AGAIN).await,
            }
        };
        let (before, after) = (bytes(status.db_size_bytes), bytes(after.db_size_bytes));
        let gained = before.saturating_sub(after);
        journal::info(
            "member defragmented",
            &json!({
                "member": name,
                "member_id": status.member_id,
                "leader": status.leader == Some(status.member_id),
                "before_bytes": before,
                "after_bytes": after,
                "elapsed_ms": u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            }),
        );
        self.duty.board.gained(gained);
        Ok(gained)
    }

    /// All that answer, and what they say; the list is one after a linearizable read.
    async fn observe(&self, done: &BTreeSet<MemberId>) -> Result<(Vec<Answering>, Seen), String> {
        let (mut answers, _) = self.duty.cluster.answering().await;
        let reads = join_all(answers.iter_mut().map(|answer| answer.client.linearizable_members())).await;
        let mut members = None;
        let mut serving = Vec::new();
        for (answer, read) in answers.iter().zip(reads) {
            let Ok(read) = read else { continue };
            serving.push(answer.status.member_id);
            members.get_or_insert(read.members);
        }
        let members = members.ok_or("no member answers a linearizable read")?;
        let of = |id: MemberId| answers.iter().find(|answer| answer.status.member_id == id);
        let voters = members.iter().filter(|member| member.is_voter()).map(|member| {
            let answer = of(member.id).filter(|_| serving.contains(&member.id));
            let serves = answer.map(|answer| Serving {
                size: Size {
                    bytes: bytes(answer.status.db_size_bytes),
                    in_use_bytes: bytes(answer.status.db_in_use_bytes),
                },
                raft_applied_index: answer.status.raft_applied_index,
            });
            Voter { id: member.id, name: named(member), serves }
        });
        let newest = answers.iter().filter(|answer| serving.contains(&answer.status.member_id));
        let leader =
            newest.max_by_key(|answer| answer.status.raft_term).and_then(|answer| answer.status.leader);
        let seen = Seen { voters: voters.collect(), leader, done: done.clone() };
        Ok((answers, seen))
    }

    /// Ends alarms for lack of space if every member has room again; an error is why they stay.
    async fn end_alarms(&self) -> Result<(), String> {
        let text = |error: EtcdError| error.to_string();
        let mut client = client(self.duty).await?;
        let raised = client.no_space().await.map_err(text)?;
        if raised.is_empty() {
            return Ok(());
        }
        let members = client.linearizable_members().await.map_err(text)?.members;
        let (answers, _) = self.duty.cluster.answering().await;
        let of = |id: MemberId| answers.iter().find(|answer| answer.status.member_id == id);
        let sizes: Vec<(String, Option<u64>)> = members
            .iter()
            .map(|member| (named(member), of(member.id).map(|answer| bytes(answer.status.db_size_bytes))))
            .collect();
        may_disarm(&sizes, self.duty.cluster.quota_bytes())?;
        for member in raised {
            client.disarm_no_space(member).await.map_err(text)?;
        }
        journal::info("the alarm for lack of space is over", &json!({}));
        Ok(())
    }

    async fn renew(&mut self) -> Result<(), String> {
        let Some(held) = self.held else { return Ok(()) };
        if held.for_another(mutex::TTL.saturating_sub(RENEW_EVERY)) {
            return Ok(());
        }
        let renewed = match client(self.duty).await {
            Ok(mut client) => mutex::renew(&mut client, held).await,
            Err(why) => Err(EtcdError::Other(why)),
        };
        match renewed {
            Ok(Some(held)) => self.held = Some(held),
            // It is still ours for a while: the next one may succeed.
            Err(_) if held.for_another(RENEW_EVERY) => {}
            Ok(None) | Err(_) => {
                return Err("the mutex could not be kept: a member may join or be stopped".to_owned());
            }
        }
        Ok(())
    }

    async fn give_back(self) {
        if let (Some(held), Ok(mut client)) = (self.held, client(self.duty).await) {
            // Ignored: it runs out by itself.
            let _ = mutex::release(&mut client, held).await;
        }
    }
}

async fn client(duty: Duty<'_>) -> Result<EtcdClient, String> {
    duty.cluster.source().await.map(|(answering, _)| answering.client).map_err(|error| error.to_string())
}

fn named(member: &Member) -> String {
    member.name.clone().unwrap_or_else(|| member.id.to_string())
}

fn bytes(told: i64) -> u64 {
    u64::try_from(told).unwrap_or_default()
}
