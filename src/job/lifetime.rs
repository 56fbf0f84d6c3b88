//! When the job's certificates end: every leaf and every CA, as the files hold them now. `/state`, `/metrics`,
//! `etcd-status` and pre-start tell it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::etcd::renewal::Stamp;
use crate::etcd::tls::{Files, Role, certificates};

/// What ends sooner is warned of.
pub const SOON_SECS: i64 = 30 * SECS_PER_DAY;
const SECS_PER_DAY: i64 = 24 * 60 * 60;
/// No bundle of a rotation has more; what lies behind is not told.
const CAS_MAX: usize = 16;
/// The files are looked at again after this, however often somebody asks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// One certificate and its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    /// Which: the file's name without its ending, `server`, `server-ca` …
    pub certificate: String,
    /// The common name, or the whole subject if it has none: tells the CAs of a bundle apart.
    pub subject: String,
    /// Serial number in hexadecimal.
    pub serial: String,
    /// Its end, in seconds since 1970.
    pub not_after_unix_secs: i64,
    /// Its end, in UTC.
    pub not_after: String,
}

/// How near the end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It has ended.
    Past,
    /// Within [`SOON_SECS`].
    Soon,
    /// Later.
    Far,
}

impl Lifetime {
    /// Of one certificate; `None` if it cannot be read.
    pub fn of(certificate: &str, der: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let not_after_unix_secs = parsed.validity().not_after.timestamp();
        Some(Self {
            certificate: certificate.to_owned(),
            subject: subject(&parsed),
            serial: parsed.raw_serial().iter().fold(String::new(), |mut text, byte| {
                write!(text, "{byte:02x}").expect("writing to a String cannot fail");
                text
            }),
            not_after_unix_secs,
            not_after: jiff::Timestamp::from_second(not_after_unix_secs).ok()?.to_string(),
        })
    }

    /// How near its end is, at `now` in seconds since 1970.
    pub fn end(&self, now_unix_secs: i64) -> End {
        match self.not_after_unix_secs - now_unix_secs {
            left if left < 0 => End::Past,
            left if left < SOON_SECS => End::Soon,
            _ => End::Far,
        }
    }

    /// Whether it is a CA of a bundle.
    pub fn is_ca(&self) -> bool {
        self.certificate.ends_with("-ca")
    }

    /// `server`, or `CA etcd_ca in server-ca`.
    pub fn name(&self) -> String {
        if self.is_ca() {
            format!("CA {} in {}", self.subject, self.certificate)
        } else {
            self.certificate.clone()
        }
    }

    /// `ended 3 days ago`, `ends in 29 days`.
    pub fn words(&self, now_unix_secs: i64) -> String {
        let left = self.not_after_unix_secs - now_unix_secs;
        let amount = |secs: i64| match (secs / SECS_PER_DAY, secs / 3600) {
            (0, hours) => format!("{hours} hours"),
            (1, _) => "1 day".to_owned(),
            (days, _) => format!("{days} days"),
        };
        if left < 0 {
            format!("ended {} ago ({})", amount(-left), self.not_after)
        } else {
            format!("ends in {} ({})", amount(left), self.not_after)
        }
    }

    /// What to type against its end, in this deployment.
    pub fn remedy(&self, deployment: &str) -> String {
        if self.is_ca() {
            format!(
                "replace the CA in three deploys of {deployment}, of which the first is `bosh -d {deployment} deploy deployment/etcd.yml -o deployment/operations/trust-two-{}-cas.yml`; docs/certificates.md#rotate-ca",
                if self.certificate == "peer-ca" { "peer" } else { "client" }
            )
        } else {
            format!(
                "`credhub regenerate -n /DIRECTOR/{deployment}/etcd_{}` and `bosh -d {deployment} deploy deployment/etcd.yml`; docs/certificates.md#renew",
                self.certificate
            )
        }
    }
}

fn subject(certificate: &X509Certificate<'_>) -> String {
    let common_name = certificate.subject().iter_common_name().next();
    common_name
        .and_then(|name| name.as_str().ok())
        .map_or_else(|| certificate.subject().to_string(), str::to_owned)
}

/// All certificates in the job's `config` directory. What cannot be read is left out: others tell about it.
pub fn lifetimes(config: &Path) -> Vec<Lifetime> {
    let mut all = Vec::new();
    for role in Role::ALL {
        let files = Files::of(config, role);
        let chain = certificates(&files.certificate).unwrap_or_default();
        all.extend(chain.first().and_then(|leaf| Lifetime::of(role.name(), leaf)));
        // The same CA twice is one.
        let mut known = BTreeSet::new();
        let cas = certificates(&files.ca).unwrap_or_default().into_iter().take(CAS_MAX);
        let cas = cas.filter(|ca| known.insert(ca.as_ref().to_vec()));
        all.extend(cas.filter_map(|ca| Lifetime::of(&format!("{}-ca", role.name()), &ca)));
    }
    all
}

/// The one that ends first.
pub fn first_to_end(all: &[Lifetime]) -> Option<&Lifetime> {
    all.iter().min_by_key(|one| one.not_after_unix_secs)
}

/// The ends as metrics, in Prometheus' text format.
pub fn metrics(all: &[Lifetime]) -> String {
    const NAME: &str = "etcd_launcher_certificate_not_after_seconds";
    let mut page = format!(
        "# HELP {NAME} When a certificate ends, in seconds since 1970. CAs have subject and serial.\n# TYPE {NAME} gauge\n"
    );
    for one in all {
        let mut labels = format!("certificate=\"{}\"", one.certificate);
        if one.is_ca() {
            let subject = one.subject.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            write!(labels, ",subject=\"{subject}\",serial=\"{}\"", one.serial)
                .expect("writing to a String cannot fail");
        }
        writeln!(page, "{NAME}{{{labels}}} {}", one.not_after_unix_secs)
            .expect("writing to a String cannot fail");
    }
    page
}

/// The ends as of now, read again when a file was replaced.
#[derive(Debug)]
pub struct Watched {
    config: PathBuf,
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug)]
struct Seen {
    at: Instant,
    stamp: Stamp,
    lifetimes: Arc<[Lifetime]>,
}

impl Watched {
    /// Of the job's `config` directory; nothing is read yet.
    pub fn new(config: PathBuf) -> Self {
        Self { config, seen: Mutex::new(None) }
    }

    /// All of them, at most a second old.
    pub fn lifetimes(&self) -> Arc<[Lifetime]> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = seen.as_ref().filter(|last| last.at.elapsed() < LOOK_EVERY) {
            return last.lifetimes.clone();
        }
        let files: Vec<Files> = Role::ALL.into_iter().map(|role| Files::of(&self.config, role)).collect();
        let stamp =
            Stamp::of(files.iter().flat_map(|files| [files.ca.as_path(), files.certificate.as_path()]));
        let lifetimes = match seen.take() {
            Some(last) if last.stamp == stamp => last.lifetimes,
            _ => lifetimes(&self.config).into(),
        };
        *seen = Some(Seen { at: Instant::now(), stamp, lifetimes: lifetimes.clone() });
        lifetimes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::certificate::tests::{ca, write, write_all};
    use std::fs;

    fn lifetime(certificate: &str, not_after_unix_secs: i64) -> Lifetime {
        Lifetime {
            certificate: certificate.to_owned(),
            subject: "etcd_ca".to_owned(),
            serial: "0a".to_owned(),
            not_after_unix_secs,
            not_after: jiff::Timestamp::from_second(not_after_unix_secs).unwrap().to_string(),
        }
    }

    #[test]
    fn every_leaf_and_each_ca_of_a_bundle_once_and_nothing_that_is_not_there() {
        let directory = tempfile::tempdir().unwrap();
        write_all(directory.path());
        let bundle = Files::of(directory.path(), Role::Peer).ca;
        let (own, other) = (fs::read_to_string(&bundle).unwrap(), ca().pem());
        fs::write(&bundle, format!("{own}\n{other}\n{own}")).unwrap();
        // As ERB prints what is not set.
        fs::write(Files::of(directory.path(), Role::Client).certificate, "\n").unwrap();

        let all = lifetimes(directory.path());

        let names: Vec<&str> = all.iter().map(|one| one.certificate.as_str()).collect();
        assert_eq!(names, ["server", "server-ca", "peer", "peer-ca", "peer-ca", "admin", "admin-ca"]);
        assert_eq!(all[5].subject, "root");
    }

    #[test]
    fn a_replaced_file_is_seen_and_an_untouched_one_is_not_read_again() {
        let directory = tempfile::tempdir().unwrap();
        write_all(directory.path());
        let watched = Watched::new(directory.path().to_owned());
        let forget_the_time = |watched: &Watched| {
            let mut seen = watched.seen.lock().unwrap();
            let seen = seen.as_mut().expect("it was asked before");
            seen.at = seen.at.checked_sub(LOOK_EVERY).unwrap();
        };

        let first = watched.lifetimes();
        write(directory.path(), Role::Server, &ca(), |params| {
            params.not_after = rcgen::date_time_ymd(2100, 1, 1);
        });
        assert!(Arc::ptr_eq(&watched.lifetimes(), &first), "asked twice in a second");
        forget_the_time(&watched);
        let second = watched.lifetimes();
        forget_the_time(&watched);

        assert_eq!(second[0].not_after, "2100-01-01T00:00:00Z");
        assert!(Arc::ptr_eq(&watched.lifetimes(), &second), "nothing changed, nothing read");
    }

    #[test]
    fn the_end_is_told_in_words_with_a_way_out() {
        let now = 1_000 * SECS_PER_DAY;
        let at = |left| lifetime("server", now + left);

        assert_eq!(at(-1).end(now), End::Past);
        assert_eq!(at(SOON_SECS - 1).end(now), End::Soon);
        assert_eq!(at(SOON_SECS).end(now), End::Far);
        assert_eq!(at(-3 * SECS_PER_DAY).words(now), "ended 3 days ago (1972-09-24T00:00:00Z)");
        assert_eq!(at(3 * 3600).words(now), "ends in 3 hours (1972-09-27T03:00:00Z)");
        assert_eq!(at(SECS_PER_DAY).words(now), "ends in 1 day (1972-09-28T00:00:00Z)");
        assert!(at(0).remedy("orders").contains("credhub regenerate -n /DIRECTOR/orders/etcd_server"));
        assert!(lifetime("peer-ca", 0).remedy("etcd").contains("trust-two-peer-cas.yml"));
        assert!(lifetime("admin-ca", 0).remedy("etcd").contains("trust-two-client-cas.yml"));
    }

    #[test]
    fn metrics_have_one_line_a_certificate_with_labels_that_cannot_break_out() {
        let mut odd = lifetime("peer-ca", 20);
        odd.subject = "a\"b\\c\nd".to_owned();

        insta::assert_snapshot!(metrics(&[lifetime("server", 10), odd]), @r#"
        # HELP etcd_launcher_certificate_not_after_seconds When a certificate ends, in seconds since 1970. CAs have subject and serial.
        # TYPE etcd_launcher_certificate_not_after_seconds gauge
        etcd_launcher_certificate_not_after_seconds{certificate="server"} 10
        etcd_launcher_certificate_not_after_seconds{certificate="peer-ca",subject="a\"b\\c\nd",serial="0a"} 20
        "#);
    }
}
