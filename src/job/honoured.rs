//! Properties that the installed etcd cannot honour. Told before it starts, because etcd ignores keys of its file that
//! it does not know: a setting would be lost without a word (docs/contract.md#etcd-config).

use std::collections::BTreeSet;

use super::properties::{Fault, Properties};
use crate::etcd::capability::Capability;
use crate::etcd::settings::TlsVersion;
use crate::etcd::version::EtcdVersion;

/// What is set and not in this version, with the versions that have it.
pub fn faults(properties: &Properties, version: EtcdVersion) -> Vec<Fault> {
    let etcd = &properties.etcd;
    let number = |value: Option<u64>| value.map(|number| number.to_string());
    let asked: [(&str, Option<String>, Capability, &str); 6] = [
        (
            "max_concurrent_streams",
            number(etcd.max_concurrent_streams),
            Capability::MaxConcurrentStreams,
            "not set",
        ),
        (
            "compact_hash_check",
            etcd.compact_hash_check.filter(|on| *on).map(|on| on.to_string()),
            Capability::CompactHashCheck,
            "not set",
        ),
        (
            "compact_hash_check_time",
            etcd.compact_hash_check_time.map(|time| format!("{time:?}")),
            Capability::CompactHashCheck,
            "not set",
        ),
        (
            "tls_min_version",
            (etcd.tls_min_version == TlsVersion::V1_3).then(|| "TLS1.3".to_owned()),
            Capability::TlsMinVersion,
            "TLS1.2",
        ),
        (
            "feature_gates",
            (!etcd.feature_gates.is_empty())
                .then(|| etcd.feature_gates.keys().cloned().collect::<Vec<_>>().join(", ")),
            Capability::FeatureGates,
            "{}",
        ),
        ("enable_v2", etcd.enable_v2.then(|| "true".to_owned()), Capability::V2, "false"),
    ];
    let refused = asked.into_iter().filter(|(.., capability, _)| !capability.is_in(version));
    refused
        .filter_map(|(name, value, capability, example)| {
            Some(Fault {
                name: name.to_owned(),
                value: value?,
                rule: format!(
                    "is not in etcd {version}, which etcd_version \"{}\" runs; it is in etcd {}",
                    properties.etcd_version,
                    capability.versions()
                ),
                example: example.to_owned(),
            })
        })
        .collect()
}

/// Settings of `extra_config` that the installed etcd does not list in its `--help`.
pub fn unknown_settings(
    properties: &Properties,
    version: EtcdVersion,
    known: &BTreeSet<String>,
) -> Vec<Fault> {
    let unknown = properties.etcd.extra.keys().filter(|key| !known.contains(*key));
    unknown
        .map(|key| Fault {
            name: "extra_config".to_owned(),
            value: format!("{key:?}"),
            rule: format!("is no setting of etcd {version}, which would ignore it"),
            example: "{backend-batch-limit: 5000}".to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn told(changes: &[(&str, Value)], version: &str) -> Vec<String> {
        let mut raw = super::super::properties::tests::defaults();
        raw.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let properties = Properties::parse(&raw).unwrap();
        faults(&properties, version.parse().unwrap()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_a_version_lacks_is_refused_with_the_versions_that_have_it() {
        let cases = [
            ("max_concurrent_streams", json!(100), "3.4.19", "3.4.20"),
            ("compact_hash_check", json!(true), "3.4.41", "3.5.5"),
            ("compact_hash_check_time", json!("30s"), "3.5.4", "3.6.0"),
            ("tls_min_version", json!("TLS1.3"), "3.4.23", "3.4.25"),
            ("feature_gates", json!({"LeaseCheckpoint": true}), "3.5.35", "3.6.16"),
            ("enable_v2", json!(true), "3.6.16", "3.5.35"),
        ];
        for (name, value, without, with) in cases {
            let refused = told(&[(name, value.clone())], without);
            assert_eq!(refused.len(), 1, "{name} {without}: {refused:?}");
            assert!(refused[0].starts_with(&format!("{name}: ")), "{refused:?}");
            assert!(told(&[(name, value)], with).is_empty(), "{name} {with}");
        }
        assert_eq!(
            told(&[("enable_v2", json!(true))], "3.6.16"),
            [
                "enable_v2: true is not in etcd 3.6.16, which etcd_version \"3.6\" runs; it is in etcd 3.4 and 3.5; for example: false"
            ]
        );
    }

    #[test]
    fn the_defaults_are_honoured_by_every_version() {
        for version in ["3.4.0", "3.4.23", "3.5.0", "3.6.16", "3.7.3"] {
            assert!(told(&[], version).is_empty(), "{version}");
        }
    }

    #[test]
    fn a_setting_that_etcd_does_not_list_is_told() {
        let mut raw = super::super::properties::tests::defaults();
        raw.insert("extra_config".to_owned(), json!({"backend-batch-limit": 1, "backend-bach-limit": 1}));
        let properties = Properties::parse(&raw).unwrap();
        let known = BTreeSet::from(["backend-batch-limit".to_owned()]);

        let faults = unknown_settings(&properties, EtcdVersion::new(3, 6, 16), &known);

        assert_eq!(
            faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "extra_config: \"backend-bach-limit\" is no setting of etcd 3.6.16, which would ignore it; for example: {backend-batch-limit: 5000}"
            ]
        );
    }
}
