//! post-deploy: this instance must serve linearizable reads as a voter, else the deploy fails with the
//! launcher's reason. A first deploy without bootstrap.yml is therefore never green. Then one instance
//! clears away a member that no instance stands behind any more.

pub mod decide;

use std::time::{Duration, Instant};

use serde_json::json;

use self::decide::{Membership, Seen, Verdict, decide};
use super::{evict, own_launcher};
use crate::etcd::client::{EtcdClient, EtcdError};
use crate::job::config::JobConfig;
use crate::job::paths::Paths;
use crate::job::reach::{self, Reach};
use crate::journal;
use crate::report::{Complaint, Exit};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Waits until this instance serves.
pub async fn run(paths: &Paths) -> anyhow::Result<Exit> {
    let job = JobConfig::load(&paths.job_json())?;
    let reach = Reach::load(paths)?;
    let started = Instant::now();
    loop {
        let seen = Seen {
            ready: own_launcher::is_ready(&job, &reach).await,
            membership: membership(&job, &reach).await,
            launcher: own_launcher::decision(&job, &reach).await,
            time_is_up: started.elapsed() >= job.properties.ready_timeout,
        };
        match decide(&seen) {
            Verdict::Pass => {
                journal::info("this instance serves as a voter", &json!({}));
                evict::act::run(paths, &job, &reach).await;
                return Ok(Exit::Done);
            }
            Verdict::Wait => tokio::time::sleep(LOOK_EVERY).await,
            Verdict::Fail { what, why, next } => return Err(Complaint::failed(what, why, next).into()),
        }
    }
}

async fn membership(job: &JobConfig, reach: &Reach) -> Membership {
    let limit = job.properties.observe_timeout;
    let status =
        async { EtcdClient::connect(&reach::own_etcd(job), reach.grpc.clone(), limit).await?.status().await };
    match status.await {
        Ok(status) if status.is_learner => Membership::Learner,
        Ok(_) => Membership::Voter,
        Err(EtcdError::Learner) => Membership::Learner,
        Err(_) => Membership::Unknown,
    }
}
