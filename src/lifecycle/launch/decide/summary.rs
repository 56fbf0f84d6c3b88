//! A decision as other programs of this VM read it: post-start, post-deploy, `etcd-status`. The
//! decision itself is for the launcher; this is its stable face in `status.json`.

use serde::{Deserialize, Serialize};

use super::Decision;
use super::plan::Plan;
use super::reason::{Cause, Reason};
use super::waiting::Until;
use crate::report::Complaint;

/// What a launcher decided, for other programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The row of the launch table.
    pub row: u8,
    /// The name of the plan.
    pub plan: String,
    /// Whom it depends on now.
    pub stance: Stance,
    /// Why, in one line.
    pub because: String,
    /// What, why and next, where something is not done.
    #[serde(default)]
    pub complaint: Option<Told>,
    /// Further remarks, one line each.
    #[serde(default)]
    pub notices: Vec<String>,
}

/// Whom it depends on that this instance serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stance {
    /// This instance: it is acting.
    Own,
    /// Other instances: they may come later in the same deploy.
    Others,
    /// Another deploy or an errand: waiting longer changes nothing.
    Operator,
    /// A person: refused.
    Refused,
}

/// A complaint as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// What happened.
    pub what: String,
    /// Why it matters.
    pub why: String,
    /// What to do next.
    pub next: String,
}

impl From<Complaint> for Told {
    fn from(complaint: Complaint) -> Self {
        Self { what: complaint.what, why: complaint.why, next: complaint.next }
    }
}

impl From<&Decision> for Summary {
    fn from(decision: &Decision) -> Self {
        Self {
            row: decision.row.number(),
            plan: decision.plan.name().to_owned(),
            stance: stance(decision),
            because: decision.because.sentence(),
            complaint: decision.because.complaint().map(Told::from),
            notices: decision.notices.iter().map(ToString::to_string).collect(),
        }
    }
}

fn stance(decision: &Decision) -> Stance {
    match (&decision.because, &decision.plan) {
        (Reason::Refusal(_), _) | (_, Plan::Refuse) => Stance::Refused,
        (Reason::Waiting(waiting), _) => match waiting.until() {
            Until::OwnProgress => Stance::Own,
            Until::Others => Stance::Others,
            Until::Operator => Stance::Operator,
        },
        // etcd is started, but whether it serves is up to the members it waits for.
        (Reason::Cause(Cause::QuorumMissing { others, .. }), _) if !others.is_empty() => Stance::Others,
        (Reason::Cause(_), _) => Stance::Own,
    }
}
