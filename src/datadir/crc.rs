//! CRC-32C (Castagnoli), which guards etcd's write-ahead log and snapshot files.

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
        self.0 = crc32c::crc32c_append(self.0, data);
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
