//! Damage to a data directory, from a seed.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use etcd_release::datadir::bolt::Db;
use etcd_release::datadir::bolt::pages::{PageClass, survey};

use super::corpus::{listed, used};
use super::dice::Dice;

/// Kinds of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A bit of a page that nothing refers to, or beyond all pages.
    DbUnusedBit,
    DbUnusedPageZeroed,
    /// Garbage behind the end.
    DbLonger,
    /// A bit of the first bytes of a page in use: what it is, and its elements.
    DbHeadBit,
    /// Any bit of a page in use.
    DbAnyBit,
    DbPageZeroed,
    DbPagesSwapped,
    DbTruncated,
    /// The header that is not in force, or the one that is.
    DbHeaderBroken,
    DbBothHeadersBroken,
    DbMissing,
    DbEmpty,
    WalBit,
    WalSectorZeroed,
    /// Cut within the last records, as a crash does.
    WalTorn,
    WalTruncated,
    WalBehindTheEnd,
    WalMissing,
    WalTwice,
    WalHeadBit,
    SnapBit,
    SnapTruncated,
    SnapMissing,
    SnapsMissing,
}

impl Kind {
    pub(crate) const ALL: [Self; 24] = [
        Self::DbUnusedBit,
        Self::DbUnusedPageZeroed,
        Self::DbLonger,
        Self::DbHeadBit,
        Self::DbAnyBit,
        Self::DbPageZeroed,
        Self::DbPagesSwapped,
        Self::DbTruncated,
        Self::DbHeaderBroken,
        Self::DbBothHeadersBroken,
        Self::DbMissing,
        Self::DbEmpty,
        Self::WalBit,
        Self::WalSectorZeroed,
        Self::WalTorn,
        Self::WalTruncated,
        Self::WalBehindTheEnd,
        Self::WalMissing,
        Self::WalTwice,
        Self::WalHeadBit,
        Self::SnapBit,
        Self::SnapTruncated,
        Self::SnapMissing,
        Self::SnapsMissing,
    ];

    /// Nobody reads what it hits: it must not be called damage.
    pub(crate) fn is_harmless(self) -> bool {
        matches!(self, Self::DbUnusedBit | Self::DbUnusedPageZeroed | Self::DbLonger)
    }

    /// It may make another legal content of a database, which has no checksums: nobody can see that.
    pub(crate) fn may_be_legal(self) -> bool {
        matches!(self, Self::DbAnyBit)
    }

    /// It takes away the end of the log, as a crash does with what was not acknowledged: nobody can see what it was.
    pub(crate) fn cuts_the_log(self) -> bool {
        matches!(self, Self::WalTorn | Self::WalTruncated)
    }

    /// etcd may get along with it: it hits what etcd never reads or writes anew, or the log has all that is lost.
    pub(crate) fn etcd_may_be_lucky(self) -> bool {
        matches!(self, Self::DbHeadBit | Self::DbAnyBit | Self::DbTruncated | Self::DbPagesSwapped)
            || matches!(self, Self::DbMissing | Self::DbEmpty)
            || self.cuts_the_log()
    }

    /// It cannot go unseen, whatever it hits.
    pub(crate) fn is_seen(self) -> bool {
        matches!(self, Self::DbPageZeroed | Self::DbPagesSwapped | Self::DbBothHeadersBroken)
            || matches!(self, Self::DbMissing | Self::DbEmpty | Self::WalTwice)
    }

    /// Does it; says where, or `None` if this directory has nothing of that kind.
    #[expect(clippy::too_many_lines, reason = "an arm for each kind")]
    pub(crate) fn apply(self, data_dir: &Path, dice: &mut Dice) -> Option<String> {
        let db = data_dir.join("member/snap/db");
        let snaps = listed(&data_dir.join("member/snap"), "snap");
        let wal = listed(&data_dir.join("member/wal"), "wal");
        match self {
            Self::DbUnusedBit => {
                let (page_size, page) = page_of(&db, dice, &[PageClass::Free, PageClass::Tail])?;
                Some(flip(&db, page * page_size + dice.below(page_size), dice))
            }
            Self::DbUnusedPageZeroed => {
                let (page_size, page) = page_of(&db, dice, &[PageClass::Free, PageClass::Tail])?;
                Some(overwrite(&db, page * page_size, &vec![0; usize::try_from(page_size).unwrap()]))
            }
            Self::DbLonger => {
                let length = db.metadata().unwrap().len();
                Some(overwrite(&db, length, &vec![0xa5; 5000]))
            }
            Self::DbHeadBit => {
                let (page_size, page) = page_of(&db, dice, &[PageClass::Live])?;
                Some(flip(&db, page * page_size + dice.below(48), dice))
            }
            Self::DbAnyBit => {
                let (page_size, page) = page_of(&db, dice, &[PageClass::Live])?;
                Some(flip(&db, page * page_size + dice.below(page_size), dice))
            }
            Self::DbPageZeroed => {
                let (page_size, page) = page_of(&db, dice, &[PageClass::Live])?;
                Some(overwrite(&db, page * page_size, &vec![0; usize::try_from(page_size).unwrap()]))
            }
            Self::DbPagesSwapped => {
                let (page_size, one) = page_of(&db, dice, &[PageClass::Live])?;
                let (_, other) = page_of(&db, dice, &[PageClass::Live])?;
                if one == other {
                    return None;
                }
                let bytes = [one, other].map(|page| read(&db, page * page_size, page_size));
                overwrite(&db, one * page_size, &bytes[1]);
                Some(format!("{} and page {one}", overwrite(&db, other * page_size, &bytes[0])))
            }
            Self::DbTruncated => {
                let (page_size, page) = page_of(&db, dice, &[PageClass::Live])?;
                Some(truncate(&db, page * page_size + dice.below(page_size)))
            }
            Self::DbHeaderBroken => {
                let page_size = page_of(&db, dice, &[PageClass::Live])?.0;
                Some(flip(&db, dice.below(2) * page_size + 16 + dice.below(64), dice))
            }
            Self::DbBothHeadersBroken => {
                let page_size = page_of(&db, dice, &[PageClass::Live])?.0;
                let first = flip(&db, 16 + dice.below(64), dice);
                Some(format!("{first}, {}", flip(&db, page_size + 16 + dice.below(64), dice)))
            }
            Self::DbMissing => remove(&db),
            Self::DbEmpty => Some(truncate(&db, 0)),
            Self::WalBit => {
                let (path, used) = log_of(&wal, dice)?;
                Some(flip(&path, dice.below(used), dice))
            }
            Self::WalSectorZeroed => {
                let (path, used) = log_of(&wal, dice)?;
                let from = dice.below(used) / 512 * 512;
                let length = usize::try_from((used - from).min(512)).unwrap();
                Some(overwrite(&path, from, &vec![0; length]))
            }
            Self::WalTorn => {
                let path = wal.last()?;
                let used = used_of(path);
                Some(truncate(path, used.saturating_sub(dice.below(60))))
            }
            Self::WalTruncated => {
                let (path, used) = log_of(&wal, dice)?;
                Some(truncate(&path, dice.below(used)))
            }
            Self::WalBehindTheEnd => {
                let path = wal.last()?;
                let used = used_of(path);
                Some(overwrite(path, used.next_multiple_of(8) + 4096, &[0x5a; 600]))
            }
            Self::WalMissing => remove(&dice.pick(&wal)?),
            Self::WalTwice => {
                let path = wal.last()?;
                let name = path.file_stem()?.to_str()?;
                let sequence = u64::from_str_radix(name.get(..16)?, 16).ok()?;
                let next = path.with_file_name(format!("{:016x}{}.wal", sequence + 1, &name[16..]));
                fs::copy(path, &next).unwrap();
                Some(next.display().to_string())
            }
            Self::WalHeadBit => {
                let (path, _) = log_of(&wal, dice)?;
                Some(flip(&path, dice.below(40), dice))
            }
            Self::SnapBit => {
                let path = snaps.last()?;
                Some(flip(path, dice.below(path.metadata().unwrap().len()), dice))
            }
            Self::SnapTruncated => {
                let path = snaps.last()?;
                Some(truncate(path, dice.below(path.metadata().unwrap().len())))
            }
            Self::SnapMissing => remove(snaps.last()?),
            Self::SnapsMissing => {
                let done: Vec<_> = snaps.iter().filter_map(|path| remove(path)).collect();
                (!done.is_empty()).then(|| done.join(", "))
            }
        }
    }
}

/// Page size, and a page of one of these classes that is no header.
fn page_of(db: &Path, dice: &mut Dice, classes: &[PageClass]) -> Option<(u64, u64)> {
    let file = File::open(db).unwrap();
    let length = file.metadata().unwrap().len();
    let db = Db::open(file).ok()?;
    let page_size = u64::from(db.meta().page_size);
    let survey = survey(&db, &mut ()).unwrap();
    let pages: Vec<u64> =
        (2..length / page_size).filter(|&page| classes.contains(&survey.class(page))).collect();
    dice.pick(&pages).map(|page| (page_size, page))
}

/// A file of the log, and how much of it is used.
fn log_of(wal: &[PathBuf], dice: &mut Dice) -> Option<(PathBuf, u64)> {
    let path = dice.pick(wal)?;
    let used = used_of(&path);
    Some((path, used))
}

fn used_of(path: &Path) -> u64 {
    let file = File::open(path).unwrap();
    used(&file, file.metadata().unwrap().len())
}

fn read(path: &Path, offset: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(length).unwrap()];
    File::open(path).unwrap().read_exact_at(&mut bytes, offset).unwrap();
    bytes
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn flip(path: &Path, offset: u64, dice: &mut Dice) -> String {
    let bit = 1 << dice.below(8);
    let byte = read(path, offset, 1)[0] ^ bit;
    overwrite(path, offset, &[byte])
}

fn overwrite(path: &Path, offset: u64, bytes: &[u8]) -> String {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
    format!("{}: {} bytes at {offset}", name(path), bytes.len())
}

fn truncate(path: &Path, length: u64) -> String {
    OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
    format!("{}: cut at {length}", name(path))
}

fn remove(path: &Path) -> Option<String> {
    fs::remove_file(path).ok()?;
    Some(format!("{}: removed", name(path)))
}
