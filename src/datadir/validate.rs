//! Judging a data directory: would etcd start on it, and serve what was written?
//!
//! Two depths. [`Mode::Sanity`] looks where trouble shows at once, reads with `pread`, and takes milliseconds
//! whatever the size: the launcher does it in its own process. [`Mode::Full`] reads every byte that is in use, once,
//! through a map: a disk that fails ends the process, so the launcher has a child do it.
//!
//! What nobody reads is never called damage: free pages, what lies behind the high-water mark, padding. What etcd
//! ends on, or would serve wrongly, always is (docs/contract.md#judging).

use std::io;
use std::path::{Path, PathBuf};

use super::bolt::{Db, Error};
use super::layout::{self, Layout};
use super::lock::{self, Held};
use super::source::Map;
use super::verdict::{Mode, Report, Verdict};
use super::{Damage, Found, classify};
use crate::etcd::id::MemberId;
use findings::{Details, Effect, Findings};

mod agreement;
mod backend;
mod buckets;
mod files;
mod findings;
mod keys;
mod leases;
mod log;
mod page;

pub use page::page;

/// Judges `data_dir`, whose log is in `wal_dir` if that is configured. Reads only, and keeps an etcd from opening
/// the backend meanwhile. `progress` is told how many bytes are done, of how many.
///
/// An error means that the operating system refused to tell (permissions, a failing disk), and says nothing about
/// the data.
pub fn validate(
    data_dir: &Path,
    wal_dir: Option<&Path>,
    mode: Mode,
    progress: &mut dyn FnMut(u64, u64),
) -> io::Result<Report> {
    let bare = |path: &Path| path.components().collect::<PathBuf>();
    let (data_dir, wal_dir) = (bare(data_dir), wal_dir.map(bare));
    let mut findings = Findings::default();
    let _held = match lock::hold(&data_dir)? {
        Held::ByAnother => {
            let finding = Effect::Runs
                .finding(backend::FILE, "an etcd runs on it")
                .matters("nothing was read: files that change while they are read say nothing")
                .next("stop that etcd first, or ask it with etcdctl");
            findings.add(finding);
            return Ok(findings.report(mode).with_verdict(Verdict::Locked));
        }
        held @ Held::ByUs(_) => held,
    };
    let mut look = Look { data_dir, wal_dir, mode, findings };
    match look.by_class()? {
        Class::Foreign => return Ok(look.findings.report(mode).with_verdict(Verdict::Foreign)),
        Class::Nothing => {}
        Class::Member(own) => look.content(own, progress)?,
    }
    Ok(look.findings.report(mode))
}

/// What a log without its database means (docs/contract.md#judging).
const WITHOUT_DB: &str = "etcd ends at each start, or builds the database anew from the log, if it goes back to the \
                          first entry and no snapshot was ever taken: what else was in the database is lost";

/// What there is to look at.
enum Class {
    Foreign,
    /// No data of a member.
    Nothing,
    /// A member's data, if the log still says whose.
    Member(Option<MemberId>),
}

struct Look {
    data_dir: PathBuf,
    wal_dir: Option<PathBuf>,
    mode: Mode,
    findings: Findings,
}

impl Look {
    /// What kind of directory it is.
    fn by_class(&mut self) -> io::Result<Class> {
        Ok(match classify(&self.data_dir, self.wal_dir.as_deref())? {
            Found::Empty => Class::Nothing,
            Found::Foreign { names } => {
                let next = "look what it is; nothing of this release touches it";
                for name in names {
                    let finding = Effect::Runs.finding(&name, "it is neither etcd's nor this release's");
                    self.findings.add(finding.matters("nobody but a person may touch it").next(next));
                }
                Class::Foreign
            }
            Found::Partial { what } => {
                self.findings.add(Effect::BeginsAnew.finding("member", what));
                Class::Nothing
            }
            Found::Damaged { why, remains } => {
                // The database is told better by who reads it.
                if !matches!(why, Damage::Db(_)) {
                    let finding = Effect::Ends.finding("member", why.to_string());
                    self.findings.add(match why {
                        Damage::DbMissing | Damage::DbBlank => finding.matters(WITHOUT_DB),
                        _ => finding,
                    });
                }
                Class::Member(remains.member_id)
            }
            Found::Data(identity) => Class::Member(Some(identity.member_id)),
        })
    }

    /// The files themselves.
    fn content(&mut self, own: Option<MemberId>, progress: &mut dyn FnMut(u64, u64)) -> io::Result<()> {
        let layout = Layout::survey(&self.data_dir, self.wal_dir.as_deref())?;
        let wal_dir = layout::wal(&self.data_dir, self.wal_dir.as_deref());
        let snap_dir = self.data_dir.join("member/snap");
        for finding in files::check(&self.data_dir, &wal_dir)? {
            self.findings.add(finding);
        }
        let db_path = layout::db(&self.data_dir);
        let db_file = if layout.has_db { layout::open(&db_path)? } else { None };
        let db_bytes =
            db_file.as_ref().map(std::fs::File::metadata).transpose()?.map_or(0, |metadata| metadata.len());
        let facts = match (db_file.filter(|_| db_bytes > 0), self.mode) {
            (None, _) => None,
            (Some(file), Mode::Sanity) => match readable(Db::open_cut(file), &mut self.findings)? {
                Some(db) => backend::sanity(&db, &mut self.findings)?,
                None => None,
            },
            (Some(file), Mode::Full) => {
                let map = Map::of(&file).map_err(|error| layout::about(&db_path, &error))?;
                let of = db_bytes + log_bytes(&layout, &wal_dir);
                match readable(Db::over_cut(&map), &mut self.findings)? {
                    Some(db) => backend::full(&db, &mut self.findings, &mut |done| progress(done, of))?.0,
                    None => None,
                }
            }
        };
        let readers = agreement::readers(facts.as_ref());
        match self.mode {
            Mode::Sanity => {
                log::sanity(&layout, &wal_dir, &mut self.findings)?;
                log::newest_snapshot(&layout, &snap_dir, readers, &mut self.findings)?;
            }
            Mode::Full => {
                let of = db_bytes + log_bytes(&layout, &wal_dir);
                let log =
                    log::full(&layout, &wal_dir, &snap_dir, readers, &mut self.findings, &mut |done| {
                        progress(db_bytes + done, of);
                    })?;
                if let Some(facts) = &facts {
                    for finding in agreement::between(facts, &log, &layout.received, &layout.wal_name) {
                        self.findings.add(finding);
                    }
                }
                progress(of, of);
            }
        }
        if let (Some(facts), Some(own)) = (&facts, own) {
            for finding in agreement::own(facts, own) {
                self.findings.add(finding);
            }
        }
        Ok(())
    }
}

/// The database, or a finding.
fn readable<S>(db: Result<Db<S>, Error>, findings: &mut Findings) -> io::Result<Option<Db<S>>> {
    match db {
        Ok(db) => Ok(Some(db)),
        Err(Error::Corrupt(corruption)) => {
            findings.add(backend::corrupt(&corruption));
            Ok(None)
        }
        Err(Error::Io(error)) => Err(error),
    }
}

/// How long the files of the log are: only the display depends on it.
fn log_bytes(layout: &Layout, wal_dir: &Path) -> u64 {
    let length = |path: PathBuf| path.metadata().map_or(0, |metadata| metadata.len());
    layout.segments.iter().map(|segment| length(wal_dir.join(segment.to_string()))).sum()
}

#[cfg(test)]
mod tests;
