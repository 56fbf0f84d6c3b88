//! The job's listener: `/metrics` and `/state`, over mutual TLS, for whom the launcher's lets in. A standby answers, too.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use jiff::Timestamp;
use rustls::{ClientConfig, ServerConfig};
use serde_json::Value;
use tokio::net::TcpListener;

use super::board::Board;
use super::page::{self, Requests};
use crate::backup::store::{Act, Meter, Store};
use crate::etcd::connect::Target;
use crate::etcd::http;
use crate::job::config::JobConfig;
use crate::job::listener::{self, Page, json_page, metrics_page, text_page};
use crate::job::paths::Paths;
use crate::job::reach::Reach;
use crate::report::Complaint;

/// What an instance says of itself, without asking the others who is active.
const OWN_STATE: &str = "/state?own";
/// How long another instance may take to say whether it is active.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Where the pages are, and what they need to know.
pub struct Pages {
    address: SocketAddr,
    tls: Arc<ServerConfig>,
    instance: String,
    others: Vec<Target>,
    as_peer: Arc<ClientConfig>,
}

impl Pages {
    /// With certificates and addresses of job `etcd` on the same VM.
    pub fn of_job(paths: &Paths, port: u16) -> Result<Self, Complaint> {
        let job = JobConfig::load(&paths.job_json())?;
        let unusable = |why: String| {
            Complaint::failed(
                why,
                "the pages of job etcd-backup are shown only over mutual TLS",
                "correct the certificates of job etcd and deploy again",
            )
        };
        let reach = Reach::load(paths).map_err(|error| unusable(error.to_string()))?;
        let tls = reach.peer.server_letting_in(&reach.admin).map_err(|error| unusable(error.to_string()))?;
        Ok(Self {
            address: SocketAddr::new(job.peer_listen_ip(), port),
            tls,
            instance: job.own().instance.clone(),
            others: job.others().map(|peer| Target::named(&peer.address, port)).collect(),
            as_peer: reach.as_peer,
        })
    }

    /// Begins to answer, until the program ends.
    pub(super) async fn serve(self, board: Arc<Board>, store: &Store) -> Result<(), Complaint> {
        let address = self.address;
        let listener = TcpListener::bind(address).await.map_err(|error| {
            Complaint::failed(
                format!("the listener of job etcd-backup cannot bind {address}: {error}"),
                "nobody could see whether backups are taken",
                "free the port or set the property backup_port",
            )
        })?;
        let doors = Doors {
            board,
            meter: store.meter().clone(),
            store: store.url().into(),
            instance: self.instance.into(),
            others: self.others.into(),
            as_peer: self.as_peer,
        };
        tokio::spawn(listener::serve(listener, self.tls, "job etcd-backup's", move |request| {
            answer(request, doors.clone())
        }));
        Ok(())
    }
}

#[derive(Clone)]
struct Doors {
    board: Arc<Board>,
    meter: Arc<Meter>,
    store: Arc<str>,
    instance: Arc<str>,
    others: Arc<[Target]>,
    as_peer: Arc<ClientConfig>,
}

async fn answer(request: Request<Incoming>, doors: Doors) -> Page {
    let now = Timestamp::now();
    let content = doors.board.content();
    match request.uri().path() {
        "/metrics" => {
            let requests = Requests {
                acts: Act::ALL.map(|act| doors.meter.figures(act)),
                uploaded_bytes: doors.meter.uploaded_bytes(),
            };
            metrics_page(page::metrics(&content, &requests, now))
        }
        "/state" => {
            let mut state = page::state(&content, &doors.instance, &doors.store, now);
            if content.active.is_none()
                && request.uri().query() != Some("own")
                && let Value::Object(fields) = &mut state
            {
                fields.insert("active".to_owned(), active(&doors).await);
            }
            json_page(&state)
        }
        _ => text_page(StatusCode::NOT_FOUND, "pages: /metrics /state\n".to_owned()),
    }
}

/// Who of the others says that it is active; null if nobody does.
async fn active(doors: &Doors) -> Value {
    let asked = doors.others.iter().map(|target| async {
        let answer = http::get(target, OWN_STATE, doors.as_peer.clone(), ANSWER_WITHIN).await.ok()?;
        let mut state: Value = serde_json::from_slice(&answer.body).ok()?;
        (state["role"] == "active").then(|| state["active"].take())
    });
    join_all(asked).await.into_iter().flatten().next().unwrap_or_default()
}
