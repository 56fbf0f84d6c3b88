//! Told in BOSH's words: one room per moment of an instance's life.

use std::time::Duration;

use crate::etcd::connect::{ConnectError, Target};
use crate::etcd::http::{self, Answer};
use crate::job::reach::Reach;

pub mod container_start;
pub mod drain;
pub mod evict;
pub mod healthy;
pub mod held_mutex;
pub mod intent;
pub mod launch;
pub mod own_launcher;
pub mod post_deploy;
pub mod post_start;
pub mod post_stop;
pub mod pre_start;
pub mod pre_stop;
pub mod records;
pub mod trust;
pub mod vcap;

/// Reads a page of a launcher as administrator.
pub async fn launcher_page(
    target: &Target,
    page: &str,
    reach: &Reach,
    limit: Duration,
) -> Result<Answer, ConnectError> {
    http::get(target, page, reach.as_admin.clone(), limit).await
}

/// Runs a door's work on a runtime of this one thread: small, and etcd is then forked by the main thread.
pub fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

#[cfg(test)]
mod contract_tests;
