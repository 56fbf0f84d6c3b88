//! The job `etcd-backup`: one instance at a time takes full snapshots by a schedule, follows the cluster in between,
//! and removes what retention does not keep. The others wait for its place.

mod agenda;
mod election;
mod properties;
mod schedule;
mod verification;

pub use properties::Job;

use std::cell::Cell;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use self::agenda::{Next, Observation, next};
use self::election::Lead;
use super::catalog::{Catalog, catalog};
use super::cluster::Cluster;
use super::deltas::{Base, End, Following, Told, follow};
use super::full::{self, FullError};
use super::layout::SetId;
use super::manifest::Full;
use super::prune;
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

/// Runs until SIGTERM.
pub async fn run(job: &Job, cluster: &Cluster) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        let lead = tokio::select! {
            _ = terminate.recv() => return Ok(()),
            lead = candidate(cluster) => lead,
        };
        journal::info("this instance takes the backups now", &json!({"store": job.store.url()}));
        let mut lead = lead;
        let (quit, quitting) = watch::channel(false);
        let verifying = verification::by_schedule(job, quitting.clone());
        let mut work = std::pin::pin!(async {
            tokio::join!(work(job, cluster, quitting), verifying);
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
        lead.release(cluster).await;
        if ends {
            return Ok(());
        }
    }
}

async fn candidate(cluster: &Cluster) -> Lead {
    let mut told = None;
    loop {
        match Lead::try_take(cluster).await {
            Ok(Some(lead)) => return lead,
            Ok(None) => told = None,
            // Once for each reason: etcd may be down for long.
            Err(why) if told.as_ref() != Some(&why) => {
                journal::warn("nobody can be elected", &json!({"why": why}));
                told = Some(why);
            }
            Err(_) => {}
        }
        tokio::time::sleep(CANDIDATE_EVERY).await;
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
async fn work(job: &Job, cluster: &Cluster, mut quit: watch::Receiver<bool>) {
    let mut memory = Memory::default();
    while !*quit.borrow() {
        let looked = tokio::select! {
            looked = look(job, cluster) => looked,
            _ = quit.changed() => return,
        };
        let (catalog, base) = match looked {
            Ok(looked) => looked,
            Err(why) => {
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
        match (next(&seen), base) {
            (Next::Full(because), base) => {
                journal::info(
                    "full snapshot begins",
                    &json!({"because": because.text(), "why": memory.needs_full}),
                );
                let base = base.filter(|_| !seen.needs_full);
                let taken = tokio::select! {
                    taken = take(job, cluster, base) => taken,
                    _ = quit.changed() => return,
                };
                memory.after_full(taken);
            }
            (Next::Prune, _) => {
                tokio::select! {
                    () = remove(job, &catalog) => {}
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
                let following = following(job, cluster, &tell);
                if let (_, End::NeedsFull(why)) = follow(&following, base, stop).await {
                    journal::warn("deltas cannot go on", &json!({"why": why.to_string()}));
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
    fn after_full(&mut self, taken: Result<Full, FullError>) {
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
async fn look(job: &Job, cluster: &Cluster) -> Result<(Catalog, Option<Base>), String> {
    let catalog = catalog(&job.store).await.map_err(|error| error.to_string())?;
    let (member, _) = cluster.source().await.map_err(|error| error.to_string())?;
    let base = Base::newest(&catalog, member.status.cluster_id);
    Ok((catalog, base))
}

async fn remove(job: &Job, catalog: &Catalog) {
    let plan = prune::plan(catalog, &job.retention, Timestamp::now());
    let (sets, bytes) = plan.goes();
    if sets == 0 && bytes == 0 {
        return;
    }
    match prune::prune(&job.store, &plan).await {
        Ok(()) => journal::info("old sets removed", &json!({"sets": sets, "bytes": bytes})),
        Err(error) => journal::warn("old sets could not be removed", &json!({"why": error.to_string()})),
    }
}

fn following<'a>(job: &'a Job, cluster: &'a Cluster, tell: &'a dyn Fn(&Told)) -> Following<'a> {
    Following { cluster, store: &job.store, packing: &job.packing, limits: job.limits, tell }
}

fn tell(told: &Told) {
    match told {
        Told::Watching { member, from } => {
            journal::info("following", &json!({"member": member, "from": from}));
        }
        Told::Broken(why) => journal::warn("the watch broke", &json!({"why": why})),
        Told::Failed(error) => {
            journal::warn("a delta could not be uploaded", &json!({"why": error.to_string()}));
        }
        Told::Read(_) | Told::Delta(_) => {}
    }
}

/// Takes a full snapshot. The set before it is followed meanwhile and until it has what the new one begins with: so no
/// revision lies between two sets.
async fn take(job: &Job, cluster: &Cluster, base: Option<Base>) -> Result<Full, FullError> {
    let mut silent = |_, _| {};
    let taking = full::take(&job.store, &job.packing, cluster, full::random(), &mut silent);
    let Some(base) = base else { return taking.await };
    let read = Cell::new(base.last);
    let (more, enough) = (Notify::new(), Notify::new());
    let hear = |told: &Told| {
        tell(told);
        if let Told::Read(revision) = told {
            read.set(*revision);
            more.notify_one();
        }
    };
    let following = following(job, cluster, &hear);
    let followed = follow(&following, base, enough.notified());
    let taken = async {
        let taken = taking.await;
        if let Ok(full) = &taken {
            let touch = async {
                while read.get() < full.revisions.last {
                    more.notified().await;
                }
            };
            // Ignored: then some points between the two sets cannot be reached.
            let _ = timeout(TOUCH_WITHIN, touch).await;
        }
        enough.notify_one();
        taken
    };
    let (taken, _) = tokio::join!(taken, followed);
    taken
}
