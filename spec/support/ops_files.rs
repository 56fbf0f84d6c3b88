//! Which ops files belong together.

/// Whether two ops files cannot be given together. A deployment is taken over from one release only, goes on to be
/// called as it was, keeps its disks, and shares its links as before.
pub(crate) fn are_exclusive(one: &str, other: &str) -> bool {
    let takes_over = |file: &str| file.starts_with("migrate-from-");
    let says_otherwise = |file: &str| {
        ["static-ips", "trust-two-", "issue-from-", "raise-limits"].iter().any(|name| file.starts_with(name))
    };
    let exclude = |one: &str, other: &str| {
        takes_over(one) && (takes_over(other) || says_otherwise(other))
            || (one, other) == ("migrate-from-jfmyers9-etcd-release.yml", "share-links.yml")
    };
    exclude(one, other) || exclude(other, one)
}
