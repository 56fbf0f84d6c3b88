//! dns/healthy: is this instance fit for DNS answers? Exactly when its own `/readyz` says so.

use std::time::Duration;

use super::launcher_page;
use crate::job::config::JobConfig;
use crate::job::paths::Paths;
use crate::job::reach::{self, Reach};
use crate::report::{Complaint, Exit};

/// bosh-dns asks every 5 s and runs the scripts of all jobs one after the other.
const LIMIT: Duration = Duration::from_secs(4);

/// Succeeds when this member serves linearizable reads.
pub async fn run(paths: &Paths) -> anyhow::Result<Exit> {
    let job = JobConfig::load(&paths.job_json())?;
    let reach = Reach::load(paths)?;
    let answer = launcher_page(&reach::own_launcher(&job), "/readyz", &reach, LIMIT).await;
    let why = match answer {
        Ok(answer) if answer.status == 200 => return Ok(Exit::Done),
        Ok(answer) => String::from_utf8_lossy(&answer.body).trim().to_owned(),
        Err(error) => format!("the launcher does not answer: {error}"),
    };
    Err(Complaint::failed(
        format!("this member does not serve linearizable reads: {why}"),
        "DNS leaves it out of the answers for healthy instances",
        "`etcd-status` tells what each instance is doing",
    )
    .into())
}
