//! `limits.memory` as bpm reads it, at a start and not before: `512M`, `1.5G`, `64MiB`.

/// bpm's words for a size it cannot read.
pub const UNREADABLE: &str =
    "byte quantity must be a positive integer with a unit of measurement like M, MB, MiB, G, GiB, or GB";

/// The number of bytes a text means, each unit 1024 of the smaller one; `None` if it cannot be read. A unit is
/// required. Zero is read, and limits nothing.
pub fn bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_uppercase();
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
    let power = match unit {
        "B" => 0,
        "K" | "KB" | "KIB" => 1,
        "M" | "MB" | "MIB" => 2,
        "G" | "GB" | "GIB" => 3,
        "T" | "TB" | "TIB" => 4,
        "P" | "PB" | "PIB" => 5,
        "E" | "EB" | "EIB" => 6,
        _ => return None,
    };
    let number: f64 = number.parse().ok().filter(|number: &f64| *number >= 0.0)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, and is not negative"
    )]
    let bytes = (number * f64::from(1024_u16).powi(power)) as u64;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line was put to bpm itself, with the same outcome.
    #[test]
    fn sizes_are_read_as_bpm_reads_them() {
        const MIB: u64 = 1 << 20;
        for (text, meant) in [
            ("64M", 64 * MIB),
            ("64m", 64 * MIB),
            ("64MB", 64 * MIB),
            ("64Mb", 64 * MIB),
            ("64MiB", 64 * MIB),
            (" 64M ", 64 * MIB),
            ("67108864B", 64 * MIB),
            ("131072K", 128 * MIB),
            ("1.5G", 1536 * MIB),
            ("1T", MIB * MIB),
            ("0M", 0),
        ] {
            assert_eq!(bytes(text), Some(meant), "{text}");
        }
        for text in [
            "", "0", "512", "lots", "M", "-1M", "64 M", " 64 mib ", "64MBs", "64KiBs", "1e3M", "0x10M",
            "inf M",
        ] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
