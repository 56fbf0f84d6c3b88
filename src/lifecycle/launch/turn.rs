//! This launcher's turn to change the membership: the mutex, kept alive while a plan needs it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use serde_json::json;

use crate::etcd::client::{EtcdClient, EtcdError};
use crate::etcd::connect::Target;
use crate::etcd::mutex::{self, Held, RENEW_EVERY};
use crate::lifecycle::held_mutex;
use crate::{atomic_file, journal};

/// No step that needs the mutex begins later than this before it may be lost.
const MARGIN: Duration = Duration::from_secs(5);

/// How the members are reached through whom the mutex is renewed and given back.
#[derive(Clone)]
pub struct Ways {
    /// Any of them will do.
    pub members: Vec<Target>,
    /// With the administrator's certificate.
    pub tls: Arc<ClientConfig>,
    /// For each call.
    pub limit: Duration,
}

/// The mutex, held and renewed until this is released or dropped. A launcher that is killed finds in `file`
/// until when it is its own; otherwise it blocks others until the lease runs out.
pub struct Turn {
    held: Arc<Mutex<Option<Held>>>,
    renewal: tokio::task::JoinHandle<()>,
    file: PathBuf,
}

impl Turn {
    /// Takes the mutex through `client` if it is free, or goes on with the turn noted in `file`.
    pub async fn try_take(
        client: &mut EtcdClient,
        ways: Ways,
        file: &Path,
    ) -> Result<Option<Self>, EtcdError> {
        let held = match noted(file) {
            Some(held) => mutex::renew(client, held).await?,
            None => None,
        };
        let held = match held {
            Some(held) => Some(held),
            None => mutex::try_take(client).await?,
        };
        let Some(held) = held else { return Ok(None) };
        note(file, held);
        let held = Arc::new(Mutex::new(Some(held)));
        let renewal = tokio::spawn(keep(held.clone(), ways, file.to_owned()));
        Ok(Some(Self { held, renewal, file: file.to_owned() }))
    }

    /// Whether the mutex is certainly held for another while.
    pub fn is_held(&self) -> bool {
        current(&self.held).is_some_and(|held| held.for_another(MARGIN))
    }

    /// Gives the mutex back; if nobody can be told, it runs out by itself.
    pub async fn release(self, ways: &Ways) {
        self.renewal.abort();
        if let Some(held) = current(&self.held) {
            release(held, ways, &self.file).await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

/// Gives back what a launcher that was killed has left, if it is still this instance's.
pub async fn release_noted(ways: &Ways, file: &Path) {
    if file.exists()
        && let Some(held) = noted(file)
    {
        release(held, ways, file).await;
    }
}

async fn release(held: Held, ways: &Ways, file: &Path) {
    let release = async {
        let mut client = EtcdClient::connect_to_one_of(&ways.members, &ways.tls, ways.limit).await?;
        mutex::release(&mut client, held).await
    };
    let told = release.await.map_err(|error| error.to_string());
    if let Err(why) = told.and_then(|()| atomic_file::remove(file).map_err(|error| error.to_string())) {
        journal::warn("the mutex is left to run out", &json!({"why": why}));
    }
}

async fn keep(slot: Arc<Mutex<Option<Held>>>, ways: Ways, file: PathBuf) {
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        let Some(held) = current(&slot) else { return };
        let renewal = async {
            let mut client = EtcdClient::connect_to_one_of(&ways.members, &ways.tls, ways.limit).await?;
            mutex::renew(&mut client, held).await
        };
        match renewal.await {
            Ok(renewed) => {
                if let Some(held) = renewed {
                    note(&file, held);
                }
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = renewed;
            }
            // The next attempt is in time as well: see `RENEW_EVERY`.
            Err(error) => journal::warn("the mutex was not renewed", &json!({"error": error.to_string()})),
        }
    }
}

fn noted(file: &Path) -> Option<Held> {
    // What cannot be read counts as not ours: then it runs out.
    held_mutex::load_from(file).ok().flatten()
}

fn note(file: &Path, held: Held) {
    if let Err(error) = held_mutex::keep_at(file, held) {
        journal::warn("the mutex is held but not noted", &json!({"why": error.to_string()}));
    }
}

fn current(held: &Mutex<Option<Held>>) -> Option<Held> {
    *held.lock().unwrap_or_else(PoisonError::into_inner)
}
