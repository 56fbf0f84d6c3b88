//! Job `etcd-backup` in a deployment: what its properties make of it, what its pages tell, and what its pre-start refuses.

#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]
#![allow(clippy::disallowed_methods, reason = "looks again after a moment")]
#![allow(missing_docs, unreachable_pub, reason = "a test target has no public items")]

#[path = "support/s3.rs"]
mod s3;
mod support;
#[path = "support/wire.rs"]
#[allow(dead_code, reason = "not each kind of fault is tried here")]
mod wire;

use std::thread;
use std::time::{Duration, Instant};

use etcd_release::backup::catalog::catalog;
use etcd_release::backup::store::Store;
use serde_json::{Value, json};

use s3::S3;
use support::fleet::{Answer, Fleet};
use wire::{Fault, Wire};

fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "it never came that {what}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// A page of an instance's job etcd-backup, as curl on that instance sees it with these certificates.
fn page(fleet: &Fleet, slug: &str, page: &str, certificates: &str) -> Answer {
    let curl = "cd /var/vcap/jobs/etcd/config && curl --silent --show-error --fail --cacert peer-ca.crt";
    let name = "$(cat /var/vcap/instance/id).etcd.default.etcd.bosh";
    fleet.ssh(slug, &format!("{curl} {certificates} https://{name}:2383{page}"))
}

/// The value of a metric, with its labels; `None`: the page does not have it.
fn metric(fleet: &Fleet, slug: &str, name: &str) -> Option<f64> {
    let page = page(fleet, slug, "/metrics", ADMIN).succeeded().stdout;
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

const ADMIN: &str = "--cert admin.crt --key admin.key";

/// The job as `backup.yml` deploys it, under bpm, into a server of the S3 protocol: one of three is active, and when it
/// is killed nothing is lost. Its pages tell what is going on, also when the store is away.
#[test]
#[expect(clippy::too_many_lines, reason = "one deployment for all of it: another one takes half a minute")]
fn the_job_backs_up_a_deployment_into_s3_whoever_is_active() {
    let Some(s3) = S3::start() else { return };
    let store = Store::open(&S3::config("etcd", s3.address())).unwrap();
    let wire = Wire::to(s3.address());
    let mut fleet = Fleet::new(&["bootstrap.yml", "backup.yml"])
        .with_variable("backup_store_url=s3://bucket/etcd")
        .with_variable("backup_store_region=us-east-1")
        .with_variable(&format!("backup_store_access_key_id={}", s3::KEY))
        .with_variable(&format!("backup_store_secret_access_key={}", s3::SECRET));
    let property = |name: &str, value: &str| {
        format!(
            "- type: replace\n  path: /instance_groups/name=etcd/jobs/name=etcd-backup/properties/{name}?\n  value: {value}\n"
        )
    };
    let settings = [
        property("store/endpoint", &format!("http://{}", wire.address())),
        property("store/path_style", "true"),
        property("schedule", "0 0 1 1 *"),
        property("delta_period", "100ms"),
        property("defragmentation?/schedule", "'*/3 * * * * *'"),
        property("defragmentation?/min_gain_bytes", "8388608"),
    ];
    fleet.add_ops_text("quick-backups.yml", &settings.concat());
    let mut fleet = fleet.deployed();
    let slugs = fleet.slugs();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let newest = || runtime.block_on(catalog(&store)).unwrap().sets.into_iter().next();
    let log = |slug: &str| fleet.read(slug, "/var/vcap/sys/log/etcd-backup/etcd-backup.stderr.log");
    let active = || {
        let takes = |slug: &&String| log(slug).contains("this instance takes the backups now");
        slugs.iter().filter(takes).cloned().collect::<Vec<_>>()
    };
    let written = |key: &str| {
        fleet.ssh(&slugs[0], &format!("etcdctl put {key} value")).succeeded();
        let answer = fleet.ssh(&slugs[0], "etcdctl get x -w json").succeeded().stdout;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        answer["header"]["revision"].as_i64().unwrap()
    };
    let reaches = |revision: i64| {
        eventually(&format!("revision {revision} is in the store"), || {
            newest().is_some_and(|entry| entry.last_revision() >= revision).then_some(())
        });
    };

    reaches(written("one"));
    let first = active();
    assert_eq!(first.len(), 1, "one is active");
    let standby = slugs.iter().find(|slug| **slug != first[0]).unwrap();
    let of_active = |name: &str| metric(&fleet, &first[0], name);
    assert_eq!(of_active("etcd_backup_active"), Some(1.0));
    assert_eq!(metric(&fleet, standby, "etcd_backup_active"), Some(0.0));
    page(&fleet, standby, "/metrics", "").failed();
    page(&fleet, standby, "/metrics", "--cert server.crt --key server.key").failed();
    let state = |slug: &str| -> Value {
        serde_json::from_str(
            &page(&fleet, slug, "/state", "--cert peer.crt --key peer.key").succeeded().stdout,
        )
        .unwrap()
    };
    let (of_first, of_standby) = (state(&first[0]), state(standby));
    assert_eq!((&of_first["role"], &of_standby["role"]), (&json!("active"), &json!("standby")));
    assert_eq!(of_standby["active"]["instance"], of_first["instance"]);
    assert!(of_first["last"]["full"]["set"].is_string(), "{of_first}");

    // Without the store failures are counted and changes wait, and when it is back they do not.
    wire.breaks(Fault::Refused, usize::MAX);
    let missing = written("while the store is away");
    eventually("the failure is told", || {
        let failed = of_active("etcd_backup_failures_total{act=\"delta\"}")? > 0.0;
        let lags =
            of_active("etcd_backup_lag_revisions")? > 0.0 && of_active("etcd_backup_lag_seconds")? > 0.0;
        (failed && lags).then_some(())
    });
    assert!(of_active("etcd_backup_store_failures_total{act=\"write\"}").unwrap() > 0.0);
    let told = state(&first[0])["last_failure"].clone();
    assert_eq!(told["act"], "delta", "{told}");
    wire.breaks(Fault::None, 0);
    reaches(missing);
    eventually("nothing waits any more", || {
        let caught_up = of_active("etcd_backup_lag_revisions") == Some(0.0)
            && of_active("etcd_backup_lag_seconds") == Some(0.0);
        caught_up.then_some(())
    });

    let known = of_active("etcd_backup_last_full_timestamp_seconds").unwrap();
    fleet.kill9(&first[0], "etcd-backup");
    reaches(written("two"));
    eventually("a new active one knows the full snapshot that it did not take", || {
        let active = slugs
            .iter()
            .find(|slug| page(&fleet, slug, "/metrics", ADMIN).stdout.contains("\netcd_backup_active 1\n"))?;
        let at = metric(&fleet, active, "etcd_backup_last_full_timestamp_seconds")?;
        ((at - known).abs() < 0.001).then_some(())
    });

    let set = newest().unwrap();
    assert_eq!(set.full.cluster.deployment.as_deref(), Some("etcd"));
    assert_eq!(set.full.cluster.members.len(), 3);
    // On an instance the job's own store and credentials are meant.
    let backup = "/var/vcap/packages/etcd-tools/bin/etcd-backup";
    let proven = fleet.ssh(&slugs[1], &format!("{backup} verify --deep")).succeeded().stdout;
    assert!(proven.contains(set.set().as_str()), "{proven}");
    let listed = fleet.ssh(&slugs[2], &format!("{backup} list")).succeeded().stdout;
    assert!(listed.contains("s3://bucket/etcd") && listed.contains(set.set().as_str()), "{listed}");
    for slug in &slugs {
        assert!(!log(slug).contains(s3::SECRET));
        let processes = fleet
            .ssh(slug, "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'")
            .stdout;
        assert!(!processes.contains(s3::SECRET), "a secret in a command line or an environment");
    }

    // The cluster goes back to before "three", with the job's own store, and the line of backups goes on with the new
    // cluster's first full.
    let before = written("three") - 1;
    reaches(before + 1);
    let restore = format!("{backup} restore-cluster --to {before} --bump-revision 1000");
    for answer in fleet.ssh_all(&slugs, &restore) {
        assert_eq!(answer.code, 0, "{}\n{}", answer.text(), fleet.log_tails());
    }
    let after = written("four");
    eventually("the new cluster is in the store", || {
        newest().is_some_and(|entry| entry.last_revision() >= after && entry.set() != set.set()).then_some(())
    });
    assert_ne!(newest().unwrap().full.cluster.id, set.full.cluster.id);
    let three = fleet.ssh(&slugs[0], "etcdctl get three --print-value-only").succeeded().stdout;
    assert_eq!(three.trim(), "", "it goes back");
    fleet.ssh(&slugs[0], &format!("{backup} verify --deep")).succeeded();

    // With a member away another one must not pause, however much there is to gain.
    let away = slugs.iter().skip(1).find(|slug| state(slug)["role"] == "standby").unwrap();
    fleet.halt(away);
    let told = || slugs.iter().map(|slug| log(slug)).collect::<String>();
    let put_off = || told().matches("no member is defragmented now").count();
    let fill = "for at in $(seq 16); do head -c 1000000 /dev/zero | tr '\\0' v | etcdctl put big-$at; done";
    fleet.ssh(&slugs[0], &format!("{fill} && etcdctl del big- --prefix")).succeeded();
    let last = written("five");
    fleet.ssh(&slugs[0], &format!("etcdctl compact {last}")).succeeded();
    let sizes = || -> Vec<u64> {
        let answer = fleet.ssh(&slugs[0], "etcdctl endpoint status --cluster -w json").stdout;
        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        let each = answer.as_array().cloned().unwrap_or_default();
        each.iter().filter_map(|one| one["Status"]["dbSize"].as_u64()).collect()
    };
    let before = put_off();
    eventually("the schedule has come and gone", || (put_off() > before + 1).then_some(()));
    assert!(!told().contains("member defragmented"));
    let large = sizes();
    assert!(large.len() == 2 && large.iter().all(|bytes| *bytes > 8 << 20), "{large:?}");

    // When it is back, what was deleted and compacted goes back to the disks: one member after the other, none of them
    // while it leads.
    fleet.resume(away);
    eventually("every database is small again", || {
        let sizes = sizes();
        (sizes.len() == 3 && sizes.iter().all(|bytes| *bytes < 8 << 20)).then_some(())
    });
    let defragmented: Vec<Value> = told()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["msg"] == "member defragmented")
        .collect();
    assert_eq!(defragmented.len(), 3, "{defragmented:?}");
    assert!(defragmented.iter().all(|line| line["leader"] == false), "{defragmented:?}");

    // A store that means nothing is told by pre-start, before anything is stopped.
    fleet.add_ops_text("wrong-store.yml", &property("store/url", "nowhere"));
    let refused = fleet.deploy();
    assert_ne!(refused.code, 0);
    let told = fleet.read(&slugs[0], "/var/vcap/sys/log/etcd-backup/pre-start.stderr.log");
    assert!(told.contains("it is no URL of a store"), "{told}");
}

/// bpm shows the job nothing of the VM but what its bpm.yml names: a directory as well.
#[test]
fn a_directory_below_var_vcap_is_a_store_and_one_elsewhere_is_refused_before_anything_stops() {
    let url = |path: &str| format!("backup_store_url=file://{path}");
    let mut fleet = Fleet::new(&["bootstrap.yml", "single-node.yml", "backup.yml"])
        .with_variable(&url("/var/vcap/data/backups"))
        .with_variable("backup_store_region=none")
        .with_variable("backup_store_access_key_id=none")
        .with_variable("backup_store_secret_access_key=none");
    let often = "/instance_groups/name=etcd/jobs/name=etcd-backup/properties/delta_period?";
    fleet.add_ops_text("often.yml", &format!("- type: replace\n  path: {often}\n  value: 100ms\n"));
    let mut fleet = fleet.deployed();
    let slug = fleet.slugs().remove(0);
    fleet.ssh(&slug, "etcdctl put kept 1").succeeded();
    let answer = fleet.ssh(&slug, "etcdctl get kept -w json").succeeded().stdout;
    let answer: Value = serde_json::from_str(&answer).unwrap();

    let backup = "/var/vcap/jobs/etcd/bin/etcd-backup";
    eventually("the write is in the directory", || {
        let listed = fleet.ssh(&slug, &format!("{backup} list --json")).succeeded().stdout;
        let listed: Value = serde_json::from_str(&listed).unwrap();
        (listed["sets"][0]["last_revision"].as_i64() >= answer["header"]["revision"].as_i64()).then_some(())
    });
    let owner = fleet.ssh(&slug, "stat --format=%U:%a /var/vcap/data/backups").succeeded().stdout;
    assert_eq!(owner.trim(), "vcap:700");

    fleet.set_variable(&url("/mnt/backups"));
    fleet.deploy().failed();
    let told = fleet.read(&slug, "/var/vcap/sys/log/etcd-backup/pre-start.stderr.log");
    assert!(told.contains("/mnt/backups, which is not below /var/vcap"), "{told}");
}

/// A full database grants no lease: the job must get to work all the same, since it is what makes room again.
#[test]
fn a_database_without_space_is_backed_up_defragmented_and_takes_writes_again() {
    let mut fleet = Fleet::new(&["bootstrap.yml", "single-node.yml", "backup.yml"])
        .with_variable("backup_store_url=file:///var/vcap/data/backups")
        .with_variable("backup_store_region=none")
        .with_variable("backup_store_access_key_id=none")
        .with_variable("backup_store_secret_access_key=none");
    let property = |job: &str, name: &str, value: &str| {
        let path = format!("/instance_groups/name=etcd/jobs/name={job}/properties/{name}?");
        format!("- type: replace\n  path: {path}\n  value: {value}\n")
    };
    let settings = [
        property("etcd", "quota_backend_bytes", "33554432"),
        property("etcd-backup", "schedule", "'*/2 * * * * *'"),
        property("etcd-backup", "defragmentation?/schedule", "'*/2 * * * * *'"),
        property("etcd-backup", "defragmentation?/min_gain_bytes", "1048576"),
    ];
    fleet.add_ops_text("little-space.yml", &settings.concat());
    let fleet = fleet.deployed();
    let slug = fleet.slugs().remove(0);
    let put = "head -c 1000000 /dev/zero | tr '\\0' v | etcdctl put";
    let fill = format!("for at in $(seq 60); do {put} big-$at || exit 7; done");
    assert_eq!(fleet.ssh(&slug, &fill).code, 7, "the quota is reached");
    fleet.ssh(&slug, "etcdctl alarm list | grep -q NOSPACE").succeeded();
    let log = || fleet.read(&slug, "/var/vcap/sys/log/etcd-backup/etcd-backup.stderr.log");
    let elected = || log().matches("this instance takes the backups now").count();

    // The lease of the one before ends with it, and none is granted to the next.
    let before = elected();
    fleet.ssh(&slug, "/var/vcap/bosh/bin/monit restart etcd-backup").succeeded();
    eventually("an election without a lease", || (elected() > before).then_some(()));
    let listed = || -> usize {
        let listed = fleet.ssh(&slug, "/var/vcap/jobs/etcd/bin/etcd-backup list --json").succeeded().stdout;
        serde_json::from_str::<Value>(&listed).unwrap()["sets"].as_array().unwrap().len()
    };
    eventually("a backup without space", || (listed() > 0).then_some(()));
    fleet.ssh(&slug, "etcdctl alarm list | grep -q NOSPACE").succeeded();

    fleet.ssh(&slug, "etcdctl del big- --prefix").succeeded();
    let answer = fleet.ssh(&slug, "etcdctl get x -w json").succeeded().stdout;
    let revision = serde_json::from_str::<Value>(&answer).unwrap()["header"]["revision"].clone();
    fleet.ssh(&slug, &format!("etcdctl compact {revision}")).succeeded();
    eventually("writes again", || (fleet.ssh(&slug, "etcdctl put small 1").code == 0).then_some(()));
    assert_eq!(fleet.ssh(&slug, "etcdctl alarm list").succeeded().stdout.trim(), "");
    assert!(log().contains("the alarm for lack of space is over"), "{}", log());
}
