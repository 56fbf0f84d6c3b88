//! What a validation found, for a person and for the launcher.

use std::cmp::Reverse;
use std::fmt;

use serde::{Deserialize, Serialize};

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// What is wrong where it would be seen at once: milliseconds, whatever the size.
    Sanity,
    /// Every byte that is in use.
    Full,
}

/// The answer in one word. The order is that of the exit codes (docs/contract.md#validate).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// etcd starts on it, and nothing is lost. Also of a directory without any data.
    Sound,
    /// etcd repairs it at the next start, and nothing that was acknowledged is lost.
    Repairable,
    /// etcd does not start on it, or starts and serves something wrong.
    Damaged,
    /// Not etcd's, or not a single member's.
    Foreign,
    /// An etcd runs on it: nothing was read.
    Locked,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Harmless: nobody reads what is wrong.
    Note,
    /// etcd runs on it, but somebody should know.
    Warning,
    /// etcd repairs it at the next start.
    Repairable,
    /// etcd does not start, or serves something wrong.
    Damage,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// The file, relative to the data directory (an absolute path if it lies elsewhere).
    pub file: String,
    /// Where in the file, in bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub offset: Option<u64>,
    /// Where in the file's own terms: a page, a bucket, a key, a raft index.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub place: Option<String>,
    /// What is wrong.
    pub what: String,
    /// Whether it matters, and why.
    pub matters: String,
    /// What to do.
    pub next: String,
}

/// What a validation found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The layout of this document: 1. Fields are added, never changed.
    pub version: u32,
    /// How much was read.
    pub mode: Mode,
    /// The answer.
    pub verdict: Verdict,
    /// What was found, the worst first; at most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
    /// How many more there were.
    pub omitted: u64,
    /// Bytes that were read.
    pub bytes_read: u64,
}

/// No more findings are kept: whoever has a hundred needs no list.
pub const FINDINGS_MAX: usize = 100;

impl Verdict {
    /// The exit code of `etcd-datadir validate`.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Sound => 0,
            Self::Repairable => 10,
            Self::Damaged => 11,
            Self::Foreign => 12,
            Self::Locked => 13,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sound => "sound",
            Self::Repairable => "repairable",
            Self::Damaged => "damaged",
            Self::Foreign => "foreign",
            Self::Locked => "locked",
        })
    }
}

impl Report {
    /// The report of these findings: the worst one decides.
    pub fn of(mode: Mode, mut findings: Vec<Finding>, omitted: u64, bytes_read: u64) -> Self {
        findings.sort_by_key(|finding| Reverse(finding.severity));
        let verdict = match findings.first().map(|finding| finding.severity) {
            None | Some(Severity::Note | Severity::Warning) => Verdict::Sound,
            Some(Severity::Repairable) => Verdict::Repairable,
            Some(Severity::Damage) => Verdict::Damaged,
        };
        let beyond = findings.len().saturating_sub(FINDINGS_MAX);
        findings.truncate(FINDINGS_MAX);
        Self { version: 1, mode, verdict, findings, omitted: omitted + beyond as u64, bytes_read }
    }

    /// The same with another answer: of a directory that was not read further.
    #[must_use]
    pub fn with_verdict(self, verdict: Verdict) -> Self {
        Self { verdict, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(severity: Severity) -> Finding {
        Finding {
            severity,
            file: "member/snap/db".to_owned(),
            offset: None,
            place: None,
            what: String::new(),
            matters: String::new(),
            next: String::new(),
        }
    }

    #[test]
    fn the_worst_finding_decides() {
        use Severity::{Damage, Note, Repairable, Warning};
        let rows: [(&[Severity], Verdict); 5] = [
            (&[], Verdict::Sound),
            (&[Note, Warning], Verdict::Sound),
            (&[Warning, Repairable, Note], Verdict::Repairable),
            (&[Repairable, Damage], Verdict::Damaged),
            (&[Damage, Damage], Verdict::Damaged),
        ];
        for (severities, verdict) in rows {
            let findings = severities.iter().copied().map(finding).collect();
            assert_eq!(Report::of(Mode::Full, findings, 0, 0).verdict, verdict, "{severities:?}");
        }
    }

    #[test]
    fn a_long_list_keeps_the_worst_and_counts_the_rest() {
        let mut findings = vec![finding(Severity::Note); FINDINGS_MAX + 5];
        findings.push(finding(Severity::Damage));

        let report = Report::of(Mode::Full, findings, 2, 0);

        assert_eq!(report.findings.len(), FINDINGS_MAX);
        assert_eq!(report.findings[0].severity, Severity::Damage);
        assert_eq!(report.omitted, 8);
    }
}
