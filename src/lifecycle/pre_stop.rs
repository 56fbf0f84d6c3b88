//! pre-stop: keeps what BOSH says about the next state for drain, and holds or refuses a stop that would
//! cost quorum or the last copy, while monit still watches the process.

use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;

use super::drain::decide::{Plan, Refusal, decide, honest};
use super::drain::next_state;
use super::drain::observation::{Call, DiskNext, Override, Script, StopSeen};
use super::drain::observe::{Watch, on_disk};
use super::intent;
use crate::job::config::JobConfig;
use crate::job::paths::Paths;
use crate::job::reach::Reach;
use crate::journal;
use crate::report::{Complaint, Exit};

/// Between two looks while holding.
const LOOK_EVERY: Duration = Duration::from_secs(2);

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
    let reach = Reach::load(paths)?;
    let (mut watch, started) = (Watch::default(), Instant::now());
    loop {
        let seen = StopSeen {
            script: Script::PreStop,
            call: Call::Shutdown,
            intent,
            disk: DiskNext { now_mib: None, next_mib: None },
            own_disk: job.spec.persistent_disk > 0,
            forced: forced(paths),
            cluster: watch.look(&job, &reach).await,
            on_disk: on_disk(paths),
        };
        let decision = honest(decide(&seen), seen.forced);
        let fields = json!({
            "row": decision.row, "plan": decision.plan.name(), "because": decision.because,
            "elapsed_ms": u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
        match decision.plan {
            Plan::Refuse(refusal) => {
                journal::error("stop refused", &fields);
                return Err(refusal.complaint().into());
            }
            Plan::Hold { missing } if started.elapsed() >= job.properties.hold_timeout => {
                journal::error("stop refused after holding", &fields);
                return Err(Refusal::StopTakesQuorum { missing }.complaint().into());
            }
            Plan::Hold { missing } => {
                journal::warn("stop is held", &json!({"missing": missing, "because": decision.because}));
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Plan::Continue | Plan::Stay | Plan::HandOver | Plan::RemoveEntry { .. } | Plan::Leave { .. } => {
                journal::info("stop allowed", &fields);
                return Ok(Exit::Done);
            }
        }
    }
}

/// Whether the operator laid the file that overrides refusals and holds.
pub fn forced(paths: &Paths) -> Override {
    if paths.force_leave().exists() { Override::ForceLeave } else { Override::None }
}
