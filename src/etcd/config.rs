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
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::{Map, Value};
use tera::{Context, Tera};

use super::capability::Capability;
use super::id::{ClientUrl, MemberName, PeerUrl};
use super::settings::{AuthToken, EtcdSettings};
use super::tls::Files;
use super::version::EtcdVersion;

/// The name decides that values are quoted, see [`render`].
const TEMPLATE: &str = "etcd.conf.yml";

/// Keys that nobody may pass on verbatim, with the property that sets them; without one they are the launcher's: who
/// the member is, where it lies and listens, whom it trusts, and what could make another cluster of its data. Among
/// them are flags that etcd does not read from a file at all, so that they would be ignored without a word.
pub const OWNED: &[(&str, Option<&str>)] = &[
    ("advertise-client-urls", Some("client_port")),
    ("auth-token", Some("auth_token")),
    ("auth-token-ttl", Some("auth_token_ttl")),
    ("auto-compaction-mode", Some("auto_compaction_mode")),
    ("auto-compaction-retention", Some("auto_compaction_retention")),
    ("auto-tls", None),
    ("bcrypt-cost", Some("bcrypt_cost")),
    ("ca-file", None),
    ("cert-file", Some("tls.server.certificate")),
    ("cipher-suites", Some("cipher_suites")),
    ("client-cert-auth", None),
    ("client-cert-file", None),
    ("client-key-file", None),
    ("client-transport-security", None),
    ("compact-hash-check-time", Some("compact_hash_check_time")),
    ("config-file", None),
    ("corrupt-check-time", Some("corrupt_check_time")),
    ("cors", Some("cors")),
    ("data-dir", None),
    ("debug", Some("log_level")),
    ("discovery", None),
    ("discovery-endpoints", None),
    ("discovery-fallback", None),
    ("discovery-proxy", None),
    ("discovery-srv", None),
    ("discovery-srv-name", None),
    ("discovery-token", None),
    ("enable-grpc-gateway", Some("enable_grpc_gateway")),
    ("enable-pprof", Some("enable_pprof")),
    ("enable-v2", Some("enable_v2")),
    ("experimental-compact-hash-check-enabled", Some("compact_hash_check")),
    ("experimental-compact-hash-check-time", Some("compact_hash_check_time")),
    ("experimental-corrupt-check-time", Some("corrupt_check_time")),
    ("experimental-initial-corrupt-check", Some("initial_corrupt_check")),
    ("feature-gates", Some("feature_gates")),
    ("force-new-cluster", None),
    ("grpc-keepalive-interval", Some("grpc_keepalive_interval")),
    ("grpc-keepalive-min-time", Some("grpc_keepalive_min_time")),
    ("grpc-keepalive-timeout", Some("grpc_keepalive_timeout")),
    ("heartbeat-interval", Some("heartbeat_interval")),
    ("election-timeout", Some("election_timeout")),
    ("host-whitelist", Some("host_whitelist")),
    ("initial-advertise-peer-urls", Some("peer_port")),
    ("initial-cluster", None),
    ("initial-cluster-state", None),
    ("initial-cluster-token", None),
    ("key-file", Some("tls.server.private_key")),
    ("listen-client-http-urls", None),
    ("listen-client-urls", Some("client_listen_address")),
    ("listen-metrics-urls", Some("metrics_port")),
    ("listen-peer-urls", Some("peer_listen_address")),
    ("log-format", None),
    ("log-level", Some("log_level")),
    ("log-outputs", None),
    ("logger", None),
    ("max-concurrent-streams", Some("max_concurrent_streams")),
    ("max-request-bytes", Some("max_request_bytes")),
    ("max-snapshots", Some("max_snapshots")),
    ("max-txn-ops", Some("max_txn_ops")),
    ("max-wals", Some("max_wals")),
    ("metrics", Some("metrics")),
    ("name", None),
    ("peer-auto-tls", None),
    ("peer-ca-file", None),
    ("peer-cert-file", Some("tls.peer.certificate")),
    ("peer-client-cert-auth", None),
    ("peer-key-file", Some("tls.peer.private_key")),
    ("peer-transport-security", None),
    ("peer-trusted-ca-file", Some("tls.peer.ca")),
    ("pre-vote", None),
    ("proxy", None),
    ("quota-backend-bytes", Some("quota_backend_bytes")),
    ("snapshot-count", Some("snapshot_count")),
    ("strict-reconfig-check", None),
    ("tls-min-version", Some("tls_min_version")),
    ("trusted-ca-file", Some("tls.server.ca")),
    ("unsafe-no-fsync", None),
    ("wal-dir", Some("wal_dir")),
];

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
#[derive(Debug, Clone, PartialEq)]
pub struct EtcdConfig {
    /// The binary that will read the file: keys come and go between versions.
    pub version: EtcdVersion,
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
    /// The pair of keys that signs tokens, with [`AuthToken::Jwt`].
    pub jwt: KeyPair,
    /// How it behaves.
    pub settings: EtcdSettings,
}

/// The files of a pair of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The public one.
    pub public: PathBuf,
    /// The private one.
    pub private: PathBuf,
}

/// The file's text, annotated, with every value of the type etcd wants: sizes and milliseconds are
/// integers, intervals integers of nanoseconds, lists of URLs one string, the retention a string.
pub fn render(config: &EtcdConfig) -> anyhow::Result<String> {
    let mut tera = Tera::new();
    tera.autoescape_on([TEMPLATE]);
    tera.set_escape_fn(write_quoted);
    tera.add_raw_template(TEMPLATE, include_str!("../../templates/etcd.conf.yml.tera"))
        .context("parse the template of etcd.conf.yml")?;
    let values = Values::of(config).context("prepare the values of etcd.conf.yml")?;
    let context = Context::from_serialize(&values).context("prepare the values of etcd.conf.yml")?;
    tera.render(TEMPLATE, &context).context("render etcd.conf.yml")
}

/// The names the template knows. What is `None` is not in the file.
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
    tls_min_version: Option<&'static str>,
    cipher_suites: Option<String>,
    heartbeat_interval_ms: u64,
    election_timeout_ms: u64,
    snapshot_count: u64,
    max_snapshots: Option<u64>,
    max_wals: Option<u64>,
    quota_backend_bytes: u64,
    max_request_bytes: u64,
    max_txn_ops: u64,
    max_concurrent_streams: Option<u64>,
    grpc_keepalive_min_time_ns: u64,
    grpc_keepalive_interval_ns: u64,
    grpc_keepalive_timeout_ns: u64,
    auto_compaction_mode: &'static str,
    auto_compaction_retention: String,
    /// Up to 3.5 the checks are settings of their own, with `experimental-` before their names.
    initial_corrupt_check: Option<bool>,
    compact_hash_check: Option<bool>,
    feature_gates: Option<String>,
    experimental: &'static str,
    corrupt_check_time_ns: u64,
    compact_hash_check_time_ns: Option<u64>,
    cors: Option<String>,
    host_whitelist: Option<String>,
    auth_token: String,
    auth_token_ttl_s: u64,
    bcrypt_cost: u64,
    enable_grpc_gateway: bool,
    enable_v2: bool,
    log_level: String,
    log_format: Option<&'static str>,
    metrics: String,
    enable_pprof: bool,
    extra: String,
}

impl Values {
    fn of(config: &EtcdConfig) -> anyhow::Result<Self> {
        let (settings, version) = (&config.settings, config.version);
        let metrics_urls = joined(&config.listen_metrics_urls, ClientUrl::as_str);
        let has_gates = Capability::FeatureGates.is_in(version);
        // Next to free and on in production, so it is on wherever etcd has it.
        let compact_hash_check = Capability::CompactHashCheck
            .is_in(version)
            .then_some(settings.compact_hash_check.unwrap_or(true));
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
            tls_min_version: Capability::TlsMinVersion
                .is_in(version)
                .then_some(settings.tls_min_version.as_str()),
            cipher_suites: (!settings.cipher_suites.is_empty()).then(|| {
                flow(&settings.cipher_suites.iter().map(|name| Value::from(name.as_str())).collect())
            }),
            heartbeat_interval_ms: whole(settings.heartbeat_interval.as_millis(), "heartbeat_interval")?,
            election_timeout_ms: whole(settings.election_timeout.as_millis(), "election_timeout")?,
            snapshot_count: settings.snapshot_count,
            max_snapshots: settings.max_snapshots,
            max_wals: settings.max_wals,
            quota_backend_bytes: settings.quota_backend_bytes,
            max_request_bytes: settings.max_request_bytes,
            max_txn_ops: settings.max_txn_ops,
            max_concurrent_streams: settings.max_concurrent_streams,
            grpc_keepalive_min_time_ns: nanos(settings.grpc_keepalive_min_time, "grpc_keepalive_min_time")?,
            grpc_keepalive_interval_ns: nanos(settings.grpc_keepalive_interval, "grpc_keepalive_interval")?,
            grpc_keepalive_timeout_ns: nanos(settings.grpc_keepalive_timeout, "grpc_keepalive_timeout")?,
            auto_compaction_mode: settings.auto_compaction_mode.as_str(),
            auto_compaction_retention: settings.auto_compaction_retention.clone(),
            initial_corrupt_check: (!has_gates).then_some(settings.initial_corrupt_check),
            compact_hash_check: compact_hash_check.filter(|_| !has_gates),
            feature_gates: has_gates.then(|| feature_gates(settings, compact_hash_check)),
            experimental: if has_gates { "" } else { "experimental-" },
            corrupt_check_time_ns: nanos(settings.corrupt_check_time, "corrupt_check_time")?,
            compact_hash_check_time_ns: settings
                .compact_hash_check_time
                .filter(|_| Capability::CompactHashCheck.is_in(version))
                .map(|time| nanos(time, "compact_hash_check_time"))
                .transpose()?,
            cors: settings.cors.clone(),
            host_whitelist: settings.host_whitelist.clone(),
            auth_token: auth_token(&settings.auth_token, &config.jwt)?,
            auth_token_ttl_s: settings.auth_token_ttl.as_secs(),
            bcrypt_cost: settings.bcrypt_cost,
            enable_grpc_gateway: settings.enable_grpc_gateway,
            enable_v2: settings.enable_v2,
            log_level: settings.log_level.clone(),
            log_format: Capability::LogFormat.is_in(version).then_some("json"),
            metrics: settings.metrics.clone(),
            enable_pprof: settings.enable_pprof,
            extra: extra(&settings.extra),
        })
    }
}

/// `Name=true,Name=false`, ours among those that were asked for.
fn feature_gates(settings: &EtcdSettings, compact_hash_check: Option<bool>) -> String {
    let mut gates: BTreeMap<&str, bool> =
        settings.feature_gates.iter().map(|(name, on)| (name.as_str(), *on)).collect();
    gates.insert("InitialCorruptCheck", settings.initial_corrupt_check);
    gates.extend(compact_hash_check.map(|on| ("CompactHashCheck", on)));
    gates.iter().map(|(name, on)| format!("{name}={on}")).collect::<Vec<_>>().join(",")
}

fn auth_token(token: &AuthToken, keys: &KeyPair) -> anyhow::Result<String> {
    Ok(match token {
        AuthToken::Simple => "simple".to_owned(),
        AuthToken::Jwt { sign_method, ttl } => format!(
            "jwt,pub-key={},priv-key={},sign-method={sign_method},ttl={}ms",
            text(&keys.public)?,
            text(&keys.private)?,
            ttl.as_millis()
        ),
    })
}

/// The lines of what is passed on verbatim.
fn extra(settings: &Map<String, Value>) -> String {
    settings.iter().map(|(key, value)| format!("{key}: {}", flow(value))).collect::<Vec<_>>().join("\n")
}

/// A value on one line, as YAML and JSON parsers read it alike.
fn flow(value: &Value) -> String {
    let list = |parts: Vec<String>| parts.join(", ");
    match value {
        Value::String(text) => quoted(text),
        Value::Array(values) => format!("[{}]", list(values.iter().map(flow).collect())),
        Value::Object(values) => format!(
            "{{{}}}",
            list(values.iter().map(|(key, value)| format!("{}: {}", quoted(key), flow(value))).collect())
        ),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    write_quoted(text, &mut out).expect("writing to memory cannot fail");
    String::from_utf8(out).expect("characters were written")
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

fn nanos(duration: Duration, name: &'static str) -> anyhow::Result<u64> {
    whole(duration.as_nanos(), name)
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
    use crate::etcd::settings::CompactionMode;
    use crate::etcd::tls::Role;
    use proptest::prelude::*;
    use serde_yaml::Value;

    fn member(name: &str, host: &str) -> (MemberName, BTreeSet<PeerUrl>) {
        (name.parse().unwrap(), BTreeSet::from([PeerUrl::https(host, 2380)]))
    }

    fn config() -> EtcdConfig {
        let certificates = Path::new("/var/vcap/jobs/etcd/config");
        EtcdConfig {
            version: EtcdVersion::new(3, 6, 16),
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
            jwt: KeyPair { public: certificates.join("jwt.pub"), private: certificates.join("jwt.key") },
            settings: crate::job::properties::tests::parsed().etcd,
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
        config.settings.corrupt_check_time = Duration::from_hours(4);
        config.settings.auto_compaction_mode = CompactionMode::Revision;
        config.settings.auto_compaction_retention = "5000".to_owned();

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

    /// Each line's file in full: what 3.7 would die on (`experimental-*`) and what 3.4 does not know is not in it.
    #[test]
    fn each_release_line_gets_the_keys_it_knows() {
        let mut config = config();
        for version in ["3.4.23", "3.4.41", "3.5.35", "3.7.3"] {
            config.version = version.parse().unwrap();
            insta::assert_snapshot!(format!("etcd-{version}"), without_comments(&render(&config).unwrap()));
        }
    }

    fn without_comments(text: &str) -> String {
        text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).fold(
            String::new(),
            |mut all, line| {
                all.push_str(line);
                all.push('\n');
                all
            },
        )
    }

    #[test]
    fn what_an_operator_asks_for_is_in_the_file_with_its_type() {
        let mut config = config();
        config.settings.auth_token =
            AuthToken::Jwt { sign_method: "ES256".to_owned(), ttl: Duration::from_mins(5) };
        config.settings.cipher_suites = vec!["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256".to_owned()];
        config.settings.feature_gates = BTreeMap::from([("LeaseCheckpoint".to_owned(), true)]);
        config.settings.compact_hash_check_time = Some(Duration::from_secs(30));
        config.settings.extra = serde_json::from_value(serde_json::json!({
            "backend-batch-limit": 500, "socket-reuse-port": true, "max-learners": 2,
        }))
        .unwrap();

        let parsed = parsed(&config);

        assert_eq!(
            parsed["auth-token"].as_str(),
            Some(
                "jwt,pub-key=/var/vcap/jobs/etcd/config/jwt.pub,priv-key=/var/vcap/jobs/etcd/config/jwt.key,sign-method=ES256,ttl=300000ms"
            )
        );
        assert_eq!(parsed["cipher-suites"][0].as_str(), Some("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"));
        assert_eq!(
            parsed["feature-gates"].as_str(),
            Some("CompactHashCheck=true,InitialCorruptCheck=true,LeaseCheckpoint=true")
        );
        assert_eq!(parsed["compact-hash-check-time"].as_u64(), Some(30_000_000_000));
        assert_eq!(parsed["backend-batch-limit"].as_u64(), Some(500));
        assert_eq!(parsed["socket-reuse-port"].as_bool(), Some(true));
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

        #[test]
        fn no_extra_text_can_leave_its_line(value in any::<String>()) {
            let mut config = config();
            config.settings.extra =
                Map::from_iter([("socket".to_owned(), serde_json::json!([{value.clone(): value.clone()}]))]);

            let parsed = parsed(&config);

            prop_assert_eq!(parsed["socket"][0][value.as_str()].as_str(), Some(value.as_str()));
        }
    }
}
