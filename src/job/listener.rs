//! Pages over mutual TLS: what the launcher's listener and that of job `etcd-backup` share. Each answers `GET` only, one
//! request a connection, and keeps what it may cost in memory and time small.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::journal;

/// More connections than this wait in the kernel's queue: each costs memory the programs promised not
/// to use.
const CONNECTIONS_MAX: usize = 64;
/// A handshake or a request that takes longer is somebody else's problem.
const PATIENCE: Duration = Duration::from_secs(10);

/// An answer.
pub type Page = Response<Full<Bytes>>;

/// Serves until dropped. `whose` listener it is stands in the log.
pub async fn serve<A, F>(listener: TcpListener, tls: Arc<ServerConfig>, whose: &'static str, answer: A)
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Page> + Send + 'static,
{
    let acceptor = TlsAcceptor::from(tls);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Descriptors exhausted, usually: keep what is open working and try again.
                journal::warn(
                    "a listener cannot accept",
                    &json!({"listener": whose, "error": error.to_string()}),
                );
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let (acceptor, answer) = (acceptor.clone(), answer.clone());
        tokio::spawn(async move {
            let _place = place;
            // A refused handshake is the caller's to tell: it knows which certificate it showed.
            let Ok(Ok(stream)) = timeout(PATIENCE, acceptor.accept(stream)).await else { return };
            let service = service_fn(|request: Request<Incoming>| {
                let answering = (request.method() == Method::GET).then(|| answer(request));
                async move {
                    Ok::<_, Infallible>(match answering {
                        Some(answering) => answering.await,
                        None => text_page(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned()),
                    })
                }
            });
            // A connection that breaks in the middle of a page has nobody left to be told.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// A page of plain text.
pub fn text_page(status: StatusCode, text: String) -> Page {
    page(status, "text/plain", text)
}

/// A page of JSON.
pub fn json_page(value: &Value) -> Page {
    let mut text = value.to_string();
    text.push('\n');
    page(StatusCode::OK, "application/json", text)
}

/// A page of Prometheus' text format.
pub fn metrics_page(text: String) -> Page {
    page(StatusCode::OK, "text/plain; version=0.0.4", text)
}

fn page(status: StatusCode, content_type: &'static str, text: String) -> Page {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}
