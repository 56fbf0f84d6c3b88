//! drain: stdout carries exactly one integer on success and nothing on failure; the story goes to
//! drain.log (docs/contract.md#bosh-scripts).

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::decide::{Decision, Plan, decide, honest};
use super::next_state;
use super::observation::{Call, Cluster, Script, StopSeen};
use super::observe::{Watch, on_disk};
use crate::etcd::handover::{Handover, hand_over};
use crate::job::config::JobConfig;
use crate::job::paths::Paths;
use crate::job::reach::{self, Reach};
use crate::lifecycle::records::{self, DrainBegun};
use crate::lifecycle::{intent, pre_stop, vcap};
use crate::report::Complaint;
use crate::{fail_point, journal};

/// Seconds BOSH is to sleep after a successful drain: none, whatever drain did is done.
const DONE: &str = "0";
const VERSION: u32 = 1;

/// How far drain got; read by a dynamic drain and by people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainProgress {
    /// The row that applied.
    pub row: u8,
    /// The plan.
    pub plan: String,
    /// The integer for BOSH.
    pub answer: String,
    /// When, in UTC.
    pub at: String,
}

/// Runs drain and returns the integer for stdout.
pub async fn run(paths: &Paths, arguments: &[String]) -> anyhow::Result<String> {
    open_log(paths)?;
    let result = drain(paths, arguments).await;
    if let Err(error) = &result {
        journal::error("drain failed", &json!({"error": crate::report::chain(error)}));
    }
    result
}

async fn drain(paths: &Paths, arguments: &[String]) -> anyhow::Result<String> {
    let call =
        next_state::call(arguments.first().map(String::as_str)).map_err(|error| misunderstood(&error))?;
    #[expect(clippy::disallowed_methods, reason = "BOSH speaks to drain through the environment")]
    let disk = next_state::disk(|name| std::env::var(name).ok()).map_err(|error| misunderstood(&error))?;
    if call == Call::CheckStatus {
        let progress: Option<DrainProgress> = records::read_versioned(&paths.drain_progress(), VERSION)?;
        return Ok(progress.map_or_else(|| DONE.to_owned(), |progress| progress.answer));
    }
    let job = JobConfig::load(&paths.job_json())?;
    let reach = Reach::load(paths)?;
    let seen = StopSeen {
        script: Script::Drain,
        call,
        intent: intent::read(paths).context("read the intent of pre-stop")?,
        disk,
        own_disk: job.spec.persistent_disk > 0,
        forced: pre_stop::forced(paths),
        cluster: Watch::default().look(&job, &reach).await,
        on_disk: on_disk(paths),
    };
    let decision = honest(decide(&seen), seen.forced);
    let fields = json!({"row": decision.row, "plan": decision.plan.name(), "because": decision.because, "intent": seen.intent, "disk": seen.disk});
    journal::info("drain decided", &fields);
    if let Plan::Refuse(refusal) = &decision.plan {
        return Err(refusal.complaint().into());
    }
    begin(paths)?;
    act(&decision, &seen.cluster, &job, &reach).await?;
    let progress = DrainProgress {
        row: decision.row.number(),
        plan: decision.plan.name().to_owned(),
        answer: DONE.to_owned(),
        at: journal::now(),
    };
    std::fs::create_dir_all(paths.run()).context("make the directory of drain's progress")?;
    records::write_versioned(&paths.drain_progress(), VERSION, &progress).context("note drain's progress")?;
    fail_point::reach("drain:done");
    Ok(DONE.to_owned())
}

/// From now on the launcher must not rejoin, whatever becomes of this drain: pre-start clears the mark.
fn begin(paths: &Paths) -> anyhow::Result<()> {
    fail_point::reach("drain:begin");
    if !paths.data_dir().exists() {
        return Ok(());
    }
    records::write(paths, &DrainBegun { at: journal::now() }).context("note that drain has begun")?;
    vcap::own(&paths.records())?;
    vcap::own(&records::path::<DrainBegun>(paths))
}

async fn act(decision: &Decision, cluster: &Cluster, job: &JobConfig, reach: &Reach) -> anyhow::Result<()> {
    match &decision.plan {
        Plan::HandOver => {
            fail_point::reach("drain:hand-over");
            if matches!(cluster, Cluster::Serves { own_serves: true, .. }) {
                let outcome =
                    hand_over(&reach::own_etcd(job), &reach.grpc, job.properties.drain_timeout).await;
                tell(&outcome);
            } else {
                journal::info("nothing to hand over: this member does not serve", &json!({}));
            }
            Ok(())
        }
        Plan::Continue | Plan::Stay => Ok(()),
        Plan::Refuse(_) | Plan::Hold { .. } | Plan::RemoveEntry { .. } | Plan::Leave { .. } => {
            unreachable!("drain never holds, and a refusal ended before: '{}'", decision.plan.name())
        }
    }
}

fn tell(outcome: &Handover) {
    match outcome {
        Handover::NotLeader => journal::info("nothing to hand over: another member leads", &json!({})),
        Handover::OnlyVoter => journal::info("nothing to hand over: it is the only voter", &json!({})),
        Handover::Moved { to } => journal::info("leadership handed over", &json!({"to": to})),
        // No reason to fail a stop: etcd tries again when it ends, and an election is only a pause.
        Handover::Kept { why } => journal::warn("leadership was not handed over", &json!({"why": why})),
    }
}

fn misunderstood(error: &next_state::Malformed) -> Complaint {
    Complaint::failed(
        error.to_string(),
        "whether the disk stays cannot be told, and guessing could remove a member or leave a dead one",
        "this agent is not understood: report its version; --skip-drain stops the job without drain",
    )
}

fn open_log(paths: &Paths) -> anyhow::Result<()> {
    std::fs::create_dir_all(paths.logs()).context("make the log directory")?;
    let path = paths.logs().join("drain.log");
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    journal::append_to(file);
    Ok(())
}
