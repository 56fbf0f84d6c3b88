//! Files that real etcd has written, a few bytes changed. Where a checksum guards the content it is made
//! anew now and then, so that what lies behind it is reached as well.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::super::crc::Crc32c;
use super::*;

/// The kept inputs of a target (fuzz/corpus), and all files of real etcd with this extension.
fn seeds(target: &str, extension: &str) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    below(&root.join("fuzz/corpus").join(target), &mut files);
    let kept = files.len();
    assert!(kept > 0, "fuzz/corpus/{target} is empty");
    below(&root.join("spec/fixtures/datadir"), &mut files);
    let named =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(extension));
    let (kept, found) = files.split_at(kept);
    kept.iter().chain(found.iter().filter(|path| named(path))).map(|path| fs::read(path).unwrap()).collect()
}

pub(crate) fn below(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { below(&path, files) } else { files.push(path) }
    }
}

/// Bytes to change, each by its place as a part of the whole.
pub(crate) type Changes = Vec<(u32, u8)>;

pub(crate) fn changes() -> impl Strategy<Value = (prop::sample::Index, Changes, u32)> {
    (any::<prop::sample::Index>(), prop::collection::vec(any::<(u32, u8)>(), 0..20), any::<u32>())
}

fn place(part: u32, length: usize) -> usize {
    usize::try_from(u64::from(part) * length as u64 / (1 << 32)).unwrap()
}

pub(crate) fn changed(
    seeds: &[Vec<u8>],
    (seed, changes, cut): &(prop::sample::Index, Changes, u32),
) -> Vec<u8> {
    let mut bytes = seed.get(seeds).clone();
    for (part, byte) in changes {
        let at = place(*part, bytes.len());
        bytes[at] = *byte;
    }
    // Every fourth one is cut short.
    if cut % 4 == 0 {
        bytes.truncate(place(*cut, bytes.len()));
    }
    bytes
}

/// Gives every record of a log the checksum that fits.
fn with_fitting_checksums(bytes: &[u8]) -> Vec<u8> {
    let (mut made, mut crc) = (Vec::new(), Crc32c::default());
    let mut rest = bytes;
    while let Some((head, behind)) = rest.split_first_chunk::<8>() {
        let length = usize::try_from(u64::from_le_bytes(*head) & ((1 << 56) - 1)).unwrap();
        let padding = if head[7] >= 0x80 { usize::from(head[7] & 7) } else { 0 };
        let Some(record) = behind.get(..length).filter(|record| !record.is_empty()) else { break };
        let (mut kind, mut data) = (0, &[][..]);
        for field in super::super::wire::Fields::of(record).map_while(Result::ok) {
            match field {
                (1, value) => kind = value.number().unwrap_or_default(),
                (3, value) => data = value.bytes().unwrap_or_default(),
                _ => {}
            }
        }
        if kind != 4 {
            crc.update(data);
        }
        let data = (kind != 4).then(|| data.to_vec());
        made.extend(super::super::fixture::frame(kind.cast_signed(), crc.value(), data));
        rest = behind.get(length + padding..).unwrap_or_default();
    }
    made
}

#[test]
fn the_kept_inputs_are_what_they_are_meant_to_be() {
    assert!(seeds("bolt", "db").iter().any(|bytes| Db::over(bytes.as_slice()).is_ok()));
    assert!(seeds("snap", ".snap").iter().all(|bytes| Snapshot::decode(bytes).is_ok()));
    for bytes in seeds("wal", ".wal") {
        let mut records = 0;
        wal::read_bytes(&[&with_fitting_checksums(&bytes)], Start::First, &mut |_| {
            records += 1;
            ControlFlow::Continue(())
        });
        assert!(records > 3, "{records}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn databases(change in changes()) {
        bolt(&changed(&seeds("bolt", "db"), &change));
    }

    #[test]
    fn logs(change in changes(), first: u16) {
        let bytes = changed(&seeds("wal", ".wal"), &change);
        wal(&[bytes.as_slice(), &first.to_le_bytes()].concat());
        wal(&[with_fitting_checksums(&bytes).as_slice(), &[0, 0]].concat());
    }

    #[test]
    fn snapshot_files_of_members(change in changes()) {
        let bytes = changed(&seeds("snap", ".snap"), &change);
        snap(&bytes);
        let start = bytes.iter().position(|byte| *byte == b'{').unwrap_or_default();
        v2_store(&bytes[start..]);
    }

    #[test]
    fn saved_snapshots(change in changes()) {
        snapshot_file(&changed(&seeds("snapshot_file", "no such file"), &change));
    }

    #[test]
    fn old_stores(change in changes()) {
        v2_store(&changed(&seeds("v2_store", "no such file"), &change));
    }

    #[test]
    fn lists_of_members(change in changes()) {
        let bytes = changed(&seeds("members", "no such file"), &change);
        members(&bytes);
        members(String::from_utf8_lossy(&bytes).as_bytes());
    }
}
