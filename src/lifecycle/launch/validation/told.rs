//! How far a validation is, as `/state`, `status.json` and `etcd-status` tell it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::judgement::{Judgement, Outcome};
use super::millis;
use crate::datadir::verdict::{Finding, Mode, Verdict};

/// `/state` and the log tell no more findings; `etcd-datadir validate` tells them all.
pub(super) const FINDINGS_TOLD: usize = 5;

/// How far a validation is, as `/state` tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Told {
    /// Nothing was checked yet, or there is nothing to check.
    #[default]
    New,
    /// The data is being checked.
    Progress {
        /// How much is read.
        mode: Mode,
        /// Bytes that were read.
        done: u64,
        /// Of how many; 0 while nobody knows.
        of: u64,
    },
    /// etcd can be started on it.
    Success {
        /// How much was read.
        mode: Mode,
        /// Sound or repairable.
        verdict: Verdict,
        /// What was found all the same, the worst first.
        findings: Vec<Finding>,
        /// How long it took, in milliseconds.
        took_ms: u64,
        /// Bytes that were read.
        bytes: u64,
    },
    /// etcd is not started on it.
    Failed {
        /// How much was to be read.
        mode: Mode,
        /// The verdict, if there is one: the check itself can fail.
        verdict: Option<Verdict>,
        /// Why.
        why: String,
        /// What was found, the worst first.
        findings: Vec<Finding>,
        /// How long it took, in milliseconds.
        took_ms: u64,
    },
}

impl Told {
    /// A few words for a table.
    pub fn words(&self) -> Option<String> {
        Some(match self {
            Self::New => return None,
            Self::Progress { mode, of: 0, .. } => format!("{}, begins", name(*mode)),
            Self::Progress { mode, done, of } => {
                let percent = u128::from(*done) * 100 / u128::from(*of);
                format!("{}, {percent}% of {} MiB", name(*mode), of >> 20)
            }
            Self::Success { mode, verdict, took_ms, .. } => {
                format!("{}, {verdict} ({took_ms} ms)", name(*mode))
            }
            Self::Failed { mode, why, .. } => format!("{}, failed: {why}", name(*mode)),
        })
    }
}

const fn name(mode: Mode) -> &'static str {
    match mode {
        Mode::Sanity => "sanity",
        Mode::Full => "full",
    }
}

/// What is told of a check that has ended.
pub(super) fn told(mode: Mode, outcome: &Outcome, judgement: &Judgement, took: Duration) -> Told {
    let took_ms = millis(took);
    let findings: Vec<Finding> = match outcome {
        Outcome::Reported(report) => report.findings.iter().take(FINDINGS_TOLD).cloned().collect(),
        Outcome::Unreadable { .. } | Outcome::NotDone { .. } => Vec::new(),
    };
    match (outcome, judgement) {
        (Outcome::Reported(report), Judgement::Usable { .. }) => {
            Told::Success { mode, verdict: report.verdict, findings, took_ms, bytes: report.bytes_read }
        }
        (outcome, judgement) => Told::Failed {
            mode,
            verdict: match outcome {
                Outcome::Reported(report) => Some(report.verdict),
                Outcome::Unreadable { .. } => Some(Verdict::Damaged),
                Outcome::NotDone { .. } => None,
            },
            why: match judgement {
                Judgement::Usable { .. } => String::new(),
                Judgement::Damaged { why } => why.clone(),
                Judgement::Refused(refusal) => refusal.complaint().what,
            },
            findings,
            took_ms,
        },
    }
}
