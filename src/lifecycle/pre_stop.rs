//! pre-stop: keeps what BOSH says about the next state for drain, and holds or refuses a stop that would
//! cost quorum or the last copy, while monit still watches the process.

use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;

use super::drain::decide::{Plan, Refusal, decide};
use super::drain::doubt::Doubt;
use super::drain::hold::takes_mutex;
use super::drain::next_state;
use super::drain::observation::{Call, DiskNext, Script};
use super::drain::observe::{Asked, Eyes};
use super::{held_mutex, intent};
use crate::etcd::client::EtcdClient;
use crate::etcd::mutex;
use crate::job::config::JobConfig;
use crate::job::paths::Paths;
use crate::job::reach::{self, Reach};
use crate::journal;
use crate::report::{Complaint, Exit};

/// Between two looks while a voter is missing.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Between two looks while somebody else is busy, or what was seen may pass in a moment.
const LOOK_SOON: Duration = Duration::from_millis(500);
/// A mutex that cannot even be asked for is done without after this long: the stop may be the repair of what
/// is in the way (a full database refuses leases as well).
const ASK_FOR: Duration = Duration::from_secs(5);

/// Decides whether this instance may stop now.
pub async fn run(paths: &Paths) -> anyhow::Result<Exit> {
    #[expect(clippy::disallowed_methods, reason = "BOSH speaks to pre-stop through the environment")]
    let intent = next_state::intent(|name| std::env::var(name).ok()).map_err(|error| {
        Complaint::failed(
            error.to_string(),
            "whether this member stops for a while or for good cannot be told, and the two need different care",
            "this Director is not understood: stop with --skip-drain if the member stays, and report the version of the Director",
        )
    })?;
    match intent {
        Some(intent) => intent::write(paths, intent).context("keep the intent for drain")?,
        None => intent::clear(paths).context("clear an old intent")?,
    }
    let job = JobConfig::load(&paths.job_json())?;
    let paths = &paths.with_wal_dir(job.properties.wal_dir.as_deref());
    let reach = Reach::load(paths)?;
    let disk = DiskNext { now_mib: None, next_mib: None };
    let asked = Asked { script: Script::PreStop, call: Call::Shutdown, intent, disk };
    hold(Eyes::new(paths, &job, &reach, asked)).await
}

/// How it stands with the mutex.
enum Mutex {
    /// It is ours, or this stop does not need it.
    InOrder,
    SomebodyElses,
    /// It cannot be asked for.
    Unknown(String),
}

async fn hold(mut eyes: Eyes<'_>) -> anyhow::Result<Exit> {
    let (started, mut doubt, mut told) = (Instant::now(), Doubt::default(), false);
    let hold_timeout = eyes.job.properties.hold_timeout;
    loop {
        let mut held = held_mutex::load(eyes.paths).context("read whether the mutex is held")?;
        let mut seen = eyes.look().await;
        let mut decision = decide(&seen);
        let mut mutex = Mutex::InOrder;
        if held.is_none() && takes_mutex(&seen, &decision.plan) {
            mutex = take(&eyes).await?;
            if matches!(mutex, Mutex::InOrder) {
                // What was seen before does not count.
                held = held_mutex::load(eyes.paths).context("read whether the mutex is held")?;
                seen = eyes.look().await;
                decision = decide(&seen);
            }
        }
        let fields = json!({
            "row": decision.row, "plan": decision.plan.name(), "because": decision.because,
            "elapsed_ms": u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
        if held.is_some() && !takes_mutex(&seen, &decision.plan) {
            give_back(&eyes).await;
        }
        let time_is_up = started.elapsed() >= hold_timeout;
        let pause = match decision.plan {
            plan if doubt.about(&plan, Instant::now()) => LOOK_SOON,
            Plan::Refuse(refusal) => {
                journal::error("stop refused", &fields);
                return Err(refusal.complaint().into());
            }
            Plan::Hold { missing, dead } if time_is_up => {
                journal::error("stop refused after holding", &fields);
                return Err(Refusal::StopTakesQuorum { missing, dead }.complaint().into());
            }
            Plan::Hold { missing, .. } => {
                journal::warn("stop is held", &json!({"missing": missing, "because": decision.because}));
                LOOK_EVERY
            }
            Plan::Continue | Plan::Stay | Plan::HandOver | Plan::RemoveEntry { .. } | Plan::Leave { .. } => {
                match mutex {
                    Mutex::InOrder => {
                        journal::info("stop allowed", &fields);
                        let (own, limit) = (reach::own_etcd(eyes.job), eyes.job.properties.observe_timeout);
                        held_mutex::prolong(eyes.paths, &own, eyes.reach, limit).await;
                        return Ok(Exit::Done);
                    }
                    Mutex::SomebodyElses if time_is_up => {
                        journal::error("stop refused after holding", &fields);
                        return Err(Refusal::MutexHeld.complaint().into());
                    }
                    Mutex::SomebodyElses => {
                        if !told {
                            let because = "another member is being added, removed or stopped";
                            journal::warn("stop is held", &json!({"missing": [], "because": because}));
                            told = true;
                        }
                        LOOK_SOON
                    }
                    Mutex::Unknown(why) if started.elapsed() >= ASK_FOR => {
                        journal::warn("stop allowed without the mutex", &json!({"why": why}));
                        return Ok(Exit::Done);
                    }
                    Mutex::Unknown(_) => LOOK_SOON,
                }
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Takes the mutex through the own member, which serves, and notes it for the scripts that follow.
async fn take(eyes: &Eyes<'_>) -> anyhow::Result<Mutex> {
    let limit = eyes.job.properties.observe_timeout;
    let asked = async {
        let own = reach::own_etcd(eyes.job);
        mutex::try_take(&mut EtcdClient::connect(&own, eyes.reach.grpc.clone(), limit).await?).await
    };
    Ok(match asked.await {
        Ok(Some(held)) => {
            held_mutex::keep(eyes.paths, held).context("note that the mutex is held")?;
            Mutex::InOrder
        }
        Ok(None) => Mutex::SomebodyElses,
        Err(error) => Mutex::Unknown(error.to_string()),
    })
}

async fn give_back(eyes: &Eyes<'_>) {
    let limit = eyes.job.properties.observe_timeout;
    held_mutex::give_back(eyes.paths, &[reach::own_etcd(eyes.job)], eyes.reach, limit).await;
}
