//! Data directories damaged on purpose, each in one way.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use etcd_release::datadir::bolt::Db;
use etcd_release::datadir::bolt::pages::{PageClass, Survey, survey};

use super::fleet::Fleet;

const PAGE: usize = 4096;
const LEAF: u16 = 2;

impl Fleet {
    /// Ends launcher and etcd of an instance at once, as a power failure does; nobody starts them again. What the
    /// launcher said is forgotten, so that whatever is read later is news.
    #[track_caller]
    pub fn crash(&self, slug: &str) {
        self.ssh(slug, "/var/vcap/bosh/bin/monit unmonitor etcd").succeeded();
        self.kill9(slug, "etcd-launcher");
        self.halt(slug);
    }

    /// The database of an instance.
    #[track_caller]
    pub fn db(&self, slug: &str) -> PathBuf {
        self.store(slug).join("member/snap/db")
    }
}

#[track_caller]
fn pages(db: &Path) -> (Vec<u8>, Survey) {
    let bytes = fs::read(db).expect("read the database");
    let file = File::open(db).expect("open the database");
    let survey = survey(&Db::open(file).expect("a database"), &mut ()).expect("walk through it");
    assert!(survey.faults.is_empty(), "damaged already: {:?}", survey.faults);
    (bytes, survey)
}

fn holds(page: &[u8], text: &str) -> bool {
    page.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Overwrites the first leaf page in use that holds `text`, and tells which it was.
#[track_caller]
pub fn wreck_page_with(db: &Path, text: &str) -> u64 {
    let (bytes, survey) = pages(db);
    let page = bytes
        .chunks_exact(PAGE)
        .zip(0_u64..)
        .find(|(page, number)| {
            let kind = u16::from_le_bytes([page[8], page[9]]);
            kind == LEAF && survey.class(*number) == PageClass::Live && holds(page, text)
        })
        .map(|(_, number)| number)
        .expect("a page in use has it");
    overwrite(db, page * PAGE as u64, &[0xa5; PAGE]);
    page
}

/// Overwrites the first page below the high-water mark that nothing refers to, and tells which it was.
#[track_caller]
pub fn wreck_free_page(db: &Path) -> u64 {
    let (_, survey) = pages(db);
    let page = (2..survey.live + survey.free)
        .find(|page| survey.class(*page) == PageClass::Free)
        .expect("a free page");
    overwrite(db, page * PAGE as u64, &[0xa5; PAGE]);
    page
}

/// Writes the beginning of a record behind the last one of the log, as a power failure leaves it.
#[track_caller]
pub fn tear_log(wal: &Path) {
    let mut segments: Vec<PathBuf> = fs::read_dir(wal)
        .expect("list the log")
        .map(|entry| entry.expect("list the log").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .collect();
    segments.sort();
    let newest = segments.last().expect("a file of the log");
    let mut bytes = Vec::new();
    File::open(newest).expect("open the log").read_to_end(&mut bytes).expect("read the log");
    let mut end = 0;
    while let Some(head) = bytes.get(end..end + 8) {
        let frame = u64::from_le_bytes(head.try_into().expect("eight bytes"));
        if frame == 0 {
            break;
        }
        let padding = if frame >> 63 == 1 { (frame >> 56) & 7 } else { 0 };
        end += usize::try_from(8 + (frame & ((1 << 56) - 1)) + padding).expect("a length");
    }
    assert!(end > 0 && end + 4096 < bytes.len(), "no room behind the last record, which ends at {end}");
    // An entry of 3000 bytes of which only the head came to the disk.
    let head =
        [&3000_u64.to_le_bytes()[..], &[0x08, 0x02, 0x10, 0xc3, 0xd2, 0xe1, 0x70, 0x1a, 0xb0, 0x17]].concat();
    overwrite(newest, end as u64, &head);
}

#[track_caller]
pub fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = File::options().write(true).open(path).expect("open for damage");
    file.seek(SeekFrom::Start(at)).and_then(|_| file.write_all(bytes)).expect("damage");
}
