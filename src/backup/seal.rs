//! The hash that a manifest has of itself, as its last line (docs/backup-format.md#seal): what tells which object is
//! the right one must not change unseen either.

use bytes::Bytes;
use ring::digest::{SHA256, digest};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::job::config::hex;

const BEFORE: &str = ",\n  \"sha256\": \"";
const BEHIND: &str = "\"\n}\n";

/// A manifest as it lies in the store: for people as well.
pub fn sealed<T: Serialize>(manifest: &T) -> Bytes {
    let text = serde_json::to_string_pretty(manifest).expect("a manifest has only texts for names");
    let body = text.strip_suffix("\n}").expect("a manifest is an object with fields");
    let sum = hex(digest(&SHA256, body.as_bytes()).as_ref());
    Bytes::from(format!("{body}{BEFORE}{sum}{BEHIND}"))
}

/// Reads a manifest. Errors: what is wrong with it.
pub fn opened<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let sealed = text.strip_suffix(BEHIND).and_then(|text| text.rsplit_once(BEFORE));
    let Some((body, told)) = sealed else { return Err("it does not end with a hash of itself".to_owned()) };
    let sum = hex(digest(&SHA256, body.as_bytes()).as_ref());
    if sum != told {
        return Err(format!("it has the hash {sum} where it says {told}"));
    }
    serde_json::from_str(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn any_byte_that_changes_is_seen() {
        let manifest = json!({"version": 1, "set": "a", "of": {"b": [1, 2]}});
        let bytes = sealed(&manifest);
        let mut read: Value = opened(&bytes).unwrap();
        read.as_object_mut().unwrap().remove("sha256");
        assert_eq!(read, manifest);

        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1;
            assert!(opened::<Value>(&changed).is_err(), "byte {at}");
            assert!(opened::<Value>(&bytes[..at]).is_err(), "cut at {at}");
        }
        assert!(opened::<Value>(b"{}").unwrap_err().contains("does not end with a hash"));
    }
}
