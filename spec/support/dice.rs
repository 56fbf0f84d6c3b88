//! A sequence of numbers that a seed decides (splitmix64).

#[derive(Debug, Clone)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// From 0 up to, and without, this.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end.max(1)
    }

    /// One of these, if there are any.
    pub(crate) fn pick<T: Clone>(&mut self, some: &[T]) -> Option<T> {
        let at = usize::try_from(self.below(some.len() as u64)).expect("a place in a list");
        some.get(at).cloned()
    }
}
