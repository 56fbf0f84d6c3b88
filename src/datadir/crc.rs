//! CRC-32C (Castagnoli), which guards etcd's write-ahead log and snapshot files.
//!
//! Why not a crate: a start reads tens of bytes, and twenty safe lines do that; the fast crates are
//! `unsafe` for the sake of gigabytes. Whoever validates whole logs may measure again.

/// The polynomial, lowest bit first.
const POLYNOMIAL: u32 = 0x82F6_3B78;

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "try_from is not const, and 255 fits")]
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

/// A running checksum; starts from nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Crc32c(u32);

impl Crc32c {
    /// Continues from a value that was written down.
    pub fn continued(value: u32) -> Self {
        Self(value)
    }

    /// Takes in more data.
    pub fn update(&mut self, data: &[u8]) {
        let step = |crc: u32, byte: &u8| {
            let [low, ..] = crc.to_le_bytes();
            TABLE[usize::from(low ^ byte)] ^ (crc >> 8)
        };
        self.0 = !data.iter().fold(!self.0, step);
    }

    /// The checksum so far.
    pub fn value(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_is_the_published_one() {
        let mut crc = Crc32c::default();
        crc.update(b"1234");
        let mut crc = Crc32c::continued(crc.value());
        crc.update(b"56789");
        assert_eq!(crc.value(), 0xE306_9283);
    }
}
