//! Backups of running clusters: full snapshots and deltas of real etcd, in a store that is a directory.

#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]
#![allow(clippy::case_sensitive_file_extension_comparisons, reason = "names are as we write them")]
#![allow(dead_code, reason = "several specs share the support")]

#[path = "support/etcd.rs"]
mod etcd;
mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use etcd::{Etcd, PATIENCE, SERIES, Start, base64, number};
use etcd_release::backup::delta::{HEAD, Record};
use etcd_release::datadir::bolt::Db;
use etcd_release::datadir::snapshot_file::{Checked, check};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prost::Message;
use serde_json::{Value, json};
use support::fleet::Fleet;
use tempfile::TempDir;

/// A store of this test.
struct Shop(TempDir);

impl Shop {
    fn new() -> Self {
        let shop = Self(tempfile::tempdir().unwrap());
        fs::create_dir(shop.place()).unwrap();
        shop
    }

    /// Where the objects lie; what else a test has lies beside it.
    fn place(&self) -> PathBuf {
        self.0.path().join("store")
    }

    fn url(&self) -> String {
        format!("file://{}", self.place().display())
    }

    fn backup(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-backup"));
        command.args(arguments).args(["--store", &self.url()]).env_clear().stdin(Stdio::null());
        command
    }

    fn save(&self, endpoint: &str) -> Output {
        self.backup(&["save", "--json", "--etcd", endpoint]).output().unwrap()
    }

    /// Takes one, and gives its manifest.
    fn saved(&self, etcd: &Etcd) -> Value {
        let output = self.save(&endpoint(etcd));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What `list` tells.
    fn listed(&self) -> String {
        let output = self.backup(&["list"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// All files, by name.
    fn files(&self) -> BTreeMap<String, PathBuf> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.place()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else {
                    let name = entry.path().strip_prefix(self.place()).unwrap().display().to_string();
                    files.insert(name, entry.path());
                }
            }
        }
        files
    }

    /// The content of an object, as an operator gets it by hand.
    fn content(&self, object: &Value, to: &Path) -> Vec<u8> {
        let packed = File::open(self.place().join(object["name"].as_str().unwrap())).unwrap();
        zstd::stream::copy_decode(packed, File::create(to).unwrap()).unwrap();
        fs::read(to).unwrap()
    }
}

/// A set, as a reader finds it: its full snapshot, and the deltas that continue it.
struct Set {
    full: Value,
    deltas: Vec<Value>,
}

impl Set {
    fn last(&self) -> i64 {
        self.deltas.last().map_or(&self.full["revisions"]["last"], |delta| &delta["last"]).as_i64().unwrap()
    }
}

impl Shop {
    /// All sets, the oldest first.
    fn sets(&self) -> Vec<Set> {
        let mut manifests: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for (name, path) in self.files() {
            if name.ends_with(".json") {
                let manifest: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
                let set = manifest["set"].as_str().unwrap().to_owned();
                manifests.entry(set).or_default().push(manifest);
            }
        }
        let sets = manifests.into_values().filter_map(|manifests| {
            let (fulls, mut others): (Vec<_>, Vec<_>) =
                manifests.into_iter().partition(|manifest| manifest.get("revisions").is_some());
            let mut set = Set { full: fulls.into_iter().next()?, deltas: Vec::new() };
            others.sort_by_key(|delta| (delta["first"].as_i64(), delta["last"].as_i64()));
            for delta in others {
                if delta["first"].as_i64().unwrap() <= set.last() + 1
                    && delta["last"].as_i64().unwrap() > set.last()
                {
                    set.deltas.push(delta);
                }
            }
            Some(set)
        });
        sets.collect()
    }

    /// Waits until the newest set reaches a revision, and gives all.
    fn reaches(&self, revision: i64) -> Vec<Set> {
        eventually(&format!("a set that reaches {revision}"), || {
            let sets = self.sets();
            sets.last().is_some_and(|set| set.last() >= revision).then_some(sets)
        })
    }

    fn records(&self, delta: &Value, scratch: &Path) -> Vec<Record> {
        let content = self.content(&delta["object"], &scratch.join("delta"));
        let mut rest = content.strip_prefix(HEAD.as_slice()).unwrap();
        let mut records = Vec::new();
        while !rest.is_empty() {
            records.push(Record::decode_length_delimited(&mut rest).unwrap());
        }
        records
    }
}

fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        thread::park_timeout(Duration::from_millis(50));
    }
}

/// `etcd-backup run`; ends with its guard.
struct Job {
    child: Child,
    log: PathBuf,
}

impl Job {
    /// `more` replaces properties.
    fn start(shop: &Shop, etcd: &Etcd, name: &str, more: &Value, dies_at: Option<&str>) -> Self {
        let scratch = shop.0.path().join("jobs");
        fs::create_dir_all(&scratch).unwrap();
        let mut properties = json!({
            "store.url": shop.url(), "schedule": "0 0 1 1 *", "schedule_jitter": "0s", "delta_period": "100ms",
        });
        properties.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let config = scratch.join(format!("{name}.json"));
        #[expect(clippy::disallowed_methods, reason = "files of a test need no durability")]
        fs::write(&config, json!({"version": 1, "properties": properties}).to_string()).unwrap();
        let log = scratch.join(format!("{name}.log"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-backup"));
        command.args(["run", "--etcd", &endpoint(etcd), "--job-config"]).arg(&config).env_clear();
        command.arg("--temporary-dir").arg(&scratch);
        if let Some(place) = dies_at {
            command.env("ETCD_TOOLS_FAIL_POINT", place);
        }
        let stderr = fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        Self { child: command.stdin(Stdio::null()).stderr(stderr).spawn().unwrap(), log }
    }

    fn told(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The most memory it ever had, in bytes.
    fn most_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }

    fn says(&self, text: &str) {
        eventually(&format!("'{text}' in {}", self.told()), || self.told().contains(text).then_some(()));
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Waits until it is gone.
    fn ended(mut self) -> std::process::ExitStatus {
        eventually("the end of etcd-backup", || self.child.try_wait().unwrap())
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // Ignored: it may have ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn revision(etcd: &Etcd) -> i64 {
    let status = etcd.call("kv/range", &json!({"key": base64(b"x")}));
    i64::try_from(number(&status["header"]["revision"])).unwrap()
}

/// What etcd has now, by key: value, version, first and last revision, lease.
type State = BTreeMap<Vec<u8>, (Vec<u8>, i64, i64, i64, i64)>;

fn state(etcd: &Etcd) -> State {
    let all = etcd.etcdctl(&["get", "", "--prefix"], b"");
    let text = |pair: &Value, name: &str| pair[name].as_str().unwrap_or_default().to_owned();
    let int = |pair: &Value, name: &str| i64::try_from(number(&pair[name])).unwrap();
    let pairs = all["kvs"].as_array().cloned().unwrap_or_default();
    let pairs = pairs.iter().map(|pair| {
        // Both sides in base64: that is enough to compare.
        let rest = (text(pair, "value").into_bytes(), int(pair, "version"), int(pair, "create_revision"));
        let place = (int(pair, "mod_revision"), int(pair, "lease"));
        (text(pair, "key").into_bytes(), (rest.0, rest.1, rest.2, place.0, place.1))
    });
    pairs.collect()
}

/// The state that a chain of records makes, from nothing.
fn replayed(records: &[Record]) -> State {
    let mut state = State::new();
    for record in records {
        for change in &record.changes {
            let key = base64(&change.key).into_bytes();
            if change.deleted {
                state.remove(&key);
            } else {
                let value = base64(&change.value).into_bytes();
                let place = (record.revision, change.lease);
                state.insert(key, (value, change.version, change.create_revision, place.0, place.1));
            }
        }
    }
    state
}

fn endpoint(etcd: &Etcd) -> String {
    format!("http://{}:2379", etcd.address)
}

/// Every series of etcd gives snapshots whose last revision is read as they pass by: what the database says that is
/// read at leisure, and what etcd itself says.
#[test]
fn a_full_snapshot_is_what_etcd_sent_and_tells_its_revisions() {
    for series in SERIES {
        let (shop, directory) = (Shop::new(), tempfile::tempdir().unwrap());
        let etcd = Etcd::start(&Start::alone(series, &directory.path().join("data")));

        // A cluster without a key is at revision 1.
        let empty = shop.saved(&etcd);
        assert_eq!(empty["revisions"], json!({"compacted": 0, "last": 1}), "{series}");

        for number in 0..300 {
            etcd.put(&format!("key-{}", number % 40), &vec![b'v'; number * 40 % 9_000]);
        }
        etcd.delete("key-1");
        etcd.compact(200);
        etcd.put("after", b"compaction");
        let full = shop.saved(&etcd);

        let hash = etcd.call("maintenance/hash", &json!({}));
        let last = number(&hash["header"]["revision"]);
        assert_eq!(full["revisions"]["last"], json!(last), "{series}");
        assert_eq!(full["revisions"]["compacted"], json!(200), "{series}");
        assert_eq!(full["cluster"]["etcd"].as_str().map(|version| &version[..3]), Some(series));
        assert_eq!(full["cluster"]["members"].as_array().map(Vec::len), Some(1));
        assert_eq!(
            (full["hash"]["revision"].clone(), full["hash"]["compacted"].clone()),
            (json!(last), json!(200))
        );

        let content = shop.content(&full["object"], &directory.path().join("snapshot.db"));
        assert_eq!(content.len() as u64, full["object"]["content_bytes"].as_u64().unwrap());
        assert_eq!(check(&content, &mut |_| {}), Checked::Intact, "{series}");
        let db = Db::over(content.as_slice()).unwrap();
        let (key, _) = db.bucket(b"key").unwrap().unwrap().last().unwrap().unwrap();
        assert_eq!(key[..8], last.to_be_bytes(), "{series}");
    }
}

/// Deletions that were compacted leave pages with larger keys than any that counts.
#[test]
fn revisions_whose_keys_are_gone_count_as_well() {
    let (shop, directory) = (Shop::new(), tempfile::tempdir().unwrap());
    let etcd = Etcd::start(&Start::alone("3.6", &directory.path().join("data")));
    for number in 0..200 {
        etcd.put(&format!("key-{number}"), b"value");
    }
    for number in 0..200 {
        etcd.delete(&format!("key-{number}"));
    }
    etcd.compact(401);

    let full = shop.saved(&etcd);

    assert_eq!(full["revisions"], json!({"compacted": 401, "last": 401}));
}

/// Killed at any step, or without a store that takes it: nothing is listed that cannot be restored, and the next one
/// succeeds beside what is left.
#[test]
fn what_is_interrupted_is_no_backup() {
    let (shop, directory) = (Shop::new(), tempfile::tempdir().unwrap());
    let etcd = Etcd::start(&Start::alone("3.6", &directory.path().join("data")));
    etcd.put("key", &vec![7; 100_000]);

    let save = |at: &str| {
        let endpoint = endpoint(&etcd);
        let mut save = shop.backup(&["save", "--etcd", &endpoint]);
        save.env("ETCD_TOOLS_FAIL_POINT", at).output().unwrap()
    };
    assert_eq!(save("backup:full-uploaded").status.signal(), Some(9));
    let left = shop.files();
    assert!(left.keys().all(|name| !name.ends_with(".json")) && !left.is_empty(), "{left:?}");
    assert!(shop.sets().is_empty() && shop.listed().contains("not finished: "), "{}", shop.listed());

    assert_eq!(save("backup:full-listed").status.signal(), Some(9));
    assert_eq!(shop.files().keys().filter(|name| name.ends_with("/full.json")).count(), 1);

    // Nobody answers: the next time may be better.
    let address = etcd.address;
    etcd.stop();
    let output = shop.save(&format!("http://{address}:2379"));
    assert_eq!(output.status.code(), Some(4));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("no member of etcd answers") && told.contains("connection refused"), "{told}");
    assert_eq!(shop.files().keys().filter(|name| name.ends_with("/full.json")).count(), 1);
}

/// Everything that happens behind the first full snapshot is in deltas, revision by revision, through restarts of etcd
/// and of the job, killed where it hurts most. A compaction that was faster than the job brings a new full.
#[test]
fn deltas_continue_whatever_dies_in_between() {
    deltas_continue("3.6");
}

/// The same with the oldest etcd.
#[test]
fn deltas_of_the_oldest_series_continue_as_well() {
    deltas_continue("3.4");
}

fn deltas_continue(series: &'static str) {
    let (shop, directory) = (Shop::new(), tempfile::tempdir().unwrap());
    let start = Start::alone(series, &directory.path().join("data"));
    let etcd = Etcd::start(&start);
    let none = json!({});

    let job = Job::start(&shop, &etcd, "a", &none, Some("backup:delta-uploaded"));
    assert_eq!(shop.reaches(1)[0].last(), 1, "{series}");
    etcd.put("first", b"1");
    assert_eq!(job.ended().signal(), Some(9));
    assert_eq!(shop.sets()[0].last(), 1, "an object without its manifest counts");

    let job = Job::start(&shop, &etcd, "a", &none, None);
    etcd.call("lease/grant", &json!({"TTL": 600, "ID": 77}));
    etcd.call("kv/put", &json!({"key": base64(b"leased"), "value": base64(b"v"), "lease": 77}));
    let put = |key: &str| json!({"requestPut": {"key": base64(key.as_bytes()), "value": base64(b"txn")}});
    etcd.call("kv/txn", &json!({"success": [put("a"), put("b"), put("c")]}));
    etcd.call("kv/deleterange", &json!({"key": base64(b"a"), "range_end": base64(b"c")}));
    for round in 0..200 {
        etcd.put(&format!("key-{}", round % 30), &vec![b'v'; round * 90]);
    }
    shop.reaches(revision(&etcd));

    // etcd is killed and comes back; the job looks for it.
    let address = etcd.address;
    etcd.end(Signal::SIGKILL);
    job.says("the watch broke");
    let etcd = Etcd::start(&Start { address, ..start.clone() });
    etcd.put("after", b"restart");
    let sets = shop.reaches(revision(&etcd));
    assert_eq!(sets.len(), 1, "{series}: {}", job.told());

    let records: Vec<Record> =
        sets[0].deltas.iter().flat_map(|delta| shop.records(delta, directory.path())).collect();
    assert!(records.iter().map(|record| record.revision).eq(2..=revision(&etcd)), "{series}");
    assert_eq!(replayed(&records), state(&etcd), "{series}");
    let leases: Vec<_> =
        records.iter().flat_map(|record| &record.leases).map(|lease| (lease.id, lease.seconds)).collect();
    assert_eq!(leases, [(77, 600)], "{series}");
    assert_eq!(records.iter().map(|record| record.changes.len()).max(), Some(3));

    // What is not in the store yet gets there at the end.
    job.signal(Signal::SIGTERM);
    assert!(job.ended().success());
    for round in 0..20 {
        etcd.put("unseen", &[round]);
    }
    etcd.compact(u64::try_from(revision(&etcd)).unwrap());
    etcd.put("unseen", b"after");
    let job = Job::start(&shop, &etcd, "b", &none, None);
    let sets = eventually("a second set", || Some(shop.sets()).filter(|sets| sets.len() == 2));
    assert!(job.told().contains("deltas cannot go on"), "{}", job.told());
    assert_eq!(sets[1].last(), revision(&etcd), "{series}");
}

/// Sets follow each other under writes, and the old one reaches what the new one begins with; the instance that is
/// active is killed, and the other goes on.
#[test]
fn sets_touch_each_other_and_another_instance_takes_over() {
    let (shop, directory) = (Shop::new(), tempfile::tempdir().unwrap());
    let etcd = Etcd::start(&Start::alone("3.6", &directory.path().join("data")));
    let often = json!({"schedule": "*/2 * * * * *", "retention.keep_last": 100});

    let first = Job::start(&shop, &etcd, "first", &often, None);
    first.says("this instance takes the backups now");
    let second = Job::start(&shop, &etcd, "second", &often, None);
    let mut written = 0;
    let mut write = || {
        for _ in 0..50 {
            written += 1;
            etcd.put(&format!("key-{}", written % 100), &[b'v'; 500]);
        }
    };
    eventually("three sets", || {
        write();
        (shop.sets().len() >= 3).then_some(())
    });
    assert!(!second.told().contains("this instance takes the backups now"));
    first.signal(Signal::SIGKILL);
    first.ended();
    let before = shop.sets().len();
    second.says("this instance takes the backups now");
    eventually("sets of the other instance", || {
        write();
        (shop.sets().len() >= before + 2).then_some(())
    });
    let sets = shop.reaches(revision(&etcd));

    let touching: Vec<(i64, i64)> = sets
        .windows(2)
        .map(|two| (two[0].last(), two[1].full["revisions"]["last"].as_i64().unwrap()))
        .collect();
    // Killed between the new set and the end of the old one, the first leaves a gap there: docs/contract.md#deltas.
    let whole = touching.iter().enumerate().filter(|(place, _)| *place + 2 != before);
    assert!(whole.map(|(_, pair)| pair).all(|(old, new)| old >= new), "{touching:?}\n{}", second.told());
}

/// The newest set is restored by a schedule; whoever ends in the middle of that leaves nothing, and who is killed leaves
/// it to the next one.
#[test]
fn the_newest_set_is_restored_to_prove_it_and_nothing_is_left_of_that() {
    let (shop, directory) = (Shop::new(), tempfile::tempdir().unwrap());
    let etcd = Etcd::start(&Start::alone("3.6", &directory.path().join("data")));
    for key in 0..24 {
        etcd.put(&format!("key-{key}"), &vec![b'v'; 1 << 20]);
    }
    let each_second = json!({"verification.schedule": "* * * * * *", "verification.deep": true});
    let scratch = shop.0.path().join("jobs/verification");
    let restores = || {
        eventually("a restore that goes on", || {
            fs::read_dir(&scratch).ok()?.next()?.ok().map(|entry| entry.path())
        })
    };

    let job = Job::start(&shop, &etcd, "first", &each_second, None);
    eventually(&format!("a deep verification: {}", job.told()), || {
        let notes = shop.files().into_iter().filter(|(name, _)| name.contains("verified-"));
        let note = |path: &PathBuf| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
        notes.map(|(_, path)| note(&path)).find(|note| note["deep"] == true)
    });
    job.says("backup verified");
    restores();
    job.signal(Signal::SIGTERM);
    assert!(job.ended().success());
    assert!(!scratch.exists());

    let job = Job::start(&shop, &etcd, "second", &each_second, None);
    restores();
    job.signal(Signal::SIGKILL);
    job.ended();
    // What a child leaves that died with it.
    fs::create_dir_all(scratch.join("left")).unwrap();
    let never = json!({"verification.schedule": ""});
    let job = Job::start(&shop, &etcd, "third", &never, None);
    job.says("this instance takes the backups now");
    assert!(!scratch.exists());
}

/// A store that takes nothing holds etcd back, not our memory; when it takes something again, all of it is there.
#[test]
fn a_store_that_is_gone_costs_no_memory_and_no_revision() {
    const WRITTEN: usize = 96 << 20;
    let (shop, directory) = (Shop::new(), tempfile::tempdir().unwrap());
    let etcd = Etcd::start(&Start::alone("3.6", &directory.path().join("data")));
    let job = Job::start(&shop, &etcd, "a", &json!({"delta_bytes": 1 << 20, "compression": "none"}), None);
    shop.reaches(1);
    etcd.put("before", b"1");
    shop.reaches(2);
    let before = job.most_memory();

    // Where the directory was is a file.
    let (place, aside) = (shop.place(), shop.0.path().join("aside"));
    fs::rename(&place, &aside).unwrap();
    File::create(&place).unwrap();
    for number in 0..WRITTEN >> 20 {
        etcd.put(&format!("key-{}", number % 8), &vec![u8::try_from(number % 251).unwrap(); 1 << 20]);
    }
    job.says("a delta could not be uploaded");
    let with_backlog = job.most_memory();
    fs::remove_file(&place).unwrap();
    fs::rename(&aside, &place).unwrap();

    let sets = shop.reaches(revision(&etcd));
    assert_eq!(sets.len(), 1, "{}", job.told());
    let all = job.most_memory();
    assert!(all < 56 << 20, "{before} bytes before, {with_backlog} with a backlog, {all} at the end");
    println!("memory: {before} before, {with_backlog} with a backlog, {all} after {WRITTEN} bytes");
}

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
