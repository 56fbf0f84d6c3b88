//! How many writes go into one transaction. Pure.

/// etcd's own default of `--max-txn-ops`.
const WRITES_MAX: usize = 128;
/// Below etcd's default of `--max-request-bytes`, with room for what is around keys and values.
const BYTES_MAX: usize = 1 << 20;
/// What a write takes besides keys and values: numbers, lengths and kinds of a comparison and a write.
const AROUND: usize = 64;

/// Writes that are collected for one transaction.
#[derive(Debug)]
pub struct Batch<T> {
    writes: Vec<T>,
    bytes: usize,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self { writes: Vec::new(), bytes: 0 }
    }
}

/// What a write takes of a transaction: its key stands in the comparison as well.
pub fn weight(key: &[u8], value: &[u8]) -> usize {
    2 * key.len() + value.len() + AROUND
}

impl<T> Batch<T> {
    /// Adds a write; what was collected before comes back when it has no room beside it. One that is too large for any
    /// company goes alone.
    pub fn add(&mut self, write: T, weight: usize) -> Option<Vec<T>> {
        let full = self.writes.len() == WRITES_MAX || self.bytes + weight > BYTES_MAX;
        let ready = if full { self.take() } else { None };
        self.writes.push(write);
        self.bytes += weight;
        ready
    }

    /// What is left; `None` if that is nothing.
    pub fn take(&mut self) -> Option<Vec<T>> {
        self.bytes = 0;
        Some(std::mem::take(&mut self.writes)).filter(|writes| !writes.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(weights: &[usize]) -> Vec<usize> {
        let mut batch = Batch::default();
        let mut all: Vec<usize> = weights
            .iter()
            .filter_map(|weight| batch.add(*weight, *weight))
            .map(|writes| writes.len())
            .collect();
        all.extend(batch.take().map(|writes| writes.len()));
        assert_eq!(all.iter().sum::<usize>(), weights.len());
        all
    }

    #[test]
    fn a_transaction_has_as_many_writes_and_bytes_as_etcd_takes() {
        let mib = 1 << 20;
        for (what, weights, wanted) in [
            ("nothing", vec![], vec![]),
            ("as many as there may be", vec![1; 128], vec![128]),
            ("one more", vec![1; 129], vec![128, 1]),
            ("as many bytes as there may be", vec![mib / 2, mib / 2], vec![2]),
            ("one byte more", vec![mib / 2, mib / 2 + 1], vec![1, 1]),
            ("one that is too large for company", vec![10, 2 * mib, 10, 10], vec![1, 1, 2]),
        ] {
            assert_eq!(batches(&weights), wanted, "{what}");
        }
    }

    #[test]
    fn a_key_weighs_twice_because_it_is_compared() {
        assert_eq!(weight(b"key", b"value"), 2 * 3 + 5 + AROUND);
    }
}
