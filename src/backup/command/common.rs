//! What commands share: which store, with which keys, and how figures are written.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};

use crate::backup::catalog::{Catalog, Entry};
use crate::backup::chain::{Point, choose};
use crate::backup::codec::{CodecError, Keys, Recipients};
use crate::backup::config::{Encryption, JobStore, StoreConfig};
pub(super) use crate::backup::full::random;
use crate::backup::layout::SetId;
use crate::backup::retention::Policy;
use crate::backup::store::{Store, StoreError};
use crate::report::Complaint;

/// Where the job of this VM has its properties.
pub(super) const JOB_CONFIG: &str = "/var/vcap/jobs/etcd-backup/config/job.json";

const STORE: &str = "\
file:///path, s3://bucket/path, gs://bucket/path or az://container/path; credentials as the cloud's own tools find \
them, AWS_ACCESS_KEY_ID for example [default: the store of this VM's job etcd-backup]";
const ENDPOINT: &str = "The service, if it is not the provider's own: https://minio.example.com:9000";

/// Which store, and what is needed to read it. Credentials have no flags: everybody sees a command line. They come from
/// the job, or from the variables of the cloud's own tools (`AWS_ACCESS_KEY_ID` …).
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Store")]
pub(super) struct Place {
    #[arg(long, value_name = "URL", help = STORE)]
    store: Option<String>,
    /// The job's properties, with store, credentials and keys
    #[arg(long, value_name = "FILE", conflicts_with = "store", default_value = JOB_CONFIG)]
    job_config: PathBuf,
    /// S3: the region
    #[arg(long, requires = "store")]
    region: Option<String>,
    #[arg(long, value_name = "URL", requires = "store", help = ENDPOINT)]
    endpoint: Option<String>,
    /// S3: the bucket in the path of the URL and not in the host name
    #[arg(long, requires = "store")]
    path_style: bool,
    /// The CAs of the endpoint's certificate, in PEM, instead of the system's
    #[arg(long, value_name = "FILE", requires = "store")]
    ca: Option<PathBuf>,
    /// A file with private keys of age, for encrypted backups (again for more)
    #[arg(long = "identity", value_name = "FILE")]
    identities: Vec<PathBuf>,
}

/// A store that commands can use.
pub(super) struct Opened {
    pub(super) store: Store,
    /// What opens encrypted objects.
    pub(super) keys: Keys,
    /// Whom new ones are encrypted for.
    pub(super) recipients: Recipients,
    /// What the job keeps.
    pub(super) retention: Policy,
}

impl Place {
    /// Whether somebody named a store.
    pub(super) fn is_named(&self) -> bool {
        self.store.is_some()
    }

    /// The same as flags, for another command of this program.
    pub(super) fn flags(&self) -> Vec<OsString> {
        let mut flags = Vec::new();
        let mut add = |name: &str, value: Option<&OsStr>| {
            if let Some(value) = value {
                flags.extend([OsString::from(name), value.to_owned()]);
            }
        };
        match &self.store {
            Some(store) => add("--store", Some(store.as_ref())),
            None => add("--job-config", Some(self.job_config.as_os_str())),
        }
        add("--region", self.region.as_deref().map(OsStr::new));
        add("--endpoint", self.endpoint.as_deref().map(OsStr::new));
        add("--ca", self.ca.as_deref().map(Path::as_os_str));
        for file in &self.identities {
            add("--identity", Some(file.as_os_str()));
        }
        flags.extend(self.path_style.then(|| OsString::from("--path-style")));
        flags
    }

    /// Opens it. Nothing is asked of it yet.
    pub(super) fn open(&self) -> Result<Opened> {
        let JobStore { store, encryption, retention } = self.config()?;
        let store = Store::open(&store).map_err(|error| StoreError::complaint(&error))?;
        let Encryption { recipients, mut identities } = encryption;
        for file in &self.identities {
            identities.push(read(file, "the private key")?);
        }
        let wrong = |error: CodecError| error.complaint();
        let keys = Keys::parse(&identities).map_err(wrong)?;
        let recipients = Recipients::parse(&recipients).map_err(wrong)?;
        Ok(Opened { store, keys, recipients, retention })
    }

    fn config(&self) -> Result<JobStore> {
        if let Some(url) = &self.store {
            let ca = self.ca.as_deref().map(|file| read(file, "the CA of the store")).transpose()?;
            let store = StoreConfig {
                url: url.clone(),
                region: self.region.clone(),
                endpoint: self.endpoint.clone(),
                path_style: self.path_style,
                ca,
                ..StoreConfig::default()
            };
            return Ok(JobStore { store, ..JobStore::default() });
        }
        job(&self.job_config)
    }
}

/// A store by a URL, or by a job's properties.
pub(super) fn store(url: Option<&str>, job_config: Option<&Path>) -> Result<Store> {
    let config = match url {
        Some(url) => StoreConfig { url: url.to_owned(), ..StoreConfig::default() },
        None => job(job_config.unwrap_or(Path::new(JOB_CONFIG)))?.store,
    };
    Ok(Store::open(&config).map_err(|error| error.complaint())?)
}

fn job(file: &Path) -> Result<JobStore> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Complaint::refused(
            format!("no store is named, and {} cannot be read: {error}", file.display()),
            "backups may be anywhere",
            "name the store: --store s3://bucket/path, or run it as root on a VM with job etcd-backup",
        )
    })?;
    let job = JobStore::of_job(&text).map_err(|why| {
        Complaint::failed(
            format!("{} cannot be understood: {why}", file.display()),
            "the store's URL and credentials are in it",
            "deploy again: it is rendered from the properties of job etcd-backup",
        )
    })?;
    Ok(job)
}

fn read(file: &Path, what: &str) -> Result<String> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Complaint::failed(
            format!("{} cannot be read: {error}", file.display()),
            format!("{what} is in it"),
            "name a file that exists and that you may read",
        )
    })?;
    Ok(text)
}

/// The sets that were named, or the newest one.
pub(super) fn named<'a>(catalog: &'a Catalog, sets: &[SetId]) -> Result<Vec<&'a Entry>> {
    let chosen = |set| choose(catalog, set, Point::Latest).map_err(|error| error.complaint());
    if sets.is_empty() {
        return Ok(vec![chosen(None)?]);
    }
    Ok(sets.iter().map(|set| chosen(Some(set))).collect::<Result<_, _>>()?)
}

/// A size, for people.
pub(super) fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// How long ago, in its largest unit: `3 h`.
pub(super) fn ago(then: Timestamp, now: Timestamp) -> String {
    span(now.duration_since(then))
}

fn span(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        ..0 => "in the future".to_owned(),
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A time, to the second.
pub(super) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_one_unit() {
        let now: Timestamp = "2026-11-26T11:38:00Z".parse().unwrap();
        for (seconds, text) in [
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7_200, "2 h"),
            (172_800, "2 d"),
            (-1, "in the future"),
        ] {
            assert_eq!(ago(now - SignedDuration::from_secs(seconds), now), text);
        }
    }
}
