//! Thousands of small damages to directories of real etcd: what is hit decides what must be said.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;

use crate::datadir::bolt::pages::{PageClass, survey};
use crate::datadir::bolt::{Db, Meta};
use crate::datadir::fixture::Shown;
use crate::datadir::layout::extension;
use crate::datadir::validate::validate;
use crate::datadir::verdict::{Finding, Mode, Report, Verdict};

/// What a byte of a file is to etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Byte {
    /// Nobody reads it: free and tail pages, what no element covers, fields without a meaning.
    Unread,
    /// Another value may be as good as this one: keys, values, names.
    Content,
    /// It holds the file together: any change must be told.
    Structure,
}

/// A damage: which file, and its content afterwards; `None` for a file that is gone.
struct Damage {
    name: String,
    what: String,
    content: Option<Vec<u8>>,
    /// Another file that is there afterwards.
    more: Option<String>,
}

/// Random numbers, the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % end.max(1) as u64).unwrap()
    }
}

/// A copy of a directory, to be damaged again and again.
struct Subject {
    fixture: String,
    root: tempfile::TempDir,
    files: BTreeMap<String, Vec<u8>>,
    bytes: BTreeMap<String, Vec<Byte>>,
    before: BTreeMap<Depth, Report>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Depth {
    Sanity,
    Full,
}

impl Depth {
    fn mode(self) -> Mode {
        match self {
            Self::Sanity => Mode::Sanity,
            Self::Full => Mode::Full,
        }
    }
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> usize {
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(&bytes[at..at + N]);
    usize::try_from(u64::from_le_bytes(wide)).unwrap()
}

/// What each byte of a database is to bbolt and etcd.
fn bytes_of_db(file: &[u8]) -> Vec<Byte> {
    let db = Db::over(file).unwrap();
    let survey = survey(&db, &mut Shown::default()).unwrap();
    assert_eq!(survey.faults, vec![]);
    let Meta { page_size, freelist, .. } = db.meta();
    let page_size = usize::try_from(page_size).unwrap();
    let meta = db.bucket(b"meta").unwrap().unwrap();
    let marks = [&b"scheduledCompactRev"[..], b"finishedCompactRev"].map(|name| meta.get(name).unwrap());
    let main = |mark: &Vec<u8>| u64::from_be_bytes(mark[..8].try_into().unwrap());
    let compacted = marks.iter().flatten().map(main).max().unwrap_or(0);
    let mut bytes = vec![Byte::Unread; file.len()];
    for header in 0..2 {
        bytes[header * page_size + 16..header * page_size + 80].fill(Byte::Structure);
    }
    let mut page = 2;
    while page < file.len() / page_size {
        if survey.class(page as u64) != PageClass::Live {
            page += 1;
            continue;
        }
        let start = page * page_size;
        let pages = 1 + number::<4>(file, start + 12);
        if freelist == Some(page as u64) {
            bytes[start..start + 12].fill(Byte::Structure);
            bytes[start + 16..start + 16 + 8 * number::<2>(file, start + 10)].fill(Byte::Structure);
        } else {
            bytes[start..start + 16].fill(Byte::Structure);
            elements(file, &mut bytes, start, compacted);
        }
        page += pages;
    }
    bytes
}

/// Where the last page that is in use ends.
fn end_of_pages_in_use(file: &[u8]) -> usize {
    let db = Db::over(file).unwrap();
    let survey = survey(&db, &mut ()).unwrap();
    let page_size = usize::try_from(db.meta().page_size).unwrap();
    let last = (0..db.meta().pages).rfind(|page| survey.class(*page) == PageClass::Live).unwrap();
    (usize::try_from(last).unwrap() + 1) * page_size
}

/// The elements of the page image at `start`.
fn elements(file: &[u8], bytes: &mut [Byte], start: usize, compacted: u64) {
    bytes[start + 8..start + 12].fill(Byte::Structure);
    let is_branch = number::<2>(file, start + 8) == 1;
    for index in 0..number::<2>(file, start + 10) {
        let head = start + 16 + 16 * index;
        bytes[head..head + 16].fill(Byte::Structure);
        if is_branch {
            let key = head + number::<4>(file, head);
            bytes[key..key + number::<4>(file, head + 4)].fill(Byte::Structure);
            continue;
        }
        // Of the flags only the lowest bit means something; a flip of that one is told, see `is_told`.
        bytes[head..head + 4].fill(Byte::Content);
        let key = head + number::<4>(file, head + 4);
        let value = key + number::<4>(file, head + 8);
        let end = value + number::<4>(file, head + 12);
        bytes[key..end].fill(Byte::Content);
        if number::<4>(file, head) == 1 && end - value > 16 {
            // The root's number, a sequence that nobody uses, and a page image, whose number nobody reads.
            bytes[value..value + 8].fill(Byte::Structure);
            bytes[value + 8..value + 24].fill(Byte::Unread);
            bytes[value + 28..value + 32].fill(Byte::Unread);
            elements(file, bytes, value + 16, compacted);
        } else if number::<4>(file, head) == 1 {
            bytes[value..value + 8].fill(Byte::Structure);
            bytes[value + 8..value + 16].fill(Byte::Unread);
        } else if is_revision(&file[key..value]) {
            // Above the last compaction no revision is missing. Below, any may be; what a record says about its own
            // is its transaction.
            let main = u64::from_be_bytes(file[key..key + 8].try_into().unwrap());
            let is_deletion = value - key == 18;
            if main > compacted {
                bytes[key..value].fill(Byte::Structure);
            } else if value < end && !is_deletion {
                bytes[key..key + 9].fill(Byte::Structure);
            }
        }
    }
}

fn is_revision(key: &[u8]) -> bool {
    matches!(key.len(), 17 | 18) && key[8] == b'_'
}

/// What each byte of a file of the log is: records, and what lies between and behind them.
fn bytes_of_log(file: &[u8]) -> Vec<Byte> {
    let mut bytes = vec![Byte::Content; file.len()];
    let mut at = 0;
    while at + 8 <= file.len() && number::<8>(&[&file[at..at + 7], &[0]].concat(), 0) > 0 {
        let length = number::<8>(&[&file[at..at + 7], &[0]].concat(), 0);
        let padding = if file[at + 7] & 0x80 == 0 { 0 } else { usize::from(file[at + 7] & 7) };
        // Some bits of the top byte mean nothing.
        bytes[at..at + 7].fill(Byte::Structure);
        bytes[at + 8..at + 8 + length].fill(Byte::Structure);
        bytes[at + 8 + length..at + 8 + length + padding].fill(Byte::Unread);
        // A checksum has 32 bits; the number that holds it has room for 35 in its fifth byte.
        bytes[at + 15] = Byte::Content;
        at += 8 + length + padding;
    }
    bytes
}

pub(super) fn files_below(root: &Path, directory: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            files.insert(name, fs::read(&path).unwrap());
        }
    }
}

impl Subject {
    fn of(fixture: &Path) -> Self {
        let mut files = BTreeMap::new();
        files_below(fixture, fixture, &mut files);
        let newest = files.keys().rfind(|name| extension(name) == Some("snap")).cloned();
        let bytes = files
            .iter()
            .map(|(name, file)| {
                let bytes = match extension(name) {
                    Some("wal") => bytes_of_log(file),
                    Some("snap") if Some(name) == newest.as_ref() => vec![Byte::Structure; file.len()],
                    Some("snap") => vec![Byte::Unread; file.len()],
                    _ => bytes_of_db(file),
                };
                (name.clone(), bytes)
            })
            .collect();
        let mut subject = Self {
            fixture: fixture.display().to_string(),
            root: tempfile::tempdir().unwrap(),
            files,
            bytes,
            before: BTreeMap::new(),
        };
        fs::set_permissions(subject.root.path(), fs::Permissions::from_mode(0o700)).unwrap();
        for name in subject.files.keys() {
            subject.write(name, &subject.files[name]);
        }
        for depth in [Depth::Sanity, Depth::Full] {
            let report = subject.judge(depth);
            assert_eq!(report.verdict, Verdict::Sound, "{}: {report:?}", fixture.display());
            subject.before.insert(depth, report);
        }
        subject
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn write(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        DirBuilder::new().recursive(true).mode(0o700).create(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn judge(&self, depth: Depth) -> Report {
        validate(self.root.path(), None, depth.mode(), &mut |_, _| {}).unwrap()
    }

    /// Rolls a damage.
    fn damage(&self, dice: &mut Dice) -> Damage {
        let names: Vec<_> = self.files.keys().cloned().collect();
        let db = names.iter().find(|name| name.ends_with("/db")).unwrap().clone();
        // Half of all hit the database.
        let name = if dice.below(2) == 0 { db } else { names[dice.below(names.len())].clone() };
        let file = &self.files[&name];
        let mut content = file.clone();
        let mut more = None;
        let page = if name.ends_with("/db") { 4096 } else { 512 };
        let range = |at: usize| at * page..((at + 1) * page).min(file.len());
        let pages = file.len().div_ceil(page);
        let what = match dice.below(16) {
            0 => {
                let at = dice.below(file.len());
                content.truncate(at);
                format!("cut at byte {at}")
            }
            1 | 2 => {
                let at = dice.below(pages);
                content[range(at)].fill(0);
                format!("page {at} zeroed")
            }
            3 | 4 => {
                let (one, other) = (dice.below(pages), dice.below(pages));
                let length = range(one).len().min(range(other).len());
                let (one, other) = (range(one).start, range(other).start);
                let kept = content[one..one + length].to_vec();
                content.copy_within(other..other + length, one);
                content[other..other + length].copy_from_slice(&kept);
                format!("{length} bytes at {one} and {other} swapped")
            }
            5 if dice.below(4) == 0 => {
                return Damage { name, what: "missing".to_owned(), content: None, more };
            }
            6 if extension(&name) == Some("wal") => {
                let sequence = 1 + u64::from_str_radix(&name[name.len() - 37..name.len() - 21], 16).unwrap();
                let copy = format!("{}{sequence:016x}{}", &name[..name.len() - 37], &name[name.len() - 21..]);
                if !self.files.contains_key(&copy) {
                    more = Some(copy);
                }
                "duplicated as the next one".to_owned()
            }
            _ => {
                // Most bytes of a database are free or values: aim at structure half of the time.
                let bytes = &self.bytes[&name];
                let mut at = dice.below(file.len());
                for _ in 0..dice.below(2) * 50 {
                    if bytes[at] == Byte::Structure {
                        break;
                    }
                    at = dice.below(file.len());
                }
                let bit = dice.below(8);
                content[at] ^= 1 << bit;
                format!("bit {bit} of byte {at} flipped")
            }
        };
        Damage { name, what, content: Some(content), more }
    }

    /// The worst byte that a damage hit; `None` if it says more than which bytes were hit.
    fn worst_hit(&self, damage: &Damage) -> Option<Byte> {
        let (before, bytes) = (&self.files[&damage.name], &self.bytes[&damage.name]);
        let content = damage.content.as_ref().filter(|content| content.len() == before.len())?;
        if damage.more.is_some() {
            return None;
        }
        let hit = (0..before.len()).filter(|at| before[*at] != content[*at]).map(|at| bytes[at]);
        Some(hit.max().unwrap_or(Byte::Unread))
    }

    /// Whether a shorter or missing file must be told.
    fn must_tell_loss(&self, damage: &Damage) -> bool {
        let (before, bytes) = (&self.files[&damage.name], &self.bytes[&damage.name]);
        let lost: Range<usize> = damage.content.as_ref().map_or(0, Vec::len)..before.len();
        // The end of a log may be lost without a trace where a record ends: nobody was told of what followed.
        let is_log = extension(&damage.name) == Some("wal");
        let is_snapshot = extension(&damage.name) == Some("snap") && damage.content.is_none();
        !is_log && !is_snapshot && bytes[lost].contains(&Byte::Structure)
    }

    /// Whether a file was cut where nobody reads on.
    fn is_harmless_loss(&self, damage: &Damage) -> bool {
        let before = &self.files[&damage.name];
        let Some(left) = damage.content.as_ref().map(Vec::len).filter(|left| *left < before.len()) else {
            return false;
        };
        damage.name.ends_with("/db") && left >= end_of_pages_in_use(before)
    }

    /// Damages the directory, asks, and puts it back; what was wrong with the answer.
    fn try_one(&self, damage: &Damage) -> Option<String> {
        match &damage.content {
            Some(content) => self.write(&damage.name, content),
            None => fs::remove_file(self.path(&damage.name)).unwrap(),
        }
        if let Some(more) = &damage.more {
            self.write(more, &self.files[&damage.name]);
        }
        let (sanity, full) = (self.judge(Depth::Sanity), self.judge(Depth::Full));
        if let Some(more) = &damage.more {
            fs::remove_file(self.path(more)).unwrap();
        }
        self.write(&damage.name, &self.files[&damage.name]);

        let told = full.findings != self.before[&Depth::Full].findings;
        let wrong = match self.worst_hit(damage) {
            Some(Byte::Unread) if told => "nobody reads these bytes, and something was told",
            Some(Byte::Structure) if !told => "structure was hit, and nothing told",
            None if damage.more.is_some() && full.verdict != Verdict::Damaged => {
                "a file too many is not damage"
            }
            None if !told && self.must_tell_loss(damage) => "something is lost, and nothing told",
            None if self.is_harmless_loss(damage) && full.verdict != Verdict::Sound => {
                "only free pages are gone, and that is called damage"
            }
            // Reading less never leads to a worse answer.
            _ if sanity.verdict > full.verdict => "sanity is stricter than full",
            _ => return None,
        };
        let findings = |report: &Report| {
            let line =
                |finding: &Finding| format!("\n  {:?} {}: {}", finding.severity, finding.file, finding.what);
            report.findings.iter().map(line).collect::<String>()
        };
        let (Damage { name, what, .. }, sanity, full) = (damage, findings(&sanity), findings(&full));
        let fixture = &self.fixture;
        Some(format!("{fixture}/{name}: {what}: {wrong}\n full:{full}\n sanity:{sanity}"))
    }
}

fn fixtures() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/fixtures/datadir");
    let mut found: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path().join("data"))
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    assert!(found.len() >= 10, "{found:?}");
    found
}

fn run(mutations: usize, seed: u64) {
    let subjects: Vec<_> = fixtures().iter().map(|fixture| Subject::of(fixture)).collect();
    let each = mutations / subjects.len();
    let try_all = |(subject, seed): (&Subject, u64)| {
        let mut dice = Dice(seed);
        (0..each).filter_map(|_| subject.try_one(&subject.damage(&mut dice))).collect::<Vec<_>>()
    };
    let mut wrong: Vec<_> = thread::scope(|scope| {
        let halves: Vec<_> = (0..2)
            .map(|half| {
                let mine = subjects.iter().zip(seed..).skip(half).step_by(2);
                scope.spawn(move || mine.flat_map(try_all).collect::<Vec<_>>())
            })
            .collect();
        halves.into_iter().flat_map(|half| half.join().unwrap()).collect()
    });
    let count = wrong.len();
    wrong.truncate(20);
    assert!(wrong.is_empty(), "{count} of {mutations} answers are wrong:\n{}", wrong.join("\n"));
}

#[test]
fn two_thousand_damages_are_told_where_they_matter_and_only_there() {
    run(2200, 1);
}
