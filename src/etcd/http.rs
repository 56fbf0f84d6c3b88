//! One GET over mutual TLS with a limit on everything: for etcd's peer port and launchers' listeners.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::time::timeout;

use super::connect::{ConnectError, Target, connect, of_tls};

/// Answers are small; more is not ours.
const BODY_BYTES_MAX: usize = 1 << 20;

/// An answer: status code, the cluster id header if there is one, and the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// `X-Etcd-Cluster-ID`, which etcd's peer port sends.
    pub cluster_id: Option<String>,
    /// At most one MiB.
    pub body: Vec<u8>,
}

/// GETs `path`, all within `limit`.
pub async fn get(
    target: &Target,
    path: &str,
    tls: Arc<ClientConfig>,
    limit: Duration,
) -> Result<Answer, ConnectError> {
    timeout(limit, get_unbounded(target, path, tls, limit)).await.unwrap_or(Err(ConnectError::Timeout(limit)))
}

async fn get_unbounded(
    target: &Target,
    path: &str,
    tls: Arc<ClientConfig>,
    limit: Duration,
) -> Result<Answer, ConnectError> {
    let stream = connect(target, tls, limit).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    let request = Request::get(path)
        .header(hyper::header::HOST, format!("{}:{}", target.name, target.port))
        .body(Empty::<Bytes>::new())
        .map_err(|error| ConnectError::Network(error.to_string()))?;
    // The connection is polled beside the request and dropped with it: nothing outlives this call.
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let status = response.status().as_u16();
        let cluster_id = response
            .headers()
            .get("x-etcd-cluster-id")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let body = Limited::new(response.into_body(), BODY_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| ConnectError::Network(error.to_string()))?;
        Ok(Answer { status, cluster_id, body: body.to_bytes().to_vec() })
    };
    tokio::pin!(exchange);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        ended = connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(broken(&error)),
        },
    }
}

/// With TLS 1.3 a server refuses the client's certificate after the handshake, in the first read.
fn broken(error: &hyper::Error) -> ConnectError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(cause) = source {
        let inner = cause
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(tls) = inner {
            return of_tls(tls);
        }
        source = cause.source();
    }
    ConnectError::Network(crate::report::chain(&anyhow::anyhow!(error.to_string())))
}
