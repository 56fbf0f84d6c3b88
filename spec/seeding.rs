//! Data that was made before any etcd ran: real etcd of every series starts on it, forms the cluster that was
//! computed, keeps what was in it, and goes on like any other.

#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]
#![allow(dead_code, clippy::struct_field_names, reason = "several specs share the support")]
#![expect(clippy::disallowed_methods, reason = "files of a test need no durability")]

#[path = "support/etcd.rs"]
mod etcd;
#[path = "support/facts.rs"]
mod facts;

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Instant;

use etcd::{Etcd, PATIENCE, Start, base64, etcd_of, number, own_address};
use etcd_release::datadir::{Found, classify};
use facts::{Facts, dump, members};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Runs `etcd-datadir`.
fn datadir(arguments: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_etcd-datadir"))
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Runs it, and gives the JSON that it prints.
fn told(arguments: &[&str], stdin: &str) -> Value {
    let output = datadir(&[arguments, &["--json"]].concat(), stdin);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs it, and gives what it says when it refuses.
fn refused(arguments: &[&str]) -> String {
    let output = datadir(arguments, "");
    assert_eq!(output.status.code(), Some(3), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// What is made is what our own judge calls sound.
fn expect_sound(data_dir: &Path) {
    let output = datadir(&["validate", "--mode", "full", "--data-dir", data_dir.to_str().unwrap()], "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let page = String::from_utf8(output.stdout).unwrap();
    // The verdict alone, unless an alarm came along.
    assert!(page.lines().count() == 1 || page.contains("alarm"), "{page}");
}

fn id(hexadecimal: &Value) -> u64 {
    u64::from_str_radix(hexadecimal.as_str().unwrap(), 16).unwrap()
}

/// Members that are to found a cluster, each with an address of its own.
struct Founders {
    root: TempDir,
    series: &'static str,
    addresses: Vec<IpAddr>,
}

impl Founders {
    fn new(series: &'static str, count: usize) -> Self {
        let addresses = (0..count).map(|_| own_address()).collect();
        Self { root: tempfile::tempdir().unwrap(), series, addresses }
    }

    fn name(number: usize) -> String {
        format!("n{number}")
    }

    fn peer_url(&self, number: usize) -> String {
        format!("http://{}:2380", self.addresses[number])
    }

    fn initial_cluster(&self) -> String {
        let entries = (0..self.addresses.len()).map(|n| format!("{}={}", Self::name(n), self.peer_url(n)));
        entries.collect::<Vec<_>>().join(",")
    }

    fn data_dir(&self, kind: &str, number: usize) -> PathBuf {
        self.root.path().join(format!("{kind}-{number}"))
    }

    /// Makes one data directory for each with a command of `etcd-datadir`; gives what it tells of each.
    fn made(&self, kind: &str, command: &[&str], more: &[&str]) -> Vec<Value> {
        let make = |number| {
            let (name, url) = (Self::name(number), self.peer_url(number));
            let (list, data_dir) = (self.initial_cluster(), self.data_dir(kind, number));
            let own = ["--name", &name, "--initial-advertise-peer-urls", &url, "--initial-cluster", &list];
            let place = ["--initial-cluster-token", "token-1", "--data-dir", data_dir.to_str().unwrap()];
            let told = told(&[command, &own, &place, more].concat(), "");
            if data_dir.exists() {
                expect_sound(&data_dir);
            }
            told
        };
        (0..self.addresses.len()).map(make).collect()
    }

    /// The same with etcd's own tool.
    fn restored_by_etcd(&self, kind: &str, snapshot: &Path, more: &[&str]) {
        // Before 3.5 there is no etcdutl.
        let program = if self.series == "3.4" { "etcdctl" } else { "etcdutl" };
        for number in 0..self.addresses.len() {
            let output = Command::new(etcd_of(self.series, program))
                .args(["snapshot", "restore", "--name", &Self::name(number)])
                .args(["--initial-advertise-peer-urls", &self.peer_url(number)])
                .args(["--initial-cluster", &self.initial_cluster(), "--initial-cluster-token", "token-1"])
                .arg("--data-dir")
                .arg(self.data_dir(kind, number))
                .args(more)
                .arg(snapshot)
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }

    /// Starts all of them and waits until each serves.
    fn start(&self, kind: &str, more: &[&str]) -> Vec<Etcd> {
        self.start_as(self.series, kind, more)
    }

    fn start_as(&self, series: &'static str, kind: &str, more: &[&str]) -> Vec<Etcd> {
        let start = |number: usize| Start {
            series,
            name: Self::name(number),
            address: self.addresses[number],
            peer_url: self.peer_url(number),
            data_dir: self.data_dir(kind, number),
            more: more.iter().map(ToString::to_string).collect(),
        };
        let mut etcds: Vec<_> = (0..self.addresses.len()).map(|n| Etcd::spawn(&start(n))).collect();
        for etcd in &mut etcds {
            etcd.says("ready to serve client requests");
        }
        etcds
    }
}

fn stop(etcds: Vec<Etcd>) {
    etcds.into_iter().for_each(Etcd::stop);
}

/// Asks until it is granted: a member that has just come counts as unhealthy for five seconds.
fn granted(mut ask: impl FnMut() -> Result<Value, String>) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(why) => assert!(Instant::now() < deadline, "{why}"),
        }
        thread::yield_now();
    }
}

/// The members that everybody lists, once all have published themselves.
fn listed(etcds: &[Etcd]) -> Vec<(u64, String, Vec<String>)> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let lists: Vec<_> = etcds.iter().filter_map(|etcd| members(etcd).ok()).collect();
        let alike = lists.len() == etcds.len() && lists.windows(2).all(|two| two[0] == two[1]);
        if alike && lists[0].iter().all(|member| !member.client_urls.is_empty()) {
            return lists[0].iter().map(|one| (one.id, one.name.clone(), one.peer_urls.clone())).collect();
        }
        assert!(Instant::now() < deadline, "{lists:?}");
        thread::yield_now();
    }
}

/// etcd starts on what was made for it: one member and three, restarted, and with members that come and go.
fn a_seeded_cluster_lives(series: &'static str) {
    for count in [1, 3] {
        let founders = Founders::new(series, count);
        let made = founders.made("seeded", &["populate"], &[]);

        let etcds = founders.start("seeded", &[]);
        let status = etcds[0].call("maintenance/status", &json!({}));
        assert_eq!(number(&status["header"]["cluster_id"]), id(&made[0]["cluster_id"]), "{series}");
        let mut expected: Vec<_> = (0..count)
            .map(|n| (id(&made[n]["member_id"]), Founders::name(n), vec![founders.peer_url(n)]))
            .collect();
        expected.sort();
        assert_eq!(listed(&etcds), expected, "{series}");
        etcds[0].put("a", b"1");
        stop(etcds);

        let etcds = founders.start("seeded", &[]);
        let key = json!({"key": base64(b"a")});
        assert_eq!(number(&etcds[count - 1].call("kv/range", &key)["count"]), 1, "{series}");
        let url = format!("http://{}:2380", own_address());
        let added = granted(|| {
            etcds[0].try_call("cluster/member/add", &json!({"peerURLs": [url], "isLearner": true}))
        });
        granted(|| etcds[0].try_call("cluster/member/remove", &json!({"ID": added["member"]["ID"]})));
        if count > 1 {
            let leaver = id(&made[0]["member_id"]);
            granted(|| etcds[1].try_call("cluster/member/remove", &json!({"ID": leaver.to_string()})));
            // Who left may have led.
            granted(|| etcds[1].try_call("kv/put", &json!({"key": base64(b"b"), "value": base64(b"2")})));
            assert_eq!(members(&etcds[1]).unwrap().len(), count - 1, "{series}");
        }
    }
}

#[test]
fn a_seeded_cluster_lives_in_3_4() {
    a_seeded_cluster_lives("3.4");
}

#[test]
fn a_seeded_cluster_lives_in_3_5() {
    a_seeded_cluster_lives("3.5");
}

#[test]
fn a_seeded_cluster_lives_in_3_6() {
    a_seeded_cluster_lives("3.6");
}

#[test]
fn a_seeded_cluster_lives_in_3_7() {
    a_seeded_cluster_lives("3.7");
}

/// A snapshot with a bit of everything, and what its member said of it.
fn snapshot(series: &'static str, root: &Path) -> (PathBuf, Facts, Vec<facts::Key>) {
    let etcd = Etcd::start(&Start::alone(series, &root.join("source")));
    for number in 0..60_usize {
        etcd.put(&format!("key {}", number % 20), &vec![7; [1, 50, 5000][number % 3]]);
    }
    etcd.delete("key 3");
    let revision = number(&etcd.call("maintenance/status", &json!({}))["header"]["revision"]);
    etcd.compact(revision - 5);
    etcd.call("lease/grant", &json!({"ID": 77, "TTL": 6000}));
    etcd.call("kv/put", &json!({"key": base64(b"leased"), "value": base64(b"1"), "lease": 77}));
    etcd.call("auth/role/add", &json!({"name": "reader"}));
    etcd.call("auth/user/add", &json!({"name": "somebody", "password": "of a test"}));
    etcd.call("auth/user/grant", &json!({"user": "somebody", "role": "reader"}));
    let facts = Facts::of(&etcd, &[]).unwrap();
    let keys = dump(&etcd).unwrap();
    let file = root.join("snapshot.db");
    etcd.etcdctl(&["snapshot", "save", file.to_str().unwrap()], b"");
    etcd.stop();
    (file, facts, keys)
}

/// What a cluster says, without what differs between any two starts.
fn said(etcds: &[Etcd]) -> (Facts, Vec<facts::Key>) {
    listed(etcds);
    let facts = Facts::of(&etcds[0], &[]).unwrap();
    (Facts { raft: None, ..facts }, dump(&etcds[0]).unwrap())
}

/// What this release restores is what etcd's own tool restores: members, keys with all their revisions, leases, users.
fn restored_data_is_that_of_etcds_own_tool(series: &'static str) {
    let root = tempfile::tempdir().unwrap();
    let (snapshot, source, keys) = snapshot(series, root.path());
    for count in [1, 3] {
        let founders = Founders::new(series, count);
        let command = ["restore", snapshot.to_str().unwrap()];
        let plans = founders.made("ours", &command, &["--dry-run"]);
        assert!(!founders.data_dir("ours", 0).exists());
        let made = founders.made("ours", &command, &[]);
        founders.restored_by_etcd("etcds", &snapshot, &[]);

        let etcds = founders.start("ours", &[]);
        let (ours, our_keys) = said(&etcds);
        etcds[0].put("new", b"1");
        stop(etcds);
        let etcds = founders.start("etcds", &[]);
        let (theirs, their_keys) = said(&etcds);
        stop(etcds);

        assert_eq!(ours, theirs, "{series}");
        assert_eq!(our_keys, their_keys, "{series}");
        assert_eq!(our_keys, keys, "{series}");
        assert_eq!((ours.revision, ours.hash_kv), (source.revision, source.hash_kv), "{series}");
        assert_eq!((&ours.leases, &ours.users), (&source.leases, &source.users), "{series}");
        for (plan, made) in plans.iter().zip(&made) {
            let mut plan = plan.clone();
            plan["dry_run"] = false.into();
            assert_eq!(plan, *made);
        }
        assert_eq!(number(&made[0]["revision"]), source.revision);
        assert_eq!(made[0]["hash"], "verified");
        assert_eq!(id(&made[0]["cluster_id"]), ours.cluster_id);
        let mut ids: Vec<_> =
            made[0]["members"].as_array().unwrap().iter().map(|member| id(&member["id"])).collect();
        ids.sort_unstable();
        assert_eq!(ids, ours.members.unwrap().iter().map(|member| member.id).collect::<Vec<_>>());
    }
}

#[test]
fn restored_data_is_that_of_etcds_own_tool_in_3_4() {
    restored_data_is_that_of_etcds_own_tool("3.4");
}

#[test]
fn restored_data_is_that_of_etcds_own_tool_in_3_5() {
    restored_data_is_that_of_etcds_own_tool("3.5");
}

#[test]
fn restored_data_is_that_of_etcds_own_tool_in_3_6() {
    restored_data_is_that_of_etcds_own_tool("3.6");
}

#[test]
fn restored_data_is_that_of_etcds_own_tool_in_3_7() {
    restored_data_is_that_of_etcds_own_tool("3.7");
}

/// Watchers that were there before hear that the past is gone, as they do with etcd's own tool.
#[test]
fn a_raised_revision_is_that_of_etcds_own_tool_and_the_past_is_compacted() {
    for series in ["3.5", "3.6", "3.7"] {
        let root = tempfile::tempdir().unwrap();
        let (snapshot, source, _) = snapshot(series, root.path());
        let founders = Founders::new(series, 1);
        let bump = ["--bump-revision", "1000", "--mark-compacted"];
        let made = founders.made("ours", &["restore", snapshot.to_str().unwrap()], &bump);
        founders.restored_by_etcd("etcds", &snapshot, &bump);

        let mut said_of = Vec::new();
        for kind in ["ours", "etcds"] {
            let etcds = founders.start(kind, &[]);
            let old = json!({"key": base64(b"key 1"), "revision": source.revision.to_string()});
            let refusal = etcds[0].try_call("kv/range", &old).unwrap_err();
            assert!(refusal.contains("compacted"), "{series}: {refusal}");
            let (facts, keys) = said(&etcds);
            // The hash is taken at some moment of the compaction that goes on.
            said_of.push((Facts { hash_kv: 0, ..facts }, keys));
            stop(etcds);
        }

        assert_eq!(said_of[0], said_of[1], "{series}");
        assert_eq!(number(&made[0]["revision"]), source.revision + 1000, "{series}");
        assert_eq!(said_of[0].0.compact_revision, source.revision + 1000, "{series}");
    }
}

/// Each release takes over from the one before. 3.7 cannot read how 3.5 announces itself, so 3.6 writes a snapshot
/// first (docs/contract.md#seeding).
#[test]
fn a_restored_cluster_is_upgraded_from_release_to_release() {
    let root = tempfile::tempdir().unwrap();
    let (snapshot, ..) = snapshot("3.5", root.path());
    let founders = Founders::new("3.5", 3);
    founders.made("ours", &["restore", snapshot.to_str().unwrap()], &[]);
    for series in ["3.5", "3.6", "3.7"] {
        let etcds = founders.start_as(series, "ours", &["--snapshot-count", "5"]);
        for number in 0..15 {
            etcds[number % 3].put(&format!("in {series}"), number.to_string().as_bytes());
        }
        let (facts, _) = said(&etcds);
        assert_eq!(facts.cluster_version, Some(format!("{series}.0")));
        assert_eq!(
            facts.keys,
            20 + if series == "3.5" {
                1
            } else if series == "3.6" {
                2
            } else {
                3
            }
        );
        stop(etcds);
    }
}

/// Data of a later release is for an older etcd if it was asked for.
#[test]
fn a_snapshot_is_restored_for_the_release_before() {
    for (from, to) in [("3.6", "3.5"), ("3.7", "3.6")] {
        let root = tempfile::tempdir().unwrap();
        let (snapshot, source, _) = snapshot(from, root.path());
        let founders = Founders::new(to, 1);
        founders.made("ours", &["restore", snapshot.to_str().unwrap()], &["--target-version", to]);

        let etcds = founders.start("ours", &[]);
        let (facts, _) = said(&etcds);
        stop(etcds);

        assert_eq!(facts.cluster_version, Some(format!("{to}.0")));
        // The hash is over every revision of every key: 3.7 leaves the lease out of a list of keys alone.
        let same = |facts: &Facts| (facts.revision, facts.hash_kv, facts.keys, facts.leases.clone());
        assert_eq!(same(&facts), same(&source), "{from} to {to}");
    }
}

/// The alarm of a member that is gone stops the writes of the new cluster, so the tool says so.
#[test]
fn an_alarm_comes_back_until_somebody_disarms_it() {
    let root = tempfile::tempdir().unwrap();
    let source = Start::alone("3.6", &root.path().join("source")).with(&["--quota-backend-bytes", "4000000"]);
    let etcd = Etcd::start(&source);
    let put = |etcd: &Etcd| {
        etcd.try_call("kv/put", &json!({"key": base64(b"a"), "value": base64(&vec![7; 500_000])}))
    };
    let refusal = (0..100).find_map(|_| put(&etcd).err()).unwrap();
    assert!(refusal.contains("database space exceeded"), "{refusal}");
    let raised = Facts::of(&etcd, &[]).unwrap().alarms;
    let snapshot = root.path().join("snapshot.db");
    etcd.etcdctl(&["snapshot", "save", snapshot.to_str().unwrap()], b"");
    etcd.stop();

    let founders = Founders::new("3.6", 1);
    let made = founders.made("ours", &["restore", snapshot.to_str().unwrap()], &[]);

    assert_eq!(made[0]["alarms"].as_array().unwrap().len(), 1);
    assert_eq!(made[0]["alarms"][0]["kind"], "NOSPACE");
    assert_eq!(id(&made[0]["alarms"][0]["member_id"]), raised[0].member);
    let etcds = founders.start("ours", &[]);
    assert_eq!(Facts::of(&etcds[0], &[]).unwrap().alarms, raised);
    assert!(put(&etcds[0]).unwrap_err().contains("database space exceeded"));
    etcds[0].etcdctl(&["alarm", "disarm"], b"");
    put(&etcds[0]).unwrap();
}

#[test]
fn every_source_of_members_makes_the_same_member() {
    let root = tempfile::tempdir().unwrap();
    let place = |name: &str| root.path().join(name).to_str().unwrap().to_owned();
    let list = "a=https://a.test:2380,b=https://b.test:2380";
    let yaml = "members:\n- {name: b, peer_urls: [\"https://b.test:2380\"]}\n- {name: a, peer_urls: [\"https://a.test:2380\"]}\n";
    fs::write(place("members.yml"), yaml).unwrap();
    let common = ["populate", "--name", "a", "--initial-cluster-token", "t"];
    let by = |source: &[&str], kind: &str, stdin: &str| {
        let mut told = told(&[&common, source, &["--data-dir", &place(kind)]].concat(), stdin);
        told.as_object_mut().unwrap().remove("data_dir");
        told
    };

    let typed = by(&["--initial-cluster", list], "typed", "");

    assert_eq!(by(&["--members-file", &place("members.yml")], "file", ""), typed);
    assert_eq!(by(&["--members-file", "-"], "stdin", yaml), typed);
    let blank = place("blank.db");
    assert!(datadir(&["init", "--output", &blank], "").status.success());
    assert_eq!(by(&["--initial-cluster", list, "--db", &blank], "blank", ""), typed);
}

#[test]
fn nothing_is_made_on_data_or_beside_a_running_cluster() {
    let root = tempfile::tempdir().unwrap();
    let data_dir = root.path().join("data");
    let etcd = Etcd::start(&Start::alone("3.6", &data_dir));
    let other = root.path().join("other");
    let populate = |data_dir: &Path, more: &[&str]| {
        let list = ["populate", "--name", "a", "--initial-cluster", "a=https://a.test:2380"];
        let place = ["--initial-cluster-token", "t", "--data-dir", data_dir.to_str().unwrap()];
        refused(&[&list[..], &place, more].concat())
    };

    let running = format!("http://{}:2380", etcd.address);
    let answer = populate(&other, &["--check-endpoints", &running]);
    assert!(answer.contains(&format!("somebody answers at {running}")), "{answer}");
    let answer = populate(&data_dir, &[]);
    assert!(answer.contains("is not empty: it holds member"), "{answer}");

    assert!(!other.exists());
    etcd.put("a", b"1");
    etcd.stop();
}

/// A command that is killed at any moment is run again.
#[test]
fn a_seeding_that_was_killed_leaves_nothing_or_a_complete_member() {
    for (point, own_log) in
        [("seed:written", false), ("seed:written", true), ("seed:log-placed", true), ("seed:placed", true)]
    {
        let root = tempfile::tempdir().unwrap();
        let (data_dir, wal_dir) = (root.path().join("data"), root.path().join("log"));
        let wal_dir = own_log.then_some(wal_dir.as_path());
        let populate = |environment: &[(&str, &str)]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-datadir"));
            command.args(["populate", "--name", "a", "--initial-cluster", "a=https://a.test:2380"]);
            command.args(["--initial-cluster-token", "t"]).arg("--data-dir").arg(&data_dir);
            if let Some(wal_dir) = wal_dir {
                command.arg("--wal-dir").arg(wal_dir);
            }
            command.env_clear().envs(environment.iter().copied()).output().unwrap()
        };

        let killed = populate(&[("ETCD_TOOLS_FAIL_POINT", point)]);
        assert_eq!(killed.status.signal(), Some(9), "{point}");
        let found = classify(&data_dir, wal_dir).unwrap();
        let again = populate(&[]);

        if point == "seed:placed" {
            assert!(matches!(found, Found::Data(_)), "{found:?}");
            assert_eq!(again.status.code(), Some(3));
        } else {
            assert!(!matches!(found, Found::Data(_)), "{point}: {found:?}");
            assert!(again.status.success(), "{point}: {}", String::from_utf8_lossy(&again.stderr));
            assert!(matches!(classify(&data_dir, wal_dir).unwrap(), Found::Data(_)), "{point}");
            assert_eq!(fs::read_dir(&data_dir).unwrap().count(), 1, "{point}");
            let logs = wal_dir.map(|wal_dir| fs::read_dir(wal_dir).unwrap().count());
            assert_eq!(logs.unwrap_or(1), 1, "{point}");
        }
    }
}

/// etcd does not run as root, and who makes its data by hand does.
#[test]
fn what_root_makes_belongs_to_the_owner_of_the_directory() {
    const NOBODY: u32 = 65_534;
    let root = tempfile::tempdir().unwrap();
    let (store, log) = (root.path().join("store"), root.path().join("log"));
    for directory in [&store, &log] {
        fs::create_dir(directory).unwrap();
        std::os::unix::fs::chown(directory, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let (data_dir, wal_dir) = (store.join("a/b"), log.join("wal"));
    let list = ["populate", "--name", "a", "--initial-cluster", "a=https://a.test:2380"];
    let place = ["--data-dir", data_dir.to_str().unwrap(), "--wal-dir", wal_dir.to_str().unwrap()];

    told(&[&list[..], &["--initial-cluster-token", "t"], &place].concat(), "");

    let mut found = Vec::new();
    let mut directories = vec![store, log];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::metadata(&path).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (NOBODY, NOBODY), "{}", path.display());
            assert_eq!(metadata.mode() & 0o077, 0, "{}", path.display());
            if metadata.is_dir() {
                directories.push(path.clone());
            }
            found.push(path);
        }
    }
    assert_eq!(found.len(), 8, "{found:?}");
}
