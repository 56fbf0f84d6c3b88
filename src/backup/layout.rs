//! Which name each object has (docs/backup-format.md). Names sort by time, and none is ever written twice: each has
//! a part that is random or counts revisions.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::store::is_staged;

/// Below the URL's own path: the layout's version, so that another one can live beside it.
pub const ROOT: &str = "v1";

/// One backup set: a full snapshot and its deltas. `20261126T113800Z-5f3c9a1e`: when it was begun and a random part.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SetId(String);

/// What is no name of a set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no backup set: a name is like 20261126T113800Z-5f3c9a1e")]
pub struct NoSetId(pub String);

impl SetId {
    /// A set begun at that time.
    pub fn new(begun: Timestamp, random: [u8; 4]) -> Self {
        Self(format!("{}-{:08x}", begun.strftime("%Y%m%dT%H%M%SZ"), u32::from_be_bytes(random)))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SetId {
    type Err = NoSetId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shape = |place: usize, byte: u8| match place {
            8 => byte == b'T',
            15 => byte == b'Z',
            16 => byte == b'-',
            17.. => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
            _ => byte.is_ascii_digit(),
        };
        let fits = text.len() == 25 && text.bytes().enumerate().all(|(place, byte)| shape(place, byte));
        if fits { Ok(Self(text.to_owned())) } else { Err(NoSetId(text.to_owned())) }
    }
}

impl TryFrom<String> for SetId {
    type Error = NoSetId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SetId> for String {
    fn from(set: SetId) -> Self {
        set.0
    }
}

/// Where all objects of a set are.
pub fn set_prefix(set: &SetId) -> String {
    format!("{ROOT}/{set}/")
}

/// The manifest of the full snapshot: written last, it makes the set one.
pub fn full_manifest(set: &SetId) -> String {
    format!("{ROOT}/{set}/full.json")
}

/// The full snapshot itself; `suffix` tells what was done to it, such as `.zst.age`.
pub fn full_object(set: &SetId, suffix: &str) -> String {
    format!("{ROOT}/{set}/full.db{suffix}")
}

/// The stem of a delta's two objects. Two writers that cut the same revisions have different random parts.
pub fn delta_stem(set: &SetId, first: i64, last: i64, random: [u8; 4]) -> String {
    format!("{ROOT}/{set}/delta-{first:020}-{last:020}-{:08x}", u32::from_be_bytes(random))
}

/// The manifest of a delta.
pub fn delta_manifest(stem: &str) -> String {
    format!("{stem}.json")
}

/// The delta itself.
pub fn delta_object(stem: &str, suffix: &str) -> String {
    format!("{stem}.delta{suffix}")
}

/// The note of a verification that succeeded.
pub fn verification(set: &SetId, at: Timestamp, random: [u8; 4]) -> String {
    format!("{ROOT}/{set}/verified-{}-{:08x}.json", at.strftime("%Y%m%dT%H%M%SZ"), u32::from_be_bytes(random))
}

/// What a name below [`ROOT`] stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// `full.json`.
    FullManifest(SetId),
    /// `full.db…`.
    FullObject(SetId),
    /// A delta's manifest, by its stem and the revisions in its name.
    DeltaManifest(SetId, DeltaStem),
    /// A delta.
    DeltaObject(SetId, DeltaStem),
    /// The note of a verification, and when it was made.
    Verification(SetId, Timestamp),
    /// Something else in a set's folder.
    Other(SetId),
    /// In no set's folder.
    Foreign,
}

/// The stem of a delta's names, read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeltaStem {
    /// The first revision.
    pub first: i64,
    /// The last revision.
    pub last: i64,
    /// As [`delta_stem`] writes it.
    pub stem: String,
}

/// Reads a name as the store lists it.
pub fn read(name: &str) -> Named {
    let Some((set, file)) = name.strip_prefix(ROOT).and_then(|rest| rest.strip_prefix('/')?.split_once('/'))
    else {
        return Named::Foreign;
    };
    let Ok(set) = set.parse::<SetId>() else { return Named::Foreign };
    // Not all of it may be there.
    if is_staged(file) {
        return Named::Other(set);
    }
    if file == "full.json" {
        return Named::FullManifest(set);
    }
    if file.starts_with("full.db") {
        return Named::FullObject(set);
    }
    let folder = set_prefix(&set);
    let delta = |stem: &str| -> Option<DeltaStem> {
        let mut parts = stem.strip_prefix("delta-")?.splitn(3, '-');
        let (first, last) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        parts.next()?;
        (first <= last).then(|| DeltaStem { first, last, stem: format!("{folder}{stem}") })
    };
    if let Some(stem) = file.strip_suffix(".json").and_then(delta) {
        return Named::DeltaManifest(set, stem);
    }
    if let Some(stem) = file.split_once(".delta").and_then(|(stem, _)| delta(stem)) {
        return Named::DeltaObject(set, stem);
    }
    let note = file.strip_prefix("verified-").and_then(|note| note.strip_suffix(".json"));
    let at = note.and_then(|note| note.split_once('-')).and_then(|(at, _)| {
        let at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", at).ok()?;
        Some(at.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    });
    at.map_or(Named::Other(set.clone()), |at| Named::Verification(set, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_as_what_it_was_made_for() {
        let at: Timestamp = "2026-11-26T11:38:00Z".parse().unwrap();
        let set = SetId::new(at, [1, 2, 3, 4]);
        let stem = delta_stem(&set, 7, 12, [9, 9, 9, 9]);
        let delta = DeltaStem { first: 7, last: 12, stem: stem.clone() };
        for (name, meaning) in [
            (full_manifest(&set), Named::FullManifest(set.clone())),
            (full_object(&set, ".zst.age"), Named::FullObject(set.clone())),
            (delta_manifest(&stem), Named::DeltaManifest(set.clone(), delta.clone())),
            (delta_object(&stem, ""), Named::DeltaObject(set.clone(), delta.clone())),
            (delta_object(&stem, ".zst"), Named::DeltaObject(set.clone(), delta)),
            (verification(&set, at, [0; 4]), Named::Verification(set.clone(), at)),
            (format!("v1/{set}/README"), Named::Other(set.clone())),
            (format!("v1/{set}/full.db.zst#1"), Named::Other(set.clone())),
            (format!("{}#12", delta_object(&stem, ".zst")), Named::Other(set.clone())),
            (format!("v1/{set}/delta-9-7-00000000.json"), Named::Other(set)),
            ("v2/x/full.json".to_owned(), Named::Foreign),
            ("v1/latest/full.json".to_owned(), Named::Foreign),
            ("v1/full.json".to_owned(), Named::Foreign),
        ] {
            assert_eq!(read(&name), meaning, "{name}");
        }
    }

    #[test]
    fn a_set_is_named_by_its_time_and_something_random() {
        let begun: Timestamp = "2026-11-26T11:38:00Z".parse().unwrap();
        let set = SetId::new(begun, [0x5f, 0x3c, 0x9a, 0x1e]);

        assert_eq!(set.as_str(), "20261126T113800Z-5f3c9a1e");
        assert_eq!(set.as_str().parse(), Ok(set.clone()));
        assert_eq!(full_object(&set, ".zst"), "v1/20261126T113800Z-5f3c9a1e/full.db.zst");
    }

    #[test]
    fn other_names_are_no_sets() {
        for name in
            ["", "latest", "20261126T113800Z-5f3c9a1", "20261126T113800Z-5F3C9A1E", "../../etc/passwd"]
        {
            assert_eq!(name.parse::<SetId>(), Err(NoSetId(name.to_owned())));
        }
    }
}
