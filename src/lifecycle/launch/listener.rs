//! The launcher's listener: mutual TLS, six pages, always there, also while etcd is down or refused.
//!
//! `/state` attests this instance to its peers, `/readyz` says whether it serves linearizable reads,
//! `/config` shows the effective configuration without secrets, `/metrics` counts, `/standing` says how far the disk
//! is in raft's terms, `/probe` tries to reach an instance that is about to join.
//!
//! Why not the same port as etcd's metrics: it must answer when etcd cannot.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use rustls::{ClientConfig, ServerConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::links;
use super::observe::unix_ms;
use super::probe::{self, Outcome, Probed};
use super::readiness::Readiness;
use super::records::{RestoreProgress, RestoreRequest};
use super::standing::standing;
use crate::job::lifetime::{self, Watched};
use crate::job::listener::{self, Page, json_page, metrics_page, text_page};
use crate::job::paths::Paths;
use crate::journal;
use crate::lifecycle::records;

/// How long an instance that is about to join may take to answer; who asked waits longer.
const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// What a launcher asks another for when it has created the cluster that both wait for: the state, and
/// please look again.
pub const NEWS: &str = "/state?news";

/// What stands behind the pages.
#[derive(Clone)]
pub struct Doors {
    /// The pages that are kept.
    pub board: Arc<Board>,
    /// Asked on demand.
    pub readiness: Arc<Readiness>,
    /// Told when another launcher has news.
    pub news: Arc<Notify>,
    /// To other instances, as their peer: how an instance that is about to join is tried.
    pub as_peer: Arc<ClientConfig>,
    /// Where such an instance's URL is remembered: it may be gone before it is in the link here.
    pub paths: Paths,
    /// When the job's certificates end: files may be renewed under a running launcher.
    pub certificates: Arc<Watched>,
}

/// What the pages show, kept current by the launcher.
#[derive(Debug, Default)]
pub struct Board {
    content: Mutex<Content>,
}

/// How far a learner has caught up with the leader, in raft indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatchingUp {
    /// Applied here.
    pub applied: u64,
    /// Committed by the leader.
    pub of: u64,
}

#[derive(Debug, Default)]
struct Content {
    state: Value,
    configuration: Value,
    metrics: String,
}

impl Board {
    /// What `/state` shows from now on.
    pub fn post_state(&self, state: Value) {
        self.content().state = state;
    }

    /// How far a learner has caught up; `/state` shows it until the next state is posted.
    pub fn post_catching_up(&self, progress: Option<CatchingUp>) {
        if let (Value::Object(fields), Some(progress)) = (&mut self.content().state, progress) {
            fields.insert("catching_up".to_owned(), json!(progress));
        }
    }

    /// How far the validation of the data is; `/state` shows it until the next state is posted.
    pub fn post_validation(&self, told: Value) {
        if let Value::Object(fields) = &mut self.content().state {
            fields.insert("validation".to_owned(), told);
        }
    }

    /// What `/config` shows from now on. Never a secret: it has none to begin with.
    pub fn post_configuration(&self, configuration: Value) {
        self.content().configuration = configuration;
    }

    /// What `/metrics` shows from now on, in Prometheus' text format.
    pub fn post_metrics(&self, metrics: String) {
        self.content().metrics = metrics;
    }

    fn content(&self) -> std::sync::MutexGuard<'_, Content> {
        // A panic while posting leaves whole values behind: each post is one assignment.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Binds the listener; the caller serves it.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until dropped.
pub async fn serve(listener: TcpListener, tls: Arc<ServerConfig>, doors: Doors) {
    listener::serve(listener, tls, "the launcher's", move |request| answer(request, doors.clone())).await;
}

async fn answer(request: Request<Incoming>, doors: Doors) -> Page {
    let Doors { board, readiness, news, as_peer, paths, certificates } = doors;
    match request.uri().path() {
        "/state" => {
            if request.uri().query() == Some("news") {
                news.notify_one();
            }
            let mut state = board.content().state.clone();
            if let Value::Object(fields) = &mut state {
                fields.insert("certificates".to_owned(), json!(*certificates.lifetimes()));
                // Written by the errand, also while etcd runs and nothing is decided here.
                fields.insert("restore".to_owned(), json!(restore_files(&paths)));
            }
            json_page(&state)
        }
        "/config" => json_page(&board.content().configuration),
        "/metrics" => {
            metrics_page(board.content().metrics.clone() + &lifetime::metrics(&certificates.lifetimes()))
        }
        "/readyz" => match readiness.check().await {
            Ok(()) => text_page(StatusCode::OK, "ok\n".to_owned()),
            Err(why) => text_page(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        },
        "/standing" => {
            let looked = tokio::task::spawn_blocking(move || standing(&paths)).await;
            match looked.map_err(std::io::Error::other).flatten() {
                Ok(standing) => json_page(&json!(standing)),
                Err(error) => text_page(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            }
        }
        probe::PAGE => match request.uri().query().and_then(probe::question) {
            Some((instance, url)) => {
                let outcome = probe::attempt(&instance, &url, as_peer, PROBE_LIMIT).await;
                if outcome == Outcome::Reached
                    && let Err(error) = links::remember(&paths, [url])
                {
                    let fields = json!({"error": error.to_string()});
                    journal::warn("the URL of an instance that joins is not remembered", &fields);
                }
                let probed = Probed { outcome, at_unix_ms: unix_ms() };
                json_page(&serde_json::to_value(probed).unwrap_or_default())
            }
            None => text_page(StatusCode::BAD_REQUEST, "?instance=ID&url=URL\n".to_owned()),
        },
        _ => text_page(
            StatusCode::NOT_FOUND,
            "pages: /state /readyz /config /metrics /standing /probe\n".to_owned(),
        ),
    }
}

/// What the restore errand has written on this disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreFiles {
    /// What is to be restored.
    pub request: Option<RestoreRequest>,
    /// How the errand fares.
    pub progress: Option<RestoreProgress>,
}

/// One that cannot be read counts as absent, as for the launcher itself.
fn restore_files(paths: &Paths) -> RestoreFiles {
    RestoreFiles {
        request: records::read(paths).unwrap_or_default(),
        progress: records::read(paths).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::connect::{ConnectError, Target};
    use crate::etcd::http;
    use crate::etcd::tls::{Files, Identity, Protocol, Role};
    use crate::job::certificate::tests::{ca, write};

    const LIMIT: Duration = Duration::from_secs(30);

    fn identity(config: &std::path::Path, role: Role) -> Identity {
        Identity::load(&Files::of(config, role)).unwrap()
    }

    #[tokio::test]
    async fn peers_and_the_administrator_are_let_in_and_nobody_else() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path();
        let (clients, peers) = (ca(), ca());
        write(config, Role::Peer, &peers, |_| {});
        write(config, Role::Admin, &clients, |_| {});
        // An ordinary client: signed by the administrator's CA, with another name.
        write(config, Role::Server, &clients, |_| {});
        let (peer, admin, client) =
            (identity(config, Role::Peer), identity(config, Role::Admin), identity(config, Role::Server));
        let board = Arc::new(Board::default());
        board.post_state(json!({"instance": "a"}));
        let readiness = Arc::new(Readiness::down("etcd is not running: waiting for b"));
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(serve(
            listener,
            peer.server_letting_in(&admin).unwrap(),
            Doors {
                board,
                readiness,
                news: Arc::new(Notify::new()),
                as_peer: peer.client(&peer, Protocol::Http1),
                paths: Paths::below(directory.path()),
                certificates: Arc::new(Watched::new(config.to_owned())),
            },
        ));
        let target =
            Target { dial: "127.0.0.1".to_owned(), port, name: "a.etcd.default.etcd.bosh".to_owned() };
        let get = async |identity: &Identity, path: &str| {
            http::get(&target, path, identity.client(&peer, Protocol::Http1), LIMIT).await
        };

        let by_peer = get(&peer, "/state").await.unwrap();
        let by_admin = get(&admin, "/readyz").await.unwrap();
        let by_client = get(&client, "/state").await;
        let unknown = get(&peer, "/x").await.unwrap();
        server.abort();

        let state: Value = serde_json::from_slice(&by_peer.body).unwrap();
        assert_eq!((by_peer.status, &state["instance"]), (200, &json!("a")));
        assert_eq!(state["certificates"][0]["certificate"], "server");
        assert_eq!((by_admin.status, by_admin.body), (503, b"etcd is not running: waiting for b\n".to_vec()));
        assert!(matches!(by_client, Err(ConnectError::Untrusted(_))), "{by_client:?}");
        assert_eq!(unknown.status, 404);
    }
}
