//! Many keys: a range page by page, and changes in bounded transactions.

use std::time::Duration;

use etcd_client::{Compare, CompareOp, GetOptions, PutOptions, Txn, TxnOp};

use super::{EtcdClient, EtcdError};

/// A member has so long for a page or a transaction: both may wait for its disk.
const PAGE_WITHIN: Duration = Duration::from_mins(1);
/// What a page should weigh. etcd takes a number of keys, and not of bytes: it is learned on the way.
const PAGE_BYTES: usize = 1 << 20;
/// What is let in before a smaller page is asked for.
const PAGE_BYTES_MAX: usize = 16 << 20;
/// One key alone may be as large as an operator's `--max-request-bytes`.
const KEY_BYTES_MAX: usize = 128 << 20;
/// As many as etcd's own mirror asks for.
const PAGE_KEYS_MAX: i64 = 1_000;
/// Before anything is known.
const PAGE_KEYS_FIRST: i64 = 32;

/// A key with what hangs on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// Its lease; 0 = none.
    pub lease: i64,
    /// The revision that wrote it.
    pub mod_revision: i64,
}

/// Some keys that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In their order.
    pub pairs: Vec<Pair>,
    /// How many keys there are from the first of this page to the end of the range.
    pub remaining: u64,
}

/// Which keys, as etcd names them: from one key up to, and without, another; `\0` is the end of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The first key.
    pub from: Vec<u8>,
    /// The first key that is not meant.
    pub end: Vec<u8>,
}

impl Span {
    /// All keys that begin with this; with nothing, all keys.
    pub fn prefix(prefix: &[u8]) -> Self {
        if prefix.is_empty() {
            return Self { from: vec![0], end: vec![0] };
        }
        let mut end = prefix.to_vec();
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                break;
            }
        }
        if end.is_empty() {
            end.push(0);
        }
        Self { from: prefix.to_vec(), end }
    }
}

/// Goes through a range at one revision, or as it is from page to page.
#[derive(Debug, Clone)]
pub struct Pages {
    /// What is left; `None`: nothing.
    rest: Option<Span>,
    /// 0 = as it is now.
    revision: i64,
    keys: i64,
}

impl Pages {
    /// At a revision which the member that is asked has applied already.
    pub fn at(span: Span, revision: i64) -> Self {
        Self { rest: Some(span), revision, keys: PAGE_KEYS_FIRST }
    }

    /// As the cluster has it at the time of each page.
    pub fn now(span: Span) -> Self {
        Self::at(span, 0)
    }

    /// The next page; `None` behind the last one. The same again after an error.
    pub async fn next(&mut self, client: &mut EtcdClient) -> Result<Option<Page>, EtcdError> {
        while let Some(span) = &self.rest {
            match client.page(span, self.revision, self.keys).await {
                Ok((page, more)) => {
                    let bytes: usize = page.pairs.iter().map(|pair| pair.key.len() + pair.value.len()).sum();
                    self.keys = keys_of_next(self.keys, page.pairs.len(), bytes);
                    let last = page.pairs.last().filter(|_| more);
                    self.rest = last.map(|last| Span {
                        // The smallest key behind it.
                        from: [last.key.as_slice(), &[0]].concat(),
                        end: span.end.clone(),
                    });
                    return Ok(Some(page).filter(|page| !page.pairs.is_empty()));
                }
                Err(EtcdError::TooLarge(_)) if self.keys > 1 => self.keys = (self.keys / 8).max(1),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

/// How many keys to ask for next: what the last ones let expect, and never four times as many at once, because the next
/// ones may be larger.
fn keys_of_next(asked: i64, got: usize, bytes: usize) -> i64 {
    let each = (bytes / got.max(1)).max(1);
    let fit = i64::try_from(PAGE_BYTES / each).unwrap_or(PAGE_KEYS_MAX);
    fit.min(asked * 4).clamp(1, PAGE_KEYS_MAX)
}

/// A key to be written, if it is still as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// The key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// Its lease; 0 = none.
    pub lease: i64,
    /// The revision that wrote what is there; 0 = nothing is there.
    pub seen: i64,
}

impl EtcdClient {
    async fn page(&mut self, span: &Span, revision: i64, keys: i64) -> Result<(Page, bool), EtcdError> {
        let mut options =
            GetOptions::new().with_range(span.end.clone()).with_revision(revision).with_limit(keys);
        // What lies in the past is the same at every member that has applied it.
        if revision > 0 {
            options = options.with_serializable();
        }
        let bytes_max = if keys == 1 { KEY_BYTES_MAX } else { PAGE_BYTES_MAX };
        let mut client = self.inner.kv_client().max_decoding_message_size(bytes_max);
        let asked = client.get(span.from.clone(), Some(options));
        let mut answer = Self::bounded(PAGE_WITHIN, asked).await?;
        let (more, remaining) = (answer.more(), answer.count().max(0).cast_unsigned());
        let pairs = answer.take_kvs().into_iter().map(|pair| {
            let (lease, mod_revision) = (pair.lease(), pair.mod_revision());
            let (key, value) = pair.into_key_value();
            Pair { key, value, lease, mod_revision }
        });
        Ok((Page { pairs: pairs.collect(), remaining }, more))
    }

    /// The cluster's revision, through consensus, for whoever may read these keys: the member that is asked has applied
    /// everything up to it.
    pub async fn revision_of(&mut self, span: &Span) -> Result<i64, EtcdError> {
        let options = GetOptions::new().with_range(span.end.clone()).with_keys_only().with_limit(1);
        let asked = self.inner.get(span.from.clone(), Some(options));
        let answer = Self::bounded(PAGE_WITHIN, asked).await?;
        Ok(answer.header().map_or(0, etcd_client::ResponseHeader::revision))
    }

    /// How many keys there are at a revision, which this member has applied and not compacted.
    pub async fn count_at(&mut self, revision: i64) -> Result<u64, EtcdError> {
        let span = Span::prefix(b"");
        let options = GetOptions::new().with_range(span.end).with_count_only().with_revision(revision);
        let asked = self.inner.get(span.from, Some(options.with_serializable()));
        Ok(Self::bounded(PAGE_WITHIN, asked).await?.count().max(0).cast_unsigned())
    }

    /// Writes all of these keys at one revision, or none of them: `false` if one is no longer as it was seen.
    pub async fn put_all(&mut self, puts: &[&Put]) -> Result<bool, EtcdError> {
        let compares = puts.iter().map(|put| Compare::mod_revision(&*put.key, CompareOp::Equal, put.seen));
        let writes = puts.iter().map(|put| TxnOp::put(&*put.key, &*put.value, options(put)));
        let txn = Txn::new().when(compares.collect::<Vec<_>>()).and_then(writes.collect::<Vec<_>>());
        Ok(Self::bounded(PAGE_WITHIN, self.inner.txn(txn)).await?.succeeded())
    }

    /// Writes one key, whatever is there: a request that is a little smaller than a transaction.
    pub async fn put_one(&mut self, put: &Put) -> Result<(), EtcdError> {
        let asked = self.inner.put(&*put.key, &*put.value, options(put));
        Self::bounded(PAGE_WITHIN, asked).await.map(|_| ())
    }
}

fn options(put: &Put) -> Option<PutOptions> {
    Some(put.lease).filter(|lease| *lease != 0).map(|lease| PutOptions::new().with_lease(lease))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_no_key_can_begin_with_it() {
        for (prefix, from, end) in [
            (&b""[..], &b"\0"[..], &b"\0"[..]),
            (b"a", b"a", b"b"),
            (b"/registry/", b"/registry/", b"/registry0"),
            (b"a\xff", b"a\xff", b"b"),
            (b"\xff\xff", b"\xff\xff", b"\0"),
        ] {
            let wanted = Span { from: from.to_vec(), end: end.to_vec() };
            assert_eq!(Span::prefix(prefix), wanted, "{}", prefix.escape_ascii());
        }
    }

    #[test]
    fn pages_grow_slowly_and_shrink_at_once() {
        for (asked, got, bytes, next) in [
            (32, 32, 32 * 100, 128),
            (1_000, 1_000, 100_000, 1_000),
            (1_000, 1_000, 1_000 * 10_000, 104),
            (128, 128, 128 << 20, 1),
            (4, 1, 4 << 20, 1),
            // Nothing was there.
            (32, 0, 0, 128),
        ] {
            assert_eq!(keys_of_next(asked, got, bytes), next, "{asked} {got} {bytes}");
        }
    }
}
