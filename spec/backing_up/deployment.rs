//! On the instances of a deployment.

use std::fs;

use etcd_release::backup::delta::Record;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::etcd::number;
use super::eventually;
use super::shop::Shop;
use super::support::fleet::Fleet;

/// On an instance, through its job: the snapshot is a follower's, and deltas go on when the member they come from dies
/// and when the leader changes.
#[test]
fn a_deployment_of_three_is_backed_up_whoever_leads_and_whoever_dies() {
    let shop = Shop::new();
    let fleet = Fleet::new(&["bootstrap.yml"]).deployed();
    let slugs = fleet.slugs();
    let backup = "/var/vcap/packages/etcd-tools/bin/etcd-backup";
    fleet.ssh(&slugs[0], "etcdctl put before 1").succeeded();

    let saved = fleet.ssh(&slugs[0], &format!("{backup} save --json --store {}", shop.url())).succeeded();

    let full: Value = serde_json::from_str(&saved.stdout).unwrap();
    assert_eq!(full["cluster"]["deployment"], "etcd");
    assert_eq!(full["cluster"]["members"].as_array().map(Vec::len), Some(3));
    assert_eq!(full["cluster"]["properties"]["client_port"], 2379);
    assert_eq!(full["hash"]["revision"], full["revisions"]["last"]);
    let table = fleet.ssh(&slugs[0], "etcdctl endpoint status --cluster -w json").succeeded().stdout;
    let table: Value = serde_json::from_str(&table).unwrap();
    let leader = format!("{:x}", number(&table[0]["Status"]["leader"]));
    assert_ne!(full["cluster"]["member"], json!(leader), "a follower has as much");
    let text = fs::read_to_string(&shop.files()[&format!("v1/{}/full.json", full["set"].as_str().unwrap())])
        .unwrap();
    assert!(!text.contains("PRIVATE KEY") && !text.contains("CERTIFICATE"));

    // The job, as it would run on an instance.
    let properties = json!({"store.url": shop.url(), "schedule": "0 0 1 1 *", "delta_period": "100ms"});
    let config = json!({"version": 1, "properties": properties}).to_string();
    let run = format!(
        "echo '{config}' > /var/vcap/data/backup.json; echo $$ > /var/vcap/data/backup.pid; \
         exec {backup} run --job-config /var/vcap/data/backup.json 2>>/var/vcap/data/backup.log"
    );
    let mut job = fleet.command(&["ssh", &slugs[0], "-c", &run]).spawn().unwrap();
    let log = || fleet.read(&slugs[0], "/var/vcap/data/backup.log");
    let put = |slug: &str, key: &str| {
        let script = format!("for i in $(seq 20); do etcdctl put {key}-$i value >/dev/null || exit 1; done");
        eventually(&format!("{key} is written"), || (fleet.ssh(slug, &script).code == 0).then_some(()));
        let read = eventually("an answer", || {
            Some(fleet.ssh(slug, "etcdctl get x -w json")).filter(|it| it.code == 0)
        });
        let read = read.stdout;
        i64::try_from(number(&serde_json::from_str::<Value>(&read).unwrap()["header"]["revision"])).unwrap()
    };
    shop.reaches(put(&slugs[0], "one"));

    // Each member dies once: the leader and the one that is followed are among them.
    for slug in &slugs {
        fleet.kill9(slug, "etcd");
        shop.reaches(put(&slugs[0], "three"));
    }
    assert!(log().contains("the watch broke"), "{}", log());
    let sets = shop.sets();
    assert_eq!(sets.len(), 1, "{}", log());
    let scratch = tempfile::tempdir().unwrap();
    let records: Vec<Record> =
        sets[0].deltas.iter().flat_map(|delta| shop.records(delta, scratch.path())).collect();
    let first = full["revisions"]["last"].as_i64().unwrap() + 1;
    assert!(records.iter().map(|record| record.revision).eq(first..=sets[0].last()));

    let pid: i32 = fleet.read(&slugs[0], "/var/vcap/data/backup.pid").trim().parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    assert!(job.wait().unwrap().success(), "{}", log());
}
