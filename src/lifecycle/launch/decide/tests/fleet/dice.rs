//! Reproducible randomness.

/// The splitmix64 generator.
pub(in super::super) struct Dice(pub(in super::super) u64);

impl Dice {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(in super::super) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("below a usize")
    }

    pub(in super::super) fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    /// Takes one out.
    pub(super) fn draw<T>(&mut self, from: &mut Vec<T>) -> T {
        from.swap_remove(self.below(from.len()))
    }
}
