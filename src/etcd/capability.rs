//! Which version of etcd has a setting that not all have (docs/contract.md#etcd-config).
//!
//! Read in each version's `--help`, and compared with the real binaries by `spec/etcd_config.rs`.

use super::version::EtcdVersion;

/// A setting that some supported version lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// `feature-gates`, and `corrupt-check-time` without `experimental-`.
    FeatureGates,
    /// `log-format`.
    LogFormat,
    /// Comparing what compactions leave behind.
    CompactHashCheck,
    /// `max-concurrent-streams`.
    MaxConcurrentStreams,
    /// `tls-min-version`; without it etcd takes TLS 1.2 and later.
    TlsMinVersion,
    /// The API of etcd 2.
    V2,
}

impl Capability {
    /// Whether this version has it.
    pub fn is_in(self, version: EtcdVersion) -> bool {
        let at_least = |minor, patch| version >= EtcdVersion::new(3, minor, patch);
        match self {
            Self::FeatureGates | Self::LogFormat => at_least(6, 0),
            Self::CompactHashCheck => at_least(5, 5),
            // Backported: each line has a patch of its own from which it is there.
            Self::MaxConcurrentStreams => at_least(5, 5) || (version.minor == 4 && at_least(4, 20)),
            Self::TlsMinVersion => at_least(5, 8) || (version.minor == 4 && at_least(4, 25)),
            Self::V2 => !at_least(6, 0),
        }
    }

    /// Which versions have it, for a person.
    pub fn versions(self) -> &'static str {
        match self {
            Self::FeatureGates | Self::LogFormat => "3.6 and later",
            Self::CompactHashCheck => "3.5.5 and later",
            Self::MaxConcurrentStreams => "3.4.20, 3.5.5 and later",
            Self::TlsMinVersion => "3.4.25, 3.5.8 and later",
            Self::V2 => "3.4 and 3.5",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_in_exactly_the_versions_that_have_it() {
        //          capability                        has                        has not
        let rows = [
            (Capability::FeatureGates, ["3.6.0", "3.7.3"], ["3.4.45", "3.5.35"]),
            (Capability::LogFormat, ["3.6.16", "3.7.0"], ["3.4.41", "3.5.33"]),
            (Capability::CompactHashCheck, ["3.5.5", "3.6.0"], ["3.4.45", "3.5.4"]),
            (Capability::MaxConcurrentStreams, ["3.4.20", "3.5.5"], ["3.4.19", "3.5.4"]),
            (Capability::TlsMinVersion, ["3.4.25", "3.5.8"], ["3.4.24", "3.5.7"]),
            (Capability::V2, ["3.4.23", "3.5.35"], ["3.6.0", "3.7.3"]),
        ];
        for (capability, has, has_not) in rows {
            for (versions, expected) in [(has, true), (has_not, false)] {
                for version in versions {
                    assert_eq!(
                        capability.is_in(version.parse().unwrap()),
                        expected,
                        "{capability:?} {version}"
                    );
                }
            }
        }
    }
}
