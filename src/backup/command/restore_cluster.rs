//! `etcd-backup restore-cluster`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::common::{JOB_CONFIG, Place};
use crate::backup::chain::Point;
use crate::backup::layout::SetId;
use crate::backup::recovery::{Errand, From, Typed};
use crate::lifecycle::block_on;
use crate::lifecycle::launch::bring::BUMP;
use crate::report::{Complaint, Exit};

/// Where the errand has its properties.
const ERRAND_CONFIG: &str = "/var/vcap/jobs/restore/config/job.json";
const SURVIVORS: &str = "survivors";

/// Its flags.
#[derive(Debug, clap::Args)]
pub(in crate::backup) struct Args {
    /// Up to where: latest, a revision, a time; or survivors: the newest disk that is left, without a backup
    #[arg(long, value_name = "POINT", required_unless_present_any = ["errand", "snapshot"], value_parser = wanted)]
    to: Option<String>,
    /// The set to restore from [default: the newest one from which the point can be reached]
    #[arg(long, value_name = "SET", requires = "to")]
    set: Option<SetId>,
    /// A file that `etcdctl snapshot save` made, instead of a set in the store
    #[arg(long, value_name = "FILE", conflicts_with_all = ["to", "set"])]
    snapshot: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
    /// Raise the revision by this much and mark everything before as compacted, so that watchers notice; 0: leave it
    #[arg(long, value_name = "N", default_value_t = BUMP)]
    bump_revision: u64,
    /// How long the request counts, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(600..))]
    expiry: u64,
    /// How long each thing is waited for, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    wait: u64,
    /// Go on although the instances that do not answer could be a quorum of the old cluster
    #[arg(long)]
    despite_silence: bool,
    /// Restore once more, although the same was done within the last hour
    #[arg(long)]
    again: bool,
    /// Take everything from the properties of job restore
    #[arg(long, num_args = 0..=1, value_name = "FILE", default_missing_value = ERRAND_CONFIG, exclusive = true)]
    errand: Option<PathBuf>,
}

/// The properties of job `restore`.
#[derive(Deserialize)]
struct Properties {
    #[serde(deserialize_with = "text_or_number")]
    point: String,
    #[serde(default)]
    set: Option<String>,
    bump_revision: u64,
    expiry: String,
    wait: String,
    despite_silence: bool,
    again: bool,
}

/// A revision is a number wherever YAML is read, `-v restore_point=4711` included.
fn text_or_number<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    match Value::deserialize(from)? {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(D::Error::custom("neither a text nor a number")),
    }
}

/// Runs it.
pub(in crate::backup) fn run(args: &Args) -> Result<Exit> {
    let typed = match &args.errand {
        Some(file) => of_errand(file)?,
        None => of_flags(args)?,
    };
    let errand = Errand::new(typed)?;
    block_on(async { errand.run().await })?;
    Ok(Exit::Done)
}

fn of_flags(args: &Args) -> Result<Typed> {
    let from = match (&args.snapshot, args.to.as_deref()) {
        (Some(file), _) => From::Snapshot(file.clone()),
        (None, Some(point)) => from(point, args.set.clone(), args.place.flags())?,
        (None, None) => anyhow::bail!("clap demands one of them"),
    };
    Ok(Typed {
        from,
        asked: None,
        bump: Some(args.bump_revision).filter(|bump| *bump > 0),
        expiry: Duration::from_secs(args.expiry),
        wait: Duration::from_secs(args.wait),
        despite_silence: args.despite_silence,
        again: args.again,
    })
}

fn of_errand(file: &Path) -> Result<Typed> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let wrong = |why: String| {
        Complaint::refused(
            format!("the properties of job restore cannot be used: {why}"),
            "what is restored must be said without a doubt; nothing was changed",
            "correct them in the manifest and deploy again",
        )
    };
    let job: Map<String, Value> = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let properties = job.get("properties").cloned().unwrap_or_default();
    let properties: Properties =
        serde_path_to_error::deserialize(properties).map_err(|error| wrong(error.to_string()))?;
    wanted(&properties.point).map_err(|why| wrong(format!("point: {why}")))?;
    let set = properties.set.as_deref().filter(|set| !set.is_empty());
    let set = set.map(str::parse::<SetId>).transpose();
    let set = set.map_err(|why| wrong(format!("set: {why}")))?;
    let duration = |name: &str, text: &str| {
        let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok());
        parsed.ok_or_else(|| wrong(format!("{name} is {text:?}, which is no duration; for example: 30m")))
    };
    let expiry = duration("expiry", &properties.expiry)?;
    if expiry < Duration::from_mins(10) {
        return Err(wrong(format!("expiry is {:?}; at least 10m", properties.expiry)).into());
    }
    Ok(Typed {
        from: from(&properties.point, set, vec!["--job-config".into(), JOB_CONFIG.into()])?,
        asked: None,
        bump: Some(properties.bump_revision).filter(|bump| *bump > 0),
        expiry,
        wait: duration("wait", &properties.wait)?,
        despite_silence: properties.despite_silence,
        again: properties.again,
    })
}

fn from(point: &str, set: Option<SetId>, store: Vec<OsString>) -> Result<From> {
    if point == SURVIVORS {
        return Ok(From::Survivors);
    }
    let to: Point = point.parse().map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(From::Backup { to, set, store })
}

/// Whether a point can be meant.
fn wanted(point: &str) -> Result<String, String> {
    if point == SURVIVORS {
        return Ok(point.to_owned());
    }
    match point.parse::<Point>() {
        Ok(_) => Ok(point.to_owned()),
        Err(error) => Err(format!("{error}; or {SURVIVORS}")),
    }
}
