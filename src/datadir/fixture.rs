//! Small files as bbolt and etcd write them, for unit tests: what real etcd writes is compared in
//! `spec/datadir.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use prost::Message;

use super::bolt::pages::Visitor;
use super::bolt::{Place, fnv_1a};
use super::crc::Crc32c;

pub(super) const PAGE: usize = 4096;
const LEAF: u16 = 2;
const BRANCH: u16 = 1;

/// How a bucket is laid out.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// As a value of the list of buckets.
    Inline,
    /// One page, with overflow pages if it needs them.
    Leaf,
    /// Leaves of this many keys below one branch.
    Branch(usize),
}

pub(super) type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// A file with these buckets, which are to be in order.
pub(super) fn bolt_file(buckets: &[(&str, Form, Pairs)]) -> Vec<u8> {
    let mut pages = Vec::new();
    let mut roots = Vec::new();
    // Pages 0 and 1 are headers, 2 is the list of buckets.
    let mut next = 3_u64;
    let mut add = |pages: &mut Vec<u8>, image: &dyn Fn(u64) -> Vec<u8>| {
        let id = next;
        let image = padded(image(id));
        next += (image.len() / PAGE) as u64;
        pages.extend(image);
        id
    };
    for (name, form, pairs) in buckets {
        let leaf = |part: &[(Vec<u8>, Vec<u8>)], id| {
            let items: Vec<_> = part.iter().map(|(key, value)| (0, key.clone(), value.clone())).collect();
            leaf_page(id, &items)
        };
        let mut value = [0; 16].to_vec();
        match form {
            Form::Inline => value.extend(leaf(pairs, 0)),
            Form::Leaf => {
                let id = add(&mut pages, &|id| leaf(pairs, id));
                value[..8].copy_from_slice(&id.to_le_bytes());
            }
            Form::Branch(keys) => {
                let children: Vec<_> = pairs
                    .chunks(*keys)
                    .map(|part| (part[0].0.clone(), add(&mut pages, &|id| leaf(part, id))))
                    .collect();
                let id = add(&mut pages, &|id| branch_page(id, &children));
                value[..8].copy_from_slice(&id.to_le_bytes());
            }
        }
        roots.push((1, name.as_bytes().to_vec(), value));
    }
    let mut file = [meta_page(0, next, 0, u64::MAX), meta_page(1, next, 1, u64::MAX)].concat();
    file.extend(padded(leaf_page(2, &roots)));
    file.extend(pages);
    file
}

/// A header page that says the list of buckets is page 2, and where the list of free pages is.
pub(super) fn meta_page(id: u64, pages: u64, txid: u64, freelist: u64) -> Vec<u8> {
    let mut page = header(id, 4, 0);
    let mut body = Vec::new();
    body.extend(0xED0C_DAED_u32.to_le_bytes());
    body.extend(2_u32.to_le_bytes());
    body.extend(le32(PAGE));
    body.extend(0_u32.to_le_bytes());
    for number in [2, 0, freelist, pages, txid] {
        body.extend(number.to_le_bytes());
    }
    let checksum = fnv_1a(&body);
    page.extend(body);
    page.extend(checksum.to_le_bytes());
    page.resize(PAGE, 0);
    page
}

/// A leaf of `(flags, key, value)`.
pub(super) fn leaf_page(id: u64, items: &[(u32, Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut page = header(id, LEAF, items.len());
    let mut content = Vec::new();
    for (index, (flags, key, value)) in items.iter().enumerate() {
        let position = (items.len() - index) * 16 + content.len();
        page.extend([flags.to_le_bytes(), le32(position), le32(key.len()), le32(value.len())].concat());
        content.extend([key.as_slice(), value].concat());
    }
    page.extend(content);
    page
}

/// A branch of `(key, child)`.
pub(super) fn branch_page(id: u64, children: &[(Vec<u8>, u64)]) -> Vec<u8> {
    let mut page = header(id, BRANCH, children.len());
    let mut content: Vec<u8> = Vec::new();
    for (index, (key, child)) in children.iter().enumerate() {
        let position = (children.len() - index) * 16 + content.len();
        page.extend([le32(position), le32(key.len())].concat());
        page.extend(child.to_le_bytes());
        content.extend(key);
    }
    page.extend(content);
    page
}

fn header(id: u64, flags: u16, count: usize) -> Vec<u8> {
    let count = u16::try_from(count).unwrap();
    [&id.to_le_bytes()[..], &flags.to_le_bytes(), &count.to_le_bytes(), &[0; 4]].concat()
}

fn le32(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap().to_le_bytes()
}

/// Whole pages, with the number of overflow pages in the header.
fn padded(mut page: Vec<u8>) -> Vec<u8> {
    let pages = page.len().div_ceil(PAGE);
    page[12..16].copy_from_slice(&le32(pages - 1));
    page.resize(pages * PAGE, 0);
    page
}

/// What a walk through all pages has shown.
#[derive(Default)]
pub(super) struct Shown {
    pub(super) model: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>,
    pub(super) nested: Vec<Vec<u8>>,
    pub(super) skipped: usize,
    pub(super) bytes: u64,
    bucket: Vec<u8>,
}

impl Visitor for Shown {
    fn bucket(&mut self, name: &[u8], _place: Place) {
        self.model.insert(name.to_vec(), BTreeMap::new());
        self.bucket = name.to_vec();
    }

    fn entry(&mut self, key: &[u8], value: &[u8], _place: Place) {
        self.model.entry(self.bucket.clone()).or_default().insert(key.to_vec(), value.to_vec());
    }

    fn nested(&mut self, name: &[u8], _place: Place) {
        self.nested.push(name.to_vec());
    }

    fn skipped(&mut self) {
        self.skipped += 1;
    }

    fn read(&mut self, bytes: u64) {
        self.bytes += bytes;
    }
}

#[derive(Clone, PartialEq, Message)]
struct Ids {
    #[prost(uint64, optional, tag = "1")]
    member: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    cluster: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct Raw {
    #[prost(int64, optional, tag = "1")]
    kind: Option<i64>,
    #[prost(uint32, optional, tag = "2")]
    crc: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "3")]
    data: Option<Vec<u8>>,
}

/// The beginning of a file of the log: checksum, ids, an entry, and a zero tail.
pub(super) fn wal_file(previous_crc: u32, member: u64, cluster: u64) -> Vec<u8> {
    wal(previous_crc, member, cluster, Some(b"an entry".to_vec()))
}

/// The first file of a log that nothing was written to: checksum, ids, the snapshot of index 0 and term
/// 0 as etcd writes it, and a zero tail.
pub(super) fn blank_wal_file(member: u64, cluster: u64) -> Vec<u8> {
    wal(0, member, cluster, None)
}

fn wal(previous_crc: u32, member: u64, cluster: u64, entry: Option<Vec<u8>>) -> Vec<u8> {
    let ids = Ids { member: Some(member), cluster: Some(cluster) }.encode_to_vec();
    let mut crc = Crc32c::continued(previous_crc);
    crc.update(&ids);
    let head = [frame(4, previous_crc, None), frame(1, crc.value(), Some(ids))].concat();
    let (kind, data) = entry.map_or((5, vec![0x08, 0, 0x10, 0]), |entry| (2, entry));
    crc.update(&data);
    [head, frame(kind, crc.value(), Some(data)), vec![0; 512]].concat()
}

/// A record in its frame.
pub(super) fn frame(kind: i64, crc: u32, data: Option<Vec<u8>>) -> Vec<u8> {
    let mut record = Raw { kind: Some(kind), crc: Some(crc), data }.encode_to_vec();
    let length = record.len() as u64;
    let padding = (8 - length % 8) % 8;
    let head = if padding == 0 { length } else { length | (0x80 | padding) << 56 };
    record.resize(record.len().next_multiple_of(8), 0);
    [head.to_le_bytes().to_vec(), record].concat()
}

/// Text pairs as a bucket's content.
pub(super) fn pairs(of: &[(&str, &str)]) -> Pairs {
    of.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

/// A backend as etcd 3.6 lays it out, at this raft index, with two voters (a1, b2) and a learner (c3).
pub(super) fn backend(consistent_index: u64, keys: usize) -> Vec<u8> {
    let member = |id: u64, learner: bool| {
        let text = format!(
            r#"{{"id":{id},"peerURLs":["https://{id}.test:2380"],"isLearner":{learner},"name":"m{id}","clientURLs":null}}"#
        );
        (format!("{id:x}").into_bytes(), text.into_bytes())
    };
    let key = |number: usize| (format!("key {number:05}").into_bytes(), vec![7; 100]);
    bolt_file(&[
        ("cluster", Form::Inline, pairs(&[("clusterVersion", "3.6.0")])),
        ("key", Form::Branch(20), (0..keys).map(key).collect()),
        ("members", Form::Leaf, vec![member(0xa1, false), member(0xb2, false), member(0xc3, true)]),
        ("members_removed", Form::Inline, pairs(&[("d4", "removed")])),
        (
            "meta",
            Form::Inline,
            vec![
                (b"consistent_index".to_vec(), consistent_index.to_be_bytes().to_vec()),
                (b"storageVersion".to_vec(), b"3.6.0".to_vec()),
            ],
        ),
    ])
}

/// Writes a file and the directories above it.
pub(super) fn put(root: &Path, name: &str, bytes: &[u8]) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}
