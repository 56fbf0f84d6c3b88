//! Is the data on this disk fit for etcd? Asked once in a launcher's life, before etcd is started on it
//! (docs/contract.md#validate).
//!
//! Two ways: what is seen at once is looked at here; all of it is read by a [`child`], so that neither its
//! memory nor a disk that cannot be read (SIGBUS) touches the launcher, which answers `/state` meanwhile.

mod child;
mod judgement;
mod stamp;
mod told;

use std::cell::RefCell;
use std::io;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::judgement::{Judgement, Outcome, judgement, of_result};
use self::stamp::Stamp;
pub use self::told::Told;
use self::told::{FINDINGS_TOLD, told};
use super::decide::refusal::Refusal;
use super::listener::Board;
use super::observation::{Disk, DiskData, Validated};
use crate::datadir::validate::validate;
use crate::datadir::verdict::Mode;
use crate::job::paths::Paths;
use crate::journal;

/// What is remembered of data that was judged, as long as its files stay as they were.
struct Judged {
    of: Stamp,
    judgement: Judgement,
}

/// The validation of this launcher's data.
pub struct Validation<'a> {
    paths: &'a Paths,
    told: RefCell<Told>,
    judged: RefCell<Option<Judged>>,
}

/// How a step that validates ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// etcd can be started.
    Usable,
    /// Not on this data: look again.
    Damaged,
    /// Not before a person has looked.
    Refused(Refusal),
}

impl<'a> Validation<'a> {
    /// Nothing was checked yet.
    pub fn new(paths: &'a Paths) -> Self {
        Self { paths, told: RefCell::default(), judged: RefCell::default() }
    }

    /// The disk with this data, by what was found on it.
    pub fn judge(&self, data: DiskData) -> io::Result<Disk> {
        if self.paths.skip_validation().exists() {
            return Ok(Disk::Data(DiskData { validated: Validated::Waived, ..data }));
        }
        let judged = self.judged.borrow();
        let Some(Judged { of, judgement }) = judged.as_ref() else { return Ok(Disk::Data(data)) };
        if *of != Stamp::of(&self.paths.data_dir(), self.paths.wal_dir())? {
            return Ok(Disk::Data(data));
        }
        Ok(match judgement {
            Judgement::Usable { repairs } => {
                let validated = Validated::Usable { repairs: repairs.clone() };
                Disk::Data(DiskData { validated, ..data })
            }
            Judgement::Damaged { why } => {
                Disk::Damaged { why: why.clone(), cluster_id: Some(data.cluster_id), voters: data.voters }
            }
            Judgement::Refused(_) => Disk::Data(data),
        })
    }

    /// From now on `/state` tells that the data is being checked.
    pub fn begin(&self, mode: Mode) {
        *self.told.borrow_mut() = Told::Progress { mode, done: 0, of: 0 };
    }

    /// What `/state` tells of it.
    pub fn told(&self) -> Value {
        json!(*self.told.borrow())
    }

    /// How long the last check took and how much it read; `None` before.
    pub fn cost(&self) -> Option<(Duration, u64)> {
        match &*self.told.borrow() {
            Told::New | Told::Progress { .. } => None,
            Told::Success { took_ms, bytes, .. } => Some((Duration::from_millis(*took_ms), *bytes)),
            Told::Failed { took_ms, .. } => Some((Duration::from_millis(*took_ms), 0)),
        }
    }

    /// Checks the data. A full check takes as long as reading all of it; whoever drops this future ends it.
    pub async fn check(&self, mode: Mode, board: &Board) -> io::Result<Checked> {
        let started = Instant::now();
        let data_dir = self.paths.data_dir();
        // Of the files as they are before: what changes meanwhile is checked again.
        let of = Stamp::of(&data_dir, self.paths.wal_dir())?;
        let tell = |done, of| {
            *self.told.borrow_mut() = Told::Progress { mode, done, of };
            board.post_validation(self.told());
        };
        let outcome = match mode {
            Mode::Sanity => of_result(validate(&data_dir, self.paths.wal_dir(), mode, &mut |_, _| {})),
            Mode::Full => {
                journal::info("all data is checked before etcd starts", &json!({"data_dir": data_dir}));
                child::run(&self.paths.datadir_tool(), &data_dir, self.paths.wal_dir(), tell).await
            }
        };
        let took = started.elapsed();
        let judgement = judgement(&outcome);
        *self.told.borrow_mut() = told(mode, &outcome, &judgement, took);
        board.post_validation(self.told());
        log(mode, &outcome, &judgement, took);
        let checked = match &judgement {
            Judgement::Usable { .. } => Checked::Usable,
            Judgement::Damaged { .. } => Checked::Damaged,
            Judgement::Refused(refusal) => Checked::Refused(refusal.clone()),
        };
        self.judged.replace(Some(Judged { of, judgement }));
        Ok(checked)
    }
}

fn log(mode: Mode, outcome: &Outcome, judgement: &Judgement, took: Duration) {
    let mut fields = json!({"mode": mode, "took_ms": millis(took)});
    if let Outcome::Reported(report) = outcome {
        fields["verdict"] = json!(report.verdict);
        fields["bytes"] = report.bytes_read.into();
        let findings = &report.findings[..report.findings.len().min(FINDINGS_TOLD)];
        if !findings.is_empty() {
            fields["findings"] = json!(findings);
            fields["further_findings"] =
                ((report.findings.len() - findings.len()) as u64 + report.omitted).into();
        }
    }
    match judgement {
        Judgement::Usable { repairs } if repairs.is_empty() => journal::info("the data is sound", &fields),
        Judgement::Usable { .. } => journal::warn("etcd will repair the data", &fields),
        Judgement::Damaged { why } => {
            fields["why"] = why.as_str().into();
            journal::error("the data is damaged", &fields);
        }
        Judgement::Refused(refusal) => {
            fields["why"] = refusal.complaint().what.into();
            journal::error("the data was not checked", &fields);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
