//! What is found, and what it means: each kind of trouble says in one place how bad it is and what to do.

use crate::datadir::verdict::{FINDINGS_MAX, Finding, Mode, Report, Severity};

/// What etcd makes of something that is wrong (docs/contract.md#judging).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// etcd ends as soon as it reads it, at each start.
    Ends,
    /// etcd starts and serves something else than what was written, or has lost some of it.
    ServesWrong,
    /// etcd repairs it at the next start.
    Repairs,
    /// The launcher moves it aside, and the member begins anew.
    BeginsAnew,
    /// etcd runs, and ends after an upgrade or changes its membership with it.
    AfterUpgrade,
    /// etcd runs; somebody should know.
    Runs,
    /// Nobody reads what is wrong.
    Harmless,
}

impl Effect {
    fn severity(self) -> Severity {
        match self {
            Self::Ends | Self::ServesWrong => Severity::Damage,
            Self::Repairs | Self::BeginsAnew => Severity::Repairable,
            Self::AfterUpgrade | Self::Runs => Severity::Warning,
            Self::Harmless => Severity::Note,
        }
    }

    fn matters(self) -> &'static str {
        match self {
            Self::Ends => "etcd does not start on it: it ends as soon as it reads this",
            Self::ServesWrong => "etcd would start on it, and serve something else than what was written",
            Self::Repairs => "etcd repairs this at its next start; nothing that was acknowledged is lost",
            Self::BeginsAnew => {
                "a start or join ended early; etcd would build a broken cluster on what it left"
            }
            Self::AfterUpgrade => "etcd runs on it as it is; the upgrade to 3.6 is where it matters",
            Self::Runs => "etcd runs on it",
            Self::Harmless => "nobody reads it",
        }
    }

    fn next(self) -> &'static str {
        match self {
            Self::Ends | Self::ServesWrong => {
                "start no etcd on it; replace this member from its cluster, or restore a backup if there is none \
                 (docs/contract.md#damaged)"
            }
            Self::Repairs => "start etcd",
            Self::BeginsAnew => "start the launcher, which moves it aside",
            Self::AfterUpgrade => "look at the members with 'etcd-datadir inspect' before the upgrade",
            Self::Runs | Self::Harmless => "nothing",
        }
    }

    /// The finding in this file.
    pub(super) fn finding(self, file: &str, what: impl Into<String>) -> Finding {
        Finding {
            severity: self.severity(),
            file: file.to_owned(),
            offset: None,
            place: None,
            what: what.into(),
            matters: self.matters().to_owned(),
            next: self.next().to_owned(),
        }
    }
}

/// More about a finding.
pub(super) trait Details: Sized {
    fn at(self, offset: u64) -> Self;
    fn in_place(self, place: impl Into<String>) -> Self;
    fn matters(self, why: &str) -> Self;
    fn next(self, what_to_do: &str) -> Self;
}

impl Details for Finding {
    fn at(self, offset: u64) -> Self {
        Self { offset: Some(offset), ..self }
    }

    fn in_place(self, place: impl Into<String>) -> Self {
        Self { place: Some(place.into()), ..self }
    }

    fn matters(self, why: &str) -> Self {
        Self { matters: why.to_owned(), ..self }
    }

    fn next(self, what_to_do: &str) -> Self {
        Self { next: what_to_do.to_owned(), ..self }
    }
}

/// Findings, as many as are kept of each severity: a thousand warnings hide no damage.
#[derive(Debug, Default)]
pub(super) struct Findings {
    kept: Vec<Finding>,
    omitted: u64,
    pub(super) bytes_read: u64,
}

impl Findings {
    pub(super) fn add(&mut self, finding: Finding) {
        let same = self.kept.iter().filter(|kept| kept.severity == finding.severity).count();
        if same < FINDINGS_MAX {
            self.kept.push(finding);
        } else {
            self.omitted += 1;
        }
    }

    pub(super) fn report(self, mode: Mode) -> Report {
        Report::of(mode, self.kept, self.omitted, self.bytes_read)
    }
}
