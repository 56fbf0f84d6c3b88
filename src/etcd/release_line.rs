//! The release lines of etcd that this release runs, and where their binaries lie.

use std::fmt;
use std::str::FromStr;

use super::version::EtcdVersion;

/// A release line: `major.minor`. Upgrades go from one to the next; configuration keys come and go between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReleaseLine {
    /// etcd 3.4, which data of 3.3 needs as its first step.
    V3_4,
    /// etcd 3.5.
    V3_5,
    /// etcd 3.6, which package `etcd` holds.
    V3_6,
    /// etcd 3.7.
    V3_7,
}

/// Which release line was asked for and is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no release line that this release runs: 3.4, 3.5, 3.6 or 3.7")]
pub struct UnknownReleaseLine(String);

impl ReleaseLine {
    /// All of them, oldest first.
    pub const ALL: [Self; 4] = [Self::V3_4, Self::V3_5, Self::V3_6, Self::V3_7];

    /// As the property `etcd_version` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V3_4 => "3.4",
            Self::V3_5 => "3.5",
            Self::V3_6 => "3.6",
            Self::V3_7 => "3.7",
        }
    }

    /// The BOSH package with its binaries. 3.6 is what job `etcd` brings by itself; the others are brought by a job of
    /// the package's name, so that an operator ships only what is needed.
    pub const fn package(self) -> &'static str {
        match self {
            Self::V3_4 => "etcd-3.4",
            Self::V3_5 => "etcd-3.5",
            Self::V3_6 => "etcd",
            Self::V3_7 => "etcd-3.7",
        }
    }

    /// Whether a version belongs to this line.
    pub fn holds(self, version: EtcdVersion) -> bool {
        self.name() == format!("{}.{}", version.major, version.minor)
    }
}

impl fmt::Display for ReleaseLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ReleaseLine {
    type Err = UnknownReleaseLine;

    fn from_str(text: &str) -> Result<Self, UnknownReleaseLine> {
        let found = Self::ALL.into_iter().find(|line| line.name() == text);
        found.ok_or_else(|| UnknownReleaseLine(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_is_printed_and_holds_its_own_versions_only() {
        for line in ReleaseLine::ALL {
            assert_eq!(line.to_string().parse(), Ok(line));
            let own: EtcdVersion = format!("{line}.7").parse().unwrap();
            let holders: Vec<ReleaseLine> =
                ReleaseLine::ALL.into_iter().filter(|other| other.holds(own)).collect();
            assert_eq!(holders, [line]);
        }
        for unknown in ["3.3", "3.8", "3.6.16", ""] {
            assert!(unknown.parse::<ReleaseLine>().is_err(), "{unknown}");
        }
    }

    #[test]
    fn only_the_default_line_is_in_package_etcd() {
        let named: Vec<&str> = ReleaseLine::ALL.into_iter().map(ReleaseLine::package).collect();
        assert_eq!(named, ["etcd-3.4", "etcd-3.5", "etcd", "etcd-3.7"]);
    }
}
