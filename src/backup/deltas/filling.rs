//! The delta that is being filled. Pure: revisions and a clock in, bytes out.

use bytes::Bytes;
use jiff::Timestamp;
use prost::Message;

use crate::backup::delta::{Change, HEAD, Lease, Record};
use crate::etcd::client::watch::Revision;

/// Bytes that lie together; a delta is a list of these, so that it never has to be copied to grow.
const BLOCK_BYTES: usize = 256 << 10;

/// A delta that is cut: what goes to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The first revision.
    pub first: i64,
    /// The last one.
    pub last: i64,
    /// How many changes of keys.
    pub events: u64,
    /// When the first change arrived.
    pub begun: Timestamp,
    /// When the last one did.
    pub ended: Timestamp,
    /// The content.
    pub content: Vec<Bytes>,
}

/// Revisions are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("revision {found} came where {wanted} should be")]
pub struct Gap {
    /// What should have come.
    pub wanted: i64,
    /// What came.
    pub found: i64,
}

/// Takes one revision after another.
#[derive(Debug)]
pub struct Filling {
    next: i64,
    batch: Option<Batch>,
    block: Vec<u8>,
    bytes: usize,
    /// The clock may be set back; the times in a delta are not.
    clock: Timestamp,
}

impl Filling {
    /// Empty; the next revision is to be this one.
    pub fn new(next: i64) -> Self {
        Self { next, batch: None, block: Vec::new(), bytes: 0, clock: Timestamp::UNIX_EPOCH }
    }

    /// The revision that is wanted.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// How much waits.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the first change arrived that waits here.
    pub fn begun(&self) -> Option<Timestamp> {
        self.batch.as_ref().map(|batch| batch.begun)
    }

    /// Takes a revision, with the leases that it is the first to name. One that is here already is passed over.
    pub fn add(&mut self, revision: &Revision, leases: Vec<Lease>, now: Timestamp) -> Result<(), Gap> {
        if revision.revision < self.next {
            return Ok(());
        }
        if revision.revision > self.next {
            return Err(Gap { wanted: self.next, found: revision.revision });
        }
        self.clock = self.clock.max(now);
        let change = |change: &crate::etcd::client::watch::KeyChange| Change {
            deleted: change.deleted,
            key: change.key.to_vec(),
            value: change.value.to_vec(),
            create_revision: change.create_revision,
            version: change.version,
            lease: change.lease,
        };
        let record = Record {
            revision: revision.revision,
            at_unix_ms: self.clock.as_millisecond(),
            changes: revision.changes.iter().map(change).collect(),
            leases,
        };
        if self.batch.is_none() {
            self.block.extend_from_slice(HEAD);
        }
        let batch = self.batch.get_or_insert_with(|| Batch {
            first: revision.revision,
            last: 0,
            events: 0,
            begun: self.clock,
            ended: self.clock,
            content: Vec::new(),
        });
        let before = self.block.len();
        record.encode_length_delimited(&mut self.block).expect("a vector grows");
        self.bytes += self.block.len() - before;
        batch.last = revision.revision;
        batch.events += revision.changes.len() as u64;
        batch.ended = self.clock;
        if self.block.len() >= BLOCK_BYTES {
            batch.content.push(Bytes::from(std::mem::take(&mut self.block)));
        }
        self.next += 1;
        Ok(())
    }

    /// Everything that waits; `None` = nothing does.
    pub fn cut(&mut self) -> Option<Batch> {
        let mut batch = self.batch.take()?;
        if !self.block.is_empty() {
            batch.content.push(Bytes::from(std::mem::take(&mut self.block)));
        }
        self.bytes = 0;
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::client::watch::KeyChange;

    fn revision(revision: i64, value: usize) -> Revision {
        let change = KeyChange {
            deleted: false,
            key: Bytes::from_static(b"key"),
            value: vec![7; value].into(),
            create_revision: 2,
            version: revision - 1,
            lease: 0,
        };
        Revision { revision, changes: vec![change.clone(), KeyChange { deleted: true, ..change }] }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    /// As a reader goes through it.
    fn records(batch: &Batch) -> Vec<Record> {
        let content = batch.content.concat();
        let mut rest = content.strip_prefix(HEAD.as_slice()).unwrap();
        let mut records = Vec::new();
        while !rest.is_empty() {
            records.push(Record::decode_length_delimited(&mut rest).unwrap());
        }
        records
    }

    #[test]
    fn what_goes_in_comes_out_one_record_for_each_revision() {
        let mut filling = Filling::new(5);
        for number in 5..2_000 {
            filling.add(&revision(number, 300), vec![], at(number)).unwrap();
        }
        let batch = filling.cut().unwrap();

        assert_eq!((batch.first, batch.last, batch.events), (5, 1_999, 2 * 1_995));
        assert_eq!((batch.begun, batch.ended), (at(5), at(1_999)));
        assert!(batch.content.len() > 1);
        let records = records(&batch);
        assert!(records.iter().map(|record| record.revision).eq(5..2_000));
        assert_eq!(records[7].changes[0].version, 11);
        assert!(records[7].changes[1].deleted);

        assert_eq!(filling.cut(), None);
        filling.add(&revision(2_000, 1), vec![Lease { id: 9, seconds: 60 }], at(2_000)).unwrap();
        let next = filling.cut().unwrap();
        assert_eq!((next.first, next.last), (2_000, 2_000));
        assert_eq!(self::records(&next)[0].leases, [Lease { id: 9, seconds: 60 }]);
    }

    #[test]
    fn a_gap_is_an_error_and_what_came_twice_counts_once() {
        let mut filling = Filling::new(5);
        filling.add(&revision(5, 1), vec![], at(0)).unwrap();

        assert_eq!(filling.add(&revision(7, 1), vec![], at(0)), Err(Gap { wanted: 6, found: 7 }));
        filling.add(&revision(5, 1), vec![], at(0)).unwrap();
        filling.add(&revision(6, 1), vec![], at(0)).unwrap();

        assert_eq!(records(&filling.cut().unwrap()).len(), 2);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_turn_the_order_of_times() {
        let mut filling = Filling::new(2);
        filling.add(&revision(2, 1), vec![], at(100)).unwrap();
        filling.add(&revision(3, 1), vec![], at(40)).unwrap();

        let batch = filling.cut().unwrap();

        assert_eq!(batch.ended, at(100));
        assert!(records(&batch).iter().all(|record| record.at_unix_ms == at(100).as_millisecond()));
    }
}
