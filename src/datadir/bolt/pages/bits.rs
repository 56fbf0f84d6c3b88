//! A bit per page: the only thing that grows with the size of a file.

/// Bits that are set one by one.
#[derive(Debug)]
pub(super) struct Bits {
    words: Vec<u64>,
    bits: u64,
}

impl Bits {
    /// So many bits, none set. There are no more of them than the file has pages.
    pub(super) fn new(bits: u64) -> Self {
        let words = usize::try_from(bits.div_ceil(64)).unwrap_or(usize::MAX);
        Self { words: vec![0; words], bits }
    }

    /// Sets a bit; whether it was not set before. One that does not exist counts as set.
    pub(super) fn set(&mut self, bit: u64) -> bool {
        let Some(word) = self.word(bit).and_then(|index| self.words.get_mut(index)) else { return false };
        let mask = 1 << (bit % 64);
        let was_set = *word & mask != 0;
        *word |= mask;
        !was_set
    }

    pub(super) fn get(&self, bit: u64) -> bool {
        self.word(bit).and_then(|index| self.words.get(index)).is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }

    /// How many are set.
    pub(super) fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    fn word(&self, bit: u64) -> Option<usize> {
        (bit < self.bits).then(|| usize::try_from(bit / 64).ok()).flatten()
    }
}
