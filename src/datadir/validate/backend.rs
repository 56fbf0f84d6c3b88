//! The backend: every page and every entry, or only the few that a start depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::buckets::{self, EntryFault, Notable};
use super::findings::{Details, Effect, Findings};
use super::keys::{Keys, Revision};
use super::leases::Leases;
use crate::datadir::backend::BUCKETS;
use crate::datadir::bolt::pages::{self, Fault, Survey, Visitor};
use crate::datadir::bolt::{Corruption, Db, Error, PageFault, Place};
use crate::datadir::source::Source;
use crate::datadir::stored_member::StoredMember;
use crate::datadir::verdict::Finding;
use crate::etcd::id::MemberId;

/// The file, for a person.
pub(super) const FILE: &str = "member/snap/db";
/// No cluster has more members.
const MEMBERS_MAX: usize = 1000;
/// An entry of the small buckets is not shown in full.
const NAME_MAX: usize = 60;

/// What the backend says, for comparison with the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Facts {
    pub(super) consistent_index: u64,
    pub(super) term: Option<u64>,
    pub(super) cluster_version: Option<String>,
    pub(super) storage_version: Option<String>,
    /// Members by id; `None` if an entry is there that nobody can read.
    pub(super) members: Option<BTreeMap<MemberId, StoredMember>>,
    pub(super) removed: BTreeSet<MemberId>,
    /// Up to where records may be missing.
    pub(super) compacted: Option<i64>,
}

/// Which entries a start of etcd 3.6 reads and earlier ones do not (docs/contract.md#v2-store).
fn is_for_the_upgrade(bucket: &[u8], name: &[u8], storage_version: Option<&str>) -> bool {
    let is_unread = matches!(bucket, b"members" | b"members_removed") || name == b"confState";
    is_unread && storage_version.is_none()
}

/// Reads what a start depends on. What is wrong with these few entries is told by [`sanity`] or [`full`].
fn facts<S: Source>(db: &Db<S>) -> Result<Facts, Error> {
    let value = |bucket: &[u8], name: &[u8]| match db.bucket(bucket)? {
        Some(bucket) => bucket.get(name),
        None => Ok(None),
    };
    let number = |name: &[u8]| -> Result<Option<u64>, Error> {
        Ok(value(b"meta", name)?.and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes))
    };
    let text = |bucket: &[u8], name: &[u8]| -> Result<Option<String>, Error> {
        Ok(value(bucket, name)?.and_then(|bytes| String::from_utf8(bytes).ok()))
    };
    let mark = |name: &[u8]| -> Result<Option<i64>, Error> {
        let Some(bytes) = value(b"meta", name)? else { return Ok(Some(0)) };
        Ok(Revision::of(&bytes).map(|revision| revision.main))
    };
    let (scheduled, finished) = (mark(b"scheduledCompactRev")?, mark(b"finishedCompactRev")?);
    let mut facts = Facts {
        consistent_index: number(b"consistent_index")?.unwrap_or(0),
        term: number(b"term")?,
        cluster_version: text(b"cluster", b"clusterVersion")?,
        storage_version: text(b"meta", b"storageVersion")?,
        members: Some(BTreeMap::new()),
        removed: BTreeSet::new(),
        compacted: scheduled.zip(finished).map(|(scheduled, finished)| scheduled.max(finished)),
    };
    for bucket in [&b"members"[..], b"members_removed"] {
        let Some(content) = db.bucket(bucket)? else { continue };
        for (name, value) in content.entries(MEMBERS_MAX)? {
            match buckets::entry(bucket, &name, &value) {
                Ok(Notable::Member(member)) => {
                    if let Some(members) = &mut facts.members {
                        members.insert(member.member_id(), member);
                    }
                }
                Ok(Notable::Removed(id)) => _ = facts.removed.insert(id),
                Ok(_) => {}
                Err(_) => facts.members = None,
            }
        }
    }
    Ok(facts)
}

/// The headers and the entries that a start depends on: a few pages, whatever the size. `None` if not even
/// those can be read.
pub(super) fn sanity<S: Source>(db: &Db<S>, findings: &mut Findings) -> io::Result<Option<Facts>> {
    headers(db, findings);
    let Some(facts) = told(facts(db), findings)? else { return Ok(None) };
    let storage_version = facts.storage_version.as_deref();
    for bucket in ["alarm", "cluster", "members", "members_removed", "meta"] {
        let entries = db.bucket(bucket.as_bytes()).and_then(|found| match found {
            Some(found) => found.entries(MEMBERS_MAX),
            None => Ok(Vec::new()),
        });
        for (name, value) in told(entries, findings)?.unwrap_or_default() {
            small(bucket.as_bytes(), &name, &value, None, storage_version, findings);
        }
    }
    marks(db, findings)?;
    Ok(Some(facts))
}

/// Every page and every entry. `progress` is told the bytes read so far.
pub(super) fn full<S: Source>(
    db: &Db<S>,
    findings: &mut Findings,
    progress: &mut dyn FnMut(u64),
) -> io::Result<(Option<Facts>, Survey)> {
    headers(db, findings);
    // What cannot be read here is met again by the walk, which tells it.
    let facts = match facts(db) {
        Ok(facts) => Some(facts),
        Err(Error::Corrupt(_)) => None,
        Err(Error::Io(error)) => return Err(error),
    };
    let storage_version = facts.as_ref().and_then(|facts| facts.storage_version.clone());
    let compacted = facts.as_ref().and_then(|facts| facts.compacted);
    let mut walk = Walk {
        bucket: Vec::new(),
        unknown: Vec::new(),
        known: BTreeSet::new(),
        keys: Keys::new(compacted),
        leases: Leases::of(db),
        storage_version,
        findings,
        progress,
        bytes: 0,
    };
    let survey = pages::survey(db, &mut walk)?;
    let Walk { unknown, known, leases, bytes, .. } = walk;
    findings.bytes_read += bytes;
    for fault in &survey.faults {
        findings.add(page_fault(fault));
    }
    if survey.omitted > 0 {
        findings.add(Effect::Ends.finding(FILE, format!("{} more broken pages", survey.omitted)));
    }
    if survey.lost > 0 {
        let what = format!("{} free pages are missing in the list of free pages", survey.lost);
        findings.add(Effect::Harmless.finding(FILE, what));
    }
    for finding in buckets_of_other_names(&unknown, &known) {
        findings.add(finding);
    }
    if let Some(finding) = leases?.finding() {
        findings.add(finding);
    }
    if facts.is_some() {
        marks(db, findings)?;
    }
    Ok((facts, survey))
}

/// The value, or a finding.
fn told<T>(result: Result<T, Error>, findings: &mut Findings) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::Corrupt(corruption)) => {
            findings.add(corrupt(&corruption));
            Ok(None)
        }
        Err(Error::Io(error)) => Err(error),
    }
}

/// The finding of a file that cannot be read on.
pub(super) fn corrupt(corruption: &Corruption) -> Finding {
    page_fault(&Fault { bucket: None, what: corruption.clone() })
}

fn page_fault(fault: &Fault) -> Finding {
    let effect = match &fault.what {
        Corruption::Page {
            fault: PageFault::SpareOverflow { .. } | PageFault::SpareBytes { .. }, ..
        } => Effect::Harmless,
        Corruption::Page {
            fault: PageFault::NoElements | PageFault::Scattered { .. } | PageFault::OtherFirstKey,
            ..
        } => Effect::ServesWrong,
        Corruption::NoMeta { .. } | Corruption::Truncated { .. } | Corruption::Page { .. } => Effect::Ends,
    };
    let finding = effect.finding(FILE, fault.what.to_string());
    let finding = match &fault.what {
        Corruption::Page { offset, .. } => finding.at(*offset),
        Corruption::NoMeta { .. } | Corruption::Truncated { .. } => finding,
    };
    match &fault.bucket {
        Some(bucket) => finding.in_place(format!("bucket '{}'", bucket.escape_ascii())),
        None => finding,
    }
}

fn headers<S: Source>(db: &Db<S>, findings: &mut Findings) {
    if let Some(cut) = db.cut() {
        findings.add(
            Effect::Runs
                .finding(FILE, cut.to_string())
                .matters("something cut the file; etcd runs on it as long as only free pages are gone, and one that is in use would be told here as well, by a full validation")
                .next("validate with --mode full, and look what cut the file"),
        );
    }
    for (page, header) in (0_u64..).zip(db.headers().0) {
        if header.is_some_and(|header| header.txid % 2 != page) {
            let what = format!("the header in page {page} belongs into the other one");
            findings.add(Effect::Runs.finding(FILE, what).in_place(format!("page {page}")));
        }
        if header.is_none() {
            let what = format!("the header in page {page} is not valid; the other one is in force");
            findings.add(
                Effect::Runs
                    .finding(FILE, what)
                    .in_place(format!("page {page}"))
                    .matters(
                        "a crash in the middle of a write leaves this, and etcd goes on with the other header; a \
                         disk that changes bytes leaves it, too, and what was written last is then lost",
                    )
                    .next("start etcd; if nothing crashed before, look at the disk"),
            );
        }
    }
}

/// The marks of compaction, which are written one after the other.
fn marks<S: Source>(db: &Db<S>, findings: &mut Findings) -> io::Result<()> {
    let mark = |name: &[u8]| match db.bucket(b"meta")? {
        Some(meta) => Ok(meta.get(name)?.and_then(|bytes| Revision::of(&bytes))),
        None => Ok::<_, Error>(None),
    };
    let (scheduled, finished) = match (mark(b"scheduledCompactRev"), mark(b"finishedCompactRev")) {
        (Ok(scheduled), Ok(finished)) => (scheduled, finished),
        (Err(Error::Io(error)), _) | (_, Err(Error::Io(error))) => return Err(error),
        // Told by others.
        (Err(Error::Corrupt(_)), _) | (_, Err(Error::Corrupt(_))) => return Ok(()),
    };
    if let Some(finished) = finished
        && scheduled.is_none_or(|scheduled| scheduled < finished)
    {
        let scheduled = scheduled.map_or_else(|| "none".to_owned(), |scheduled| scheduled.to_string());
        let what = format!(
            "the compaction up to {finished} is finished, but the last one that began is {scheduled}"
        );
        findings.add(Effect::ServesWrong.finding(FILE, what).in_place("bucket 'meta'"));
    }
    Ok(())
}

/// Buckets under names that etcd does not know: it makes empty ones beside them.
fn buckets_of_other_names(unknown: &[Vec<u8>], known: &BTreeSet<&'static str>) -> Vec<Finding> {
    let missing: Vec<_> = BUCKETS.iter().filter(|name| !known.contains(**name)).copied().collect();
    let finding = |name: &Vec<u8>| {
        let place = format!("bucket '{}'", name.escape_ascii());
        if missing.is_empty() || name.as_slice() == b"test" {
            Effect::Runs.finding(FILE, "a bucket that etcd does not know").in_place(place)
        } else {
            let what =
                format!("a bucket that etcd does not know, while these are missing: {}", missing.join(", "));
            Effect::ServesWrong.finding(FILE, what).in_place(place)
        }
    };
    unknown.iter().map(finding).collect()
}

/// Looks at an entry of a small bucket.
fn small(
    bucket: &[u8],
    name: &[u8],
    value: &[u8],
    place: Option<Place>,
    storage_version: Option<&str>,
    findings: &mut Findings,
) {
    let shown = name.get(..NAME_MAX).unwrap_or(name).escape_ascii();
    let shown = format!("bucket '{}', key '{shown}'", bucket.escape_ascii());
    let add = |finding: Finding| match place {
        Some(place) => finding.at(place.offset).in_place(format!("page {}, {shown}", place.page)),
        None => finding.in_place(shown),
    };
    match buckets::entry(bucket, name, value) {
        Ok(Notable::Alarm(member, alarm)) => {
            let name = match alarm {
                1 => "NOSPACE",
                2 => "CORRUPT",
                _ => "of an unknown kind",
            };
            let what = format!("member {} has raised the alarm {name}", MemberId(member));
            let finding = Effect::Runs.finding(FILE, what).next("see 'etcdctl alarm list'");
            findings.add(add(finding.matters("until it is disarmed, etcd refuses some or all requests")));
        }
        Ok(_) => {}
        Err(fault) => findings.add(add(entry_fault(bucket, name, storage_version, &fault))),
    }
}

fn entry_fault(bucket: &[u8], name: &[u8], storage_version: Option<&str>, fault: &EntryFault) -> Finding {
    let effect = if is_for_the_upgrade(bucket, name, storage_version) {
        Effect::AfterUpgrade
    } else if fault.ends_etcd() {
        Effect::Ends
    } else {
        Effect::ServesWrong
    };
    effect.finding(FILE, format!("the entry {fault}"))
}

/// What the walk through all pages meets.
struct Walk<'w, 'db, S> {
    bucket: Vec<u8>,
    unknown: Vec<Vec<u8>>,
    known: BTreeSet<&'static str>,
    keys: Keys,
    leases: io::Result<Leases<'db, S>>,
    storage_version: Option<String>,
    findings: &'w mut Findings,
    progress: &'w mut dyn FnMut(u64),
    bytes: u64,
}

impl<S: Source> Visitor for Walk<'_, '_, S> {
    fn bucket(&mut self, name: &[u8], _place: Place) {
        self.bucket.clear();
        self.bucket.extend_from_slice(name);
        match BUCKETS.iter().find(|known| known.as_bytes() == name) {
            Some(known) => _ = self.known.insert(known),
            None if self.unknown.len() < MEMBERS_MAX => self.unknown.push(name.to_vec()),
            None => {}
        }
    }

    fn entry(&mut self, key: &[u8], value: &[u8], place: Place) {
        if self.bucket != b"key" {
            return small(
                &self.bucket,
                key,
                value,
                Some(place),
                self.storage_version.as_deref(),
                self.findings,
            );
        }
        match self.keys.record(key, value) {
            Ok(seen) => {
                if let Ok(leases) = &mut self.leases
                    && let Err(error) = leases.record(seen)
                {
                    self.leases = Err(error);
                }
            }
            Err(fault) => {
                let effect = if fault.ends_etcd() { Effect::Ends } else { Effect::ServesWrong };
                let finding = effect.finding(FILE, fault.to_string()).at(place.offset);
                self.findings.add(finding.in_place(format!("page {}, bucket 'key'", place.page)));
            }
        }
    }

    fn nested(&mut self, name: &[u8], place: Place) {
        let shown = name.get(..NAME_MAX).unwrap_or(name).escape_ascii();
        let what = format!("the entry '{shown}' is a bucket, which etcd never makes within another one");
        let place_text = format!("page {}, bucket '{}'", place.page, self.bucket.escape_ascii());
        self.findings.add(Effect::Ends.finding(FILE, what).at(place.offset).in_place(place_text));
    }

    fn skipped(&mut self) {
        self.keys.skipped();
    }

    fn read(&mut self, bytes: u64) {
        self.bytes += bytes;
        (self.progress)(self.bytes);
    }
}
