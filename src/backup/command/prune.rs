//! `etcd-backup prune`.

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};

use super::common::{Place, ago, size};
use crate::backup::catalog::catalog;
use crate::backup::prune::{Plan, plan, prune};
use crate::backup::retention::{self, Policy};
use crate::lifecycle::block_on;
use crate::report::{self, Exit};
use crate::table::Table;

/// Its flags.
#[derive(Debug, clap::Args)]
pub(in crate::backup) struct Args {
    #[command(flatten)]
    place: Place,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    rules: Rules,
}

/// What to keep, instead of the job's `retention.*`. Whatever they say, of each cluster the newest set and the newest
/// verified one stay.
#[derive(Debug, clap::Args)]
#[command(
    next_help_heading = "Retention [default: retention.* of the job; with any of these the others are 0]"
)]
struct Rules {
    /// The newest ones
    #[arg(long, value_name = "N")]
    keep_last: Option<u32>,
    /// The newest of each hour, for N hours that have one
    #[arg(long, value_name = "N")]
    keep_hourly: Option<u32>,
    /// The newest of each day
    #[arg(long, value_name = "N")]
    keep_daily: Option<u32>,
    /// The newest of each week
    #[arg(long, value_name = "N")]
    keep_weekly: Option<u32>,
    /// The newest of each month
    #[arg(long, value_name = "N")]
    keep_monthly: Option<u32>,
    /// What is older goes: 36h, 90d or 12w
    #[arg(long, value_name = "AGE", value_parser = retention::age)]
    max_age: Option<SignedDuration>,
}

impl Rules {
    fn policy(&self, of_job: Policy) -> Policy {
        let counts = [self.keep_last, self.keep_hourly, self.keep_daily, self.keep_weekly, self.keep_monthly];
        if counts.iter().all(Option::is_none) && self.max_age.is_none() {
            return of_job;
        }
        let [keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly] =
            counts.map(Option::unwrap_or_default);
        Policy { keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, max_age: self.max_age }
    }
}

/// Runs it.
pub(in crate::backup) fn run(args: &Args) -> Result<Exit> {
    let opened = args.place.open()?;
    let policy = args.rules.policy(opened.retention.clone());
    let now = Timestamp::now();
    block_on(async {
        let catalog = catalog(&opened.store).await.map_err(|error| error.complaint())?;
        let plan = plan(&catalog, &policy, now);
        if !args.dry_run {
            prune(&opened.store, &plan).await.map_err(|error| error.complaint())?;
        }
        report::answer(&human(opened.store.url(), &plan, args.dry_run, now))?;
        Ok(Exit::Done)
    })
}

fn human(url: &str, plan: &Plan, dry_run: bool, now: Timestamp) -> String {
    let goes = if dry_run { "would go" } else { "removed" };
    let rows = plan.sets.iter().map(|(entry, verdict)| {
        let reasons: Vec<&str> = verdict.kept.iter().map(|reason| reason.text()).collect();
        let verdict =
            if reasons.is_empty() { goes.to_owned() } else { format!("kept: {}", reasons.join(", ")) };
        vec![
            entry.set().to_string(),
            format!("{} ago", ago(entry.full.begun, now)),
            size(entry.bytes),
            verdict,
        ]
    });
    let unfinished = plan.unfinished.iter().map(|one| {
        let age = format!("{} ago", ago(one.modified, now));
        vec![one.set.to_string(), age, size(one.bytes), format!("{goes}: not finished")]
    });
    let table = Table {
        title: format!("Backups in {url}"),
        content: "sets",
        header: vec!["Set", "Begun", "Size", "Verdict"],
        rows: rows.chain(unfinished).collect(),
        count: None,
    };
    let (sets, bytes) = plan.goes();
    format!("{}\n{sets} sets {goes}, {} in all", table.human(), size(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_on_the_command_line_replaces_those_of_the_job() {
        let none = Rules {
            keep_last: None,
            keep_hourly: None,
            keep_daily: None,
            keep_weekly: None,
            keep_monthly: None,
            max_age: None,
        };
        assert_eq!(none.policy(Policy::default()), Policy::default());

        let two = Rules { keep_last: Some(2), ..none };
        let policy = two.policy(Policy::default());
        assert_eq!((policy.keep_last, policy.keep_daily, policy.max_age), (2, 0, None));
    }
}
