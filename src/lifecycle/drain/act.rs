//! drain: stdout carries exactly one integer on success and nothing on failure; the story goes to
//! drain.log (docs/contract.md#bosh-scripts).

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::decide::{Decision, Plan, decide};
use super::doubt::Doubt;
use super::leave::{Left, leave};
use super::next_state;
use super::observation::{Call, Cluster, Override, Script, StopSeen};
use super::observe::{Asked, Eyes};
use super::step::Step;
use crate::etcd::handover::{Handover, hand_over};
use crate::job::config::JobConfig;
use crate::job::paths::Paths;
use crate::job::reach::{self, Reach};
use crate::journal;
use crate::lifecycle::records::{self, DrainBegun};
use crate::lifecycle::{held_mutex, intent, vcap};
use crate::report::{Complaint, chain};

/// Seconds BOSH is to sleep after a successful drain: none, whatever drain did is done.
const DONE: &str = "0";
const VERSION: u32 = 1;
/// Between two looks at what may pass.
const LOOK_EVERY: Duration = Duration::from_millis(500);

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
        journal::error("drain failed", &json!({"error": chain(error)}));
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
    let paths = &paths.with_wal_dir(job.properties.wal_dir.as_deref());
    let reach = Reach::load(paths)?;
    let intent = intent::read(paths).context("read the intent of pre-stop")?;
    let mut eyes = Eyes::new(paths, &job, &reach, Asked { script: Script::Drain, call, intent, disk });
    let (seen, decision) = decided(&mut eyes).await;
    let fields = json!({"row": decision.row, "plan": decision.plan.name(), "because": decision.because, "intent": intent, "disk": disk});
    journal::info("drain decided", &fields);
    if let Plan::Refuse(refusal) = &decision.plan {
        return Err(refusal.complaint().into());
    }
    begin(paths)?;
    let decision = carry_out(&mut eyes, seen, decision).await?;
    let progress = DrainProgress {
        row: decision.row.number(),
        plan: decision.plan.name().to_owned(),
        answer: DONE.to_owned(),
        at: journal::now(),
    };
    Step::Done.reach();
    std::fs::create_dir_all(paths.run()).context("make the directory of drain's progress")?;
    records::write_versioned(&paths.drain_progress(), VERSION, &progress).context("note drain's progress")?;
    Ok(DONE.to_owned())
}

/// The first decision that is not only an election's.
async fn decided(eyes: &mut Eyes<'_>) -> (StopSeen, Decision) {
    let mut doubt = Doubt::default();
    loop {
        let seen = eyes.look().await;
        let decision = decide(&seen);
        if !doubt.about(&decision.plan, Instant::now()) {
            return (seen, decision);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// From now on the launcher must not rejoin, whatever becomes of this drain: pre-start clears the mark.
fn begin(paths: &Paths) -> anyhow::Result<()> {
    Step::Begin.reach();
    if !paths.data_dir().exists() {
        return Ok(());
    }
    records::write(paths, &DrainBegun { at: journal::now() }).context("note that drain has begun")?;
    vcap::own(&paths.records())?;
    vcap::own(&records::path::<DrainBegun>(paths))
}

/// Acts, and returns what was done: leaving decides again at each step.
async fn carry_out(eyes: &mut Eyes<'_>, seen: StopSeen, decision: Decision) -> anyhow::Result<Decision> {
    match &decision.plan {
        Plan::HandOver => {
            give_leadership(eyes, &seen.cluster).await;
            Ok(decision)
        }
        Plan::Leave { .. } | Plan::RemoveEntry { member: Some(_) } => match leave(eyes).await {
            Ok(Left::Gone) => Ok(decision),
            Ok(Left::Overruled(instead)) => {
                let (seen, instead) = *instead;
                let fields =
                    json!({"row": instead.row, "plan": instead.plan.name(), "because": instead.because});
                journal::warn("drain decided otherwise", &fields);
                match &instead.plan {
                    Plan::Refuse(refusal) => Err(refusal.complaint().into()),
                    Plan::HandOver => {
                        give_leadership(eyes, &seen.cluster).await;
                        Ok(instead)
                    }
                    _ => Ok(instead),
                }
            }
            // The operator has accepted that it goes without leaving.
            Err(error) if seen.forced == Override::ForceLeave => {
                journal::warn("it goes without having left", &json!({"why": chain(&error)}));
                Ok(decision)
            }
            Err(error) => Err(error),
        },
        Plan::Continue | Plan::Stay | Plan::RemoveEntry { member: None } => Ok(decision),
        Plan::Refuse(_) | Plan::Hold { .. } => {
            unreachable!("drain never holds, and a refusal ended before: '{}'", decision.plan.name())
        }
    }
}

async fn give_leadership(eyes: &Eyes<'_>, cluster: &Cluster) {
    Step::HandOver.reach();
    let (own, properties) = (reach::own_etcd(eyes.job), &eyes.job.properties);
    if matches!(cluster, Cluster::Serves { own_serves: true, .. }) {
        tell(&hand_over(&own, &eyes.reach.grpc, properties.drain_timeout).await);
        held_mutex::prolong(eyes.paths, &own, eyes.reach, properties.observe_timeout).await;
    } else {
        journal::info("nothing to hand over: this member does not serve", &json!({}));
    }
}

/// Tells how handing over ended.
pub fn tell(outcome: &Handover) {
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
