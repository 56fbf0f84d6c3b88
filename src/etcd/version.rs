//! etcd's versions: which one may open this data, join this cluster, follow that release.
//!
//! etcd supports one minor release at a time, upwards and (from 3.6) downwards; everything else ends in
//! a panic of the new binary or in members that refuse each other. Asking before the start turns that
//! into a sentence (docs/contract.md#versions).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `major.minor.patch`, as binaries, `/version` and the disk write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EtcdVersion {
    /// Major release.
    pub major: u16,
    /// Minor release: the unit of upgrades.
    pub minor: u16,
    /// Patch; cluster and storage versions always say 0.
    pub patch: u16,
}

/// Why a text is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an etcd version (major.minor.patch)")]
pub struct NoVersion(String);

impl EtcdVersion {
    /// `major.minor.patch`.
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }

    /// Major and minor release, which is all that compatibility asks for.
    pub const fn line(self) -> (u16, u16) {
        (self.major, self.minor)
    }

    /// How many minor releases `self` is above `other`; `None` across major releases.
    fn minors_above(self, other: Self) -> Option<i32> {
        (self.major == other.major).then(|| i32::from(self.minor) - i32::from(other.minor))
    }

    /// A cluster that has not yet heard of all its members says 3.0: it has not decided.
    const fn is_undecided(self) -> bool {
        self.major == 3 && self.minor == 0
    }
}

impl fmt::Display for EtcdVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for EtcdVersion {
    type Err = NoVersion;

    /// Reads `3.6.16`; a pre-release or build suffix (`3.7.0-rc.1`) is dropped, since compatibility
    /// does not depend on it.
    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let bare = text.split(['-', '+']).next().unwrap_or_default();
        let mut numbers = bare.split('.').map(|part| {
            // u16's own parser would accept a leading plus sign.
            if part.bytes().all(|byte| byte.is_ascii_digit()) { part.parse::<u16>().ok() } else { None }
        });
        match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
            (Some(Some(major)), Some(Some(minor)), Some(Some(patch)), None) => {
                Ok(Self { major, minor, patch })
            }
            _ => Err(NoVersion(text.to_owned())),
        }
    }
}

impl TryFrom<String> for EtcdVersion {
    type Error = NoVersion;

    fn try_from(text: String) -> Result<Self, NoVersion> {
        text.parse()
    }
}

impl From<EtcdVersion> for String {
    fn from(version: EtcdVersion) -> Self {
        version.to_string()
    }
}

/// Why a binary must not start on this data or in this cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Incompatible {
    /// The data or the cluster is of a later release.
    TooOld {
        /// The binary.
        binary: EtcdVersion,
        /// The data's or the cluster's version.
        found: EtcdVersion,
    },
    /// The data or the cluster is more than one minor release behind.
    TooNew {
        /// The binary.
        binary: EtcdVersion,
        /// The data's or the cluster's version.
        found: EtcdVersion,
    },
    /// One minor release behind, but on a patch from which the step is known to go wrong.
    PatchFirst {
        /// The binary.
        binary: EtcdVersion,
        /// The version that some member still runs.
        found: EtcdVersion,
        /// The least patch every member must have run once.
        least: EtcdVersion,
    },
    /// The log holds an entry that the binary does not read any more.
    OldRequest {
        /// The binary.
        binary: EtcdVersion,
        /// Raft index of the first.
        index: u64,
    },
}

impl Incompatible {
    /// The way that leads there, as a sentence without a full stop.
    pub fn supported_path(&self) -> String {
        match self {
            Self::TooOld { binary, found }
                if found.major == binary.major && found.minor == binary.minor + 1 =>
            {
                format!(
                    "deploy an etcd {}.{} again; a step down from {}.{} needs etcd's own downgrade procedure first",
                    found.major, found.minor, found.major, found.minor
                )
            }
            Self::TooOld { found, .. } => {
                format!("deploy an etcd {}.{} again", found.major, found.minor)
            }
            Self::TooNew { binary, found } if binary.major == found.major => {
                let lines: Vec<String> = (found.minor..=binary.minor)
                    .map(|minor| match least_patch_before(EtcdVersion::new(binary.major, minor + 1, 0)) {
                        Some(least) if minor < binary.minor && minor > found.minor => {
                            format!("{least} or later")
                        }
                        _ => format!("{}.{minor}", binary.major),
                    })
                    .collect();
                format!("upgrade one minor release at a time: {}", lines.join(" → "))
            }
            Self::TooNew { binary, found } => {
                format!("there is no step from etcd {found} to {binary}: restore a snapshot instead")
            }
            Self::OldRequest { .. } => {
                "deploy etcd_version \"3.6\" with a small snapshot_count (100), write more than that, and then go on to 3.7: a start reads only what lies behind the newest snapshot".to_owned()
            }
            Self::PatchFirst { binary, found, least } => format!(
                "run every member once on {least} or a later {}.{}, then upgrade to {}.{}",
                found.major, found.minor, binary.major, binary.minor
            ),
        }
    }
}

/// The least patch of the minor release below `target` from which upstream supports the step to it;
/// `None` where any patch will do.
pub fn least_patch_before(target: EtcdVersion) -> Option<EtcdVersion> {
    match target.line() {
        // 3.5.26 cleans membership data that 3.6 would trust and older 3.5 wrote wrongly.
        (3, 6) => Some(EtcdVersion::new(3, 5, 26)),
        (3, 7) => Some(EtcdVersion::new(3, 6, 11)),
        _ => None,
    }
}

/// May `binary` open data whose storage or cluster version is `found`? Undecided (3.0) and absent
/// versions stand in nobody's way: a cluster says 3.0 until it has heard of all members.
pub fn may_open(binary: EtcdVersion, found: EtcdVersion) -> Result<(), Incompatible> {
    if found.is_undecided() {
        return Ok(());
    }
    match binary.minors_above(found) {
        Some(0 | 1) => Ok(()),
        Some(above) if above > 1 => Err(Incompatible::TooNew { binary, found }),
        None if binary > found => Err(Incompatible::TooNew { binary, found }),
        Some(_) | None => Err(Incompatible::TooOld { binary, found }),
    }
}

/// May `binary` run in a cluster of version `cluster` whose members run `servers`? The servers matter
/// for the step to the next minor release only: each one still below must be on a patch from which the
/// step is supported.
pub fn may_join(
    binary: EtcdVersion,
    cluster: Option<EtcdVersion>,
    servers: impl IntoIterator<Item = EtcdVersion>,
) -> Result<(), Incompatible> {
    if let Some(cluster) = cluster {
        may_open(binary, cluster)?;
    }
    let Some(least) = least_patch_before(binary) else { return Ok(()) };
    match servers.into_iter().find(|server| server.line() == least.line() && *server < least) {
        Some(found) => Err(Incompatible::PatchFirst { binary, found, least }),
        None => Ok(()),
    }
}

/// Whether `binary` still reads what etcd up to 3.5 wrote into the log (seen with 3.7.3: it panics).
pub fn reads_old_requests(binary: EtcdVersion) -> bool {
    binary < EtcdVersion::new(3, 7, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v(text: &str) -> EtcdVersion {
        text.parse().unwrap()
    }

    #[test]
    fn versions_are_read_and_ordered_by_number() {
        assert_eq!(v("3.6.16"), EtcdVersion::new(3, 6, 16));
        assert_eq!(v("3.7.0-rc.1+x"), EtcdVersion::new(3, 7, 0));
        assert!(v("3.10.0") > v("3.9.9"));
        for wrong in ["", "3", "3.6", "3.6.x", "3.6.+1", "3.6.1.1", "not_decided", "3.6.70000", "v3.6.1"] {
            assert!(wrong.parse::<EtcdVersion>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_minor_step_up_is_allowed_and_nothing_else_changes_the_line() {
        use Incompatible::{TooNew, TooOld};
        let (old, new) = (v("3.5.30"), v("3.6.16"));
        assert_eq!(may_open(new, v("3.6.0")), Ok(()));
        assert_eq!(may_open(new, v("3.5.0")), Ok(()));
        assert_eq!(may_open(new, v("3.4.0")), Err(TooNew { binary: new, found: v("3.4.0") }));
        assert_eq!(may_open(old, v("3.6.0")), Err(TooOld { binary: old, found: v("3.6.0") }));
        assert_eq!(may_open(new, v("4.0.0")), Err(TooOld { binary: new, found: v("4.0.0") }));
        assert_eq!(may_open(new, v("2.3.0")), Err(TooNew { binary: new, found: v("2.3.0") }));
    }

    /// A first boot that died before all members had reported leaves 3.0 on the disk.
    #[test]
    fn an_undecided_cluster_version_stands_in_nobodys_way() {
        assert_eq!(may_open(v("3.6.16"), v("3.0.0")), Ok(()));
        assert_eq!(may_join(v("3.6.16"), None, []), Ok(()));
    }

    #[test]
    fn the_step_up_waits_until_every_member_runs_a_patch_that_supports_it() {
        let new = v("3.6.16");
        assert_eq!(may_join(new, Some(v("3.5.0")), [v("3.5.26"), v("3.5.30"), v("3.6.16")]), Ok(()));
        assert_eq!(
            may_join(new, Some(v("3.5.0")), [v("3.5.30"), v("3.5.25")]),
            Err(Incompatible::PatchFirst { binary: new, found: v("3.5.25"), least: v("3.5.26") })
        );
        assert_eq!(may_join(v("3.5.30"), Some(v("3.5.0")), [v("3.5.1")]), Ok(()));
    }

    #[test]
    fn every_refusal_names_the_way() {
        let path = |binary: &str, found: &str| may_open(v(binary), v(found)).unwrap_err().supported_path();
        assert_eq!(
            path("3.7.1", "3.4.0"),
            "upgrade one minor release at a time: 3.4 → 3.5.26 or later → 3.6.11 or later → 3.7"
        );
        assert_eq!(
            path("3.6.1", "3.4.0"),
            "upgrade one minor release at a time: 3.4 → 3.5.26 or later → 3.6"
        );
        assert_eq!(
            path("3.5.1", "3.6.0"),
            "deploy an etcd 3.6 again; a step down from 3.6 needs etcd's own downgrade procedure first"
        );
        assert_eq!(path("3.4.1", "3.6.0"), "deploy an etcd 3.6 again");
        assert_eq!(
            path("3.6.1", "2.3.0"),
            "there is no step from etcd 2.3.0 to 3.6.1: restore a snapshot instead"
        );
        let too_early = may_join(v("3.6.1"), None, [v("3.5.9")]).unwrap_err();
        assert_eq!(
            too_early.supported_path(),
            "run every member once on 3.5.26 or a later 3.5, then upgrade to 3.6"
        );
    }

    proptest! {
        #[test]
        fn printing_and_parsing_are_inverse(major: u16, minor: u16, patch: u16) {
            let version = EtcdVersion::new(major, minor, patch);
            prop_assert_eq!(version.to_string().parse::<EtcdVersion>(), Ok(version));
        }

        #[test]
        fn parsing_never_panics(text: String) {
            let _ = text.parse::<EtcdVersion>();
        }

        #[test]
        fn whatever_may_open_may_also_join_alone(a in 0u16..9, b in 0u16..9) {
            let (binary, found) = (EtcdVersion::new(3, a, 1), EtcdVersion::new(3, b, 0));
            prop_assert_eq!(may_open(binary, found), may_join(binary, Some(found), []));
            if let Err(why) = may_open(binary, found) {
                prop_assert!(!why.supported_path().is_empty());
            }
        }
    }
}
