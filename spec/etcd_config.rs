//! The configuration file, read by the real etcd: every key is one it knows, every value arrives.
//!
//! etcd ignores keys it does not know, so that it starts proves nothing.

#![expect(clippy::unwrap_used, reason = "a spec that cannot go on has failed")]

#[path = "support/member.rs"]
mod member;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use etcd_release::etcd::config::{EtcdConfig, InitialState, ReleaseLine, render};
use etcd_release::etcd::id::{ClientUrl, PeerUrl};
use etcd_release::etcd::tls::{Files, Role};
use member::{Authority, Member, address, tool, write};
use serde_json::{Value, json};

/// A configuration in which nothing has etcd's default.
fn config(root: &Path, host: &str) -> EtcdConfig {
    let certificates = root.join("certificates");
    let peer_urls = BTreeSet::from([PeerUrl::https(host, 3380)]);
    EtcdConfig {
        release_line: ReleaseLine::V3_6,
        name: "6f3e0c1a".parse().unwrap(),
        data_dir: root.join("data"),
        wal_dir: Some(root.join("wal")),
        listen_peer_urls: peer_urls.clone(),
        listen_client_urls: BTreeSet::from([ClientUrl::https(host, 3379), ClientUrl::https(host, 3378)]),
        listen_metrics_urls: BTreeSet::from([ClientUrl::https(host, 3381)]),
        initial_advertise_peer_urls: peer_urls.clone(),
        advertise_client_urls: BTreeSet::from([ClientUrl::https(host, 3379)]),
        initial_cluster: BTreeMap::from([("6f3e0c1a".parse().unwrap(), peer_urls)]),
        initial_cluster_state: InitialState::New,
        initial_cluster_token: "it's \"odd\": \\ # {é}".to_owned(),
        server: Files::of(&certificates, Role::Server),
        peer: Files::of(&certificates, Role::Peer),
        heartbeat_interval: Duration::from_millis(150),
        election_timeout: Duration::from_millis(1500),
        snapshot_count: 12_345,
        quota_backend_bytes: 3_000_000_000,
        max_request_bytes: 2_000_000,
        max_txn_ops: 77,
        auto_compaction_mode: "periodic".to_owned(),
        auto_compaction_retention: "45m".to_owned(),
        initial_corrupt_check: true,
        compact_hash_check: true,
        corrupt_check_time: Duration::from_mins(90),
        log_level: "info".to_owned(),
        metrics: "extensive".to_owned(),
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
fn known_flags() -> BTreeMap<String, String> {
    let output = Command::new(tool("etcd")).arg("--help").output().unwrap();
    let help = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let mut flags = BTreeMap::new();
    let mut current = None;
    for line in help.lines() {
        if let Some(flag) = line.strip_prefix("  --") {
            let name = flag.split_whitespace().next().unwrap().to_owned();
            flags.insert(name.clone(), String::new());
            current = Some(name);
        } else if let Some(name) = &current {
            flags.get_mut(name).unwrap().push_str(line);
        }
    }
    flags
}

#[test]
fn every_key_is_a_flag_of_the_real_etcd_and_none_is_deprecated() {
    let known = known_flags();
    assert!(known.len() > 80, "--help was not understood: {known:?}");

    let flags = flags_of(&render(&config(Path::new("/r"), "127.0.0.1")).unwrap());

    assert!(flags.len() > 30, "{flags:?}");
    for flag in flags {
        let description = known.get(&flag).unwrap_or_else(|| panic!("etcd knows no --{flag}"));
        assert!(!description.contains("Deprecated"), "--{flag}: {description}");
    }
}

#[test]
fn every_value_arrives_in_the_real_etcd() {
    let root = tempfile::tempdir().unwrap();
    let address = address();
    let host = address.to_string();
    Authority::new().issue_all(&root.path().join("certificates"), address);
    let config = config(root.path(), &host);
    let file = root.path().join("etcd.conf.yml");
    write(&file, &render(&config).unwrap());

    let mut member = Member::start(&file);
    let started = member.said("starting an etcd server");
    member.said("ready to serve client requests");

    let path = |path: &Path| json!(path.to_str().unwrap());
    let url = |port: u16| format!("https://{host}:{port}");
    let expected = [
        ("name", json!("6f3e0c1a")),
        ("data-dir", path(&config.data_dir)),
        ("wal-dir", path(config.wal_dir.as_deref().unwrap())),
        ("heartbeat-interval", json!("150ms")),
        ("election-timeout", json!("1.5s")),
        ("snapshot-count", json!(12_345)),
        ("initial-advertise-peer-urls", json!([url(3380)])),
        ("listen-peer-urls", json!([url(3380)])),
        ("listen-client-urls", json!([url(3378), url(3379)])),
        ("advertise-client-urls", json!([url(3379)])),
        ("listen-metrics-urls", json!([url(3381)])),
        ("initial-cluster", json!(format!("6f3e0c1a={}", url(3380)))),
        ("initial-cluster-state", json!("new")),
        ("initial-cluster-token", json!(config.initial_cluster_token)),
        ("quota-backend-bytes", json!(3_000_000_000_u64)),
        ("max-request-bytes", json!(2_000_000)),
        ("pre-vote", json!(true)),
        ("feature-gates", json!("CompactHashCheck=true,InitialCorruptCheck=true")),
        ("corrupt-check-time-interval", json!("1h30m0s")),
        ("auto-compaction-mode", json!("periodic")),
        ("auto-compaction-interval", json!("45m0s")),
    ];
    for (key, value) in expected {
        assert_eq!(started[key], value, "{key} of {started:#}");
    }
    let peer_tls = member.said("starting with peer TLS")["tls-info"].clone();
    assert!(peer_tls.as_str().unwrap().contains("client-cert-auth = true"), "{peer_tls}");
    // etcd raises the signal again after it stopped gracefully.
    assert_eq!(member.stop().signal(), Some(15));

    // The gate's effect, on a member that has data: 3.6.16 still logs the field of the old flag as `false`.
    Member::start(&file).said("starting initial corruption check");
}
