//! What this version of the release carries out. The table is complete; acting is not yet, and says so
//! instead of pretending.

use super::Decision;
use super::plan::{Plan, Restore, RestoreSource};
use super::reason::Reason;
use super::refusal::Refusal;
use super::step::Step;

/// The steps that the launcher carries out. A step is added here together with the code that does it.
pub const CARRIED_OUT: &[Step] = &[
    Step::WriteNonce,
    Step::TakeMutex,
    Step::ProbePeers,
    Step::MoveAside,
    Step::RetireRecords,
    Step::WriteBootstrapRecord,
    Step::SeedData,
    Step::WriteJoinIntent,
    Step::MemberRemove,
    Step::MemberAdd,
    Step::WriteJoinAnswer,
    Step::RestoreData,
    Step::WriteRestoreRecord,
    Step::Validate,
    Step::WriteConfiguration,
    Step::RemoveExitRecord,
    Step::Spawn,
    Step::WriteInitialisedMark,
    Step::CompleteBootstrapRecord,
    Step::WriteJoinStarted,
    Step::Promote,
    Step::WriteJoinPromoted,
    Step::ReleaseMutex,
    Step::AnnouncePeerUrl,
];

/// The same decision, if all of its steps are carried out; else a refusal that names the row, the plan
/// and the first step that is not.
pub fn honest(decision: Decision) -> Decision {
    let from_the_store =
        matches!(&decision.plan, Plan::Restore(Restore { source: RestoreSource::Newest { .. }, .. }));
    let steps = decision.plan.steps();
    let missing = if from_the_store {
        Some(Step::RestoreData)
    } else {
        steps.into_iter().find(|step| !CARRIED_OUT.contains(step))
    };
    let Some(step) = missing else { return decision };
    let refusal = Refusal::NotYet { plan: decision.plan.name(), step, because: decision.because.sentence() };
    Decision { plan: Plan::Refuse, because: Reason::Refusal(refusal), ..decision }
}
