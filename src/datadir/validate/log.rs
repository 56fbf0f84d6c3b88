//! The write-ahead log and the snapshot files: every record, or only the beginning of each file.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use super::findings::{Details, Effect, Findings};
use crate::datadir::layout::{self, Layout};
use crate::datadir::snap::{self, Choice, Snapshot};
use crate::datadir::source::Map;
use crate::datadir::v2store::V2Store;
use crate::datadir::verdict::Finding;
use crate::datadir::wal::{self, Fold, Log, Position, Segment, Start, Summary, Tail};

/// What the log and the snapshot file that a start takes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogFacts {
    pub(super) summary: Summary,
    pub(super) choice: Choice,
    /// The old store in the chosen file; empty if there is none, `None` if it cannot be read.
    pub(super) store: Option<V2Store>,
}

/// Who reads the snapshot files of this directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readers {
    /// etcd up to 3.6, which starts with one.
    UpTo36,
    /// etcd from 3.7 on has written here.
    Nobody,
}

/// Files of the log by name, and whose each of them is: what a start needs before any entry.
pub(super) fn sanity(layout: &Layout, wal_dir: &Path, findings: &mut Findings) -> io::Result<()> {
    let named = |segment: &Segment| format!("{}/{segment}", layout.wal_name);
    let mut before: Option<Segment> = None;
    let mut owner = None;
    for segment in &layout.segments {
        if let Some(before) = before.filter(|before| before.sequence.checked_add(1) != Some(segment.sequence))
        {
            let what = format!("it does not follow {before}: the files in between are missing");
            findings.add(Effect::Ends.finding(&named(segment), what));
        }
        if let Some(before) = before.filter(|before| before.first_index > segment.first_index) {
            let what = format!("it begins with index {}, before {before} does", segment.first_index);
            findings.add(Effect::Ends.finding(&named(segment), what));
        }
        before = Some(*segment);
        let path = wal_dir.join(segment.to_string());
        let Some(file) = layout::open(&path)? else { continue };
        match wal::owner(&file) {
            Ok(found) if owner.is_some_and(|owner| owner != found) => {
                let what = "it is of another member or cluster than the files before";
                findings.add(Effect::Ends.finding(&named(segment), what));
            }
            Ok(found) => owner = Some(found),
            Err(wal::Error::Fault(fault)) => {
                findings.add(Effect::Ends.finding(&named(segment), fault.to_string()));
            }
            Err(wal::Error::Io(error)) => return Err(layout::about(&path, &error)),
        }
    }
    Ok(())
}

/// The newest snapshot file, if it can be read; older ones and the log then have to do.
pub(super) fn newest_snapshot(
    layout: &Layout,
    snap_dir: &Path,
    readers: Readers,
    findings: &mut Findings,
) -> io::Result<()> {
    let Some(index) = layout.newest_snapshot else { return Ok(()) };
    let ending = format!("-{index:016x}.snap");
    let Ok(entries) = fs::read_dir(snap_dir) else { return Ok(()) };
    for entry in entries {
        let name = entry.map_err(|error| layout::about(snap_dir, &error))?.file_name();
        let Some(name) = name.to_str().filter(|name| name.ends_with(&ending)) else { continue };
        let path = snap_dir.join(name);
        let Some(file) = layout::open(&path)? else { continue };
        let map = Map::of(&file).map_err(|error| layout::about(&path, &error))?;
        if let Err(fault) = Snapshot::decode(map.as_slice()) {
            findings.add(broken_snapshot(name, &fault, readers));
        }
    }
    Ok(())
}

/// Every record, and the snapshot files that a start looks at. `progress` is told the bytes read so far.
pub(super) fn full(
    layout: &Layout,
    wal_dir: &Path,
    snap_dir: &Path,
    readers: Readers,
    findings: &mut Findings,
    progress: &mut dyn FnMut(u64),
) -> io::Result<LogFacts> {
    let log = Log::open(wal_dir)?;
    let mut fold = Fold::default();
    let mut fault = None;
    let mut read = Read { segment: None, before: 0, offset: 0 };
    let tail = log.read(Start::First, &mut |located| {
        if read.moved_to(located.at, &log) {
            progress(read.before + read.offset);
        }
        match fold.take(located) {
            Ok(()) => ControlFlow::Continue(()),
            Err(why) => {
                fault = Some(Tail::Broken { at: located.at, why });
                ControlFlow::Break(())
            }
        }
    })?;
    let summary = fold.finish(fault.unwrap_or(tail));
    if let Tail::Clean { at, .. } | Tail::Torn { at, .. } | Tail::Broken { at, .. } | Tail::Stopped { at } =
        &summary.tail
    {
        let _ = read.moved_to(*at, &log);
    }
    findings.bytes_read += read.before + read.offset;
    if let Some(finding) = tail_finding(layout, &log, &summary.tail)? {
        findings.add(finding);
    }
    let choice = snap::choose(snap_dir, &summary.snapshots)?;
    for (name, fault) in &choice.broken {
        findings.add(broken_snapshot(name, fault, readers));
    }
    for name in &choice.unknown {
        let what = "the log does not speak of this snapshot, or not yet as agreed on";
        findings.add(
            Effect::Harmless
                .finding(&format!("member/snap/{name}"), what)
                .matters("a crash between writing the two leaves this; etcd passes over the file"),
        );
    }
    let store = match &choice.chosen {
        Some((name, _)) if readers == Readers::UpTo36 => store(snap_dir, name, findings)?,
        Some(_) => None,
        None => Some(V2Store::default()),
    };
    Ok(LogFacts { summary, choice, store })
}

/// How far the log was read.
struct Read {
    segment: Option<Segment>,
    before: u64,
    offset: u64,
}

impl Read {
    /// Reading stands here now; whether much was read since the last time this said so.
    fn moved_to(&mut self, at: Position, log: &Log) -> bool {
        const STEP: u64 = 1 << 20;
        let is_other = self.segment.is_some_and(|segment| segment != at.segment);
        if let Some(done) = self.segment.filter(|_| is_other) {
            // The length of a file that was mapped a moment ago; only the display depends on it.
            self.before += fs::metadata(log.path(done)).map_or(self.offset, |metadata| metadata.len());
            self.offset = 0;
        }
        self.segment = Some(at.segment);
        let much = is_other || at.offset / STEP != self.offset / STEP;
        self.offset = at.offset;
        much
    }
}

/// What the end of the log means.
fn tail_finding(layout: &Layout, log: &Log, tail: &Tail) -> io::Result<Option<Finding>> {
    let named = |at: &Position| format!("{}/{}", layout.wal_name, at.segment);
    Ok(Some(match tail {
        Tail::Empty | Tail::Stopped { .. } | Tail::Clean { remains: None, .. } => return Ok(None),
        Tail::Clean { at, remains: Some(remains) } => {
            if let Some(records) = log.records_behind(*at)? {
                let what = format!(
                    "the log ends here, but whole records follow from byte {records} on: the length of the record \
                     here was wiped out"
                );
                Effect::ServesWrong.finding(&named(at), what).at(at.offset)
            } else {
                let end = at.offset;
                let what = format!("behind the last record, which ends at byte {end}, are bytes that belong to none");
                let why = "a write that was interrupted before its first bytes leaves this; etcd wipes it out at its \
                           next start";
                Effect::Runs.finding(&named(at), what).at(*remains).matters(why).next("start etcd")
            }
        }
        Tail::Torn { at, why, followed_by: None } => Effect::Repairs.finding(&named(at), why.to_string()).at(at.offset).matters(
            "this is what an interrupted write leaves: nobody was told that it was done. etcd keeps a copy of the file, \
             cuts it here and goes on",
        ),
        Tail::Torn { at, why, followed_by: Some(records) } => {
            let what = format!("{why}; whole records follow from byte {records} on");
            let why = "etcd would take this for an interrupted write, cut the log here and forget the records that follow";
            Effect::ServesWrong.finding(&named(at), what).at(at.offset).matters(why)
        }
        Tail::Broken { at, why } => Effect::Ends.finding(&named(at), why.to_string()).at(at.offset),
    }))
}

fn broken_snapshot(name: &str, fault: &snap::Fault, readers: Readers) -> Finding {
    let what = format!("the snapshot file {fault}");
    let file = format!("member/snap/{name}");
    match readers {
        Readers::UpTo36 => Effect::Repairs.finding(&file, what).matters(
            "etcd renames it to *.snap.broken and takes an older one, or the whole log; whether these reach back far \
             enough is judged on its own",
        ),
        Readers::Nobody => Effect::Harmless.finding(&file, what).matters("etcd from 3.7 on reads no snapshot files"),
    }
}

fn store(snap_dir: &Path, name: &str, findings: &mut Findings) -> io::Result<Option<V2Store>> {
    let path = snap_dir.join(name);
    let Some(file) = layout::open(&path)? else { return Ok(None) };
    let map = Map::of(&file).map_err(|error| layout::about(&path, &error))?;
    findings.bytes_read += map.as_slice().len() as u64;
    // Its checksum was right a moment ago.
    let Ok(snapshot) = Snapshot::decode(map.as_slice()) else { return Ok(None) };
    match V2Store::from_json(snapshot.store) {
        Ok(store) => {
            if store.has_user_data {
                let what = "users have written data with the old API (v2)";
                let finding = Effect::AfterUpgrade.finding(&format!("member/snap/{name}"), what);
                findings.add(
                    finding
                        .next("remove or migrate that data before the upgrade; 3.6 does not start with it"),
                );
            }
            Ok(Some(store))
        }
        Err(fault) => {
            findings.add(
                Effect::Ends.finding(&format!("member/snap/{name}"), format!("the snapshot file {fault}")),
            );
            Ok(None)
        }
    }
}
