//! How etcd behaves: the settings that are the operator's, apart from who a member is and where it lies.
//!
//! Which version knows which of them is in [`capability`](super::capability).

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

/// How old revisions are compacted away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompactionMode {
    /// By age.
    Periodic,
    /// By count.
    Revision,
}

impl CompactionMode {
    /// As `--auto-compaction-mode` wants it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Periodic => "periodic",
            Self::Revision => "revision",
        }
    }
}

/// What etcd gives to clients that log in with a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthToken {
    /// A random text that only the member which gave it knows.
    Simple,
    /// A signed token that every member with the same key accepts.
    Jwt {
        /// Such as `RS256`.
        sign_method: String,
        /// How long a token is good for.
        ttl: Duration,
    },
}

/// The least version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

impl TlsVersion {
    /// As `--tls-min-version` wants it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1_2 => "TLS1.2",
            Self::V1_3 => "TLS1.3",
        }
    }
}

/// The settings. Where one is an `Option`, `None` leaves etcd's own default, which differs between versions.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of etcd's own, read by its name")]
pub struct EtcdSettings {
    /// `--heartbeat-interval`, whole milliseconds.
    pub heartbeat_interval: Duration,
    /// `--election-timeout`, whole milliseconds.
    pub election_timeout: Duration,
    /// `--snapshot-count`, in applied entries.
    pub snapshot_count: u64,
    /// `--max-snapshots`: snapshot files kept; 0 = all.
    pub max_snapshots: Option<u64>,
    /// `--max-wals`: files of the write-ahead log kept; 0 = all.
    pub max_wals: Option<u64>,
    /// `--quota-backend-bytes`; 0 = etcd's default of 2 GiB.
    pub quota_backend_bytes: u64,
    /// `--max-request-bytes`.
    pub max_request_bytes: u64,
    /// `--max-txn-ops`.
    pub max_txn_ops: u64,
    /// `--max-concurrent-streams` of one connection.
    pub max_concurrent_streams: Option<u64>,
    /// `--grpc-keepalive-min-time`: clients that ping more often are disconnected.
    pub grpc_keepalive_min_time: Duration,
    /// `--grpc-keepalive-interval`: how often the server pings; zero = never.
    pub grpc_keepalive_interval: Duration,
    /// `--grpc-keepalive-timeout`: how long it waits for the answer; zero = for ever.
    pub grpc_keepalive_timeout: Duration,
    /// `--auto-compaction-mode`.
    pub auto_compaction_mode: CompactionMode,
    /// `--auto-compaction-retention`, as etcd reads it ("0" = off).
    pub auto_compaction_retention: String,
    /// Compares the data with the peers' before serving.
    pub initial_corrupt_check: bool,
    /// Compares all data while serving, at this interval; zero = never.
    pub corrupt_check_time: Duration,
    /// Compares what compactions leave behind; `None` = wherever etcd can.
    pub compact_hash_check: Option<bool>,
    /// How often that is compared.
    pub compact_hash_check_time: Option<Duration>,
    /// `--cors`: origins with commas; `None` = all.
    pub cors: Option<String>,
    /// `--host-whitelist`: host names with commas; `None` = all.
    pub host_whitelist: Option<String>,
    /// `--auth-token`.
    pub auth_token: AuthToken,
    /// `--auth-token-ttl` of simple tokens, whole seconds.
    pub auth_token_ttl: Duration,
    /// `--bcrypt-cost` of stored passwords.
    pub bcrypt_cost: u64,
    /// `--log-level`.
    pub log_level: String,
    /// `--metrics`: `basic` or `extensive`.
    pub metrics: String,
    /// `--enable-pprof`: profiles on the client listener.
    pub enable_pprof: bool,
    /// `--enable-grpc-gateway`: JSON on the client listener.
    pub enable_grpc_gateway: bool,
    /// `--enable-v2`: the API of etcd 2.
    pub enable_v2: bool,
    /// `--tls-min-version`.
    pub tls_min_version: TlsVersion,
    /// `--cipher-suites` of TLS 1.2; empty = Go's own choice.
    pub cipher_suites: Vec<String>,
    /// Feature gates besides those that have a setting above.
    pub feature_gates: BTreeMap<String, bool>,
    /// Settings that have no property, passed on verbatim.
    pub extra: Map<String, Value>,
}
