//! Does this member serve linearizable reads? Asked on demand, so that an idle cluster is not polled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::sync::Mutex;

use crate::etcd::client::{EtcdClient, EtcdError};
use crate::etcd::connect::Target;

/// A yes is good for this long: many askers at once cost one read.
const FRESH: Duration = Duration::from_millis(500);
/// A no is good for less: a deploy waits for the yes that follows it.
const FRESH_NO: Duration = Duration::from_millis(40);
/// A read that takes longer is not ready, whatever it would have answered.
const LIMIT: Duration = Duration::from_secs(2);

/// Asks the own member, or tells why there is none to ask.
pub struct Readiness {
    state: Mutex<State>,
}

struct State {
    source: Source,
    connection: Option<EtcdClient>,
    last: Option<(Instant, Result<(), String>)>,
}

enum Source {
    /// etcd is not running, for this reason.
    Down(String),
    /// etcd runs and is asked here.
    Etcd { target: Target, tls: Arc<ClientConfig> },
}

impl Readiness {
    /// Not ready, for this reason.
    pub fn down(why: &str) -> Self {
        Self {
            state: Mutex::new(State { source: Source::Down(why.to_owned()), connection: None, last: None }),
        }
    }

    /// From now on not ready, for this reason.
    pub async fn set_down(&self, why: &str) {
        *self.state.lock().await =
            State { source: Source::Down(why.to_owned()), connection: None, last: None };
    }

    /// From now on etcd is asked.
    pub async fn set_etcd(&self, target: Target, tls: Arc<ClientConfig>) {
        *self.state.lock().await =
            State { source: Source::Etcd { target, tls }, connection: None, last: None };
    }

    /// Ready, or why not.
    pub async fn check(&self) -> Result<(), String> {
        let mut state = self.state.lock().await;
        let (target, tls) = match &state.source {
            Source::Down(why) => return Err(why.clone()),
            Source::Etcd { target, tls } => (target.clone(), tls.clone()),
        };
        if let Some((at, answer)) = &state.last
            && at.elapsed() < if answer.is_ok() { FRESH } else { FRESH_NO }
        {
            return answer.clone();
        }
        let answer = match read(&mut state.connection, &target, tls).await {
            Ok(()) => Ok(()),
            Err(error) => {
                // The connection may be what is broken.
                state.connection = None;
                Err(error.to_string())
            }
        };
        state.last = Some((Instant::now(), answer.clone()));
        answer
    }
}

async fn read(
    connection: &mut Option<EtcdClient>,
    target: &Target,
    tls: Arc<ClientConfig>,
) -> Result<(), EtcdError> {
    if let Some(client) = connection
        && client.linearizable_read().await.is_ok()
    {
        return Ok(());
    }
    // A first use, or a connection that etcd closed: one new attempt tells which.
    let client = connection.insert(EtcdClient::connect(target, tls, LIMIT).await?);
    client.linearizable_read().await
}
