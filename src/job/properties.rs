//! The job's properties, read one by one so that *all* faults are told at once.
//!
//! Why not `#[derive(Deserialize)]`: serde stops at the first fault, and an operator who repairs a
//! manifest wants the whole list (docs/contract.md#properties).

mod reader;
mod together;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::reader::{Reader, Zero};
use crate::etcd::release_line::ReleaseLine;
use crate::etcd::settings::{AuthToken, CompactionMode, EtcdSettings, TlsVersion};

/// One thing wrong with what the operator wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Property (or file) name.
    pub name: String,
    /// What is there now; never a secret.
    pub value: String,
    /// What it must be.
    pub rule: String,
    /// A value that would be right.
    pub example: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}; for example: {}", self.name, self.value, self.rule, self.example)
    }
}

/// How the first members are made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootstrapMethod {
    /// etcd's static bootstrap: each etcd is told all of them and writes them into its log.
    #[default]
    Static,
    /// The launcher writes the data of its member before etcd runs (docs/contract.md#seeded).
    Seeded,
}

/// Whether and how this deploy may create a new cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootstrapFlag {
    /// `false`: never.
    Off,
    /// `true`: when every instance of the link is virgin.
    On,
    /// `again`: also when a backup of this deployment exists.
    Again,
}

/// What to do when the cluster removed this member while it was away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRemovedMember {
    /// Move the data aside and join as a new member.
    Rejoin,
    /// Stop and ask.
    Refuse,
}

/// How etcd's own listener for metrics is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsProtocol {
    /// Mutual TLS, as on the client port.
    Https,
    /// In the clear, for whoever reaches the port.
    Http,
}

/// The checked properties. Names and defaults are those of `jobs/etcd/spec`.
#[derive(Debug, Clone, PartialEq)]
pub struct Properties {
    /// Whether this deploy may create a new cluster.
    pub bootstrap_cluster: BootstrapFlag,
    /// How the first members are made.
    pub bootstrap_method: BootstrapMethod,
    /// Where clients connect.
    pub client_port: u16,
    /// Where peers connect.
    pub peer_port: u16,
    /// etcd's own metrics listener, off when absent.
    pub metrics_port: Option<u16>,
    /// Address of that listener; `None` = this VM only.
    pub metrics_listen_address: Option<IpAddr>,
    /// Whether that listener has TLS.
    pub metrics_protocol: MetricsProtocol,
    /// The launcher's listener.
    pub launcher_port: u16,
    /// Address of the client listener; `None` = the instance's own.
    pub client_listen_address: Option<IpAddr>,
    /// Address of the peer listener; `None` = the instance's own.
    pub peer_listen_address: Option<IpAddr>,
    /// How long the launcher waits for all answers of one observation.
    pub observe_timeout: Duration,
    /// How long post-start and post-deploy wait for this member to serve.
    pub ready_timeout: Duration,
    /// How long pre-stop holds for a member that is recovering.
    pub hold_timeout: Duration,
    /// How long drain may take to leave or to hand over.
    pub drain_timeout: Duration,
    /// What to do when the cluster removed this member while it was away.
    pub on_removed_member: OnRemovedMember,
    /// Whether a damaged single member may be restored from backups unasked.
    pub auto_restore: bool,
    /// The etcd release line to run.
    pub etcd_version: ReleaseLine,
    /// Where the write-ahead log lies; `None` = in the data directory.
    pub wal_dir: Option<PathBuf>,
    /// Limit of open files (bpm's `limits.open_files`; the launcher only reports it).
    pub open_files: u64,
    /// How etcd behaves.
    pub etcd: EtcdSettings,
}

impl Properties {
    /// Reads and checks all properties; every fault is in the error.
    pub fn parse(raw: &Map<String, Value>) -> Result<Self, Vec<Fault>> {
        let mut reader = Reader::of(raw);
        let properties = read(&mut reader);
        together::check(&properties, &mut reader.faults);
        reader.report_unknown();
        if reader.faults.is_empty() { Ok(properties) } else { Err(reader.faults) }
    }
}

fn read(reader: &mut Reader<'_>) -> Properties {
    Properties {
        bootstrap_cluster: reader.choice(
            "bootstrap_cluster",
            &[("false", BootstrapFlag::Off), ("true", BootstrapFlag::On), ("again", BootstrapFlag::Again)],
        ),
        bootstrap_method: reader.choice(
            "bootstrap_method",
            &[("static", BootstrapMethod::Static), ("seeded", BootstrapMethod::Seeded)],
        ),
        client_port: reader.port("client_port", 2379),
        peer_port: reader.port("peer_port", 2380),
        metrics_port: reader.optional("metrics_port", |reader| reader.port("metrics_port", 2381)),
        metrics_listen_address: reader.address("metrics_listen_address"),
        metrics_protocol: reader.choice(
            "metrics_protocol",
            &[("https", MetricsProtocol::Https), ("http", MetricsProtocol::Http)],
        ),
        launcher_port: reader.port("launcher_port", 2382),
        client_listen_address: reader.address("client_listen_address"),
        peer_listen_address: reader.address("peer_listen_address"),
        observe_timeout: reader.duration("observe_timeout", "2s", Zero::Refused),
        ready_timeout: reader.duration("ready_timeout", "10m", Zero::Refused),
        hold_timeout: reader.duration("hold_timeout", "10m", Zero::Allowed),
        drain_timeout: reader.duration("drain_timeout", "5m", Zero::Refused),
        on_removed_member: reader.choice(
            "on_removed_member",
            &[("rejoin", OnRemovedMember::Rejoin), ("refuse", OnRemovedMember::Refuse)],
        ),
        auto_restore: reader.boolean("auto_restore"),
        etcd_version: reader.release_line("etcd_version"),
        wal_dir: reader.wal_dir("wal_dir"),
        open_files: reader.number("open_files", 64, 1 << 24, 16_384),
        etcd: read_etcd(reader),
    }
}

fn read_etcd(reader: &mut Reader<'_>) -> EtcdSettings {
    const COUNT_MAX: u64 = u32::MAX as u64;
    EtcdSettings {
        heartbeat_interval: reader.duration("heartbeat_interval", "100ms", Zero::Refused),
        election_timeout: reader.duration("election_timeout", "1s", Zero::Refused),
        snapshot_count: reader.number("snapshot_count", 1, u64::MAX, 10_000),
        max_snapshots: reader.optional("max_snapshots", |it| it.number("max_snapshots", 0, COUNT_MAX, 5)),
        max_wals: reader.optional("max_wals", |it| it.number("max_wals", 0, COUNT_MAX, 5)),
        quota_backend_bytes: reader.number("quota_backend_bytes", 0, u64::MAX, 2_147_483_648),
        max_request_bytes: reader.number("max_request_bytes", 1, 1 << 30, 1_572_864),
        max_txn_ops: reader.number("max_txn_ops", 1, COUNT_MAX, 128),
        max_concurrent_streams: reader
            .optional("max_concurrent_streams", |it| it.number("max_concurrent_streams", 1, COUNT_MAX, 1000)),
        grpc_keepalive_min_time: reader.duration("grpc_keepalive_min_time", "5s", Zero::Allowed),
        grpc_keepalive_interval: reader.duration("grpc_keepalive_interval", "2h", Zero::Allowed),
        grpc_keepalive_timeout: reader.duration("grpc_keepalive_timeout", "20s", Zero::Allowed),
        auto_compaction_mode: reader.choice(
            "auto_compaction_mode",
            &[("periodic", CompactionMode::Periodic), ("revision", CompactionMode::Revision)],
        ),
        auto_compaction_retention: reader.retention(),
        initial_corrupt_check: reader.boolean("initial_corrupt_check"),
        corrupt_check_time: reader.duration("corrupt_check_time", "0s", Zero::Allowed),
        compact_hash_check: reader.optional("compact_hash_check", |it| it.boolean("compact_hash_check")),
        compact_hash_check_time: reader.optional("compact_hash_check_time", |it| {
            it.duration("compact_hash_check_time", "1m", Zero::Refused)
        }),
        cors: reader.origins("cors"),
        host_whitelist: reader.hosts("host_whitelist"),
        auth_token: read_auth_token(reader),
        auth_token_ttl: reader.duration("auth_token_ttl", "5m", Zero::Refused),
        bcrypt_cost: reader.number("bcrypt_cost", 4, 31, 10),
        log_level: reader.word("log_level", &["debug", "info", "warn", "error", "panic", "fatal"]),
        metrics: reader.word("metrics", &["basic", "extensive"]),
        enable_pprof: reader.boolean("enable_pprof"),
        enable_grpc_gateway: reader.boolean("enable_grpc_gateway"),
        enable_v2: reader.boolean("enable_v2"),
        tls_min_version: reader
            .choice("tls_min_version", &[("TLS1.2", TlsVersion::V1_2), ("TLS1.3", TlsVersion::V1_3)]),
        cipher_suites: reader.cipher_suites("cipher_suites"),
        feature_gates: reader.feature_gates("feature_gates"),
        extra: reader.extra_config("extra_config"),
    }
}

fn read_auth_token(reader: &mut Reader<'_>) -> AuthToken {
    let sign_method = reader.word(
        "jwt.sign_method",
        &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"],
    );
    let ttl = reader.duration("jwt.ttl", "5m", Zero::Refused);
    match reader.word("auth_token", &["simple", "jwt"]).as_str() {
        "jwt" => AuthToken::Jwt { sign_method, ttl },
        _ => AuthToken::Simple,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    /// The defaults of `jobs/etcd/spec`, as templates print them into `job.json`.
    pub(crate) fn defaults() -> Map<String, Value> {
        let spec: Value = serde_yaml::from_str(include_str!("../../jobs/etcd/spec")).unwrap();
        let former = |name: &str| crate::job::aliases::SPELLINGS.iter().any(|(former, _)| *former == name);
        let printed = |name: &str| {
            !name.starts_with("tls.")
                && !["jwt.public_key", "jwt.private_key"].contains(&name)
                && !former(name)
        };
        let properties = spec["properties"].as_object().unwrap().iter();
        properties
            .filter(|(name, _)| printed(name))
            .map(|(name, definition)| (name.clone(), definition["default"].clone()))
            .collect()
    }

    /// The defaults, checked.
    pub(crate) fn parsed() -> Properties {
        Properties::parse(&defaults()).unwrap()
    }

    #[test]
    fn the_defaults_are_accepted() {
        let properties = Properties::parse(&defaults()).unwrap();

        assert_eq!(properties.ready_timeout, Duration::from_mins(10));
        assert_eq!(properties.bootstrap_cluster, BootstrapFlag::Off);
    }

    #[test]
    fn every_fault_is_told_at_once_with_an_example() {
        let mut raw = defaults();
        raw.insert("client_port".into(), json!(70_000));
        raw.insert("observe_timeout".into(), json!("2"));
        raw.insert("bootstrap_cluster".into(), json!("maybe"));
        raw.insert("bootstrap_clusters".into(), json!(true));

        let faults = Properties::parse(&raw).unwrap_err();

        let text: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            [
                "bootstrap_cluster: \"maybe\" must be one of: false, true, again; for example: false",
                "client_port: 70000 must be a whole number from 1 to 65535; for example: 2379",
                "observe_timeout: \"2\" must be a duration above zero with its unit (ms, s, m, h); for example: 2s",
                "bootstrap_clusters: (set) is not a property of this version of job etcd; for example: deploy release and etcd-tools of the same version",
            ]
        );
    }

    #[test]
    fn each_bad_value_is_one_fault_of_its_property() {
        let cases = [
            ("client_port", json!(0)),
            ("client_port", json!("2379")),
            ("client_port", json!(2380)),
            ("peer_port", json!(-1)),
            ("metrics_port", json!(2379)),
            ("launcher_port", json!(null)),
            ("client_listen_address", json!("host.name")),
            ("peer_listen_address", json!(5)),
            ("ready_timeout", json!("0s")),
            ("ready_timeout", json!("-5s")),
            ("hold_timeout", json!(600)),
            ("drain_timeout", json!("soon")),
            ("on_removed_member", json!("maybe")),
            ("auto_restore", json!("yes")),
            ("etcd_version", json!(3.6)),
            ("etcd_version", json!("3.6.1")),
            ("heartbeat_interval", json!("1s")),
            ("election_timeout", json!("51s")),
            ("heartbeat_interval", json!("1500us")),
            ("snapshot_count", json!(0)),
            ("quota_backend_bytes", json!(-1)),
            ("auto_compaction_retention", json!("often")),
            ("auto_compaction_mode", json!("daily")),
            ("max_request_bytes", json!(0)),
            ("max_txn_ops", json!("many")),
            ("log_level", json!("loud")),
            ("metrics", json!(true)),
            ("initial_corrupt_check", json!(1)),
            ("corrupt_check_time", json!("1")),
            ("open_files", json!(1)),
            ("etcd_version", json!("3.3")),
            ("wal_dir", json!("/var/vcap/data/etcd/wal")),
            ("wal_dir", json!("/var/vcap/store/etcd")),
            ("wal_dir", json!("/var/vcap/store/etcd/member")),
            ("wal_dir", json!("/var/vcap/store/etcd/.launcher")),
            ("wal_dir", json!("/var/vcap/store/etcd/../etcd/wal")),
            ("wal_dir", json!("/var/vcap/store/etcd/a/b")),
            ("wal_dir", json!("wal")),
            ("wal_dir", json!(5)),
            ("max_snapshots", json!(-1)),
            ("max_wals", json!("five")),
            ("max_concurrent_streams", json!(0)),
            ("grpc_keepalive_min_time", json!(5)),
            ("grpc_keepalive_interval", json!("2")),
            ("grpc_keepalive_timeout", json!("-1s")),
            ("metrics_listen_address", json!("metrics.example.com")),
            ("metrics_protocol", json!("ftp")),
            ("compact_hash_check", json!("yes")),
            ("compact_hash_check_time", json!("0s")),
            ("cors", json!("https://example.com")),
            ("cors", json!(["*"])),
            ("host_whitelist", json!("a b")),
            ("auth_token", json!("basic")),
            ("auth_token_ttl", json!("1500ms")),
            ("jwt.sign_method", json!("none")),
            ("jwt.ttl", json!("0s")),
            ("bcrypt_cost", json!(3)),
            ("enable_pprof", json!(1)),
            ("enable_grpc_gateway", json!("on")),
            ("enable_v2", json!("true")),
            ("tls_min_version", json!("TLS1.1")),
            ("cipher_suites", json!("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")),
            ("cipher_suites", json!(["TLS_RSA_WITH_RC4_128_SHA"])),
            ("cipher_suites", json!(["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"])),
            ("feature_gates", json!({"LeaseCheckpoint": "true"})),
            ("feature_gates", json!({"InitialCorruptCheck": false})),
            ("feature_gates", json!(["LeaseCheckpoint"])),
            ("extra_config", json!({"name": "other"})),
            ("extra_config", json!({"quota-backend-bytes": 1})),
            ("extra_config", json!({"experimental-corrupt-check-time": 1})),
            ("extra_config", json!({"force-new-cluster": true})),
            ("extra_config", json!({"Max-Wals": 1})),
            ("extra_config", json!({"backend-batch-limit": null})),
            ("extra_config", json!("backend-batch-limit: 5")),
        ];
        for (name, value) in cases {
            let mut raw = defaults();
            raw.insert(name.into(), value.clone());
            let faults = Properties::parse(&raw).expect_err(&format!("{name}: {value}"));
            assert_eq!(faults.len(), 1, "{name}: {value}: {faults:?}");
        }
    }

    #[test]
    fn retention_is_a_count_with_mode_revision() {
        let mut raw = defaults();
        raw.insert("auto_compaction_mode".into(), json!("revision"));
        assert!(Properties::parse(&raw).is_err(), "1h is no number of revisions");
        raw.insert("auto_compaction_retention".into(), json!(5000));
        assert_eq!(Properties::parse(&raw).unwrap().etcd.auto_compaction_retention, "5000");
    }
}
