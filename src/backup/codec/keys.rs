//! Whom backups are encrypted for, and what opens them. Only X25519 keys of age: a passphrase is a secret that every
//! instance would have to hold.

use std::fmt;

use age::x25519::{Identity, Recipient};

use super::CodecError;

/// Public keys, `age1…`.
#[derive(Clone, Default)]
pub struct Recipients {
    keys: Vec<Recipient>,
}

impl Recipients {
    /// Reads them. Errors: which of them is none.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, CodecError> {
        let keys = texts.iter().enumerate().map(|(place, text)| {
            text.as_ref().trim().parse().map_err(|_| CodecError::Key {
                property: "encryption.recipients",
                place: place + 1,
                wanted: "a public key of age, age1…",
            })
        });
        Ok(Self { keys: keys.collect::<Result<_, _>>()? })
    }

    /// Whether there is none: then nothing is encrypted.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// As they are written.
    pub fn texts(&self) -> Vec<String> {
        self.keys.iter().map(ToString::to_string).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &dyn age::Recipient> {
        self.keys.iter().map(|key| key as &dyn age::Recipient)
    }
}

impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.texts()).finish()
    }
}

/// Private keys, `AGE-SECRET-KEY-1…`.
#[derive(Clone, Default)]
pub struct Keys {
    keys: Vec<Identity>,
}

impl Keys {
    /// Reads them, each with or without the comments that `age-keygen` writes around it. Errors: which of them is none.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, CodecError> {
        let mut keys = Vec::new();
        for (place, text) in texts.iter().enumerate() {
            let wrong = CodecError::Key {
                property: "encryption.identities",
                place: place + 1,
                wanted: "a private key of age, AGE-SECRET-KEY-1…",
            };
            let lines = text.as_ref().lines().map(str::trim);
            let before = keys.len();
            for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
                keys.push(line.parse::<Identity>().map_err(|_| wrong.clone())?);
            }
            if keys.len() == before {
                return Err(wrong);
            }
        }
        Ok(Self { keys })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.keys.iter().map(|key| key as &dyn age::Identity)
    }
}

/// How many; never which.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.keys.len())
    }
}
