//! post-stop: the job has stopped; says how etcd ended, and lets the next member stop.

use serde_json::json;

use super::launch::records::ExitRecord;
use super::{held_mutex, records};
use crate::job::config::JobConfig;
use crate::job::paths::Paths;
use crate::job::reach::{self, Reach};
use crate::journal;

/// Tells how etcd ended and gives the mutex back; never fails a stop that is already done.
pub async fn run(paths: &Paths) -> anyhow::Result<()> {
    match records::read::<ExitRecord>(paths)? {
        Some(record) => {
            journal::info("the job has stopped", &json!({"how": record.how, "member_id": record.member_id}));
        }
        None => journal::warn(
            "the job has stopped without an exit record",
            &json!({"why": "etcd never ran, or launcher and etcd were killed", "next": "the next start validates the data"}),
        ),
    }
    if paths.mutex().exists()
        && let Err(error) = give_back(paths).await
    {
        journal::warn("the mutex was not given back", &json!({"why": format!("{error:#}")}));
    }
    Ok(())
}

/// Now everybody sees that this member is down: who stops next counts it as missing.
async fn give_back(paths: &Paths) -> anyhow::Result<()> {
    let job = JobConfig::load(&paths.job_json())?;
    let reach = Reach::load(paths)?;
    let others: Vec<_> = job.others().map(reach::etcd).collect();
    // Of two voters the other one has no quorum now; post-start gives it back.
    if others.len() > 1 {
        held_mutex::give_back(paths, &others, &reach, job.properties.observe_timeout).await;
    }
    Ok(())
}
