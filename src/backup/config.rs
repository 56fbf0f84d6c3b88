//! Which store, and how to reach it: the properties `store.*` of job `etcd-backup`, or flags of the command line.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::retention::Policy;

/// The properties `store.*`. Everything but the URL has its meaning only with some kinds of stores.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoreConfig {
    /// `file:///path`, `s3://bucket/path`, `gs://bucket/path` or `az://container/path`.
    pub url: String,
    /// S3: the region; with most compatible servers any word will do.
    pub region: Option<String>,
    /// S3, Azure, GCS: where the service is, if it is not the provider's own: `https://minio.example.com:9000`.
    pub endpoint: Option<String>,
    /// S3: the bucket in the path of the URL and not in the host name, as most compatible servers want it.
    pub path_style: bool,
    /// The CAs of the endpoint's certificate, in PEM; they replace the system's.
    pub ca: Option<String>,
    /// S3: without the two keys, the role of the instance is asked for.
    pub access_key_id: Option<String>,
    /// S3.
    pub secret_access_key: Option<String>,
    /// S3: a temporary credential's third part.
    pub session_token: Option<String>,
    /// GCS: the JSON of a service account; without it, the VM's own account is asked for.
    pub service_account_key: Option<String>,
    /// Azure: the storage account.
    pub account_name: Option<String>,
    /// Azure: its key; without key and token, the VM's managed identity is asked for.
    pub account_key: Option<String>,
    /// Azure: a shared access signature, `sv=…&sig=…`.
    pub sas_token: Option<String>,
}

impl StoreConfig {
    /// The directory, if the store is one.
    pub fn directory(&self) -> Option<&Path> {
        self.url.strip_prefix("file://").map(Path::new)
    }
}

/// Only what may be read by everybody.
impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreConfig")
            .field("url", &self.url)
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .field("path_style", &self.path_style)
            .finish_non_exhaustive()
    }
}

/// What of the job's job.json every command needs. There names are flat, `"store.url"`, as everywhere in this release.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct JobStore {
    /// `store.*`.
    pub store: StoreConfig,
    /// `encryption.*`.
    pub encryption: Encryption,
    /// `retention.*`.
    pub retention: Policy,
}

/// The properties `encryption.*`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Encryption {
    /// Public keys of age: whom backups are encrypted for.
    pub recipients: Vec<String>,
    /// Private keys of age, only for reading backups.
    pub identities: Vec<String>,
}

impl JobStore {
    /// Reads job.json. Errors: what is wrong with it; no value is repeated.
    pub fn of_job(text: &str) -> Result<Self, String> {
        let job: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let Some(properties) = job.get("properties").and_then(Value::as_object) else {
            return Err("it has no properties".to_owned());
        };
        let room = |name: &str| -> Map<String, Value> {
            let own = properties.iter().filter(|(_, value)| !value.is_null());
            let own =
                own.filter_map(|(key, value)| Some((key.strip_prefix(name)?.to_owned(), value.clone())));
            own.collect()
        };
        let rooms = Value::Object(Map::from_iter([
            ("store".to_owned(), Value::Object(room("store."))),
            ("encryption".to_owned(), Value::Object(room("encryption."))),
            ("retention".to_owned(), Value::Object(room("retention."))),
        ]));
        // serde repeats a value of the wrong kind in its message, and it may be a secret: only the name is told.
        serde_path_to_error::deserialize(rooms).map_err(
            |error: serde_path_to_error::Error<serde_json::Error>| {
                format!("{} has a value of the wrong kind", error.path())
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_read_by_flat_names() {
        let job = r#"{"version": 1, "properties": {
            "schedule": "0 * * * *", "store.url": "s3://bucket/etcd", "store.path_style": true, "store.region": null,
            "encryption.recipients": ["age1x"], "retention.keep_last": 5, "retention.max_age": "90d"}}"#;

        let read = JobStore::of_job(job).unwrap();

        assert_eq!(read.store.url, "s3://bucket/etcd");
        assert!(read.store.path_style && read.store.region.is_none());
        assert_eq!(read.encryption.recipients, ["age1x"]);
        assert_eq!((read.retention.keep_last, read.retention.keep_daily), (5, 7));
        assert_eq!(read.retention.max_age, Some(jiff::SignedDuration::from_hours(90 * 24)));
    }

    #[test]
    fn a_wrong_value_is_told_without_it() {
        let job = r#"{"properties": {"store.url": "s3://b", "store.secret_access_key": ["secret-word"]}}"#;
        let told = JobStore::of_job(job).map(|_| ()).unwrap_err();
        assert!(told.contains("store.secret_access_key") && !told.contains("secret-word"), "{told}");
        assert!(JobStore::of_job("{}").is_err() && JobStore::of_job("").is_err());
    }

    #[test]
    fn what_is_printed_of_it_has_no_secret() {
        let secret = || Some("secret-word".to_owned());
        let config = StoreConfig {
            url: "s3://bucket".to_owned(),
            access_key_id: secret(),
            secret_access_key: secret(),
            session_token: secret(),
            service_account_key: secret(),
            account_key: secret(),
            sas_token: secret(),
            ..StoreConfig::default()
        };

        let printed = format!("{config:?}");

        assert!(printed.contains("s3://bucket") && !printed.contains("secret-word"), "{printed}");
    }
}
