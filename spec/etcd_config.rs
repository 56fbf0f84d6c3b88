//! The configuration file, read by the real etcd: every key is one it knows, every value arrives.
//!
//! etcd ignores keys it does not know, so that it starts proves nothing.

#![expect(clippy::unwrap_used, reason = "a spec that cannot go on has failed")]

#[path = "support/member.rs"]
#[allow(dead_code, reason = "each spec uses a part of it")]
mod member;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use etcd_release::etcd::capability::Capability;
use etcd_release::etcd::config::{EtcdConfig, InitialState, KeyPair, OWNED, render};
use etcd_release::etcd::id::{ClientUrl, PeerUrl};
use etcd_release::etcd::release_line::ReleaseLine;
use etcd_release::etcd::settings::{AuthToken, CompactionMode, EtcdSettings, TlsVersion};
use etcd_release::etcd::tls::{Files, Role};
use etcd_release::etcd::version::EtcdVersion;
use etcd_release::etcd::{flags, process};
use member::{Authority, Member, address, write};
use serde_json::{Map, Value, json};

/// Every release line that the release runs.
fn versions() -> Vec<(ReleaseLine, EtcdVersion)> {
    let version = |line| process::version(&etcd(line)).unwrap().parse().unwrap();
    ReleaseLine::ALL.into_iter().map(|line| (line, version(line))).collect()
}

/// The binary of a line, as `ci/setup --etcd X.Y` has put it there.
fn etcd(line: ReleaseLine) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!(".tools/etcd-{line}/bin/etcd"));
    assert!(path.exists(), "{}: run ci/setup --etcd {line}", path.display());
    path
}

/// A configuration in which nothing has etcd's default.
fn config(root: &Path, host: &str, version: EtcdVersion) -> EtcdConfig {
    let certificates = root.join("certificates");
    let peer_urls = BTreeSet::from([PeerUrl::https(host, 3380)]);
    EtcdConfig {
        version,
        name: "6f3e0c1a".parse().unwrap(),
        data_dir: root.join("data"),
        wal_dir: Some(root.join("wal")),
        listen_peer_urls: peer_urls.clone(),
        listen_client_urls: BTreeSet::from([ClientUrl::https(host, 3379), ClientUrl::https(host, 3378)]),
        listen_metrics_urls: BTreeSet::from([ClientUrl::http(host, 3381)]),
        initial_advertise_peer_urls: peer_urls.clone(),
        advertise_client_urls: BTreeSet::from([ClientUrl::https(host, 3379)]),
        initial_cluster: BTreeMap::from([("6f3e0c1a".parse().unwrap(), peer_urls)]),
        initial_cluster_state: InitialState::New,
        initial_cluster_token: "it's \"odd\": \\ # {é}".to_owned(),
        server: Files::of(&certificates, Role::Server),
        peer: Files::of(&certificates, Role::Peer),
        jwt: KeyPair { public: certificates.join("jwt.pub"), private: certificates.join("jwt.key") },
        settings: EtcdSettings {
            heartbeat_interval: Duration::from_millis(150),
            election_timeout: Duration::from_millis(1500),
            snapshot_count: 12_345,
            max_snapshots: Some(8),
            max_wals: Some(7),
            quota_backend_bytes: 3_000_000_000,
            max_request_bytes: 2_000_000,
            max_txn_ops: 77,
            max_concurrent_streams: Some(1000),
            grpc_keepalive_min_time: Duration::from_secs(6),
            grpc_keepalive_interval: Duration::from_hours(1),
            grpc_keepalive_timeout: Duration::from_secs(21),
            auto_compaction_mode: CompactionMode::Periodic,
            auto_compaction_retention: "45m".to_owned(),
            initial_corrupt_check: true,
            corrupt_check_time: Duration::from_mins(90),
            compact_hash_check: None,
            compact_hash_check_time: Some(Duration::from_secs(30)),
            cors: Some("https://a.example.com:443".to_owned()),
            host_whitelist: Some("a.example.com,127.0.0.1".to_owned()),
            auth_token: AuthToken::Jwt { sign_method: "ES256".to_owned(), ttl: Duration::from_mins(7) },
            auth_token_ttl: Duration::from_mins(6),
            bcrypt_cost: 11,
            log_level: "info".to_owned(),
            metrics: "extensive".to_owned(),
            enable_pprof: true,
            enable_grpc_gateway: false,
            enable_v2: Capability::V2.is_in(version),
            tls_min_version: TlsVersion::V1_2,
            cipher_suites: vec![
                "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256".to_owned(),
                "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256".to_owned(),
            ],
            feature_gates: BTreeMap::new(),
            extra: Map::from_iter([("backend-batch-limit".to_owned(), json!(5000))]),
        },
    }
}

/// The flag each key of the file stands for.
fn flags_of(yaml: &str) -> Vec<String> {
    let document: BTreeMap<String, Value> = serde_yaml::from_str(yaml).unwrap();
    let flags = document.into_iter().flat_map(|(key, value)| {
        let inner = |prefix: &str| -> Vec<String> {
            value.as_object().unwrap().keys().map(|inner| format!("{prefix}{inner}")).collect()
        };
        match key.as_str() {
            "client-transport-security" => inner(""),
            "peer-transport-security" => inner("peer-"),
            _ => vec![key],
        }
    });
    flags.collect()
}

/// Flag → its description, as `etcd --help` prints them.
fn known_flags(line: ReleaseLine) -> BTreeMap<String, String> {
    let output = Command::new(etcd(line)).arg("--help").output().unwrap();
    let help = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let mut flags = BTreeMap::new();
    let mut current = None;
    for line in help.lines() {
        if let Some(flag) = line.strip_prefix("  --") {
            let name = flag.split([' ', '=']).next().unwrap().to_owned();
            flags.insert(name.clone(), String::new());
            current = Some(name);
        } else if !line.starts_with(' ') {
            current = None; // The heading of the next section.
        } else if let Some(name) = &current {
            flags.get_mut(name).unwrap().push_str(line);
        }
    }
    flags
}

/// Whether a binary takes a flag that its `--help` leaves out.
fn takes(line: ReleaseLine, flag: &str) -> bool {
    Command::new(etcd(line))
        .args([&format!("--{flag}=false"), "--version"])
        .output()
        .unwrap()
        .status
        .success()
}

/// Flags whose description speaks of something that goes: two are set only where an operator asks for them, of the
/// other it is the value that we do not use.
const EXCUSED: [&str; 3] = ["max-snapshots", "enable-v2", "logger"];

#[test]
fn every_key_is_a_flag_of_each_real_etcd_and_none_is_deprecated() {
    for (line, version) in versions() {
        let known = known_flags(line);
        assert!(known.len() > 70, "--help of {version} was not understood: {known:?}");

        let flags = flags_of(&render(&config(Path::new("/r"), "127.0.0.1", version)).unwrap());

        assert!(flags.len() > 40, "{version}: {flags:?}");
        for flag in flags {
            // 3.4's help leaves one out that it takes.
            let Some(description) = known.get(&flag) else {
                assert!(takes(line, &flag), "etcd {version} knows no --{flag}");
                continue;
            };
            let goes = description.to_lowercase().contains("deprecated") && !EXCUSED.contains(&flag.as_str());
            assert!(!goes, "etcd {version} --{flag}: {description}");
        }
    }
}

/// What nobody may pass on verbatim is everything that is written, and everything that etcd has about identity,
/// trust and place; a key that is in no version any more would be a typing error in our own list.
#[test]
fn what_extra_config_may_not_set_is_what_is_written_and_what_exists() {
    let owned: BTreeSet<&str> = OWNED.iter().map(|(key, _)| *key).collect();
    // Gone before 3.4; they are refused because people still have them in their notes.
    let past = BTreeSet::from(["ca-file", "peer-ca-file", "config-file"]);
    let mut somewhere: BTreeSet<String> =
        ["client-transport-security", "peer-transport-security"].map(str::to_owned).into();

    for (line, version) in versions() {
        let rendered = render(&config(Path::new("/r"), "127.0.0.1", version)).unwrap();
        let document: BTreeMap<String, Value> = serde_yaml::from_str(&rendered).unwrap();
        let written = document.keys().filter(|key| *key != "backend-batch-limit");
        let missing: Vec<&String> = written.filter(|key| !owned.contains(key.as_str())).collect();
        assert!(missing.is_empty(), "etcd {version}: {missing:?}");
        somewhere.extend(flags::known(&etcd(line)).unwrap());
    }
    let nowhere: Vec<&&str> =
        owned.iter().filter(|key| !somewhere.contains(**key) && !past.contains(**key)).collect();
    assert!(nowhere.is_empty(), "{nowhere:?}");
}

#[test]
fn a_setting_is_in_a_version_exactly_where_its_flag_is() {
    let flags = [
        (Capability::FeatureGates, "feature-gates"),
        (Capability::LogFormat, "log-format"),
        (Capability::MaxConcurrentStreams, "max-concurrent-streams"),
        (Capability::TlsMinVersion, "tls-min-version"),
        (Capability::V2, "enable-v2"),
    ];
    for (line, version) in versions() {
        let known = flags::known(&etcd(line)).unwrap();
        for (capability, flag) in flags {
            assert_eq!(capability.is_in(version), known.contains(flag), "etcd {version} --{flag}");
        }
        let hash = known.contains("compact-hash-check-time")
            || known.contains("experimental-compact-hash-check-time");
        assert_eq!(Capability::CompactHashCheck.is_in(version), hash, "etcd {version}");
    }
}

#[test]
fn every_value_arrives_in_each_real_etcd() {
    for (line, version) in versions() {
        let root = tempfile::tempdir().unwrap();
        let address = address();
        let host = address.to_string();
        let certificates = root.path().join("certificates");
        Authority::new().issue_all(&certificates, address);
        jwt_keys(&certificates);
        let config = config(root.path(), &host, version);
        let file = root.path().join("etcd.conf.yml");
        write(&file, &render(&config).unwrap());

        let mut member = Member::start_with(&etcd(line), &file);
        let started = member.said("starting an etcd server");
        member.said("serving client traffic securely");

        for (key, value) in expected(&config, &host) {
            assert_eq!(started[key], value, "etcd {version}: {key} of {started:#}");
        }
        let peer_tls = member.said("starting with peer TLS");
        assert!(peer_tls["tls-info"].as_str().unwrap().contains("client-cert-auth = true"), "{peer_tls}");
        assert_eq!(peer_tls["cipher-suites"], json!(config.settings.cipher_suites), "{peer_tls}");
        // etcd raises the signal again after it stopped gracefully.
        assert_eq!(member.stop().signal(), Some(15), "etcd {version}");

        // The check's effect, on a member that has data: 3.6.16 still logs the field of the old flag as `false`.
        Member::start_with(&etcd(line), &file).said("starting initial corruption check");
    }
}

/// Field of the start log → value.
fn expected(config: &EtcdConfig, host: &str) -> Vec<(&'static str, Value)> {
    let path = |path: &Path| json!(path.to_str().unwrap());
    let url = |port: u16| format!("https://{host}:{port}");
    let mut expected = vec![
        ("name", json!("6f3e0c1a")),
        ("data-dir", path(&config.data_dir)),
        ("wal-dir", path(config.wal_dir.as_deref().unwrap())),
        ("heartbeat-interval", json!("150ms")),
        ("election-timeout", json!("1.5s")),
        ("snapshot-count", json!(12_345)),
        ("max-snapshots", json!(8)),
        ("max-wals", json!(7)),
        ("initial-advertise-peer-urls", json!([url(3380)])),
        ("listen-peer-urls", json!([url(3380)])),
        ("listen-client-urls", json!([url(3378), url(3379)])),
        ("advertise-client-urls", json!([url(3379)])),
        ("listen-metrics-urls", json!([format!("http://{host}:3381")])),
        ("cors", json!(["https://a.example.com:443"])),
        ("host-whitelist", json!(["127.0.0.1", "a.example.com"])),
        ("initial-cluster", json!(format!("6f3e0c1a={}", url(3380)))),
        ("initial-cluster-state", json!("new")),
        ("initial-cluster-token", json!(config.initial_cluster_token)),
        ("quota-backend-bytes", json!(3_000_000_000_u64)),
        ("max-request-bytes", json!(2_000_000)),
        ("max-concurrent-streams", json!(1000)),
        ("pre-vote", json!(true)),
        ("corrupt-check-time-interval", json!("1h30m0s")),
        ("auto-compaction-mode", json!("periodic")),
        ("auto-compaction-interval", json!("45m0s")),
    ];
    if Capability::FeatureGates.is_in(config.version) {
        expected.push(("feature-gates", json!("CompactHashCheck=true,InitialCorruptCheck=true")));
    } else {
        expected.push(("initial-corrupt-check", json!(true)));
    }
    if Capability::CompactHashCheck.is_in(config.version) {
        expected.push(("compact-check-time-interval", json!("30s")));
    }
    expected
}

/// A pair of keys as `openssl ecparam` makes them; etcd does not start without with `auth-token: jwt,…`.
fn jwt_keys(directory: &Path) {
    let key = rcgen::KeyPair::generate().unwrap();
    write(&directory.join("jwt.key"), &key.serialize_pem());
    write(&directory.join("jwt.pub"), &key.public_key_pem());
}
