//! post-start: the deploy waits for this instance's own progress, and goes on when the cause of waiting
//! lies outside it.

pub mod decide;

use std::time::{Duration, Instant};

use serde_json::json;

use self::decide::{Elsewhere, Seen, Verdict, decide};
use super::drain::observe::others_serve;
use super::{held_mutex, own_launcher};
use crate::job::config::JobConfig;
use crate::job::paths::Paths;
use crate::job::reach::{self, Reach};
use crate::journal;
use crate::report::{Complaint, Exit};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Waits until this instance is as far as it can get.
pub async fn run(paths: &Paths) -> anyhow::Result<Exit> {
    let job = JobConfig::load(&paths.job_json())?;
    let reach = Reach::load(paths)?;
    let started = Instant::now();
    loop {
        let ready = own_launcher::is_ready(&job, &reach).await;
        let seen = Seen {
            ready,
            launcher: own_launcher::decision(&job, &reach).await,
            elsewhere: if job.others().next().is_none() {
                Elsewhere::Nobody
            } else if !ready && others_serve(&job, &reach).await {
                Elsewhere::Serves
            } else {
                Elsewhere::Silent
            },
            time_is_up: started.elapsed() >= job.properties.ready_timeout,
        };
        match decide(&seen) {
            Verdict::Pass { because } => {
                journal::info("post-start passes", &json!({"ready": seen.ready, "because": because}));
                give_back_mutex(paths, &job, &reach).await;
                return Ok(Exit::Done);
            }
            Verdict::Wait => tokio::time::sleep(LOOK_EVERY).await,
            Verdict::Fail { what, why, next } => return Err(Complaint::failed(what, why, next).into()),
        }
    }
}

/// What pre-stop took and post-stop could not give back: this instance is as far as it can get.
async fn give_back_mutex(paths: &Paths, job: &JobConfig, reach: &Reach) {
    if paths.mutex().exists() {
        let all: Vec<_> =
            std::iter::once(reach::own_etcd(job)).chain(job.others().map(reach::etcd)).collect();
        held_mutex::give_back(paths, &all, reach, job.properties.observe_timeout).await;
    }
}
