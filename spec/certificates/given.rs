//! Certificates as an operator brings them: made outside of BOSH, with ECDSA keys.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use etcd_release::etcd::tls::{Files, Role, certificates};
use etcd_release::job::lifetime::Lifetime;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

/// What members are dialled by, and what an operator on the VM types.
const NAMES: [&str; 4] = ["etcd.default.etcd.bosh", "*.etcd.default.etcd.bosh", "127.0.0.1", "localhost"];

/// A CA whose key nobody else has.
pub(crate) struct Ca {
    /// What whoever trusts it needs to have.
    pub(crate) pem: String,
    /// What follows each certificate that it issues.
    chain: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
pub(crate) struct Leaf {
    certificate: String,
    key: String,
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let (parameters, key) = authority(name, BasicConstraints::Unconstrained);
        let pem = parameters.self_signed(&key).unwrap().pem();
        Self { pem, chain: String::new(), issuer: Issuer::new(parameters, key) }
    }

    /// A CA below this one, which is what others go on trusting.
    pub(crate) fn intermediate(&self, name: &str) -> Self {
        let (parameters, key) = authority(name, BasicConstraints::Constrained(0));
        let chain = parameters.signed_by(&key, &self.issuer).unwrap().pem();
        Self { pem: self.pem.clone(), chain, issuer: Issuer::new(parameters, key) }
    }

    /// A certificate for a role that ends so many days from now.
    pub(crate) fn issue(&self, role: Role, days: i64) -> Leaf {
        self.issue_changed(role, |parameters| ends(parameters, days))
    }

    /// A certificate for a role that ends a year from now, changed.
    pub(crate) fn issue_changed(&self, role: Role, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let names = match role {
            Role::Server | Role::Peer => NAMES.map(str::to_owned).to_vec(),
            Role::Admin | Role::Client => Vec::new(),
        };
        let mut parameters = CertificateParams::new(names).unwrap();
        let name = if role == Role::Admin { "root" } else { "etcd" };
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.extended_key_usages = match role {
            Role::Server | Role::Peer => {
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
            }
            Role::Admin | Role::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        ends(&mut parameters, 365);
        change(&mut parameters);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap().pem() + &self.chain;
        Leaf { certificate, key: key.serialize_pem() }
    }

    /// A variable of type certificate, as a file of variables gives it.
    pub(crate) fn variable(&self, role: Role) -> Value {
        let leaf = self.issue(role, 365);
        json!({"ca": self.pem, "certificate": leaf.certificate, "private_key": leaf.key})
    }
}

/// It ends at the beginning of that day, which may have been.
pub(crate) fn ends(parameters: &mut CertificateParams, days: i64) {
    let (year, month, day) = day_in(days);
    parameters.not_after = rcgen::date_time_ymd(year, month, day);
}

/// It begins then.
pub(crate) fn begins(parameters: &mut CertificateParams, days: i64) {
    let (year, month, day) = day_in(days);
    parameters.not_before = rcgen::date_time_ymd(year, month, day);
}

fn day_in(days: i64) -> (i32, u8, u8) {
    let day = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(days * 24);
    let day = day.to_zoned(jiff::tz::TimeZone::UTC).date();
    (i32::from(day.year()), day.month().unsigned_abs(), day.day().unsigned_abs())
}

/// Serial number of the first certificate in a file.
pub(crate) fn serial_in(path: &Path) -> String {
    Lifetime::of("", &certificates(path).unwrap()[0]).unwrap().serial
}

/// The variables of a deployment whose certificates are all from these two.
pub(crate) fn variables(clients: &Ca, members: &Ca) -> Value {
    json!({
        "etcd_server": clients.variable(Role::Server),
        "etcd_peer": members.variable(Role::Peer),
        "etcd_admin": clients.variable(Role::Admin),
    })
}

fn authority(name: &str, constraints: BasicConstraints) -> (CertificateParams, KeyPair) {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(constraints);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (parameters, KeyPair::generate().unwrap())
}

impl Leaf {
    /// Replaces certificate and key of a role on an instance, each by one rename, as its owner would.
    #[track_caller]
    pub(crate) fn lay(&self, config: &Path, role: Role) {
        let files = Files::of(config, role);
        replace(&files.certificate, &self.certificate);
        replace(&files.key, &self.key);
    }

    /// As rustls takes them.
    pub(crate) fn loaded(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes()).map(Result::unwrap).collect();
        (chain, PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap())
    }

    /// The serial number, in hexadecimal.
    pub(crate) fn serial(&self) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("leaf.crt");
        fs::write(&path, &self.certificate).unwrap();
        serial_in(&path)
    }
}

/// Puts new content in a file's place, with its owner and mode.
#[track_caller]
pub(crate) fn replace(path: &Path, content: &str) {
    let before = fs::metadata(path).unwrap();
    let next = path.with_extension("next");
    fs::write(&next, content).unwrap();
    fs::set_permissions(&next, fs::Permissions::from_mode(before.mode() & 0o7777)).unwrap();
    chown(&next, Some(before.uid()), Some(before.gid())).unwrap();
    fs::rename(&next, path).unwrap();
}
