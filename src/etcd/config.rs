//! The configuration file etcd is started with: typed fields in, annotated YAML out.
//!
//! A file rather than flags: an operator can read it beside the comments, and nothing in the
//! environment can change what is meant. The price is that etcd ignores keys it does not know, so
//! `spec/etcd_config.rs` compares the keys with the real binary's flags and the values with its log
//! (docs/contract.md#etcd-config).
//!
//! Strings are quoted by the template engine itself, through its escaping hook: a template that
//! forgot to quote could not be told from one that did not.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use tera::{Context, Tera};

use super::id::{ClientUrl, MemberName, PeerUrl};
use super::tls::Files;

/// The name decides that values are quoted, see [`render`].
const TEMPLATE: &str = "etcd.conf.yml";

/// A release line of etcd whose configuration this version of the release can write. Keys come and go
/// between lines: `experimental-*` end with 3.6, feature gates begin there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReleaseLine {
    /// etcd 3.6.
    V3_6,
}

/// Which release line was asked for and is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("etcd_version \"{0}\" is not supported by this release, which runs etcd 3.6")]
pub struct UnknownReleaseLine(String);

impl FromStr for ReleaseLine {
    type Err = UnknownReleaseLine;

    fn from_str(text: &str) -> Result<Self, UnknownReleaseLine> {
        match text {
            "3.6" => Ok(Self::V3_6),
            _ => Err(UnknownReleaseLine(text.to_owned())),
        }
    }
}

impl ReleaseLine {
    fn template(self) -> &'static str {
        match self {
            Self::V3_6 => include_str!("../../templates/etcd.conf.yml.tera"),
        }
    }
}

/// What etcd does with an empty data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitialState {
    /// Creates a cluster of the initial members.
    New,
    /// Joins the cluster of the initial members.
    Existing,
}

impl InitialState {
    fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Existing => "existing",
        }
    }
}

/// What one member is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdConfig {
    /// The line of etcd that will read the file.
    pub release_line: ReleaseLine,
    /// `--name`; published at each start.
    pub name: MemberName,
    /// `--data-dir`.
    pub data_dir: PathBuf,
    /// `--wal-dir`; `None` = below the data directory.
    pub wal_dir: Option<PathBuf>,
    /// Where peers are listened for; hosts must be addresses.
    pub listen_peer_urls: BTreeSet<PeerUrl>,
    /// Where clients are listened for; hosts must be addresses.
    pub listen_client_urls: BTreeSet<ClientUrl>,
    /// A listener for `/metrics` and `/health` only; empty = none.
    pub listen_metrics_urls: BTreeSet<ClientUrl>,
    /// What peers dial; part of the member's identity at bootstrap.
    pub initial_advertise_peer_urls: BTreeSet<PeerUrl>,
    /// What clients are told to dial.
    pub advertise_client_urls: BTreeSet<ClientUrl>,
    /// The members of an empty data directory's cluster, this one included. Names are only labels in
    /// this list: a member that has not published one yet may be given any that is not taken.
    pub initial_cluster: BTreeMap<MemberName, BTreeSet<PeerUrl>>,
    /// Whether that cluster is created or joined.
    pub initial_cluster_state: InitialState,
    /// Part of all ids at bootstrap, so that clusters made apart can never merge.
    pub initial_cluster_token: String,
    /// What is shown to clients, and the CA clients are trusted by.
    pub server: Files,
    /// What is shown to peers, and the CA peers are trusted by.
    pub peer: Files,
    /// `--heartbeat-interval`, whole milliseconds.
    pub heartbeat_interval: Duration,
    /// `--election-timeout`, whole milliseconds.
    pub election_timeout: Duration,
    /// `--snapshot-count`, in committed entries.
    pub snapshot_count: u64,
    /// `--quota-backend-bytes`; 0 = etcd's default of 2 GiB.
    pub quota_backend_bytes: u64,
    /// `--max-request-bytes`.
    pub max_request_bytes: u64,
    /// `--max-txn-ops`.
    pub max_txn_ops: u64,
    /// `--auto-compaction-mode`: `periodic` or `revision`.
    pub auto_compaction_mode: String,
    /// `--auto-compaction-retention`: a duration or number, "0" = off.
    pub auto_compaction_retention: String,
    /// Compares the data with the peers' before serving.
    pub initial_corrupt_check: bool,
    /// Compares what compactions leave behind, every minute: next to free, and on in production.
    pub compact_hash_check: bool,
    /// Compares all data while serving, at this interval; zero = never.
    pub corrupt_check_time: Duration,
    /// `--log-level`.
    pub log_level: String,
    /// `--metrics`: `basic` or `extensive`.
    pub metrics: String,
}

/// The file's text, annotated, with every value of the type etcd wants: sizes and milliseconds are
/// integers, intervals integers of nanoseconds, lists of URLs one string, the retention a string.
pub fn render(config: &EtcdConfig) -> anyhow::Result<String> {
    let mut tera = Tera::new();
    tera.autoescape_on([TEMPLATE]);
    tera.set_escape_fn(write_quoted);
    tera.add_raw_template(TEMPLATE, config.release_line.template())
        .context("parse the template of etcd.conf.yml")?;
    let values = Values::of(config).context("prepare the values of etcd.conf.yml")?;
    let context = Context::from_serialize(&values).context("prepare the values of etcd.conf.yml")?;
    tera.render(TEMPLATE, &context).context("render etcd.conf.yml")
}

/// The names the template knows.
#[derive(Serialize)]
struct Values {
    name: String,
    data_dir: String,
    wal_dir: Option<String>,
    listen_peer_urls: String,
    listen_client_urls: String,
    listen_metrics_urls: Option<String>,
    initial_advertise_peer_urls: String,
    advertise_client_urls: String,
    initial_cluster: String,
    initial_cluster_state: &'static str,
    initial_cluster_token: String,
    server_certificate: String,
    server_key: String,
    server_ca: String,
    peer_certificate: String,
    peer_key: String,
    peer_ca: String,
    heartbeat_interval_ms: u64,
    election_timeout_ms: u64,
    snapshot_count: u64,
    quota_backend_bytes: u64,
    max_request_bytes: u64,
    max_txn_ops: u64,
    auto_compaction_mode: String,
    auto_compaction_retention: String,
    feature_gates: String,
    corrupt_check_time_ns: u64,
    log_level: String,
    metrics: String,
}

impl Values {
    fn of(config: &EtcdConfig) -> anyhow::Result<Self> {
        let metrics_urls = joined(&config.listen_metrics_urls, ClientUrl::as_str);
        Ok(Self {
            name: config.name.to_string(),
            data_dir: text(&config.data_dir)?,
            wal_dir: config.wal_dir.as_deref().map(text).transpose()?,
            listen_peer_urls: joined(&config.listen_peer_urls, PeerUrl::as_str),
            listen_client_urls: joined(&config.listen_client_urls, ClientUrl::as_str),
            listen_metrics_urls: Some(metrics_urls).filter(|urls| !urls.is_empty()),
            initial_advertise_peer_urls: joined(&config.initial_advertise_peer_urls, PeerUrl::as_str),
            advertise_client_urls: joined(&config.advertise_client_urls, ClientUrl::as_str),
            initial_cluster: initial_cluster(&config.initial_cluster),
            initial_cluster_state: config.initial_cluster_state.as_str(),
            initial_cluster_token: config.initial_cluster_token.clone(),
            server_certificate: text(&config.server.certificate)?,
            server_key: text(&config.server.key)?,
            server_ca: text(&config.server.ca)?,
            peer_certificate: text(&config.peer.certificate)?,
            peer_key: text(&config.peer.key)?,
            peer_ca: text(&config.peer.ca)?,
            heartbeat_interval_ms: whole(config.heartbeat_interval.as_millis(), "heartbeat_interval")?,
            election_timeout_ms: whole(config.election_timeout.as_millis(), "election_timeout")?,
            snapshot_count: config.snapshot_count,
            quota_backend_bytes: config.quota_backend_bytes,
            max_request_bytes: config.max_request_bytes,
            max_txn_ops: config.max_txn_ops,
            auto_compaction_mode: config.auto_compaction_mode.clone(),
            auto_compaction_retention: config.auto_compaction_retention.clone(),
            feature_gates: format!(
                "CompactHashCheck={},InitialCorruptCheck={}",
                config.compact_hash_check, config.initial_corrupt_check
            ),
            corrupt_check_time_ns: whole(config.corrupt_check_time.as_nanos(), "corrupt_check_time")?,
            log_level: config.log_level.clone(),
            metrics: config.metrics.clone(),
        })
    }
}

/// `name=url,name=url`, as `--initial-cluster` wants it; a member with two URLs appears twice.
fn initial_cluster(members: &BTreeMap<MemberName, BTreeSet<PeerUrl>>) -> String {
    let pairs = members.iter().flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")));
    pairs.collect::<Vec<_>>().join(",")
}

fn joined<T>(urls: &BTreeSet<T>, as_str: impl Fn(&T) -> &str) -> String {
    urls.iter().map(as_str).collect::<Vec<_>>().join(",")
}

fn text(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(text.to_owned())
}

fn whole(number: u128, name: &'static str) -> anyhow::Result<u64> {
    // etcd reads durations into a signed 64-bit integer.
    let fits = i64::try_from(number).with_context(|| format!("{name} is longer than 292 years"))?;
    Ok(fits.unsigned_abs())
}

/// A string as a double-quoted scalar that YAML 1.1, YAML 1.2 and JSON parsers read alike: quotes,
/// backslashes and everything a YAML parser may refuse or fold is escaped.
fn write_quoted(text: &str, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(b"\"")?;
    for c in text.chars() {
        match c {
            '"' => out.write_all(b"\\\"")?,
            '\\' => out.write_all(b"\\\\")?,
            // Control characters, line and paragraph separators, the byte-order mark: all below U+10000.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                write!(out, "\\u{:04x}", u32::from(c))?;
            }
            c => write!(out, "{c}")?,
        }
    }
    out.write_all(b"\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::tls::Role;
    use proptest::prelude::*;
    use serde_yaml::Value;

    fn member(name: &str, host: &str) -> (MemberName, BTreeSet<PeerUrl>) {
        (name.parse().unwrap(), BTreeSet::from([PeerUrl::https(host, 2380)]))
    }

    fn config() -> EtcdConfig {
        let certificates = Path::new("/var/vcap/jobs/etcd/config");
        EtcdConfig {
            release_line: ReleaseLine::V3_6,
            name: "6f3e0c1a".parse().unwrap(),
            data_dir: "/var/vcap/store/etcd".into(),
            wal_dir: None,
            listen_peer_urls: BTreeSet::from([PeerUrl::https("10.0.0.5", 2380)]),
            listen_client_urls: BTreeSet::from([ClientUrl::https("10.0.0.5", 2379)]),
            listen_metrics_urls: BTreeSet::new(),
            initial_advertise_peer_urls: BTreeSet::from([PeerUrl::https("a.etcd.default.etcd.bosh", 2380)]),
            advertise_client_urls: BTreeSet::from([ClientUrl::https("a.etcd.default.etcd.bosh", 2379)]),
            initial_cluster: BTreeMap::from([
                member("6f3e0c1a", "a.etcd.default.etcd.bosh"),
                member("0b25c7f8", "b.etcd.default.etcd.bosh"),
            ]),
            initial_cluster_state: InitialState::New,
            initial_cluster_token: "5d1f".to_owned(),
            server: Files::of(certificates, Role::Server),
            peer: Files::of(certificates, Role::Peer),
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_secs(1),
            snapshot_count: 10_000,
            quota_backend_bytes: 2_147_483_648,
            max_request_bytes: 1_572_864,
            max_txn_ops: 128,
            auto_compaction_mode: "periodic".to_owned(),
            auto_compaction_retention: "1h".to_owned(),
            initial_corrupt_check: true,
            compact_hash_check: true,
            corrupt_check_time: Duration::ZERO,
            log_level: "info".to_owned(),
            metrics: "basic".to_owned(),
        }
    }

    fn parsed(config: &EtcdConfig) -> Value {
        serde_yaml::from_str(&render(config).unwrap()).unwrap()
    }

    #[test]
    fn the_file_is_annotated_and_complete() {
        insta::assert_snapshot!(render(&config()).unwrap());
    }

    #[test]
    fn every_value_has_the_type_etcd_wants() {
        let mut config = config();
        config.corrupt_check_time = Duration::from_hours(4);
        config.auto_compaction_mode = "revision".to_owned();
        config.auto_compaction_retention = "5000".to_owned();

        let parsed = parsed(&config);

        assert_eq!(parsed["corrupt-check-time"].as_u64(), Some(14_400_000_000_000), "nanoseconds");
        assert_eq!(parsed["heartbeat-interval"].as_u64(), Some(100), "milliseconds");
        assert_eq!(parsed["auto-compaction-retention"].as_str(), Some("5000"), "a string");
        assert_eq!(parsed["log-outputs"][0].as_str(), Some("stderr"), "a list");
        assert_eq!(parsed["strict-reconfig-check"].as_bool(), Some(true));
        assert_eq!(parsed["client-transport-security"]["client-cert-auth"].as_bool(), Some(true));
        assert_eq!(
            parsed["initial-cluster"].as_str(),
            Some(
                "0b25c7f8=https://b.etcd.default.etcd.bosh:2380,6f3e0c1a=https://a.etcd.default.etcd.bosh:2380"
            ),
        );
    }

    #[test]
    fn what_is_not_set_is_left_out() {
        let without = parsed(&config());
        assert_eq!((without.get("wal-dir"), without.get("listen-metrics-urls")), (None, None));

        let mut config = config();
        config.wal_dir = Some("/var/vcap/store/etcd/wal".into());
        config.listen_metrics_urls =
            BTreeSet::from([ClientUrl::https("10.0.0.5", 2381), ClientUrl::https("127.0.0.1", 2381)]);
        let with = parsed(&config);
        assert_eq!(with["wal-dir"].as_str(), Some("/var/vcap/store/etcd/wal"));
        assert_eq!(
            with["listen-metrics-urls"].as_str(),
            Some("https://10.0.0.5:2381,https://127.0.0.1:2381")
        );
    }

    #[test]
    fn only_the_release_lines_that_are_shipped_are_known() {
        assert_eq!("3.6".parse(), Ok(ReleaseLine::V3_6));
        let error = "3.5".parse::<ReleaseLine>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "etcd_version \"3.5\" is not supported by this release, which runs etcd 3.6"
        );
    }

    #[test]
    fn a_path_that_is_no_text_is_refused() {
        use std::os::unix::ffi::OsStrExt;
        let mut config = config();
        config.data_dir = Path::new(std::ffi::OsStr::from_bytes(b"/\xff")).to_owned();

        assert!(render(&config).is_err());
    }

    proptest! {
        #[test]
        fn no_text_can_leave_its_quotes(value in any::<String>()) {
            let mut config = config();
            config.initial_cluster_token.clone_from(&value);

            let parsed = parsed(&config);

            prop_assert_eq!(parsed["initial-cluster-token"].as_str(), Some(value.as_str()));
            prop_assert_eq!(parsed["log-level"].as_str(), Some("info"));
        }
    }
}
