//! This launcher's turn to change the membership: the mutex, kept alive while a plan needs it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use serde_json::json;

use crate::etcd::client::{EtcdClient, EtcdError};
use crate::etcd::connect::Target;
use crate::etcd::mutex::{self, Held, RENEW_EVERY};
use crate::journal;

/// No step that needs the mutex begins later than this before it may be lost.
const MARGIN: Duration = Duration::from_secs(5);

/// The mutex, held and renewed until this is released or dropped. Dropped without being released it blocks
/// others until the lease runs out.
pub struct Turn {
    held: Arc<Mutex<Option<Held>>>,
    renewal: tokio::task::JoinHandle<()>,
}

impl Turn {
    /// Takes the mutex through `client` if it is free; it is renewed through any of `members`.
    pub async fn try_take(
        client: &mut EtcdClient,
        members: Vec<Target>,
        tls: Arc<ClientConfig>,
        limit: Duration,
    ) -> Result<Option<Self>, EtcdError> {
        let Some(held) = mutex::try_take(client).await? else { return Ok(None) };
        let held = Arc::new(Mutex::new(Some(held)));
        let renewal = tokio::spawn(keep(held.clone(), members, tls, limit));
        Ok(Some(Self { held, renewal }))
    }

    /// Whether the mutex is certainly held for another while.
    pub fn is_held(&self) -> bool {
        current(&self.held).is_some_and(|held| held.for_another(MARGIN))
    }

    /// Gives the mutex back; if nobody can be told, it runs out by itself.
    pub async fn release(self, members: &[Target], tls: &Arc<ClientConfig>, limit: Duration) {
        self.renewal.abort();
        let Some(held) = current(&self.held) else { return };
        let release = async {
            let mut client = EtcdClient::connect_to_one_of(members, tls, limit).await?;
            mutex::release(&mut client, held).await
        };
        if let Err(error) = release.await {
            journal::warn("the mutex is left to run out", &json!({"error": error.to_string()}));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

async fn keep(slot: Arc<Mutex<Option<Held>>>, members: Vec<Target>, tls: Arc<ClientConfig>, limit: Duration) {
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        let Some(held) = current(&slot) else { return };
        let renewal = async {
            let mut client = EtcdClient::connect_to_one_of(&members, &tls, limit).await?;
            mutex::renew(&mut client, held).await
        };
        match renewal.await {
            Ok(renewed) => *slot.lock().unwrap_or_else(PoisonError::into_inner) = renewed,
            // The next attempt is in time as well: see `RENEW_EVERY`.
            Err(error) => journal::warn("the mutex was not renewed", &json!({"error": error.to_string()})),
        }
    }
}

fn current(held: &Mutex<Option<Held>>) -> Option<Held> {
    *held.lock().unwrap_or_else(PoisonError::into_inner)
}
