use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

use nix::fcntl::{Flock, FlockArg};
use prost::Message;

use super::*;
use crate::datadir::bolt::edit::Edit;
use crate::datadir::bolt::fnv_1a;
use crate::datadir::bolt::write::WriteError;
use crate::datadir::fixture::{backend, put, wal_file};
use crate::datadir::verdict::Severity;
use crate::datadir::wal::{Log, Tail, summarise};

mod mutations;

/// The fixture that every case of a table damages anew.
const FIXTURE: &str = "3.6-everything";

/// A copy of a directory of real etcd.
fn copy(fixture: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/fixtures/datadir").join(fixture).join("data");
    let mut files = std::collections::BTreeMap::new();
    mutations::files_below(&from, &from, &mut files);
    for (name, content) in files {
        put(root.path(), &name, &content);
    }
    root
}

fn judge(root: &Path, mode: Mode) -> Report {
    validate(root, None, mode, &mut |_, _| {}).unwrap()
}

/// What is told at this severity or worse.
fn told(report: &Report, least: Severity) -> Vec<String> {
    let worse = report.findings.iter().filter(|finding| finding.severity >= least);
    worse.map(|finding| format!("{}: {}", finding.file, finding.what)).collect()
}

fn edit(root: &Path, change: impl FnOnce(&mut Edit) -> Result<(), WriteError>) {
    let file = OpenOptions::new().read(true).write(true).open(root.join("member/snap/db")).unwrap();
    let mut edit = Edit::begin(file).unwrap();
    change(&mut edit).unwrap();
    edit.commit().unwrap();
}

#[test]
fn what_holds_no_member_is_judged_by_its_class() {
    let empty = tempfile::tempdir().unwrap();
    let absent = empty.path().join("none");
    let partial = tempfile::tempdir().unwrap();
    put(partial.path(), "member/snap/db", b"");
    let foreign = tempfile::tempdir().unwrap();
    put(foreign.path(), "precious", b"");
    let used = tempfile::tempdir().unwrap();
    put(used.path(), "member/snap/db", &backend(40, 1));
    #[rustfmt::skip]
    let cases = [
        (empty.path(),    Verdict::Sound),
        (absent.as_path(), Verdict::Sound),
        (partial.path(),  Verdict::Repairable),
        (foreign.path(),  Verdict::Foreign),
        (used.path(),     Verdict::Damaged),
    ];
    for (root, expected) in cases {
        for mode in [Mode::Sanity, Mode::Full] {
            assert_eq!(judge(root, mode).verdict, expected, "{mode:?} {}", root.display());
        }
    }
    assert!(foreign.path().join("precious").exists());
}

#[test]
fn a_running_etcd_keeps_everybody_out_and_we_keep_it_out() {
    let root = copy(FIXTURE);
    let db = || File::open(root.path().join("member/snap/db")).unwrap();
    let lock = Flock::lock(db(), FlockArg::LockExclusiveNonblock).unwrap();
    assert_eq!(judge(root.path(), Mode::Full).verdict, Verdict::Locked);
    drop(lock);

    let mut could_start = None;
    let report = validate(root.path(), None, Mode::Full, &mut |_, _| {
        could_start = Some(Flock::lock(db(), FlockArg::LockExclusiveNonblock).is_ok());
    });
    assert_eq!(report.unwrap().verdict, Verdict::Sound);
    assert_eq!(could_start, Some(false));
    assert!(Flock::lock(db(), FlockArg::LockExclusiveNonblock).is_ok());
}

#[test]
fn progress_ends_where_it_said_it_would() {
    let root = copy(FIXTURE);
    let mut seen = Vec::new();
    validate(root.path(), None, Mode::Full, &mut |done, of| seen.push((done, of))).unwrap();

    assert!(seen.is_sorted(), "{seen:?}");
    let (done, of) = *seen.last().unwrap();
    assert_eq!(done, of);
    assert!(seen.iter().all(|(_, each)| *each == of), "{seen:?}");
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(int64, tag = "2")]
    created: i64,
    #[prost(int64, tag = "3")]
    modified: i64,
    #[prost(int64, tag = "4")]
    version: i64,
    #[prost(int64, tag = "6")]
    lease: i64,
}

/// The record that follows the last one of a directory, and its name.
fn next_record(root: &Path, lease: i64) -> (Vec<u8>, KeyValue) {
    let db = Db::open(File::open(root.join("member/snap/db")).unwrap()).unwrap();
    let (last, _) = db.bucket(b"key").unwrap().unwrap().last().unwrap().unwrap();
    let main = 1 + i64::from_be_bytes(last[..8].try_into().unwrap());
    let name = [&main.to_be_bytes()[..], b"_", &[0; 8]].concat();
    (name, KeyValue { key: b"k".to_vec(), created: main, modified: main, version: 1, lease })
}

#[test]
fn damage_is_told_with_what_it_means() {
    type Change = fn(&Path);
    fn meta(root: &Path, name: &[u8], value: &[u8]) {
        let db = Db::open(File::open(root.join("member/snap/db")).unwrap()).unwrap();
        let mut entries: std::collections::BTreeMap<_, _> =
            db.bucket(b"meta").unwrap().unwrap().entries(100).unwrap().into_iter().collect();
        entries.insert(name.to_vec(), value.to_vec());
        edit(root, |edit| {
            edit.replace(b"meta", |meta| entries.iter().try_for_each(|(name, value)| meta.put(name, value)))
        });
    }
    fn write(root: &Path, name: &str, offset: u64, bytes: &[u8]) {
        let file = OpenOptions::new().write(true).open(root.join(name)).unwrap();
        file.write_all_at(bytes, offset).unwrap();
    }
    fn cut(root: &Path, pages: u64) {
        OpenOptions::new().write(true).open(root.join(DB)).unwrap().set_len(pages * 4096).unwrap();
    }
    /// Cuts the file behind the pages it counts, and lets it count two more: a file that was cut where two pages were
    /// free.
    fn cut_free_end(root: &Path) {
        let db = Db::open(File::open(root.join(DB)).unwrap()).unwrap();
        cut(root, db.meta().pages);
        let file = std::fs::read(root.join(DB)).unwrap();
        for page in 0..2 {
            let start = page * 4096 + 16;
            let mut body = file[start..start + 56].to_vec();
            let pages = u64::from_le_bytes(body[40..48].try_into().unwrap());
            body[40..48].copy_from_slice(&(pages + 2).to_le_bytes());
            let checksum = fnv_1a(&body);
            body.extend(checksum.to_le_bytes());
            write(root, DB, start as u64, &body);
        }
    }
    const DB: &str = "member/snap/db";
    const LOG: &str = "member/wal/0000000000000000-0000000000000000.wal";
    #[rustfmt::skip]
    let cases: [(&str, Change, Severity, &str); 13] = [
        ("a record more", |root| {
            let (name, value) = next_record(root, 0);
            edit(root, |edit| edit.append(b"key", |key| key.put(&name, &value.encode_to_vec())));
        }, Severity::Note, ""),
        ("a lease that is not there", |root| {
            let (name, value) = next_record(root, 0x77);
            edit(root, |edit| edit.append(b"key", |key| key.put(&name, &value.encode_to_vec())));
        }, Severity::Warning, "1 keys hang on leases that are not there"),
        ("a record of another transaction", |root| {
            let (name, value) = next_record(root, 0);
            let value = KeyValue { modified: value.modified + 1, ..value };
            edit(root, |edit| edit.append(b"key", |key| key.put(&name, &value.encode_to_vec())));
        }, Severity::Damage, "says it was made by transaction"),
        ("a torn record", |root| {
            let (name, _) = next_record(root, 0);
            edit(root, |edit| edit.append(b"key", |key| key.put(&name, &[0x0a, 9])));
        }, Severity::Damage, "cannot be decoded"),
        ("a compaction from the future", |root| {
            meta(root, b"finishedCompactRev", &[&999_999_u64.to_be_bytes()[..], b"_", &[0; 8]].concat());
        }, Severity::Damage, "the compaction up to 999999.0 is finished, but the last one that began is"),
        ("a backend beyond its log", |root| meta(root, b"consistent_index", &999_999_u64.to_be_bytes()),
            Severity::Damage, "the backend holds the entries up to index 999999"),
        ("a backend of another release", |root| meta(root, b"storageVersion", b"3.9.0"),
            Severity::Damage, "the backend's layout that of 3.9.0"),
        ("one header", |root| write(root, DB, 20, b"x"),
            Severity::Warning, "the header in page 0 is not valid; the other one is in force"),
        ("both headers", |root| { write(root, DB, 20, b"x"); write(root, DB, 4096 + 20, b"x"); },
            Severity::Damage, "neither of the two headers"),
        ("a cut where only free pages are", cut_free_end,
            Severity::Warning, "the file ends at byte"),
        ("a cut through what is in use", |root| cut(root, 2),
            Severity::Damage, "lies behind byte 8192, where the file ends"),
        ("a log whose entry changed", |root| write(root, LOG, 600, b"~~~~"),
            Severity::Damage, "the record at byte"),
        ("a log of another member", |root| put(root, "member/wal/0000000000000001-0000000000000005.wal", &wal_file(7, 1, 2)),
            Severity::Damage, "the write-ahead log is of two members"),
    ];
    for (case, change, severity, expected) in cases {
        let root = copy(FIXTURE);
        change(root.path());
        let report = judge(root.path(), Mode::Full);
        let verdict = if severity == Severity::Damage { Verdict::Damaged } else { Verdict::Sound };
        assert_eq!(report.verdict, verdict, "{case}: {report:#?}");
        let found = told(&report, severity);
        assert!(
            found.iter().any(|told| told.contains(expected)) || expected.is_empty(),
            "{case}: {found:#?}"
        );
    }
}

#[test]
fn a_torn_end_of_the_log_is_repairable_unless_something_is_lost() {
    let root = copy("3.6-fresh");
    let log = root.path().join("member/wal/0000000000000000-0000000000000000.wal");
    let bytes = std::fs::read(&log).unwrap();
    let summary = summarise(&Log::open(log.parent().unwrap()).unwrap()).unwrap();
    let Tail::Clean { at, .. } = summary.tail else { panic!("{summary:?}") };
    let end = usize::try_from(at.offset).unwrap();
    // A record that was begun: its length, and nothing that it says would follow.
    let begun = [&bytes[..end], &100_u64.to_le_bytes(), &[0; 600]].concat();
    std::fs::write(&log, &begun).unwrap();
    let report = judge(root.path(), Mode::Full);
    assert_eq!(report.verdict, Verdict::Repairable, "{report:#?}");

    // The same in the middle: what etcd would cut off is what the backend holds already.
    let mut torn = bytes;
    torn[end / 2..].fill(0);
    std::fs::write(&log, &torn).unwrap();
    let report = judge(root.path(), Mode::Full);
    assert_eq!(report.verdict, Verdict::Damaged, "{report:#?}");
}
