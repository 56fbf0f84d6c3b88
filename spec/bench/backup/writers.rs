//! Writers that keep a pace, and when each of their writes was answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use tokio::time::MissedTickBehavior;

use crate::member::{connected, runtime};

/// A write: etcd's revision of it, when it was due and when it was answered.
#[derive(Debug, Clone, Copy)]
pub struct Put {
    pub revision: i64,
    pub due: Instant,
    pub answered: Instant,
}

impl Put {
    /// Milliseconds until it was answered. Counted from when it was due, so that one that waits for a slow one before
    /// it counts as slow.
    pub fn latency(&self) -> f64 {
        self.answered.duration_since(self.due).as_secs_f64() * 1e3
    }
}

/// Several of them, on a thread of their own.
pub struct Writers {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Put>>>,
}

/// What each writes.
const VALUE: [u8; 256] = [b'v'; 256];

impl Writers {
    /// So many, each of which has a write due `every` so often; without a pace, each writes when it has its answer.
    pub fn start(url: &str, writers: usize, every: Option<Duration>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (url, stopped) = (url.to_owned(), stop.clone());
        let thread = std::thread::spawn(move || runtime()?.block_on(write(&url, writers, every, stopped)));
        Self { stop, thread }
    }

    /// What they wrote, in the order of the answers.
    pub fn end(self) -> Result<Vec<Put>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut puts = self.thread.join().map_err(|_| anyhow!("the writers panicked"))??;
        puts.sort_by_key(|put| put.answered);
        Ok(puts)
    }

    /// What they write within a span.
    pub fn run(self, span: Duration) -> Result<Vec<Put>> {
        #[expect(clippy::disallowed_methods, reason = "the span is what is measured; nothing is waited for")]
        std::thread::sleep(span);
        self.end()
    }
}

async fn write(
    url: &str,
    writers: usize,
    every: Option<Duration>,
    stop: Arc<AtomicBool>,
) -> Result<Vec<Put>> {
    let client = connected(url).await?;
    let mut tasks = Vec::new();
    for writer in 0..writers {
        let (mut client, stop) = (client.kv_client(), stop.clone());
        tasks.push(tokio::spawn(async move {
            let mut puts = Vec::new();
            let mut pace = every.map(|every| {
                // Not all at the same moment.
                let first = tokio::time::Instant::now() + every.mul_f64(fraction(writer, writers));
                let mut pace = tokio::time::interval_at(first, every);
                pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
                pace
            });
            while !stop.load(Ordering::Relaxed) {
                let due = match &mut pace {
                    Some(pace) => pace.tick().await.into_std(),
                    None => Instant::now(),
                };
                let key = format!("paced-{writer}-{}", puts.len() % 100);
                let answer = client.put(key, VALUE, None).await?;
                let revision = answer.header().context("an answer without a header")?.revision();
                puts.push(Put { revision, due, answered: Instant::now() });
            }
            anyhow::Ok(puts)
        }));
    }
    let mut puts = Vec::new();
    for task in tasks {
        puts.extend(task.await.context("a writer panicked")??);
    }
    Ok(puts)
}

fn fraction(part: usize, of: usize) -> f64 {
    let part = u32::try_from(part).unwrap_or(u32::MAX);
    f64::from(part) / f64::from(u32::try_from(of).unwrap_or(u32::MAX))
}

/// The value that 99 of 100 do not exceed.
pub fn p99(mut values: Vec<f64>) -> Result<f64> {
    values.sort_by(f64::total_cmp);
    let place = (values.len() * 99).div_ceil(100).checked_sub(1).context("nothing was written")?;
    Ok(values[place])
}
