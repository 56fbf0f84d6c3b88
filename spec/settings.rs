//! Properties on a deployed member, to the real etcd's effect; and what is refused before anything starts.

#![allow(missing_docs, reason = "test names are sentences")]
#![allow(clippy::unwrap_used, reason = "a spec that cannot go on has failed")]

mod support;

use support::fleet::{Fleet, all_ready};
use support::load::write_once;

/// Sets properties of job etcd, given as lines of YAML.
fn with_properties(fleet: &mut Fleet, name: &str, properties: &serde_json::Value) {
    let operations: Vec<serde_json::Value> = properties
        .as_object()
        .unwrap()
        .iter()
        .map(|(property, value)| {
            let path = format!("/instance_groups/name=etcd/jobs/name=etcd/properties/{property}?");
            serde_json::json!({"type": "replace", "path": path, "value": value})
        })
        .collect();
    fleet.add_ops_text(name, &serde_json::to_string(&operations).unwrap());
}

/// What an operator does with settings, on one member: a log of its own, metrics in the clear, signed tokens, settings
/// that have no property. Killed and started again it goes on, so the check of its data finds the log.
#[test]
fn settings_reach_etcd_and_last_through_a_kill() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut fleet = Fleet::new(&["bootstrap.yml", "single-node.yml"]).with_monit_cycle("1");
    with_properties(
        &mut fleet,
        "settings.yml",
        &serde_json::json!({
            "wal_dir": "/var/vcap/store/etcd/wal",
            "metrics_port": 2381,
            "metrics_protocol": "http",
            "enable_pprof": true,
            "tls_min_version": "TLS1.3",
            "auth_token": "jwt",
            "jwt": {
                "public_key": key.public_key_pem(), "private_key": key.serialize_pem(), "sign_method": "ES256",
            },
            "extra_config": {"backend-batch-limit": 500},
            "feature_gates": {"LeaseCheckpoint": true},
        }),
    );
    let fleet = fleet.deployed();
    let slug = fleet.slugs().remove(0);
    let on = |command: &str| fleet.ssh(&slug, command).succeeded().stdout;

    write_once(&fleet, "before", "1");
    let log = on("ls /var/vcap/store/etcd/wal");
    assert!(log.contains(".wal") && !on("ls /var/vcap/store/etcd/member").contains("wal"), "{log}");
    let started = fleet.log(&slug, "etcd.stderr.log");
    let start = started.lines().find(|line| line.contains("starting an etcd server")).unwrap();
    for part in ["LeaseCheckpoint=true", "\"wal-dir\":\"/var/vcap/store/etcd/wal\"", "http://127."] {
        assert!(start.contains(part), "{part}: {start}");
    }

    let private = on(
        "ruby -rjson -e 'puts JSON.parse(File.read(\"/var/vcap/jobs/etcd/config/job.json\"))[\"spec\"][\"ip\"]'",
    );
    let metrics = on(&format!("curl --silent --fail http://{}:2381/metrics", private.trim()));
    assert!(metrics.contains("etcd_server_has_leader 1"), "{metrics}");

    on("etcdctl user add root:secret && etcdctl user grant-role root root && etcdctl auth enable");
    let token = on(
        "cd /var/vcap/jobs/etcd/config && curl --silent --fail --cacert admin-ca.crt --cert client.crt --key client.key -d '{\"name\": \"root\", \"password\": \"secret\"}' https://$(cat /var/vcap/instance/id).etcd.default.etcd.bosh:2379/v3/auth/authenticate || true",
    );
    // Without an unprivileged certificate in the manifest, etcdctl logs in by name.
    let logged_in = token.contains("ey") || on("etcdctl --user root:secret get before").contains('1');
    assert!(logged_in, "{token}");
    on("etcdctl auth disable");

    fleet.kill9(&slug, "etcd");
    fleet.eventually_from(&slug, "the member serves again after a full check", |status| {
        all_ready(status)
            && status["instances"][0]["launcher"]["Ok"]["validation"]["mode"] == "full"
            && status["instances"][0]["launcher"]["Ok"]["validation"]["state"] == "success"
    });
    assert_eq!(on("etcdctl get before --print-value-only").trim(), "1");
}

/// pre-start tells everything at once, with names, values, rules and examples; the member that runs is not stopped for
/// nothing: it has been stopped by the deploy, and runs again after the next.
#[test]
fn what_the_installed_etcd_cannot_honour_fails_the_deploy_in_pre_start_all_at_once() {
    let mut fleet = Fleet::new(&["bootstrap.yml", "single-node.yml"]).deployed();
    let slug = fleet.slugs().remove(0);
    write_once(&fleet, "kept", "1");

    with_properties(
        &mut fleet,
        "wrong.yml",
        &serde_json::json!({
            "enable_v2": true,
            "auth_token": "jwt",
            "extra_config": {"backend-bach-limit": 500},
        }),
    );
    let answer = fleet.deploy().failed();

    assert!(answer.text().contains("pre-start scripts failed"), "{}", answer.text());
    let told = fleet.log(&slug, "pre-start.stderr.log");
    for words in [
        "4 faults in the properties of job etcd",
        "jwt.public_key: (not set) must be a key in PEM with auth_token jwt; for example: ((etcd_jwt.public_key))",
        "jwt.private_key: (not set) must be a key in PEM",
        "enable_v2: true is not in etcd 3.6.",
        "it is in etcd 3.4 and 3.5; for example: false",
        "extra_config: \"backend-bach-limit\" is no setting of etcd 3.6.",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }

    fleet.set_ops(&["single-node.yml"]);
    fleet.deploy().succeeded();
    assert_eq!(fleet.ssh(&slug, "etcdctl get kept --print-value-only").succeeded().stdout.trim(), "1");
}

/// Weakness 29 of the predecessors: without compaction the history grew until the quota stopped all writes, and there
/// was nothing at hand to get out of that. Here the history is compacted by default, and the way out is three commands
/// of `etcdctl` (docs/recover.md#no-space).
#[test]
fn weakness_29_history_is_compacted_by_default_and_a_full_database_has_a_way_out() {
    let mut fleet = Fleet::new(&["bootstrap.yml", "single-node.yml"]);
    with_properties(&mut fleet, "quota.yml", &serde_json::json!({"quota_backend_bytes": 24_000_000}));
    let fleet = fleet.deployed();
    let slug = fleet.slugs().remove(0);
    let on = |command: &str| fleet.ssh(&slug, command);
    let configuration = on("cat /var/vcap/data/etcd/etcd.conf.yml").succeeded().stdout;
    assert!(configuration.contains("auto-compaction-retention: \"1h\""), "{configuration}");

    let fill = on(
        "head -c 1000000 /dev/zero | tr '\\0' x > /tmp/value; for n in $(seq 60); do etcdctl put big < /tmp/value || exit 0; done; exit 1",
    )
    .succeeded();
    assert!(fill.stderr.contains("database space exceeded"), "{}", fill.text());
    fleet.eventually_from(&slug, "etcd-status shows the alarm", |status| {
        status["instances"][0]["etcd"]["Ok"]["errors"].to_string().contains("NOSPACE")
    });
    on("etcdctl put more 1").failed();
    let told = on("etcd-status").text();
    assert!(told.contains("error: a database is full") && told.contains("alarm:NOSPACE"), "{told}");

    on("revision=$(etcdctl endpoint status --write-out=json | grep -o '\"revision\":[0-9]*' | grep -o '[0-9]*$') && etcdctl compact $revision")
        .succeeded();
    on("etcdctl defrag --command-timeout=60s").succeeded();
    on("etcdctl alarm disarm").succeeded();

    on("etcdctl put more 1").succeeded();
    fleet.eventually_from(&slug, "etcd-status shows no alarm", |status| {
        status["instances"][0]["etcd"]["Ok"]["errors"].as_array().is_some_and(Vec::is_empty)
    });
}
