//! The job's properties, read once.

use std::time::Duration;

use jiff::SignedDuration;
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;
use serde_json::Value;

use super::defragmentation::{Defragmentation, MinGain};
use super::schedule::Schedule;
use crate::backup::codec::{Keys, Packing, Recipients};
use crate::backup::config::JobStore;
use crate::backup::deltas::Limits;
use crate::backup::manifest::Compression;
use crate::backup::retention::Policy;
use crate::backup::store::Store;

/// Larger ones would take memory that is etcd's.
const DELTA_BYTES_MAX: usize = 64 << 20;

/// What the job does.
#[derive(Debug)]
pub struct Job {
    /// Where to.
    pub store: Store,
    /// How objects are packed.
    pub packing: Packing,
    /// When a full snapshot is due.
    pub schedule: Schedule,
    /// When a delta is cut.
    pub limits: Limits,
    /// What is kept.
    pub retention: Policy,
    /// When the newest set is read back; never, if there is none.
    pub verification: Option<Schedule>,
    /// Whether it is restored for that.
    pub deep: bool,
    /// When members are defragmented; never, if there is none.
    pub defragmentation: Option<Defragmentation>,
    /// What opens encrypted objects.
    pub keys: Keys,
    /// Where its pages are.
    pub port: u16,
}

/// As job.json has them; one that is not there has its default, which is that of the job's spec.
#[derive(Deserialize)]
#[serde(default)]
struct Raw {
    schedule: String,
    schedule_time_zone: String,
    schedule_jitter: String,
    delta_period: String,
    delta_bytes: usize,
    compression: Compression,
    upload_bytes_per_second: Option<u64>,
    #[serde(rename = "verification.schedule")]
    verification_schedule: String,
    #[serde(rename = "verification.deep")]
    verification_deep: bool,
    #[serde(rename = "defragmentation.schedule")]
    defragmentation_schedule: String,
    #[serde(rename = "defragmentation.min_gain_percent")]
    defragmentation_min_gain_percent: u8,
    #[serde(rename = "defragmentation.min_gain_bytes")]
    defragmentation_min_gain_bytes: u64,
    backup_port: Value,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            schedule: "0 * * * *".to_owned(),
            schedule_time_zone: "UTC".to_owned(),
            schedule_jitter: "1m".to_owned(),
            delta_period: "20s".to_owned(),
            delta_bytes: 10_485_760,
            compression: Compression::Zstd,
            upload_bytes_per_second: None,
            verification_schedule: "30 3 * * *".to_owned(),
            verification_deep: false,
            defragmentation_schedule: String::new(),
            defragmentation_min_gain_percent: 45,
            defragmentation_min_gain_bytes: 100 << 20,
            backup_port: 2383.into(),
        }
    }
}

impl Job {
    /// Reads job.json. Errors: all that is wrong with it; no secret is repeated.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let JobStore { store, encryption, retention } =
            JobStore::of_job(text).map_err(|error| vec![error])?;
        let properties =
            serde_json::from_str::<Value>(text).ok().and_then(|job| job.get("properties").cloned());
        let properties = properties.map(|mut properties| {
            if let Some(properties) = properties.as_object_mut() {
                properties.retain(|_, value| !value.is_null());
            }
            properties
        });
        let raw: Raw = serde_path_to_error::deserialize(properties.unwrap_or_default())
            .map_err(|error| vec![error.to_string()])?;
        let mut faults = Vec::new();
        let mut fault = |error: String| faults.push(error);

        let store = Store::open(&store).map_err(|error| fault(error.to_string())).ok();
        let recipients =
            Recipients::parse(&encryption.recipients).map_err(|error| fault(error.to_string())).ok();
        let keys = Keys::parse(&encryption.identities).map_err(|error| fault(error.to_string())).ok();
        let jitter = duration("schedule_jitter", &raw.schedule_jitter).map_err(&mut fault).ok();
        let mut timed = |name: &str, cron: &str| {
            let schedule = Schedule::parse(cron, &raw.schedule_time_zone, jitter?, share());
            schedule.map_err(|error| fault(format!("{name}: {error}"))).ok()
        };
        let schedule = timed("schedule", &raw.schedule);
        let verification = match raw.verification_schedule.as_str() {
            "" => Some(None),
            cron => timed("verification.schedule", cron).map(Some),
        };
        let defragmentation = match raw.defragmentation_schedule.as_str() {
            "" => Some(None),
            cron => timed("defragmentation.schedule", cron).map(Some),
        };
        let percent = raw.defragmentation_min_gain_percent;
        if percent > 100 {
            fault(format!("defragmentation.min_gain_percent {percent} is more than 100"));
        }
        let least = MinGain { percent, bytes: raw.defragmentation_min_gain_bytes };
        let period = duration("delta_period", &raw.delta_period).map_err(&mut fault).ok();
        let period = period.and_then(|period| Duration::try_from(period).ok());
        let port = port("backup_port", &raw.backup_port).map_err(&mut fault).ok();
        if !(1..=DELTA_BYTES_MAX).contains(&raw.delta_bytes) {
            fault(format!("delta_bytes {} is not between 1 and {DELTA_BYTES_MAX}", raw.delta_bytes));
        }
        if raw.upload_bytes_per_second == Some(0) {
            fault("upload_bytes_per_second 0 lets nothing through; leave it out for no limit".to_owned());
        }
        let known = (store, recipients, keys, schedule, verification, defragmentation, period, port);
        match known {
            (
                Some(store),
                Some(recipients),
                Some(keys),
                Some(schedule),
                Some(verification),
                Some(defragmentation),
                Some(period),
                Some(port),
            ) if faults.is_empty() => Ok(Self {
                store,
                packing: Packing {
                    compression: raw.compression,
                    recipients,
                    bytes_per_second: raw.upload_bytes_per_second,
                },
                schedule,
                limits: Limits { period, bytes: raw.delta_bytes },
                retention,
                verification,
                deep: raw.verification_deep,
                defragmentation: defragmentation.map(|schedule| Defragmentation { schedule, least }),
                keys,
                port,
            }),
            _ => Err(faults),
        }
    }
}

fn port(name: &str, value: &Value) -> Result<u16, String> {
    let port = value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    port.ok_or_else(|| format!("{name} {value} is no port: 1 to 65535 are"))
}

fn duration(name: &str, text: &str) -> Result<SignedDuration, String> {
    let parsed = text.parse::<SignedDuration>().ok().filter(|duration| !duration.is_negative());
    parsed.ok_or_else(|| format!("{name} '{text}' is no duration: 20s, 10m and 1h are"))
}

/// Between 0 and 1.
fn share() -> f64 {
    let mut drawn = [0; 1];
    SystemRandom::new().fill(&mut drawn).expect("the system has random numbers");
    f64::from(drawn[0]) / 255.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_all_that_has_to_be_told() {
        let job =
            Job::parse(r#"{"properties": {"store.url": "file:///backups", "delta_period": null}}"#).unwrap();

        assert_eq!(job.limits, Limits { period: Duration::from_secs(20), bytes: 10_485_760 });
        assert_eq!(job.packing.compression, Compression::Zstd);
        assert_eq!(job.retention, Policy::default());
        assert_eq!(job.port, 2383);
    }

    #[test]
    fn all_faults_are_told_together() {
        let job = r#"{"properties": {"store.url": "ftp://backups", "schedule": "never", "delta_period": "soon",
            "delta_bytes": 0, "upload_bytes_per_second": 0, "backup_port": 99999, "encryption.recipients": ["AGE-SECRET-KEY-1X"]}}"#;

        let faults = Job::parse(job).unwrap_err();

        assert_eq!(faults.len(), 7, "{faults:?}");
        assert!(!faults.concat().contains("AGE-SECRET"), "{faults:?}");
    }
}
