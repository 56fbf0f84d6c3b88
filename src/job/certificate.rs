//! Are the job's certificates good for what they are used for? Asked before etcd starts, because its
//! own answer to a wrong certificate is a riddle in somebody else's log.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, RootCertStore};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Version};
use x509_parser::public_key::PublicKey;

use super::lifetime::{End, Lifetime, lifetimes};
use super::properties::Fault;
use crate::etcd::tls::{Files, Identity, Role, TlsFileError, certificates, provider};

/// The shortest RSA key that both ends take.
const RSA_BITS_MIN: usize = 2048;

/// Something about certificates that a person should know although everything works today.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// It ends soon.
    EndsSoon(Lifetime),
    /// A CA has ended beside one that is good.
    Ended(Lifetime),
    /// A certificate in a bundle cannot sign others.
    UselessCa {
        /// Which bundle.
        bundle: String,
        /// Its subject.
        subject: String,
        /// Why not.
        why: String,
    },
}

/// Checks all certificates of the job; `name` is what other instances dial (`spec.address`), `now` the
/// present. Every fault is told, or what is doubtful if there is none.
pub fn check(config: &Path, name: &str, now: UnixTime) -> Result<Vec<Doubt>, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut load = |role: Role| Party::load(config, role, now).map_err(|fault| faults.push(fault)).ok();
    let (server, peer, admin) = (load(Role::Server), load(Role::Peer), load(Role::Admin));
    if let Some(server) = &server {
        faults.extend(as_server(server, name, now));
    }
    if let Some(peer) = &peer {
        faults.extend(as_server(peer, name, now));
        faults.extend(as_client(peer, peer, now));
    }
    // etcd lets clients in by the CA of its server certificate's role.
    if let (Some(admin), Some(server)) = (&admin, &server) {
        faults.extend(as_client(admin, server, now));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let useless = [server, peer, admin].into_iter().flatten().flat_map(|party| party.useless);
    Ok(useless.chain(ends(config, now)).collect())
}

/// What ends soon. A CA that has ended already is told by its bundle.
fn ends(config: &Path, now: UnixTime) -> impl Iterator<Item = Doubt> {
    let now = seconds(now);
    let near = move |one: &Lifetime| one.end(now) == End::Soon;
    lifetimes(config).into_iter().filter(near).map(Doubt::EndsSoon)
}

/// One role with the CAs that count.
struct Party {
    role: Role,
    identity: Identity,
    /// The CAs that can sign today.
    roots: Arc<RootCertStore>,
    /// The rest of the bundle.
    useless: Vec<Doubt>,
}

impl Party {
    fn load(config: &Path, role: Role, now: UnixTime) -> Result<Self, Fault> {
        let files = Files::of(config, role);
        let chain = certificates(&files.certificate).unwrap_or_default();
        // Asked first: the TLS library's own words for it are a riddle.
        if let Some(why) = chain.iter().find_map(weakness) {
            return Err(fault(role, "certificate", "(set)", &why));
        }
        let identity = Identity::load(&files).map_err(|error| file_fault(role, &error))?;
        let bundle = certificates(&files.ca).map_err(|error| file_fault(role, &error))?;
        let (mut roots, mut useless) = (RootCertStore::empty(), Vec::new());
        for ca in bundle {
            match uselessness(role, &ca, seconds(now)) {
                Some(doubt) => useless.push(doubt),
                None => roots
                    .add(ca)
                    .map_err(|error| fault(role, "ca", "(set)", &format!("cannot be used: {error}")))?,
            }
        }
        if roots.is_empty() {
            let all: Vec<String> = useless.iter().map(Doubt::words).collect();
            return Err(fault(
                role,
                "ca",
                &format!("({})", all.join("; ")),
                "holds no CA that can sign today",
            ));
        }
        Ok(Self { role, identity, roots: Arc::new(roots), useless })
    }
}

impl Doubt {
    /// What is the matter, in a few words.
    pub fn words(&self) -> String {
        match self {
            Self::EndsSoon(one) => format!("{} ends on {}", one.name(), one.not_after),
            Self::Ended(one) => format!("{} ended on {}", one.name(), one.not_after),
            Self::UselessCa { bundle, subject, why } => format!("{subject} in {bundle} {why}"),
        }
    }
}

/// etcd refuses what such a CA signed, and so do we.
fn uselessness(role: Role, ca: &CertificateDer<'_>, now: i64) -> Option<Doubt> {
    let bundle = format!("{}-ca", role.name());
    let lifetime = Lifetime::of(&bundle, ca)?;
    let (_, parsed) = X509Certificate::from_der(ca).ok()?;
    let is_ca = parsed.basic_constraints().ok().flatten().is_some_and(|constraints| constraints.value.ca);
    let why = if lifetime.end(now) == End::Past {
        return Some(Doubt::Ended(lifetime));
    } else if parsed.validity().not_before.timestamp() > now {
        "is not valid yet".to_owned()
    } else if !is_ca && parsed.version() == X509Version::V3 {
        "is no CA (basic constraints)".to_owned()
    } else {
        short_key(&parsed)?
    };
    Some(Doubt::UselessCa { bundle, subject: lifetime.subject, why })
}

/// Why a certificate is too weak for either end.
fn weakness(certificate: &CertificateDer<'static>) -> Option<String> {
    /// With MD5 or SHA-1: of RSA, of ECDSA.
    const BROKEN: [&str; 3] = ["1.2.840.113549.1.1.4", "1.2.840.113549.1.1.5", "1.2.840.10045.4.1"];
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let algorithm = parsed.signature_algorithm.algorithm.to_id_string();
    if BROKEN.contains(&algorithm.as_str()) {
        return Some("is signed with SHA-1 or MD5; SHA-256 or better is needed".to_owned());
    }
    short_key(&parsed)
}

fn short_key(certificate: &X509Certificate<'_>) -> Option<String> {
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) if key.key_size() < RSA_BITS_MIN => {
            Some(format!("has an RSA key of {} bits; at least {RSA_BITS_MIN} are needed", key.key_size()))
        }
        Ok(_) | Err(_) => None,
    }
}

fn seconds(now: UnixTime) -> i64 {
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

fn as_server(party: &Party, name: &str, now: UnixTime) -> Option<Fault> {
    let (role, leaf) = (party.role, party.identity.leaf());
    let Ok(server_name) = ServerName::try_from(name.to_owned()) else {
        return Some(fault(
            role,
            "certificate",
            name,
            "cannot be checked: the instance's address is no DNS name",
        ));
    };
    let verify = |roots: &Arc<RootCertStore>| {
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(leaf, party.identity.intermediates(), &server_name, &[], now).map(|_| ())
    };
    let error = verify(&party.roots).err()?;
    let signed_by_useless = verify(party.identity.roots()).is_ok();
    Some(certificate_fault(
        &Refused { role, usage: "server", by: party, signed_by_useless },
        leaf,
        name,
        &error,
    ))
}

fn as_client(party: &Party, accepted_by: &Party, now: UnixTime) -> Option<Fault> {
    let (role, leaf) = (party.role, party.identity.leaf());
    let verify = |roots: &Arc<RootCertStore>| {
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_client_cert(leaf, party.identity.intermediates(), now).map(|_| ())
    };
    let error = verify(&accepted_by.roots).err()?;
    let signed_by_useless = verify(accepted_by.identity.roots()).is_ok();
    Some(certificate_fault(
        &Refused { role, usage: "client", by: accepted_by, signed_by_useless },
        leaf,
        "",
        &error,
    ))
}

/// Who was refused, by whom.
struct Refused<'a> {
    role: Role,
    usage: &'static str,
    by: &'a Party,
    /// Whether it would be accepted if all CAs of the bundle could sign.
    signed_by_useless: bool,
}

fn certificate_fault(
    refused: &Refused<'_>,
    leaf: &CertificateDer<'_>,
    name: &str,
    error: &rustls::Error,
) -> Fault {
    let Refused { role, usage, by, signed_by_useless } = *refused;
    if signed_by_useless {
        let all: Vec<String> = by.useless.iter().map(Doubt::words).collect();
        let demand = format!("is signed by a CA that may not sign today ({})", all.join("; "));
        return fault(role, "certificate", "(set)", &demand);
    }
    let until = Lifetime::of(role.name(), leaf).map(|lifetime| lifetime.not_after).unwrap_or_default();
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

    fn doubts(config: &Path) -> Vec<String> {
        let doubts = check(config, ADDRESS, UnixTime::now()).unwrap();
        doubts.iter().map(Doubt::words).collect()
    }

    /// A CA with something changed.
    fn ca_with(change: impl FnOnce(&mut CertificateParams)) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "special");
        change(&mut params);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn prepend(path: &Path, pem: &str) {
        let all = format!("{pem}{}", fs::read_to_string(path).unwrap());
        fs::write(path, all).unwrap();
    }

    #[test]
    fn leaves_and_cas_that_end_soon_are_doubts() {
        let directory = tempfile::tempdir().unwrap();
        write_all(directory.path());
        assert_eq!(doubts(directory.path()), [""; 0]);
        let day = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(29 * 24);
        let day = day.to_zoned(jiff::tz::TimeZone::UTC).date();
        let end = rcgen::date_time_ymd(
            i32::from(day.year()),
            day.month().try_into().unwrap(),
            day.day().try_into().unwrap(),
        );

        let soon = ca_with(|params| params.not_after = end);
        write(directory.path(), Role::Peer, &soon, |params| params.not_after = end);

        let told = doubts(directory.path());
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("peer ends on 20"), "{told:?}");
        assert!(told[1].starts_with("CA special in peer-ca ends on 20"), "{told:?}");
    }

    #[test]
    fn an_ended_ca_and_one_that_is_none_are_doubts_beside_a_good_one_and_faults_alone() {
        type Make<'a> = &'a dyn Fn() -> CertifiedIssuer<'static, KeyPair>;

        let ended = || ca_with(|params| params.not_after = rcgen::date_time_ymd(2001, 1, 1));
        let no_ca = || ca_with(|params| params.is_ca = IsCa::ExplicitNoCa);
        let future = || ca_with(|params| params.not_before = rcgen::date_time_ymd(4000, 1, 1));
        let cases: [(Make<'_>, &str); 3] = [
            (&ended, "CA special in peer-ca ended on 2001-01-01T00:00:00Z"),
            (&no_ca, "special in peer-ca is no CA (basic constraints)"),
            (&future, "special in peer-ca is not valid yet"),
        ];
        for (make, words) in cases {
            let directory = tempfile::tempdir().unwrap();
            write_all(directory.path());
            let bundle = Files::of(directory.path(), Role::Peer).ca;

            prepend(&bundle, &make().pem());
            assert_eq!(doubts(directory.path()), [words]);

            write(directory.path(), Role::Peer, &make(), |_| {});
            let alone = faults(directory.path());
            assert_eq!(alone.len(), 1, "{alone:?}");
            assert!(
                alone[0].starts_with(&format!("tls.peer.ca: ({words}) holds no CA that can sign")),
                "{alone:?}"
            );

            prepend(&bundle, &ca().pem());
            let signer = faults(directory.path());
            let expected =
                format!("tls.peer.certificate: (set) is signed by a CA that may not sign today ({words})");
            assert_eq!(signer.len(), 2, "as a server and as a client: {signer:?}");
            assert!(signer.iter().all(|told| told.starts_with(&expected)), "{signer:?}");
        }
    }

    #[test]
    fn a_chain_with_an_intermediate_is_good_only_with_all_its_links() {
        let directory = tempfile::tempdir().unwrap();
        write_all(directory.path());
        let root = ca();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.distinguished_name.push(rcgen::DnType::CommonName, "intermediate");
        let between = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &root).unwrap();
        let files = Files::of(directory.path(), Role::Peer);
        write(directory.path(), Role::Peer, &between, |_| {});
        fs::write(&files.ca, root.pem()).unwrap();

        let broken = faults(directory.path());
        assert!(broken[0].contains("is signed by no CA that accepts it as a server"), "{broken:?}");

        let leaf = fs::read_to_string(&files.certificate).unwrap();
        fs::write(&files.certificate, format!("{leaf}{}", between.pem())).unwrap();
        assert_eq!(doubts(directory.path()), [""; 0]);
    }

    /// Made by `openssl req -x509 -newkey rsa:1024` and `-sha1`: no library of ours makes such any more.
    #[test]
    fn short_keys_and_broken_signatures_are_told_in_words() {
        for (certificate, words) in [
            (
                include_str!("certificate/rsa-1024.crt"),
                "tls.peer.certificate: (set) has an RSA key of 1024 bits; at least 2048 are needed",
            ),
            (
                include_str!("certificate/sha1.crt"),
                "tls.peer.certificate: (set) is signed with SHA-1 or MD5; SHA-256 or better is needed",
            ),
        ] {
            let directory = tempfile::tempdir().unwrap();
            write_all(directory.path());
            let files = Files::of(directory.path(), Role::Peer);
            fs::write(&files.certificate, certificate).unwrap();

            let told = faults(directory.path());

            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].starts_with(words), "{told:?}");
        }
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
