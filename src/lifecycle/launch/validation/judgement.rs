//! From the end of a check to what follows for the launcher.

use std::io;

use nix::errno::Errno;

use crate::datadir::verdict::{Finding, Report, Severity, Verdict};
use crate::lifecycle::launch::decide::refusal::Refusal;

/// What a check that came to its end says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There is a report.
    Reported(Report),
    /// The disk does not give the data back.
    Unreadable {
        /// How that showed.
        why: String,
    },
    /// The check itself failed, which says nothing about the data: it is never taken for sound.
    NotDone {
        /// What happened.
        why: String,
    },
}

/// What follows from an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judgement {
    /// etcd can be started.
    Usable {
        /// What it repairs.
        repairs: Vec<String>,
    },
    /// It must not be started on this.
    Damaged {
        /// What is wrong.
        why: String,
    },
    /// Not before a person has looked.
    Refused(Refusal),
}

/// What a check in this process says.
pub(super) fn of_result(result: io::Result<Report>) -> Outcome {
    match result {
        Ok(report) => Outcome::Reported(report),
        Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => {
            Outcome::Unreadable { why: error.to_string() }
        }
        Err(error) => Outcome::NotDone { why: error.to_string() },
    }
}

/// What follows. A check that failed follows neither way: data is moved aside for damage, and spread if it is
/// taken for sound.
pub(super) fn judgement(outcome: &Outcome) -> Judgement {
    let report = match outcome {
        Outcome::Reported(report) => report,
        Outcome::Unreadable { why } => {
            return Judgement::Damaged { why: format!("the disk does not give the data back: {why}") };
        }
        Outcome::NotDone { why } => {
            return Judgement::Refused(Refusal::NotChecked { why: why.clone() });
        }
    };
    match report.verdict {
        Verdict::Sound | Verdict::Repairable => {
            Judgement::Usable { repairs: words(report, Severity::Repairable) }
        }
        Verdict::Damaged => Judgement::Damaged { why: shortened(report) },
        // Somebody came between the observation and the check: the next observation tells the same.
        Verdict::Foreign => Judgement::Refused(Refusal::Foreign {
            names: report.findings.iter().map(|finding| finding.file.clone()).collect(),
        }),
        Verdict::Locked => Judgement::Refused(Refusal::AlreadyRunning { pid: None }),
    }
}

/// The findings of this weight, a sentence each.
fn words(report: &Report, severity: Severity) -> Vec<String> {
    report.findings.iter().filter(|finding| finding.severity == severity).map(sentence).collect()
}

fn sentence(finding: &Finding) -> String {
    let Finding { file, what, .. } = finding;
    match (&finding.place, finding.offset) {
        (Some(place), _) => format!("{file}, {place}: {what}"),
        (None, Some(offset)) => format!("{file}, byte {offset}: {what}"),
        (None, None) => format!("{file}: {what}"),
    }
}

/// The first damage, and how much more there is: a reason that fits on a line.
fn shortened(report: &Report) -> String {
    let all = words(report, Severity::Damage);
    let more = (all.len() as u64).saturating_sub(1) + report.omitted;
    match (all.first(), more) {
        (None, _) => "no finding says why".to_owned(),
        (Some(first), 0) => first.clone(),
        (Some(first), more) => format!("{first} (and {more} more findings)"),
    }
}
