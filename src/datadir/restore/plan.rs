//! What is changed in a restored database besides its members: the revision, the marks of compaction, the versions.

use std::collections::BTreeMap;

use super::error::RestoreError;
use super::facts::Facts;
use crate::datadir::seed::Changes;
use crate::etcd::version::EtcdVersion;

/// The first version that writes down which layout the database has.
const FIRST_STORAGE_VERSION: (u16, u16) = (3, 6);

/// The changes that were asked for.
pub(super) fn changes(
    facts: &Facts,
    bump: Option<u64>,
    target: Option<EtcdVersion>,
) -> Result<Changes, RestoreError> {
    let mut changes = Changes::default();
    if let Some(by) = bump {
        let key = revision_key(raised(facts, by)?);
        changes.meta.insert("scheduledCompactRev", Some(key.clone()));
        changes.last_key = Some(key);
    }
    if let Some(target) = target {
        lower(facts, EtcdVersion::new(target.major, target.minor, 0), &mut changes)?;
    }
    Ok(changes)
}

/// The revision after raising it.
pub(super) fn raised(facts: &Facts, by: u64) -> Result<i64, RestoreError> {
    facts
        .revision
        .checked_add_unsigned(by)
        .ok_or(RestoreError::RevisionTooHigh { revision: facts.revision, by })
}

/// etcd refuses data of a later minor release than its own. What a later one has added is taken away: of all layouts so
/// far that is the version of the layout itself.
fn lower(facts: &Facts, target: EtcdVersion, changes: &mut Changes) -> Result<(), RestoreError> {
    if let Some(found) = facts.cluster_version.filter(|found| target > *found) {
        return Err(RestoreError::NotLower { found, target });
    }
    let text = || Some(target.to_string().into_bytes());
    let mut cluster = BTreeMap::new();
    if facts.cluster_version.is_some_and(|found| found > target) {
        cluster.insert("clusterVersion", text());
    }
    if facts.downgrade {
        // It is done now.
        cluster.insert("downgrade", None);
    }
    changes.cluster = cluster;
    if facts.storage_version.is_some_and(|found| found > target) {
        let kept = if target.line() >= FIRST_STORAGE_VERSION { text() } else { None };
        changes.meta.insert("storageVersion", kept);
    }
    Ok(())
}

/// A revision as bucket `key` and the marks of compaction have it: main and sub, big-endian.
fn revision_key(main: i64) -> Vec<u8> {
    [&main.to_be_bytes()[..], b"_", &[0; 8]].concat()
}
