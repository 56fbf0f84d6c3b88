//! Mutual TLS: identities read from the job's certificate files, and what both ends demand.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};

use super::renewal::Renewed;

/// Certificate files are small; what lies behind this is not read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Which of the job's certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// etcd's client listener.
    Server,
    /// Peer traffic, both directions, and the launcher's listener.
    Peer,
    /// Common name `root`: membership changes and snapshots need it once auth is on.
    Admin,
    /// Without privileges, for programs on the members. Optional, and the job itself does not use it.
    Client,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Server, Self::Peer, Self::Admin, Self::Client];

    /// The name in `tls.NAME` and in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Peer => "peer",
            Self::Admin => "admin",
            Self::Client => "client",
        }
    }
}

/// The three files of one role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// CA bundle (one or more certificates: two during a CA rotation).
    pub ca: PathBuf,
    /// Certificate chain, leaf first.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

impl Files {
    /// The files of a role below the job's `config` directory.
    pub fn of(config: &Path, role: Role) -> Self {
        let name = role.name();
        Self {
            ca: config.join(format!("{name}-ca.crt")),
            certificate: config.join(format!("{name}.crt")),
            key: config.join(format!("{name}.key")),
        }
    }
}

/// Why certificate files cannot be used. Never shows content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsFileError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {why}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        why: String,
    },
    /// The file does not hold what it should.
    #[error("{path} holds no usable {expected}: {why}")]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// The parser's reason.
        why: String,
    },
    /// Key and certificate are not a pair.
    #[error("{key} does not belong to {certificate}")]
    Mismatch {
        /// The key file.
        key: PathBuf,
        /// The certificate file.
        certificate: PathBuf,
    },
}

/// One role's certificate, key and the CAs it trusts, ready for use. Connections made with it show what the
/// files hold by then; the CAs are those of the moment it was loaded, as in etcd.
#[derive(Clone)]
pub struct Identity {
    loaded: Arc<CertifiedKey>,
    renewed: Arc<Renewed>,
    roots: Arc<RootCertStore>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key must never reach a log.
        f.debug_struct("Identity").field("roots", &self.roots.len()).finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads the files of one role and checks that key and certificate belong together.
    pub fn load(files: &Files) -> Result<Self, TlsFileError> {
        let renewed = Renewed::load(files)?;
        Ok(Self { loaded: renewed.pair(), renewed: Arc::new(renewed), roots: Arc::new(roots(&files.ca)?) })
    }

    /// The leaf certificate as it was loaded, in DER.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.loaded.cert[0]
    }

    /// The CAs this role trusts.
    pub fn roots(&self) -> &Arc<RootCertStore> {
        &self.roots
    }

    /// The chain behind the leaf.
    pub fn intermediates(&self) -> &[CertificateDer<'static>] {
        &self.loaded.cert[1..]
    }

    /// A client that shows this identity and trusts the CAs of `server` (its own role, or another's).
    pub fn client(&self, server: &Self, protocol: Protocol) -> Arc<ClientConfig> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring supports the default protocol versions")
            .with_root_certificates(server.roots.clone())
            .with_client_cert_resolver(self.renewed.clone());
        config.alpn_protocols = vec![protocol.alpn().to_vec()];
        Arc::new(config)
    }

    /// A server with this identity that lets in whoever a CA of this role signed, and the holder of
    /// `guest`'s common name signed by one of `guest`'s CAs.
    pub fn server_letting_in(&self, guest: &Self) -> Result<Arc<ServerConfig>, rustls::Error> {
        let verifier = PeersAndGuest {
            peers: verifier(&self.roots)?,
            guests: verifier(&guest.roots)?,
            guest_name: common_name(guest.leaf()).unwrap_or_default(),
        };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(self.renewed.clone());
        config.alpn_protocols = vec![Protocol::Http1.alpn().to_vec()];
        Ok(Arc::new(config))
    }
}

/// What is spoken inside the TLS connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC: etcd's client port.
    Grpc,
    /// etcd's peer port, the pages of its client port, and the launcher's listener.
    Http1,
}

impl Protocol {
    fn alpn(self) -> &'static [u8] {
        match self {
            Self::Grpc => b"h2",
            Self::Http1 => b"http/1.1",
        }
    }
}

/// Peers by their CA; one guest by its CA *and* its common name, because the CA that signs the
/// administrator's certificate also signs those of ordinary clients.
#[derive(Debug)]
struct PeersAndGuest {
    peers: Arc<dyn ClientCertVerifier>,
    guests: Arc<dyn ClientCertVerifier>,
    guest_name: String,
}

impl ClientCertVerifier for PeersAndGuest {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let as_peer = self.peers.verify_client_cert(end_entity, intermediates, now);
        if as_peer.is_ok()
            || self.guest_name.is_empty()
            || common_name(end_entity).as_ref() != Some(&self.guest_name)
        {
            return as_peer;
        }
        self.guests.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.peers.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.peers.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.peers.supported_verify_schemes()
    }
}

fn verifier(roots: &Arc<RootCertStore>) -> Result<Arc<dyn ClientCertVerifier>, rustls::Error> {
    WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))
}

/// The one cryptography provider of the release.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The subject's common name.
pub fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    parsed.subject().iter_common_name().next()?.as_str().ok().map(str::to_owned)
}

/// Reads certificate and key of one role and checks that they belong together.
pub(super) fn certified(files: &Files) -> Result<CertifiedKey, TlsFileError> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
        .map_err(|error| unusable(&files.key, "private key", &error))?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsFileError::Mismatch { key: files.key.clone(), certificate: files.certificate.clone() }
        }
        other => unusable(&files.certificate, "certificate and key", &other),
    })
}

/// A file of certificates or a key, up to a size that none of them has.
fn read(path: &Path) -> Result<Vec<u8>, TlsFileError> {
    let mut content = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut content))
        .map(|_| content)
        .map_err(|error| TlsFileError::Unreadable { path: path.to_owned(), why: error.to_string() })
}

/// The certificates of a file, in DER, at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    certificates_in(&read(path)?).map_err(|why| unusable(path, "certificate", &why))
}

/// The same of what such a file holds. Errors: why it is of no use.
pub fn certificates_in(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err("no PEM block".to_owned()),
        Ok(chain) => Ok(chain),
        Err(error) => Err(error.to_string()),
    }
}

fn roots(path: &Path) -> Result<RootCertStore, TlsFileError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| unusable(path, "CA certificate", &error))?;
    }
    Ok(roots)
}

fn unusable(path: &Path, expected: &'static str, why: &dyn fmt::Display) -> TlsFileError {
    TlsFileError::Unusable { path: path.to_owned(), expected, why: why.to_string() }
}
