//! Connections whose failures keep their kind: refused, timeout, DNS and TLS are four different
//! errors, because an operator repairs each of them elsewhere.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Why no connection came about, or why a request on it failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// No answer in time.
    #[error("no answer within {}", seconds(*.0))]
    Timeout(Duration),
    /// The name does not resolve.
    #[error("the name does not resolve: {0}")]
    Dns(String),
    /// The handshake failed because one side's certificate is signed by nobody whom the other trusts.
    #[error("TLS: {0}")]
    Untrusted(String),
    /// The handshake failed otherwise. Never to be taken for "nobody is there".
    #[error("TLS: {0}")]
    Tls(String),
    /// The network says no (no route, reset …).
    #[error("{0}")]
    Network(String),
}

fn seconds(duration: Duration) -> String {
    if duration.subsec_millis() == 0 {
        format!("{} s", duration.as_secs())
    } else {
        format!("{} ms", duration.as_millis())
    }
}

/// Where to connect and whom to expect there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// DNS name or address to dial.
    pub dial: String,
    /// Port to dial.
    pub port: u16,
    /// Name the certificate must carry; often the same as `dial`.
    pub name: String,
}

impl Target {
    /// Dials `host` and expects its name in the certificate.
    pub fn named(host: &str, port: u16) -> Self {
        Self { dial: host.to_owned(), port, name: host.to_owned() }
    }
}

/// Connects, all within `limit`: name resolution, TCP and TLS together.
pub async fn connect(
    target: &Target,
    tls: Arc<ClientConfig>,
    limit: Duration,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    timeout(limit, connect_unbounded(target, tls)).await.unwrap_or(Err(ConnectError::Timeout(limit)))
}

async fn connect_unbounded(
    target: &Target,
    tls: Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let name = ServerName::try_from(target.name.clone())
        .map_err(|_| ConnectError::Dns(format!("'{}' is neither a DNS name nor an address", target.name)))?;
    let stream = dial(target).await?;
    TlsConnector::from(tls).connect(name, stream).await.map_err(|error| of_handshake(&error))
}

/// Connects without TLS.
pub async fn connect_plain(target: &Target, limit: Duration) -> Result<TcpStream, ConnectError> {
    timeout(limit, dial(target)).await.unwrap_or(Err(ConnectError::Timeout(limit)))
}

async fn dial(target: &Target) -> Result<TcpStream, ConnectError> {
    let mut last = ConnectError::Dns(format!("'{}' has no address", target.dial));
    for address in addresses(target).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Small requests, one at a time: waiting to fill packets only costs.
                stream.set_nodelay(true).map_err(|error| of_io(&error))?;
                return Ok(stream);
            }
            Err(error) => last = of_io(&error),
        }
    }
    Err(last)
}

async fn addresses(target: &Target) -> Result<Vec<SocketAddr>, ConnectError> {
    // An address needs no resolver, and the resolver costs a thread.
    if let Ok(address) = target.dial.parse() {
        return Ok(vec![SocketAddr::new(address, target.port)]);
    }
    match tokio::net::lookup_host((target.dial.as_str(), target.port)).await {
        Ok(addresses) => Ok(addresses.collect()),
        Err(error) => Err(ConnectError::Dns(format!("'{}': {error}", target.dial))),
    }
}

fn of_io(error: &io::Error) -> ConnectError {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ConnectError::Refused,
        io::ErrorKind::TimedOut => ConnectError::Network("the network timed out".to_owned()),
        _ => ConnectError::Network(error.to_string()),
    }
}

/// rustls hands its errors out inside `io::Error`. A connection that ends in the middle of the
/// handshake is a TLS failure as well: that is how a server says it does not like the certificate.
fn of_handshake(error: &io::Error) -> ConnectError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(tls) => of_tls(tls),
        None => ConnectError::Tls(format!("the other side ended the handshake: {error}")),
    }
}

/// Who signed the certificate is a matter between CAs, anything else one of the certificate. A CA that was made
/// anew has the subject of the old one, so that its signatures only look wrong.
pub(super) fn of_tls(error: &rustls::Error) -> ConnectError {
    match error {
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )
        | rustls::Error::AlertReceived(AlertDescription::UnknownCA | AlertDescription::DecryptError) => {
            ConnectError::Untrusted(error.to_string())
        }
        other => ConnectError::Tls(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::RootCertStore;

    fn anonymous() -> Arc<ClientConfig> {
        Arc::new(
            ClientConfig::builder_with_provider(crate::etcd::tls::provider())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth(),
        )
    }

    #[tokio::test]
    async fn each_failure_keeps_its_kind() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let plain_port = plain.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = plain.accept().await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .await
                .unwrap();
        });
        let limit = Duration::from_millis(200);

        let refused = connect(&Target::named("127.0.0.1", closed), anonymous(), limit).await;
        let timeout =
            connect(&Target::named("127.0.0.1", silent.local_addr().unwrap().port()), anonymous(), limit)
                .await;
        let dns =
            connect(&Target::named("no-such-host.invalid", 1), anonymous(), Duration::from_secs(20)).await;
        let tls =
            connect(&Target::named("127.0.0.1", plain_port), anonymous(), Duration::from_secs(20)).await;

        assert_eq!(refused.unwrap_err(), ConnectError::Refused);
        assert_eq!(timeout.unwrap_err(), ConnectError::Timeout(limit));
        assert!(matches!(dns.unwrap_err(), ConnectError::Dns(_)));
        assert!(matches!(tls.unwrap_err(), ConnectError::Tls(_)));
    }
}
