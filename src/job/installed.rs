//! What the properties ask of this VM: the binary of the release line, the settings it knows, the keys of tokens.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::Context;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};

use super::beside::{BesideStore, store_beside};
use super::honoured;
use super::paths::Paths;
use super::properties::{Fault, Properties};
use crate::etcd::release_line::ReleaseLine;
use crate::etcd::settings::AuthToken;
use crate::etcd::version::EtcdVersion;
use crate::etcd::{binary, flags, process};

/// Everything that is asked and not there.
pub fn faults(paths: &Paths, properties: &Properties) -> anyhow::Result<Vec<Fault>> {
    let mut faults = token_keys(paths, properties);
    if properties.auto_restore {
        faults.extend(no_backups(store_beside(&paths.backup_job_json())));
    }
    let line = properties.etcd_version;
    let etcd = binary::path(paths, line);
    let version: EtcdVersion = match process::version(&etcd) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            faults.push(no_package(line));
            return Ok(faults);
        }
        other => other
            .with_context(|| format!("ask {} for its version", etcd.display()))?
            .parse()
            .with_context(|| format!("understand the version of {}", etcd.display()))?,
    };
    if !line.holds(version) {
        faults.push(wrong_package(line, version));
    }
    faults.extend(honoured::faults(properties, version));
    if !properties.etcd.extra.is_empty() {
        let known = flags::known(&etcd).with_context(|| format!("ask {} for its flags", etcd.display()))?;
        faults.extend(honoured::unknown_settings(properties, version, &known));
    }
    Ok(faults)
}

fn no_backups(store: BesideStore) -> Option<Fault> {
    let (rule, example) = match store {
        BesideStore::Remote => return None,
        BesideStore::None => (
            "needs job etcd-backup, which is not on this VM and knows where backups are",
            "deploy with operations/backup.yml, which adds it",
        ),
        BesideStore::Directory => (
            "needs a store that is not a directory: only job etcd-backup is shown that",
            "store.url: s3://bucket/etcd for job etcd-backup",
        ),
    };
    Some(Fault {
        name: "auto_restore".to_owned(),
        value: "true".to_owned(),
        rule: rule.to_owned(),
        example: example.to_owned(),
    })
}

fn no_package(line: ReleaseLine) -> Fault {
    Fault {
        name: "etcd_version".to_owned(),
        value: format!("\"{line}\""),
        rule: format!("needs package {}, which is not on this VM", line.package()),
        example: match line {
            ReleaseLine::V3_6 => "deploy again, which installs the packages".to_owned(),
            _ => format!("deploy with operations/use-{}.yml, which adds its job", line.package()),
        },
    }
}

fn wrong_package(line: ReleaseLine, version: EtcdVersion) -> Fault {
    Fault {
        name: "etcd_version".to_owned(),
        value: format!("\"{line}\""),
        rule: format!("is not what package {} holds, which is etcd {version}", line.package()),
        example: "a release whose packages hold what they are named after".to_owned(),
    }
}

fn token_keys(paths: &Paths, properties: &Properties) -> Vec<Fault> {
    if properties.etcd.auth_token == AuthToken::Simple {
        return Vec::new();
    }
    let is_private = |pem: &[u8]| PrivateKeyDer::from_pem_slice(pem).is_ok();
    let is_public = |pem: &[u8]| SubjectPublicKeyInfoDer::from_pem_slice(pem).is_ok();
    [
        unfit("jwt.public_key", &paths.jwt_public_key(), is_public),
        unfit("jwt.private_key", &paths.jwt_private_key(), is_private),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Never shows what is in the file.
fn unfit(name: &str, path: &Path, fits: impl Fn(&[u8]) -> bool) -> Option<Fault> {
    let pem = fs::read(path).unwrap_or_default();
    if fits(&pem) {
        return None;
    }
    let is_set = pem.iter().any(|byte| !byte.is_ascii_whitespace());
    Some(Fault {
        name: name.to_owned(),
        value: if is_set { "(set)" } else { "(not set)" }.to_owned(),
        rule: "must be a key in PEM with auth_token jwt".to_owned(),
        example: format!("(({}))", name.replace("jwt.", "etcd_jwt.")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atomic_file;
    use serde_json::json;

    fn properties(changes: &[(&str, serde_json::Value)]) -> Properties {
        let mut raw = crate::job::properties::tests::defaults();
        raw.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        Properties::parse(&raw).unwrap()
    }

    fn told(paths: &Paths, changes: &[(&str, serde_json::Value)]) -> Vec<String> {
        faults(paths, &properties(changes)).unwrap().iter().map(ToString::to_string).collect()
    }

    /// A program that says it is this etcd.
    fn install(paths: &Paths, package: &str, version: &str) {
        let directory = paths.root().join("packages").join(package).join("bin");
        fs::create_dir_all(&directory).unwrap();
        let script = format!("#!/bin/sh\necho 'etcd Version: {version}'\necho '  --backend-batch-limit'\n");
        atomic_file::write(&directory.join("etcd"), script.as_bytes(), 0o755).unwrap();
    }

    #[test]
    fn a_package_that_is_not_there_or_holds_another_line_is_told() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());

        assert_eq!(
            told(&paths, &[("etcd_version", json!("3.5"))]),
            [
                "etcd_version: \"3.5\" needs package etcd-3.5, which is not on this VM; for example: deploy with operations/use-etcd-3.5.yml, which adds its job"
            ]
        );
        install(&paths, "etcd-3.5", "3.4.23");
        assert_eq!(
            told(&paths, &[("etcd_version", json!("3.5"))]),
            [
                "etcd_version: \"3.5\" is not what package etcd-3.5 holds, which is etcd 3.4.23; for example: a release whose packages hold what they are named after"
            ]
        );
        install(&paths, "etcd", "3.6.16");
        assert!(told(&paths, &[]).is_empty());
    }

    #[test]
    fn a_restore_unasked_needs_a_store_that_can_be_asked() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());
        install(&paths, "etcd", "3.6.16");
        let told = || told(&paths, &[("auto_restore", json!(true))]);
        assert_eq!(told().len(), 1);
        assert!(told()[0].contains("needs job etcd-backup"), "{:?}", told());
        fs::create_dir_all(paths.backup_job_json().parent().unwrap()).unwrap();
        for (url, fits) in [("file:///var/vcap/backups", false), ("s3://bucket/etcd", true)] {
            let job = json!({"properties": {"store.url": url}}).to_string();
            atomic_file::write(&paths.backup_job_json(), job.as_bytes(), 0o600).unwrap();
            assert_eq!(told().is_empty(), fits, "{url}: {:?}", told());
        }
    }

    #[test]
    fn everything_that_is_not_there_is_told_at_once() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());
        install(&paths, "etcd", "3.6.16");
        fs::create_dir_all(paths.config()).unwrap();
        atomic_file::write(&paths.jwt_public_key(), b"not a key", 0o600).unwrap();

        let told = told(
            &paths,
            &[
                ("auth_token", json!("jwt")),
                ("enable_v2", json!(true)),
                ("extra_config", json!({"backend-batch-limit": 1, "backend-batch-limits": 1})),
            ],
        );

        let names: Vec<&str> = told.iter().map(|text| text.split(':').next().unwrap()).collect();
        assert_eq!(names, ["jwt.public_key", "jwt.private_key", "enable_v2", "extra_config"], "{told:?}");
        assert!(told[0].contains("(set)") && told[1].contains("(not set)"), "{told:?}");
    }
}
