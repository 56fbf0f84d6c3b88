//! Are the job's certificates good for what they are used for? Asked before etcd starts, because its
//! own answer to a wrong certificate is a riddle in somebody else's log.

use std::path::Path;
use std::sync::Arc;

use rustls::CertificateError;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::properties::Fault;
use crate::etcd::tls::{Files, Identity, Role, TlsFileError, provider};

/// What is told about certificates that are good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validity {
    /// Which certificate.
    pub role: Role,
    /// Its end, in seconds since 1970.
    pub not_after_unix_secs: i64,
    /// Its end, in UTC.
    pub not_after: String,
}

/// Checks all certificates of the job; `name` is what other instances dial (`spec.address`), `now` the
/// present. Every fault is told.
pub fn check(config: &Path, name: &str, now: UnixTime) -> Result<Vec<Validity>, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut load = |role: Role| {
        Identity::load(&Files::of(config, role)).map_err(|error| faults.push(file_fault(role, &error))).ok()
    };
    let (server, peer, admin) = (load(Role::Server), load(Role::Peer), load(Role::Admin));
    if let Some(server) = &server {
        faults.extend(as_server(Role::Server, server, name, now));
    }
    if let Some(peer) = &peer {
        faults.extend(as_server(Role::Peer, peer, name, now));
        faults.extend(as_client(Role::Peer, peer, peer, now));
    }
    // etcd lets clients in by the CA of its server certificate's role.
    if let (Some(admin), Some(server)) = (&admin, &server) {
        faults.extend(as_client(Role::Admin, admin, server, now));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let good = [(Role::Server, server), (Role::Peer, peer), (Role::Admin, admin)];
    Ok(good.into_iter().filter_map(|(role, identity)| validity(role, identity?.leaf())).collect())
}

fn as_server(role: Role, identity: &Identity, name: &str, now: UnixTime) -> Option<Fault> {
    let verifier = WebPkiServerVerifier::builder_with_provider(identity.roots().clone(), provider()).build();
    let verifier: Arc<WebPkiServerVerifier> = match verifier {
        Ok(verifier) => verifier,
        Err(error) => {
            return Some(fault(role, "ca", &error.to_string(), "must hold at least one CA certificate"));
        }
    };
    let Ok(server_name) = ServerName::try_from(name.to_owned()) else {
        return Some(fault(
            role,
            "certificate",
            name,
            "cannot be checked: the instance's address is no DNS name",
        ));
    };
    let checked =
        verifier.verify_server_cert(identity.leaf(), identity.intermediates(), &server_name, &[], now);
    checked.err().map(|error| certificate_fault(role, "server", identity.leaf(), name, &error))
}

fn as_client(role: Role, identity: &Identity, accepted_by: &Identity, now: UnixTime) -> Option<Fault> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(accepted_by.roots().clone(), provider()).build();
    let verifier = match verifier {
        Ok(verifier) => verifier,
        Err(error) => {
            return Some(fault(role, "ca", &error.to_string(), "must hold at least one CA certificate"));
        }
    };
    let checked = verifier.verify_client_cert(identity.leaf(), identity.intermediates(), now);
    checked.err().map(|error| certificate_fault(role, "client", identity.leaf(), "", &error))
}

fn certificate_fault(
    role: Role,
    usage: &str,
    leaf: &CertificateDer<'_>,
    name: &str,
    error: &rustls::Error,
) -> Fault {
    let until = validity(role, leaf).map(|validity| validity.not_after).unwrap_or_default();
    let (present, demand) = match error {
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => (format!("(ended {until})"), "has expired".to_owned()),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => (format!("(until {until})"), "is not valid yet; compare this machine's clock".to_owned()),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => (
            format!("(for {})", names(leaf).join(", ")),
            format!("does not carry the instance's address {name}"),
        ),
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => ("(set)".to_owned(), format!("is signed by no CA that accepts it as a {usage}")),
        rustls::Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        ) => ("(set)".to_owned(), format!("may not be used as a {usage} (extended key usage)")),
        other => ("(set)".to_owned(), format!("is refused as a {usage}: {other}")),
    };
    fault(role, "certificate", &present, &demand)
}

fn file_fault(role: Role, error: &TlsFileError) -> Fault {
    let part = match error {
        TlsFileError::Unreadable { path, .. } | TlsFileError::Unusable { path, .. } => {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("key") => "private_key",
                _ if path.to_string_lossy().ends_with("-ca.crt") => "ca",
                _ => "certificate",
            }
        }
        TlsFileError::Mismatch { .. } => "private_key",
    };
    fault(role, part, "(set)", &format!("cannot be used: {error}"))
}

fn fault(role: Role, part: &str, present: &str, demand: &str) -> Fault {
    Fault {
        name: format!("tls.{}.{part}", role.name()),
        value: present.to_owned(),
        rule: demand.to_owned(),
        example: format!("the variable etcd_{} of deployment/etcd.yml", role.name()),
    }
}

/// When the certificate ends.
pub fn validity(role: Role, certificate: &CertificateDer<'_>) -> Option<Validity> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let not_after_unix_secs = parsed.validity().not_after.timestamp();
    let not_after = jiff::Timestamp::from_second(not_after_unix_secs).ok()?.to_string();
    Some(Validity { role, not_after_unix_secs, not_after })
}

fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(extension)) = parsed.subject_alternative_name() else { return Vec::new() };
    let texts = extension.value.general_names.iter().map(|name| match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes)
                .map(std::net::Ipv4Addr::from)
                .map(|ip| ip.to_string())
                .unwrap_or_default(),
            16 => <[u8; 16]>::try_from(*bytes)
                .map(std::net::Ipv6Addr::from)
                .map(|ip| ip.to_string())
                .unwrap_or_default(),
            _ => String::new(),
        },
        other => other.to_string(),
    });
    texts.filter(|text| !text.is_empty()).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    };
    use std::fs;

    /// A CA of its own.
    pub(crate) fn ca() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// Writes the three files of a role.
    pub(crate) fn write(
        config: &Path,
        role: Role,
        ca: &CertifiedIssuer<'static, KeyPair>,
        change: impl FnOnce(&mut CertificateParams),
    ) {
        let mut params = CertificateParams::new(vec!["*.etcd.default.etcd.bosh".to_owned()]).unwrap();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, if role == Role::Admin { "root" } else { "etcd" });
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, ca).unwrap();
        let files = Files::of(config, role);
        fs::write(&files.ca, ca.pem()).unwrap();
        fs::write(&files.certificate, certificate.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
    }

    /// Good files for all roles, the first CA for clients, the second for peers.
    pub(crate) fn write_all(config: &Path) {
        let (clients, peers) = (ca(), ca());
        write(config, Role::Server, &clients, |_| {});
        write(config, Role::Peer, &peers, |_| {});
        write(config, Role::Admin, &clients, |_| {});
    }

    const ADDRESS: &str = "a.etcd.default.etcd.bosh";

    fn faults(config: &Path) -> Vec<String> {
        check(config, ADDRESS, UnixTime::now())
            .err()
            .unwrap_or_default()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn good_certificates_tell_when_they_end() {
        let directory = tempfile::tempdir().unwrap();
        write_all(directory.path());

        let good = check(directory.path(), ADDRESS, UnixTime::now()).unwrap();

        assert_eq!(good.len(), 3);
        assert!(good.iter().all(|validity| validity.not_after_unix_secs > 0));
    }

    #[test]
    fn each_kind_of_wrong_certificate_is_told_by_its_property() {
        type Change = fn(&mut CertificateParams);
        let cases: [(Role, Change, &str); 6] = [
            (
                Role::Server,
                |params| params.not_after = rcgen::date_time_ymd(2000, 1, 1),
                "tls.server.certificate: (ended 2000-01-01T00:00:00Z) has expired",
            ),
            (Role::Server, |params| params.not_before = rcgen::date_time_ymd(4000, 1, 1), "is not valid yet"),
            (
                Role::Peer,
                |params| {
                    params.subject_alt_names =
                        vec![rcgen::SanType::DnsName("other.bosh".try_into().unwrap())];
                },
                "tls.peer.certificate: (for other.bosh) does not carry the instance's address a.etcd.default.etcd.bosh",
            ),
            (
                Role::Peer,
                |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
                "tls.peer.certificate: (set) may not be used as a client",
            ),
            (
                Role::Server,
                |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
                "tls.server.certificate: (set) may not be used as a server",
            ),
            (
                Role::Admin,
                |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
                "tls.admin.certificate: (set) may not be used as a client",
            ),
        ];
        for (role, change, expected) in cases {
            let directory = tempfile::tempdir().unwrap();
            let clients = ca();
            write(directory.path(), Role::Server, &clients, |_| {});
            write(directory.path(), Role::Peer, &ca(), |_| {});
            write(directory.path(), Role::Admin, &clients, |_| {});
            write(directory.path(), role, &clients, change);

            let told = faults(directory.path());

            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].contains(expected), "{told:?}");
        }
    }

    #[test]
    fn missing_torn_and_swapped_files_are_all_told_at_once() {
        let directory = tempfile::tempdir().unwrap();
        write_all(directory.path());
        fs::remove_file(Files::of(directory.path(), Role::Server).key).unwrap();
        fs::write(Files::of(directory.path(), Role::Peer).ca, "-----BEGIN CERTIFICATE-----\nAAA\n").unwrap();
        fs::write(Files::of(directory.path(), Role::Admin).key, KeyPair::generate().unwrap().serialize_pem())
            .unwrap();

        let told = faults(directory.path());

        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].starts_with("tls.server.private_key: (set) cannot be used:"), "{told:?}");
        assert!(told[1].starts_with("tls.peer.ca: (set) cannot be used:"), "{told:?}");
        assert!(told[2].contains("does not belong to"), "{told:?}");
    }

    #[test]
    fn an_admin_certificate_of_another_ca_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        write_all(directory.path());
        write(directory.path(), Role::Admin, &ca(), |_| {});

        let told = faults(directory.path());

        assert!(
            told[0].contains("tls.admin.certificate: (set) is signed by no CA that accepts it as a client"),
            "{told:?}"
        );
    }

    #[test]
    fn a_bundle_of_two_cas_is_accepted() {
        let directory = tempfile::tempdir().unwrap();
        write_all(directory.path());
        for role in [Role::Server, Role::Peer, Role::Admin] {
            let path = Files::of(directory.path(), role).ca;
            let both = format!("{}{}", ca().pem(), fs::read_to_string(&path).unwrap());
            fs::write(&path, both).unwrap();
        }

        assert_eq!(faults(directory.path()), Vec::<String>::new());
    }
}
