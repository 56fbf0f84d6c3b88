//! Data directories that real etcd of every series left behind, with what etcd said about each of them.
//!
//! Made once and kept below Cargo's target directory for all test binaries, until a recipe or an etcd changes. Nobody
//! writes there: [`Entry::copy`] is what a test may start or damage.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

use super::etcd::{Etcd, PATIENCE, PEER_URL, SERIES, Start, ask, base64, etcd_of, lasting_address, number};
use super::facts::{Facts, members};

/// The password of user root where authentication is on.
pub(crate) const ROOT: (&str, &str) = ("root", "of a test");

/// A directory and what is known about it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) series: &'static str,
    /// The recipe, and for clusters whose disk it is.
    pub(crate) name: String,
    /// What etcd got as `--data-dir`.
    pub(crate) data_dir: PathBuf,
    pub(crate) facts: Facts,
}

impl Entry {
    /// Series and recipe, for messages.
    pub(crate) fn title(&self) -> String {
        format!("{} {}", self.series, self.name)
    }

    /// A copy that may be damaged; `data` in the guard's directory.
    pub(crate) fn copy(&self) -> (TempDir, PathBuf) {
        let guard = tempfile::tempdir().unwrap();
        let data_dir = guard.path().join("data");
        copy(&self.data_dir, &data_dir);
        (guard, data_dir)
    }

    /// Whether it starts without others: all others wait for a quorum.
    pub(crate) fn is_alone(&self) -> bool {
        !self.name.starts_with("three")
    }
}

/// All of them. The first call makes what is not there.
pub(crate) fn all() -> &'static [Entry] {
    static ALL: OnceLock<Vec<Entry>> = OnceLock::new();
    ALL.get_or_init(|| {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let directory = home.join(format!("corpus-{:016x}", key()));
        fs::create_dir_all(home).unwrap();
        let lock = File::create(home.join("corpus.lock")).unwrap();
        let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error).unwrap();
        if !directory.exists() {
            remove_others(home);
            make(&SERIES, &recipes(), &directory);
        }
        read(&directory)
    })
}

/// The small ones that are committed for the tests that have no etcd (`spec/fixtures/datadir`).
pub(crate) const COMMITTED: [&str; 10] = [
    "3.4-killed",
    "3.4-purged",
    "3.5-bumped",
    "3.5-three-learner",
    "3.5-three-removed",
    "3.5-three-voter",
    "3.6-everything",
    "3.6-fresh",
    "3.7-killed",
    "3.7-restored",
];

/// Makes small copies of [`COMMITTED`] in a new `directory`; etcd starts on each of them and says the same as before.
pub(crate) fn make_committed(directory: &Path) {
    for entry in all() {
        let title = format!("{}-{}", entry.series, entry.name);
        if !COMMITTED.contains(&title.as_str()) {
            continue;
        }
        let place = directory.join(title);
        let data_dir = place.join("data");
        copy(&entry.data_dir, &data_dir);
        shrink(&data_dir);
        let facts = entry.facts.clone().with_status("3.6", &data_dir);
        facts.write(&place.join("facts.json"));
        if entry.is_alone() {
            let kitchen = Kitchen { series: entry.series, directory };
            let started = kitchen.facts_of_copy(&data_dir, facts.auth_enabled);
            let expected = Facts { raft: None, status: None, ..facts };
            assert_eq!(started, expected, "{}", entry.title());
        }
    }
}

/// Everything that decides what is made.
fn key() -> u64 {
    let mut hasher = DefaultHasher::new();
    [include_str!("corpus.rs"), include_str!("facts.rs"), include_str!("etcd.rs")].hash(&mut hasher);
    for series in SERIES {
        fs::canonicalize(etcd_of(series, "etcd")).unwrap().hash(&mut hasher);
    }
    hasher.finish()
}

fn remove_others(home: &Path) {
    for entry in fs::read_dir(home).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap_or_default();
        if name.starts_with("corpus-") {
            fs::remove_dir_all(entry.path()).unwrap();
        }
    }
}

fn read(directory: &Path) -> Vec<Entry> {
    let mut entries: Vec<Entry> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let title = path.file_name().unwrap().to_str().unwrap().to_owned();
            let (series, name) = title.split_once('-').unwrap();
            Entry {
                series: SERIES.into_iter().find(|&known| known == series).unwrap(),
                name: name.to_owned(),
                facts: Facts::read(&path.join("facts.json")),
                data_dir: path.join("data"),
            }
        })
        .collect();
    entries.sort_by_key(Entry::title);
    entries
}

/// Makes a corpus; it appears complete or not at all.
pub(crate) fn make(series: &[&'static str], recipes: &[Recipe], directory: &Path) {
    let work = tempfile::tempdir_in(directory.parent().unwrap()).unwrap();
    thread::scope(|scope| {
        for series in series {
            // Two cooks: some recipes wait for most of their time.
            for half in recipes.chunks(recipes.len().div_ceil(2)) {
                let kitchen = Kitchen { series, directory: work.path() };
                scope.spawn(move || half.iter().for_each(|recipe| kitchen.cook(recipe)));
            }
        }
    });
    fs::rename(work.keep(), directory).unwrap();
}

/// How a directory, or the disks of a cluster, are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recipe {
    name: &'static str,
    make: fn(&Kitchen<'_>),
}

/// Every recipe.
pub(crate) fn recipes() -> Vec<Recipe> {
    let recipe = |name, make| Recipe { name, make };
    vec![
        recipe("three", three),
        recipe("fresh", |kitchen| kitchen.single("fresh", &[], |_| {})),
        recipe("compacted", |kitchen| kitchen.single("compacted", &[], compacted)),
        recipe("defragmented", |kitchen| kitchen.single("defragmented", &[], defragmented)),
        recipe("leases", |kitchen| kitchen.single("leases", &[], leases)),
        recipe("auth", |kitchen| kitchen.single("auth", &[], auth)),
        recipe("alarm", |kitchen| kitchen.single("alarm", &["--quota-backend-bytes", "200000"], alarm)),
        recipe("segments", segments),
        recipe("everything", |kitchen| kitchen.single("everything", &[], everything)),
        recipe("large", |kitchen| kitchen.single("large", &[], large)),
        recipe("killed", killed),
        recipe("restored", restored),
    ]
}

/// Where the recipes of one series are followed.
struct Kitchen<'a> {
    series: &'static str,
    directory: &'a Path,
}

impl Kitchen<'_> {
    fn cook(&self, recipe: &Recipe) {
        (recipe.make)(self);
    }

    fn data_dir(&self, name: &str) -> PathBuf {
        let place = self.directory.join(format!("{}-{name}", self.series));
        fs::create_dir_all(&place).unwrap();
        place.join("data")
    }

    /// Notes the facts, and gives back the space of what etcd only preallocated.
    fn finish(&self, name: &str, facts: Facts) {
        let data_dir = self.data_dir(name);
        make_sparse(&data_dir);
        // 3.6 counts the keys that are there, older ones the revisions: one answer is enough.
        let facts = facts.with_status("3.6", &data_dir);
        facts.write(&data_dir.with_file_name("facts.json"));
    }

    /// A member that is alone, does something and is stopped.
    fn single(&self, name: &str, more: &[&str], work: impl FnOnce(&mut Etcd)) {
        let mut etcd = Etcd::start(&Start::alone(self.series, &self.data_dir(name)).with(more));
        work(&mut etcd);
        let facts = Facts::of(&etcd, &[]).unwrap();
        etcd.stop();
        self.finish(name, facts);
    }

    /// The facts of a directory that nobody may start: of a copy.
    fn facts_of_copy(&self, data_dir: &Path, log_in: bool) -> Facts {
        let guard = tempfile::tempdir().unwrap();
        let copied = guard.path().join("data");
        copy(data_dir, &copied);
        let mut etcd = Etcd::start(&Start::alone(self.series, &copied));
        if log_in {
            etcd.log_in(ROOT.0, ROOT.1).unwrap();
        }
        let facts = Facts::of(&etcd, &[]).unwrap();
        etcd.stop();
        Facts { raft: None, ..facts }
    }
}

/// Keys that come, change and go, some of them in one revision.
fn some_keys(etcd: &Etcd) {
    for number in 0..60 {
        etcd.put(&format!("key/{:02}", number % 20), format!("value {number}").as_bytes());
    }
    for number in [3, 7, 19] {
        etcd.delete(&format!("key/{number:02}"));
    }
    etcd.put("key/07", b"again");
    let put =
        |key: &str| json!({"request_put": {"key": base64(key.as_bytes()), "value": base64(b"together")}});
    etcd.call("kv/txn", &json!({"success": [put("txn/a"), put("txn/b"), put("txn/c")]}));
    etcd.call("kv/deleterange", &json!({"key": base64(b"key/1"), "range_end": base64(b"key/15")}));
}

fn revision(etcd: &Etcd) -> u64 {
    number(&etcd.call("maintenance/status", &json!({}))["header"]["revision"])
}

fn compacted(etcd: &mut Etcd) {
    some_keys(etcd);
    etcd.compact(revision(etcd) - 10);
    some_keys(etcd);
}

fn defragmented(etcd: &mut Etcd) {
    for round in 0..30 {
        etcd.put("large", &vec![b'a' + round; 20_000]);
    }
    compacted(etcd);
    etcd.compact(revision(etcd));
    etcd.call("maintenance/defragment", &json!({}));
    etcd.put("after", b"defragmentation");
}

fn leases(etcd: &mut Etcd) {
    for (id, ttl) in [(7, 3600), (0x7fff_ffff_ffff_fff0_u64, 7200), (1234, 60_000)] {
        etcd.call("lease/grant", &json!({"ID": id.to_string(), "TTL": ttl}));
    }
    for (key, lease) in [("leased/a", 7), ("leased/b", 7), ("leased/c", 1234)] {
        etcd.call(
            "kv/put",
            &json!({"key": base64(key.as_bytes()), "value": base64(b"x"), "lease": lease.to_string()}),
        );
    }
    etcd.call("lease/grant", &json!({"ID": "99", "TTL": 3600}));
    etcd.put("leased/gone", b"x");
    etcd.call("lease/revoke", &json!({"ID": "99"}));
}

fn auth(etcd: &mut Etcd) {
    some_keys(etcd);
    users(etcd);
}

fn users(etcd: &mut Etcd) {
    for (user, password, role) in [(ROOT.0, ROOT.1, "root"), ("reader", "of a test", "reader")] {
        etcd.call("auth/user/add", &json!({"name": user, "password": password}));
        etcd.call("auth/role/add", &json!({"name": role}));
        etcd.call("auth/user/grant", &json!({"user": user, "role": role}));
    }
    let permission = json!({"permType": "READ", "key": base64(b"key/"), "range_end": base64(b"key0")});
    etcd.call("auth/role/grant", &json!({"name": "reader", "perm": permission}));
    etcd.call("auth/enable", &json!({}));
    etcd.log_in(ROOT.0, ROOT.1).unwrap();
}

fn alarm(etcd: &mut Etcd) {
    let deadline = Instant::now() + PATIENCE;
    for number in 0.. {
        assert!(Instant::now() < deadline, "the quota never says no");
        let put = json!({"key": base64(format!("fill/{}", number % 3).as_bytes()), "value": base64(&vec![b'x'; 20_000])});
        if etcd.try_call("kv/put", &put).is_err() {
            break;
        }
    }
}

fn everything(etcd: &mut Etcd) {
    compacted(etcd);
    leases(etcd);
    // Raised by hand: a full database would be a large one.
    let member = etcd.call("maintenance/status", &json!({}))["header"]["member_id"].clone();
    etcd.call("maintenance/alarm", &json!({"action": "ACTIVATE", "memberID": member, "alarm": "NOSPACE"}));
    users(etcd);
}

fn large(etcd: &mut Etcd) {
    for number in 0..6_u8 {
        // Not all of one byte: what is compared should differ from page to page.
        let value: Vec<u8> = (0..1_u32 << 20).map(|at| (at / 1000).to_le_bytes()[0] ^ number).collect();
        etcd.put(&format!("large/{}", number % 4), &value);
    }
}

/// A log of several files beside a small database, and what is left of it after etcd has purged its front.
fn segments(kitchen: &Kitchen<'_>) {
    let data_dir = kitchen.data_dir("segments");
    let etcd = Etcd::start(&Start::alone(kitchen.series, &data_dir).with(&["--snapshot-count", "20"]));
    // It stays in the log and never comes into the database: nobody ever granted that lease.
    let value = vec![b'x'; 1_400_000];
    while listed(&data_dir.join("member/wal"), "wal").len() < 3 {
        etcd.try_etcdctl(&["put", "--lease=404", "large"], &value).expect_err("a lease that nobody granted");
    }
    some_keys(&etcd);
    let facts = Facts::of(&etcd, &[]).unwrap();
    etcd.stop();
    kitchen.finish("segments", facts);

    let purged = kitchen.data_dir("purged");
    copy(&data_dir, &purged);
    let few = ["--snapshot-count", "20", "--max-wals", "1", "--max-snapshots", "1"];
    let etcd = Etcd::start(&Start::alone(kitchen.series, &purged).with(&few));
    let deadline = Instant::now() + PATIENCE;
    while listed(&purged.join("member/wal"), "wal").len() > 1 {
        assert!(Instant::now() < deadline, "nothing is purged:\n{}", etcd.told());
        thread::yield_now();
    }
    let facts = Facts::of(&etcd, &[]).unwrap();
    etcd.stop();
    kitchen.finish("purged", facts);
}

/// Killed while four clients write.
fn killed(kitchen: &Kitchen<'_>) {
    let data_dir = kitchen.data_dir("killed");
    let etcd = Etcd::start(&Start::alone(kitchen.series, &data_dir));
    some_keys(&etcd);
    let over = AtomicBool::new(false);
    let address = etcd.address;
    thread::scope(|scope| {
        let over = &over;
        for writer in 0..4 {
            scope.spawn(move || {
                for number in 0.. {
                    let key = base64(format!("load/{writer}/{}", number % 50).as_bytes());
                    if ask(address, None, "kv/put", &json!({"key": key, "value": key})).is_err() {
                        assert!(over.load(Ordering::Acquire), "etcd at {address} refuses a write");
                        break;
                    }
                }
            });
        }
        while revision(&etcd) < 300 {
            thread::yield_now();
        }
        over.store(true, Ordering::Release);
        etcd.signal(Signal::SIGKILL);
    });
    etcd.ended();
    let facts = kitchen.facts_of_copy(&data_dir, false);
    kitchen.finish("killed", facts);
}

/// The disks of a cluster of three that lost a member and got a learner.
fn three(kitchen: &Kitchen<'_>) {
    let places: Vec<(String, IpAddr, String)> = ["m1", "m2", "m3", "m4"]
        .map(|name| {
            let address = lasting_address();
            (name.to_owned(), address, format!("http://{address}:2380"))
        })
        .into();
    let cluster = |some: &[usize]| {
        let pairs: Vec<_> = some.iter().map(|&at| format!("{}={}", places[at].0, places[at].2)).collect();
        pairs.join(",")
    };
    let disks = ["three-voter", "three-other", "three-removed", "three-learner"];
    let start = |at: usize, cluster: String, state: &str| {
        let (name, address, peer_url) = places[at].clone();
        let more = ["--initial-cluster", &cluster, "--initial-cluster-state", state].map(ToOwned::to_owned);
        let data_dir = kitchen.data_dir(disks[at]);
        Start { series: kitchen.series, name, address, peer_url, data_dir, more: more.into() }
    };

    let mut first: Vec<Etcd> = (0..3).map(|at| Etcd::spawn(&start(at, cluster(&[0, 1, 2]), "new"))).collect();
    for etcd in &mut first {
        etcd.says("ready to serve client requests");
    }
    let removed = first.pop().unwrap();
    some_keys(&first[0]);
    let status = |etcd: &Etcd| etcd.call("maintenance/status", &json!({}));
    let id = |etcd: &Etcd| number(&status(etcd)["header"]["member_id"]);
    let removed_id = id(&removed);
    // What a leader is asked while it is removed may never be answered.
    if number(&status(&removed)["leader"]) == removed_id {
        removed.call("maintenance/transfer-leadership", &json!({"targetID": id(&first[0]).to_string()}));
    }
    // etcd refuses for some seconds: the members must have been connected for that long.
    let deadline = Instant::now() + PATIENCE;
    let insist = |path: &str, request| {
        while let Err(why) = first[0].try_call(path, &request) {
            assert!(Instant::now() < deadline, "{path}: {why}");
            thread::yield_now();
        }
    };
    insist("cluster/member/remove", json!({"ID": removed_id.to_string()}));
    removed.ended();
    insist("cluster/member/add", json!({"peerURLs": [places[3].2], "isLearner": true}));
    let mut learner = Etcd::spawn(&start(3, cluster(&[0, 1, 3]), "existing"));
    learner.says("ready to serve client requests");
    first[0].put("with/learner", b"x");

    let applied = |etcd: &Etcd| number(&status(etcd)["raftAppliedIndex"]);
    let settled = || {
        let named = members(&first[0]).unwrap().iter().all(|member| !member.name.is_empty());
        let at = applied(&first[0]);
        named
            && at == number(&status(&first[0])["raftIndex"])
            && first.iter().all(|etcd| applied(etcd) == at)
            && applied(&learner) == at
    };
    while !settled() {
        assert!(Instant::now() < deadline, "the members never agree:\n{}", learner.told());
        thread::yield_now();
    }
    let facts = Facts::of(&first[0], &[removed_id]).unwrap();
    let learner_id = id(&learner);
    learner.stop();
    kitchen.finish("three-learner", Facts { member_id: learner_id, ..facts.clone() });
    for (etcd, disk) in first.into_iter().zip(disks) {
        let member_id = id(&etcd);
        etcd.stop();
        // Leadership moves when the leader stops: there is another term then.
        kitchen.finish(disk, Facts { member_id, raft: None, ..facts.clone() });
    }
    kitchen.finish("three-removed", facts.of_removed(removed_id));
}

/// As `etcdutl snapshot restore` leaves it; and restored with another revision, then started.
fn restored(kitchen: &Kitchen<'_>) {
    let work = tempfile::tempdir().unwrap();
    let snapshot = work.path().join("snapshot.db");
    let mut etcd = Etcd::start(&Start::alone(kitchen.series, &work.path().join("data")));
    compacted(&mut etcd);
    leases(&mut etcd);
    // It waits until the database is marked with its version.
    Facts::of(&etcd, &[]).unwrap();
    etcd.etcdctl(&["snapshot", "save", snapshot.to_str().unwrap()], b"");
    etcd.stop();

    let data_dir = kitchen.data_dir("restored");
    restore(kitchen.series, &snapshot, &data_dir, &[]);
    let facts = kitchen.facts_of_copy(&data_dir, false);
    kitchen.finish("restored", facts);

    // 3.4 learned it later than the version we have.
    if kitchen.series != "3.4" {
        restore(
            kitchen.series,
            &snapshot,
            &kitchen.data_dir("bumped"),
            &["--bump-revision", "1000", "--mark-compacted"],
        );
        kitchen.single("bumped", &[], |etcd| etcd.put("after", b"restore"));
    }
}

fn restore(series: &str, snapshot: &Path, data_dir: &Path, more: &[&str]) {
    let tool = etcd_of(series, if series == "3.4" { "etcdctl" } else { "etcdutl" });
    let output = Command::new(tool)
        .args(["snapshot", "restore", snapshot.to_str().unwrap(), "--name", "m1", "--data-dir"])
        .arg(data_dir)
        .args(["--initial-cluster", &format!("m1={PEER_URL}"), "--initial-advertise-peer-urls", PEER_URL])
        .args(["--initial-cluster-token", "restored"])
        .args(more)
        .output()
        .expect("the tool starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The files of a directory with this extension, by name.
pub(crate) fn listed(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    files.sort();
    files
}

/// Copies with modes and holes.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let status = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().expect("cp starts");
    assert!(status.success(), "copy {}", from.display());
}

/// Every file below, with its path.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// Makes holes of the zeros at the ends of files: what they contain stays the same.
fn make_sparse(directory: &Path) {
    for path in files(directory) {
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let length = file.metadata().unwrap().len();
        file.set_len(used(&file, length)).unwrap();
        file.set_len(length).unwrap();
    }
}

/// Leaves out what etcd only preallocated: a directory to commit.
fn shrink(data_dir: &Path) {
    for path in files(data_dir) {
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let length = file.metadata().unwrap().len();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("tmp") => fs::remove_file(&path).unwrap(),
            // Some zeros stay: they are how a log ends.
            Some("wal") => {
                file.set_len(length.min(used(&file, length).next_multiple_of(1024) + 1024)).unwrap();
            }
            None => file.set_len(length.min(high_water(&file))).unwrap(),
            Some(_) => {}
        }
    }
}

/// Where the pages of a database end that anybody ever used, as both of its headers have it.
fn high_water(file: &File) -> u64 {
    let number = |offset: u64| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, offset).unwrap();
        u64::from_le_bytes(bytes)
    };
    let page_size = number(16 + 8) & 0xffff_ffff;
    page_size * number(16 + 40).max(number(page_size + 16 + 40))
}

/// Where the zeros at the end of a file begin.
pub(crate) fn used(file: &File, length: u64) -> u64 {
    let mut chunk = vec![0; 1 << 20];
    let mut end = length;
    while end > 0 {
        let from = end.saturating_sub(chunk.len() as u64);
        let bytes = &mut chunk[..usize::try_from(end - from).unwrap()];
        file.read_exact_at(bytes, from).unwrap();
        if let Some(last) = bytes.iter().rposition(|&byte| byte != 0) {
            return from + last as u64 + 1;
        }
        end = from;
    }
    0
}
