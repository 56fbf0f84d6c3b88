//! A real etcd that is alone, on ports of its own, and what is written into it.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use etcd_client::{Client, Txn, TxnOp};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What one write holds; a transaction makes [`WRITES`] of them.
pub const VALUE: usize = 4096;
const WRITES: usize = 64;
/// Transactions on their way at the same time.
const WRITERS: usize = 16;
/// etcd starts and ends within this, or not at all.
const PATIENCE: Duration = Duration::from_mins(2);

/// A running etcd; it does not outlive the measurement.
pub struct Member {
    child: Child,
    /// Where its clients are to go.
    pub url: String,
}

impl Member {
    /// Starts it with its data in `root/etcd`, whether there are any or not, and waits until it serves.
    pub fn start(root: &Path, settings: &[&str]) -> Result<Self> {
        let (url, peer) = (free_url()?, free_url()?);
        let child = Command::new("etcd")
            .args(["--name", "m1", "--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("m1={peer}"), "--data-dir"])
            .arg(root.join("etcd"))
            .args(["--quota-backend-bytes", "8589934592"])
            .args(settings)
            .stderr(Stdio::null())
            .spawn()
            .context("start etcd, which is to be on PATH")?;
        let member = Self { child, url };
        runtime()?.block_on(connected(&member.url))?;
        Ok(member)
    }

    pub fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id())?))
    }

    /// Writes `bytes` of values, each made of its key, and none like another.
    pub fn fill(&self, bytes: usize, value: fn(&str) -> Vec<u8>) -> Result<()> {
        runtime()?.block_on(fill(&self.url, bytes.div_ceil(VALUE * WRITES), value))
    }

    /// The last revision.
    pub fn revision(&self) -> Result<i64> {
        runtime()?.block_on(async {
            let answer = connected(&self.url).await?.get("ready", None).await?;
            Ok(answer.header().context("an answer without a header")?.revision())
        })
    }

    /// Asks it to end, and waits.
    pub fn end(mut self) -> Result<()> {
        kill(self.pid()?, Signal::SIGTERM)?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Ignored: it may have ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("make a runtime")
}

/// A client of a member that serves, by now or soon.
pub async fn connected(url: &str) -> Result<Client> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let connected = match Client::connect([url], None).await {
            Ok(mut client) => client.get("ready", None).await.map(|_| client),
            Err(error) => Err(error),
        };
        match connected {
            Ok(client) => return Ok(client),
            Err(error) if Instant::now() > deadline => return Err(error).context("etcd does not serve"),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn fill(url: &str, transactions: usize, value: fn(&str) -> Vec<u8>) -> Result<()> {
    let client = connected(url).await?;
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let mut client = client.clone();
        writers.push(tokio::spawn(async move {
            for transaction in (writer..transactions).step_by(WRITERS) {
                let puts: Vec<TxnOp> = (0..WRITES)
                    .map(|write| {
                        let key = format!("/bench/{transaction:08}/{write:03}");
                        let value = value(&key);
                        TxnOp::put(key, value, None)
                    })
                    .collect();
                client.txn(Txn::new().and_then(puts)).await?;
            }
            anyhow::Ok(())
        }));
    }
    for writer in writers {
        writer.await.context("a writer panicked")??;
    }
    Ok(())
}

/// A URL that nobody listens on.
fn free_url() -> Result<String> {
    let address = TcpListener::bind("127.0.0.1:0").context("find a free port")?.local_addr()?;
    Ok(format!("http://{address}"))
}
