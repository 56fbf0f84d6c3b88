//! The job `etcd-backup`: one instance at a time takes full snapshots by a schedule, follows the cluster in between,
//! and removes what retention does not keep. The others wait for its place.

mod agenda;
mod board;
mod defragmentation;
mod election;
mod lag;
mod page;
mod pages;
mod properties;
mod schedule;
mod verification;

pub use defragmentation::{Defragmentation, MinGain};
pub use pages::Pages;
pub use properties::Job;
pub use verification::Deep;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::timeout;

use self::agenda::{Next, Observation, next};
use self::board::{Board, Holdings, Work};
use self::election::Lead;
use super::catalog::{Catalog, catalog, last_delta, last_verification};
use super::cluster::Cluster;
use super::deltas::{Base, End, Following, Told, follow};
use super::full::{self, FullError};
use super::layout::SetId;
use super::manifest::Full;
use super::prune;
use super::step::Step;
use crate::etcd::id::ClusterId;
use crate::journal;

/// A candidate looks again after this long.
const CANDIDATE_EVERY: Duration = Duration::from_secs(5);
/// The store is looked at this often at least: somebody may have saved a set by hand, which is then the one to follow.
const LOOK_EVERY: Duration = Duration::from_mins(1);
/// After a failure one looks again after this long.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// And takes a full snapshot again after this long.
const FULL_AGAIN: Duration = Duration::from_mins(1);
/// What is going on has so long to end well: less than bpm waits before it kills.
const END_WITHIN: Duration = Duration::from_secs(13);
/// The old set is followed so long after the snapshot of the new one, until both touch.
const TOUCH_WITHIN: Duration = Duration::from_secs(30);
/// How often etcd is asked for its revision, to know how far the store is behind.
const REVISION_EVERY: Duration = Duration::from_secs(5);

/// What everybody here works with.
#[derive(Clone, Copy)]
struct Duty<'a> {
    job: &'a Job,
    cluster: &'a Cluster,
    board: &'a Board,
    /// Held by who reads a snapshot and by who defragments.
    alone: &'a Mutex<()>,
}

/// Runs until SIGTERM, and shows on its pages what it does.
pub async fn run(job: &Job, cluster: &Cluster, deep: &Deep, pages: Option<Pages>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let board = Arc::new(Board::default());
    if let Some(pages) = pages {
        pages.serve(board.clone(), &job.store).await?;
    }
    if let Err(error) = deep.clear() {
        journal::warn("what a verification left cannot be removed", &json!({"why": error.to_string()}));
    }
    let alone = Mutex::new(());
    let duty = Duty { job, cluster, board: &board, alone: &alone };
    loop {
        let lead = tokio::select! {
            _ = terminate.recv() => return Ok(()),
            lead = candidate(duty) => lead,
        };
        journal::info("this instance takes the backups now", &json!({"store": job.store.url()}));
        board.active(Timestamp::now());
        let mut lead = lead;
        let (quit, quitting) = watch::channel(false);
        let verifying = verification::by_schedule(job, &board, deep, quitting.clone());
        let asking = ask_revisions(duty, quitting.clone());
        let defragmenting = defragmentation::by_schedule(duty, quitting.clone());
        let mut work = std::pin::pin!(async {
            tokio::join!(work(duty, quitting), verifying, asking, defragmenting);
        });
        // The work ends only when it is told to.
        let ends = tokio::select! {
            () = &mut work => return Ok(()),
            () = lead.keep(cluster) => {
                journal::warn("another instance may take the backups now", &json!({}));
                false
            }
            _ = terminate.recv() => true,
        };
        // Ignored: who listens ends, and that is what is wanted.
        let _ = quit.send(true);
        let _ = timeout(END_WITHIN, work).await;
        board.standby();
        lead.release(cluster).await;
        if ends {
            return Ok(());
        }
    }
}

async fn candidate(duty: Duty<'_>) -> Lead {
    let mut told = None;
    loop {
        match Lead::try_take(duty.cluster).await {
            Ok(Some(lead)) => return lead,
            Ok(None) => told = None,
            Err(why) => {
                duty.board.failed(Work::Election, &why);
                // Once for each reason: etcd may be down for long.
                if told.as_ref() != Some(&why) {
                    journal::warn("nobody can be elected", &json!({"why": why}));
                    told = Some(why);
                }
            }
        }
        tokio::time::sleep(CANDIDATE_EVERY).await;
    }
}

/// Asks etcd how far it is, until somebody wants it to end. A failure is told by those who need more of etcd.
async fn ask_revisions(duty: Duty<'_>, mut quit: watch::Receiver<bool>) {
    let mut connected = None;
    while !*quit.borrow() {
        let asked = async {
            let mut client = match connected.take() {
                Some(client) => client,
                None => duty.cluster.source().await.ok()?.0.client,
            };
            let revision = client.revision().await.ok()?;
            connected = Some(client);
            Some(revision)
        };
        let revision = tokio::select! {
            revision = asked => revision,
            _ = quit.changed() => return,
        };
        if let Some(revision) = revision {
            duty.board.note(|active| active.lag.seen(Timestamp::now(), revision));
        }
        pause(REVISION_EVERY, &mut quit).await;
    }
}

/// What is remembered between two looks.
#[derive(Default)]
struct Memory {
    needs_full: Option<String>,
    full_not_before: Option<Timestamp>,
    pruned: Option<SetId>,
    waits_for: Option<String>,
}

/// Takes backups until somebody wants it to end.
async fn work(duty: Duty<'_>, mut quit: watch::Receiver<bool>) {
    let Duty { job, board, .. } = duty;
    let mut memory = Memory::default();
    while !*quit.borrow() {
        let looked = tokio::select! {
            looked = look(duty) => looked,
            _ = quit.changed() => return,
        };
        let (catalog, base) = match looked {
            Ok(looked) => looked,
            Err(why) => {
                board.failed(Work::Look, &why);
                // Once for each reason: etcd or the store may be away for long.
                if memory.waits_for.as_ref() != Some(&why) {
                    journal::warn("backups have to wait", &json!({"why": why}));
                    memory.waits_for = Some(why);
                }
                pause(LOOK_AGAIN, &mut quit).await;
                continue;
            }
        };
        memory.waits_for = None;
        let newest =
            base.as_ref().and_then(|base| catalog.sets.iter().find(|entry| *entry.set() == base.set));
        let now = Timestamp::now();
        let seen = Observation {
            now,
            due: newest.map(|entry| job.schedule.due_after(entry.full.begun, now)),
            needs_full: memory.needs_full.is_some(),
            full_not_before: memory.full_not_before,
            pruned: newest.is_none_or(|entry| memory.pruned.as_ref() == Some(entry.set())),
        };
        // Without a set it stays the moment when that was seen, so that somebody may wonder why there is none.
        board.note(|active| {
            let missing = active.next_full.map_or(now, |known| known.min(now));
            active.next_full = Some(seen.due.unwrap_or(missing));
        });
        match (next(&seen), base) {
            (Next::Full(because), base) => {
                journal::info(
                    "full snapshot begins",
                    &json!({"because": because.text(), "why": memory.needs_full}),
                );
                let base = base.filter(|_| !seen.needs_full);
                let taken = tokio::select! {
                    taken = take(duty, base) => taken,
                    _ = quit.changed() => return,
                };
                memory.after_full(taken, board);
            }
            (Next::Prune, _) => {
                tokio::select! {
                    () = remove(duty, &catalog) => {}
                    _ = quit.changed() => return,
                }
                memory.pruned = newest.map(|entry| entry.set().clone());
            }
            (Next::Follow { until }, Some(base)) => {
                let mut quit = quit.clone();
                let stop = async {
                    tokio::select! {
                        () = tokio::time::sleep(span(Timestamp::now(), until).min(LOOK_EVERY)) => {}
                        _ = quit.changed() => {}
                    }
                };
                let tell = |told: &Told| tell(board, told);
                let following = following(duty, &tell);
                if let (_, End::NeedsFull(why)) = follow(&following, base, stop).await {
                    journal::warn("deltas cannot go on", &json!({"why": why.to_string()}));
                    board.failed(Work::Watch, &why);
                    memory.needs_full = Some(why.to_string());
                }
            }
            (Next::Follow { until } | Next::Wait { until }, _) => {
                pause(span(Timestamp::now(), until), &mut quit).await;
            }
        }
    }
}

impl Memory {
    fn after_full(&mut self, taken: Result<Full, FullError>, board: &Board) {
        match taken {
            Ok(full) => {
                journal::info(
                    "full snapshot taken",
                    &json!({"set": full.set.as_str(), "revision": full.revisions.last, "bytes": full.object.bytes}),
                );
                *self = Self { pruned: self.pruned.take(), ..Self::default() };
            }
            Err(error) => {
                journal::error("full snapshot failed", &json!({"why": error.to_string()}));
                board.failed(Work::Full, &error);
                self.full_not_before = Timestamp::now().checked_add(FULL_AGAIN).ok();
            }
        }
    }
}

fn span(now: Timestamp, until: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(now)).unwrap_or_default()
}

async fn pause(time: Duration, quit: &mut watch::Receiver<bool>) {
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        _ = quit.changed() => {}
    }
}

/// What is in the store, and what of it belongs to the cluster that runs.
async fn look(duty: Duty<'_>) -> Result<(Catalog, Option<Base>), String> {
    let catalog = catalog(&duty.job.store).await.map_err(|error| error.to_string())?;
    let (member, _) = duty.cluster.source().await.map_err(|error| error.to_string())?;
    let cluster = member.status.cluster_id;
    let base = Base::newest(&catalog, cluster);
    show(duty, &catalog, cluster, base.as_ref()).await;
    Ok((catalog, base))
}

/// Puts on the board what others have put into the store: the active one before this, or somebody by hand.
async fn show(duty: Duty<'_>, catalog: &Catalog, cluster: ClusterId, base: Option<&Base>) {
    duty.board.note(|active| {
        active.of_cluster(cluster);
        active.holdings = Some(Holdings {
            sets: catalog.sets.len(),
            bytes: catalog.sets.iter().map(|entry| entry.bytes).sum(),
        });
    });
    let Some(active) = duty.board.content().active else { return };
    let newest = base.and_then(|base| catalog.sets.iter().find(|entry| *entry.set() == base.set));
    if let (Some(entry), Some(base)) = (newest, base) {
        let known = active.full.is_some_and(|full| full.set == base.set);
        if !known {
            duty.board.note(|active| active.took_full(&entry.full));
        }
        // What cannot be read is left out: a page is not worth a failure.
        if active.delta.is_none_or(|delta| delta.revision < base.last)
            && let Ok(Some(delta)) = last_delta(&duty.job.store, entry).await
        {
            duty.board.note(|active| active.took_delta(&delta));
        }
        duty.board.note(|active| active.lag.stored(base.last));
    }
    let newest = catalog.sets.iter().filter_map(|entry| entry.verified.last().copied()).max();
    if newest.is_some_and(|at| active.verification.is_none_or(|known| known.at < at))
        && let Ok(Some(note)) = last_verification(&duty.job.store, &catalog.sets).await
    {
        duty.board.note(|active| active.verified(&note));
    }
}

async fn remove(duty: Duty<'_>, catalog: &Catalog) {
    let Duty { job, board, .. } = duty;
    let plan = prune::plan(catalog, &job.retention, Timestamp::now());
    let (sets, bytes) = plan.goes();
    if sets == 0 && bytes == 0 {
        return;
    }
    match prune::prune(&job.store, &plan).await {
        Ok(()) => journal::info("old sets removed", &json!({"sets": sets, "bytes": bytes})),
        Err(error) => {
            journal::warn("old sets could not be removed", &json!({"why": error.to_string()}));
            board.failed(Work::Prune, &error);
        }
    }
}

fn following<'a>(duty: Duty<'a>, tell: &'a dyn Fn(&Told)) -> Following<'a> {
    let Duty { job, cluster, .. } = duty;
    Following { cluster, store: &job.store, packing: &job.packing, limits: job.limits, tell }
}

fn tell(board: &Board, told: &Told) {
    match told {
        Told::Watching { member, from } => {
            journal::info("following", &json!({"member": member, "from": from}));
            board.note(|active| active.member = Some(member.clone()));
        }
        Told::Broken(why) => {
            journal::warn("the watch broke", &json!({"why": why}));
            board.failed(Work::Watch, why);
        }
        Told::Failed(error) => {
            journal::warn("a delta could not be uploaded", &json!({"why": error.to_string()}));
            board.failed(Work::Delta, error);
        }
        Told::Read(revision) => board.note(|active| active.lag.seen(Timestamp::now(), *revision)),
        Told::Delta(delta) => board.note(|active| active.took_delta(delta)),
    }
}

/// Takes a full snapshot. The set before it is followed meanwhile and until it has what the new one begins with: so no
/// revision lies between two sets.
async fn take(duty: Duty<'_>, base: Option<Base>) -> Result<Full, FullError> {
    let Duty { job, cluster, board, alone } = duty;
    let _alone = alone.lock().await;
    let mut silent = |_, _| {};
    let taking = full::take(&job.store, &job.packing, cluster, full::random(), &mut silent);
    let Some(base) = base else {
        return taking.await.inspect(|full| board.note(|active| active.took_full(full)));
    };
    let read = Cell::new(base.last);
    let (more, enough) = (Notify::new(), Notify::new());
    let hear = |told: &Told| {
        tell(board, told);
        if let Told::Read(revision) = told {
            read.set(*revision);
            more.notify_one();
        }
    };
    let following = following(duty, &hear);
    let followed = follow(&following, base, enough.notified());
    let taken = async {
        let taken = taking.await;
        if let Ok(full) = &taken {
            board.note(|active| active.took_full(full));
            let touch = async {
                while read.get() < full.revisions.last {
                    more.notified().await;
                }
            };
            // Ignored: then some points between the two sets cannot be reached.
            let _ = timeout(TOUCH_WITHIN, touch).await;
            Step::OldSetRead.reach();
        }
        enough.notify_one();
        taken
    };
    let (taken, _) = tokio::join!(taken, followed);
    if taken.is_ok() {
        Step::OldSetClosed.reach();
    }
    taken
}
