//! Whether the certificates that etcdctl is about to use are good for anything.
//!
//! etcdctl itself says `context deadline exceeded` for an expired certificate, after five seconds. This
//! says which file, and since when. Only what the wrapper sets is looked at.

use std::fs::File;
use std::path::Path;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::environment::{Admin, Change, Setting};
use crate::report::Complaint;

/// What is doubtful about the files the changes name, at `now` in seconds since 1970.
pub fn doubts(admin: &Admin, changes: &[Change], now_unix_secs: u64) -> Vec<Complaint> {
    let now = i64::try_from(now_unix_secs).unwrap_or(i64::MAX);
    let is_set = |setting: &Setting| {
        changes
            .iter()
            .any(|change| matches!(change, Change::Set(variable, _) if *variable == setting.variable()))
    };
    let settings = Setting::ALL.into_iter().filter(is_set);
    let files = settings.filter_map(|setting| Some((setting, admin.file(setting)?)));
    files.filter_map(|(setting, path)| fault(setting, path, now).map(|why| doubt(path, &why))).collect()
}

fn fault(setting: Setting, path: &Path, now: i64) -> Option<String> {
    match setting {
        Setting::Endpoints => None,
        Setting::Key => File::open(path).err().map(|error| format!("cannot be read: {error}")),
        Setting::Cert | Setting::CaCert => match std::fs::read(path) {
            Err(error) => Some(format!("cannot be read: {error}")),
            Ok(text) => invalid(setting, &text, now),
        },
    }
}

/// Why none of the certificates can be used. Of a chain only the first counts, of a bundle of CAs any: two
/// are there while one replaces the other.
fn invalid(setting: Setting, pem: &[u8], now: i64) -> Option<String> {
    let counts = if setting == Setting::Cert { 1 } else { usize::MAX };
    let mut why = None;
    for der in CertificateDer::pem_slice_iter(pem).take(counts) {
        let Some((from, until)) = der.ok().and_then(|der| validity(&der)) else {
            why = Some("holds no readable certificate".to_owned());
            continue;
        };
        if now > until {
            why = Some(format!("has expired on {}", utc(until)));
        } else if now < from {
            why = Some(format!("is not valid before {}; this machine has {}", utc(from), utc(now)));
        } else {
            return None;
        }
    }
    why.or_else(|| Some("holds no certificate".to_owned()))
}

/// First and last second of a certificate's life.
fn validity(der: &CertificateDer<'_>) -> Option<(i64, i64)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let validity = certificate.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

fn utc(unix_secs: i64) -> String {
    Timestamp::from_second(unix_secs).map_or_else(|_| format!("second {unix_secs}"), |time| time.to_string())
}

fn doubt(path: &Path, why: &str) -> Complaint {
    Complaint::failed(
        format!("{} {why}", path.display()),
        "members refuse such a caller, and etcdctl calls that `context deadline exceeded`",
        "call etcdctl as root; for a new certificate deploy again; docs/etcdctl.md#troubleshooting",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wrapper::environment;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use std::path::PathBuf;

    const IN_2026: u64 = 1_790_000_000;

    fn certificate(years: std::ops::Range<i32>) -> String {
        let mut parameters = CertificateParams::new(vec!["root".to_owned()]).unwrap();
        parameters.not_before = date_time_ymd(years.start, 1, 1);
        parameters.not_after = date_time_ymd(years.end, 1, 1);
        parameters.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    struct Config(tempfile::TempDir);

    impl Config {
        fn good() -> Self {
            let config = Self(tempfile::tempdir().unwrap());
            for file in ["admin.crt", "admin-ca.crt"] {
                config.write(file, &certificate(2020..2100));
            }
            config.write("admin.key", "a key");
            config
        }

        fn path(&self, file: &str) -> PathBuf {
            self.0.path().join(file)
        }

        fn write(&self, file: &str, text: &str) {
            crate::atomic_file::write(&self.path(file), text.as_bytes(), 0o600).unwrap();
        }

        fn doubts(&self, flags: &[Setting]) -> Vec<String> {
            let admin = Admin::below(self.0.path());
            let changes = environment::decide(environment::said(flags, &|_| None), &admin, None);
            let directory = format!("{}/", self.0.path().display());
            let doubts = doubts(&admin, &changes, IN_2026);
            doubts.into_iter().map(|doubt| doubt.what.replace(&directory, "")).collect()
        }
    }

    #[test]
    fn good_certificates_are_passed_in_silence() {
        assert_eq!(Config::good().doubts(&[]), [""; 0]);
    }

    #[test]
    fn each_fault_names_the_file_and_the_date() {
        let old = certificate(2020..2025);
        let cases = [
            ("admin.crt", certificate(2020..2025), "admin.crt has expired on 2025-01-01T00:00:00Z"),
            (
                "admin.crt",
                certificate(2030..2031),
                "admin.crt is not valid before 2030-01-01T00:00:00Z; this machine has 2026-09-21T14:13:20Z",
            ),
            ("admin-ca.crt", old.clone() + &old, "admin-ca.crt has expired on 2025-01-01T00:00:00Z"),
            ("admin.crt", String::new(), "admin.crt holds no certificate"),
            (
                "admin.crt",
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
                "admin.crt holds no readable certificate",
            ),
        ];
        for (file, text, expected) in cases {
            let config = Config::good();
            config.write(file, &text);
            assert_eq!(config.doubts(&[]), [expected]);
        }
    }

    #[test]
    fn a_missing_file_is_told_for_each_of_the_three() {
        let config = Config::good();
        for file in ["admin.crt", "admin.key", "admin-ca.crt"] {
            std::fs::remove_file(config.path(file)).unwrap();
        }

        let doubts = config.doubts(&[]);

        assert_eq!(doubts.len(), 3);
        assert!(doubts.iter().all(|doubt| doubt.contains("cannot be read: No such file")), "{doubts:?}");
    }

    #[test]
    fn one_good_ca_of_a_bundle_is_enough() {
        let config = Config::good();
        config.write("admin-ca.crt", &(certificate(2020..2025) + &certificate(2020..2100)));

        assert_eq!(config.doubts(&[]), [""; 0]);
    }

    #[test]
    fn files_the_user_replaced_are_not_looked_at() {
        let config = Config::good();
        config.write("admin.crt", "");
        std::fs::remove_file(config.path("admin.key")).unwrap();

        assert_eq!(config.doubts(&[Setting::Cert]), [""; 0]);
    }
}
