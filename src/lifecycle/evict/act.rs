//! Looks, looks again a minute later, and removes one entry under the mutex. Never fails a deploy.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::decide::{Verdict, decide};
use super::observe::look;
use super::step::Step;
use crate::etcd::client::{EtcdClient, EtcdError};
use crate::etcd::id::MemberId;
use crate::etcd::mutex;
use crate::job::config::JobConfig;
use crate::job::paths::Paths;
use crate::job::reach::{self, Reach};
use crate::journal;

/// Between the two looks that an eviction takes.
const A_MINUTE: Duration = Duration::from_mins(1);

/// Evicts at most one entry; what does not succeed is told, with what to do by hand.
pub async fn run(paths: &Paths, job: &JobConfig, reach: &Reach) {
    let none = BTreeSet::new();
    let member = match verdict(paths, job, reach, none).await {
        Ok(Verdict::LookAgain { member }) => member,
        Ok(Verdict::Nobody { because }) => {
            journal::info("no entry is evicted", &json!({"because": because}));
            return;
        }
        Ok(Verdict::Evict { .. }) => unreachable!("nothing was seen a minute ago"),
        Err(error) => {
            let fields = json!({"why": format!("{error:#}"), "next": "`etcdctl member list` shows whether one is there"});
            journal::warn("whether an entry has no instance could not be seen", &fields);
            return;
        }
    };
    journal::info(
        "an entry has no instance behind it: looked at again before it is evicted",
        &json!({"member": member, "in_secs": A_MINUTE.as_secs()}),
    );
    tokio::time::sleep(A_MINUTE).await;
    if let Err(error) = evict(paths, job, reach, member).await {
        let next = format!(
            "if the member is gone for good: `etcdctl member remove {member}`; the next deploy tries again"
        );
        let fields = json!({"member": member, "why": format!("{error:#}"), "next": next});
        journal::error("an entry without an instance was not evicted", &fields);
    }
}

async fn verdict(
    paths: &Paths,
    job: &JobConfig,
    reach: &Reach,
    a_minute_ago: BTreeSet<MemberId>,
) -> anyhow::Result<Verdict> {
    let seen = look(paths, job, reach, a_minute_ago).await?;
    Ok(seen.as_ref().map_or(Verdict::Nobody { because: "every entry has an instance" }, decide))
}

async fn evict(paths: &Paths, job: &JobConfig, reach: &Reach, suspect: MemberId) -> anyhow::Result<()> {
    let limit = job.properties.observe_timeout;
    let mut client = EtcdClient::connect(&reach::own_etcd(job), reach.grpc.clone(), limit).await?;
    Step::TakeMutex.reach();
    let Some(held) = mutex::try_take(&mut client).await? else {
        anyhow::bail!("another member is being added, removed or stopped");
    };
    let outcome = remove(paths, job, reach, suspect, &mut client).await;
    Step::ReleaseMutex.reach();
    if let Err(error) = mutex::release(&mut client, held).await {
        let fields = json!({"why": error.to_string(), "next": "it runs out by itself within 30 s"});
        journal::warn("the mutex was not given back", &fields);
    }
    outcome
}

/// Decides again, now that nobody else changes anything, and removes.
async fn remove(
    paths: &Paths,
    job: &JobConfig,
    reach: &Reach,
    suspect: MemberId,
    client: &mut EtcdClient,
) -> anyhow::Result<()> {
    match verdict(paths, job, reach, BTreeSet::from([suspect])).await? {
        Verdict::Evict { member } => {
            Step::Remove.reach();
            match client.remove_member(member).await {
                Ok(()) | Err(EtcdError::MemberNotFound) => {}
                Err(error) => return Err(error.into()),
            }
            journal::info("an entry without an instance was evicted", &json!({"member": member}));
        }
        Verdict::LookAgain { .. } => {
            journal::info("no entry is evicted", &json!({"because": "it is another one than a minute ago"}));
        }
        Verdict::Nobody { because } => journal::info("no entry is evicted", &json!({"because": because})),
    }
    Ok(())
}
