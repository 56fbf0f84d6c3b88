//! What this version of the release carries out. The table is complete; acting is not yet, and says so
//! instead of pretending.

use super::plan::{Plan, Promotion};
use super::reason::Reason;
use super::refusal::Refusal;
use super::step::Step;
use super::{Decision, Notice};

/// The steps that the launcher carries out. A step is added here together with the code that does it.
pub const CARRIED_OUT: &[Step] = &[
    Step::WriteNonce,
    // Without `RetireRecords` that is what a first start left that died early, and nothing else.
    Step::MoveAside,
    Step::WriteBootstrapRecord,
    Step::WriteConfiguration,
    Step::RemoveExitRecord,
    Step::Spawn,
    Step::WriteInitialisedMark,
    Step::CompleteBootstrapRecord,
];

/// The same decision, if all of its steps are carried out; else a refusal that names the row, the plan
/// and the first step that is not. A learner is started all the same and stays one.
pub fn honest(decision: Decision) -> Decision {
    honest_with(decision, CARRIED_OUT)
}

fn honest_with(mut decision: Decision, carried_out: &[Step]) -> Decision {
    if let Plan::Start(start) = &mut decision.plan
        && start.promotion == Promotion::Promote
        && !carried_out.contains(&Step::Promote)
    {
        start.promotion = Promotion::No;
        decision.notices.push(Notice::PromotionNotYet);
    }
    let Some(step) = decision.plan.steps().into_iter().find(|step| !carried_out.contains(step)) else {
        return decision;
    };
    let refusal = Refusal::NotYet { plan: decision.plan.name(), step, because: decision.because.sentence() };
    Decision { plan: Plan::Refuse, because: Reason::Refusal(refusal), ..decision }
}
