//! A report for people.

use std::fmt::Write;

use crate::datadir::verdict::{Finding, Mode, Report, Severity, Verdict};

/// The report as text: what was found, the worst first, and the verdict last. Has no newline at its end.
pub fn page(report: &Report) -> String {
    let mut page = String::new();
    for finding in &report.findings {
        page.push_str(&block(finding));
        page.push('\n');
    }
    if report.omitted > 0 {
        // Writing to a text never fails.
        let _ = writeln!(page, "… and {} more\n", report.omitted);
    }
    let _ = write!(page, "verdict: {} ({})", report.verdict, meaning(report.verdict));
    if report.mode == Mode::Sanity && report.verdict == Verdict::Sound {
        page.push_str("\nOnly the beginnings were read: '--mode full' reads everything.");
    }
    page
}

fn block(finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Repairable => "repairable",
        Severity::Damage => "damage",
    };
    let mut place = finding.file.clone();
    if let Some(offset) = finding.offset {
        let _ = write!(place, ", byte {offset}");
    }
    if let Some(within) = &finding.place {
        let _ = write!(place, ", {within}");
    }
    let Finding { what, matters, next, .. } = finding;
    format!("{severity}: {place}\n  what:    {what}\n  matters: {matters}\n  next:    {next}\n")
}

fn meaning(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Sound => "etcd starts on it, and nothing is lost",
        Verdict::Repairable => "the next start repairs it, and nothing that was acknowledged is lost",
        Verdict::Damaged => "etcd does not start on it, or would serve something wrong",
        Verdict::Foreign => "not etcd's, or not a single member's; nothing was touched",
        Verdict::Locked => "an etcd runs on it; nothing was read",
    }
}

#[cfg(test)]
mod tests;
