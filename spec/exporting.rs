//! Keys that move to another cluster, of whichever version: exported from real etcd at one revision, imported into
//! another, and compared with what the first one answers.

#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]
#![allow(dead_code, reason = "several specs share the support")]
#![allow(clippy::disallowed_methods, reason = "files of a test need no durability")]

#[path = "support/etcd.rs"]
mod etcd;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use etcd::{Etcd, PATIENCE, Start, ask, base64, number};
use etcd_release::etcd::client::EtcdClient;
use etcd_release::etcd::client::keys::Put;
use etcd_release::etcd::connect::Target;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What everything in a test lies in.
struct Scene(TempDir);

impl Scene {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn etcd(&self, series: &'static str, name: &str, more: &[&str]) -> Etcd {
        Etcd::start(&Start::alone(series, &self.0.path().join(name)).with(more))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn export(&self, name: &str, etcd: &Etcd, more: &[&str]) -> (PathBuf, Output) {
        let file = self.file(name);
        let output = command("export", &file, etcd, more).output().unwrap();
        (file, output)
    }

    /// What is there besides the directories of etcd.
    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap().map(Result::unwrap);
        let files = entries.filter(|entry| !entry.file_type().unwrap().is_dir());
        files.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }
}

fn command(what: &str, file: &Path, etcd: &Etcd, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-backup"));
    command.arg(what).arg(file).args(["--etcd", &format!("http://{}:2379", etcd.address)]).args(more);
    command.env_clear().stdin(Stdio::null());
    command
}

fn import(file: &Path, etcd: &Etcd, more: &[&str]) -> Output {
    command("import", file, etcd, more).output().unwrap()
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn refused(output: &Output, code: i32) -> String {
    let told = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{told}{}", String::from_utf8_lossy(&output.stdout));
    assert!(told.contains("\n  why:  ") && told.contains("\n  next: "), "{told}");
    told
}

#[track_caller]
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        thread::park_timeout(Duration::from_millis(20));
    }
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

fn revision(etcd: &Etcd) -> u64 {
    number(&etcd.call("kv/range", &json!({"key": base64(b"x"), "keys_only": true}))["header"]["revision"])
}

/// Value and lease of every key, at a revision (0 = now).
fn keys(etcd: &Etcd, revision: u64) -> BTreeMap<String, (String, u64)> {
    let all = json!({"key": base64(b"\0"), "range_end": base64(b"\0"), "revision": revision});
    let answer = etcd.call("kv/range", &all);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pairs = answer["kvs"].as_array().cloned().unwrap_or_default();
    pairs.iter().map(|pair| (text(&pair["key"]), (text(&pair["value"]), number(&pair["lease"])))).collect()
}

/// The granted time of each lease that keys hang on, and these keys.
fn leases(etcd: &Etcd) -> BTreeMap<u64, (u64, Vec<String>)> {
    let listed = etcd.call("lease/leases", &json!({}));
    let all = listed["leases"].as_array().cloned().unwrap_or_default().into_iter().map(|lease| {
        let told = etcd.call("lease/timetolive", &json!({"ID": lease["ID"], "keys": true}));
        let keys = told["keys"].as_array().cloned().unwrap_or_default();
        let mut keys: Vec<String> = keys.iter().map(|key| key.as_str().unwrap().to_owned()).collect();
        keys.sort();
        (number(&lease["ID"]), (number(&told["grantedTTL"]), keys))
    });
    all.filter(|(_, (_, keys))| !keys.is_empty()).collect()
}

/// Roles with their permissions, and users with their roles. What root may do is etcd's own knowledge: some versions tell
/// it and others do not.
fn access(etcd: &Etcd) -> (BTreeMap<String, Value>, BTreeMap<String, Value>) {
    let names = |what: &str| {
        let listed = etcd.call(&format!("auth/{what}/list"), &json!({}));
        let names = listed[format!("{what}s")].as_array().cloned().unwrap_or_default();
        names.into_iter().map(|name| name.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let role = |name: String| {
        let told = etcd.call("auth/role/get", &json!({"role": name}));
        let permissions = if name == "root" { Value::Null } else { told["perm"].clone() };
        (name, permissions)
    };
    let user = |name: String| {
        let told = etcd.call("auth/user/get", &json!({"name": name}));
        (name, told["roles"].clone())
    };
    (names("role").into_iter().map(role).collect(), names("user").into_iter().map(user).collect())
}

fn put_with_lease(etcd: &Etcd, key: &str, value: &str, lease: u64) {
    let (key, value) = (base64(key.as_bytes()), base64(value.as_bytes()));
    etcd.call("kv/put", &json!({"key": key, "value": value, "lease": lease}));
}

fn put_many(etcd: &Etcd, count: usize, bytes: usize) {
    for hundred in (0..count).step_by(100) {
        let put = |number: usize| {
            let value: Vec<u8> = (0..bytes).map(|at| (number * 7 + at * 13).to_le_bytes()[0]).collect();
            let key = format!("key/{number:05}");
            json!({"request_put": {"key": base64(key.as_bytes()), "value": base64(&value)}})
        };
        let writes: Vec<Value> = (hundred..count.min(hundred + 100)).map(put).collect();
        etcd.call("kv/txn", &json!({"success": writes}));
    }
}

/// Thousands of keys, some that are no text, one of a MiB, leases, roles and users.
fn fill(etcd: &Etcd) {
    put_many(etcd, 4_000, 50);
    etcd.put("empty", b"");
    etcd.put("large", &vec![0xa5; 1 << 20]);
    etcd.call("kv/put", &json!({"key": base64(b"\x01\xff\0"), "value": base64(b"\0\n\xff")}));
    etcd.call("kv/put", &json!({"key": base64(b"\xff\xff"), "value": base64(b"last")}));
    for (lease, seconds) in [(77, 4_000), (i64::MAX as u64, 5_000), (12, 6_000)] {
        etcd.call("lease/grant", &json!({"ID": lease, "TTL": seconds}));
    }
    put_with_lease(etcd, "leased/a", "1", 77);
    put_with_lease(etcd, "leased/b", "2", 77);
    put_with_lease(etcd, "leased/c", "3", i64::MAX as u64);
    etcd.delete("key/00007");
    for (role, key, end, kind) in [
        ("reader", &b"key/"[..], &b"key0"[..], "READ"),
        ("reader", b"one", b"", "READ"),
        ("writer", b"\0", b"\0", "READWRITE"),
    ] {
        // It may be there.
        let _ = etcd.try_call("auth/role/add", &json!({"name": role}));
        let grant = json!({"permType": kind, "key": base64(key), "range_end": base64(end)});
        etcd.call("auth/role/grant", &json!({"name": role, "perm": grant}));
    }
    for (user, roles) in [("root", &["root"][..]), ("app", &["reader", "writer"]), ("nobody", &[])] {
        etcd.call("auth/user/add", &json!({"name": user, "password": "of-a-test"}));
        for role in roles {
            if *role == "root" {
                let _ = etcd.try_call("auth/role/add", &json!({"name": role}));
            }
            etcd.call("auth/user/grant", &json!({"user": user, "role": role}));
        }
    }
}

/// Overwrites keys as fast as it can while `act` goes on.
fn while_written<T>(etcd: &Etcd, act: impl FnOnce() -> T) -> T {
    static STOP: AtomicBool = AtomicBool::new(false);
    let address = etcd.address;
    let writer = thread::spawn(move || {
        let mut written = 0_usize;
        while !STOP.load(Ordering::Relaxed) {
            // From the end on: a page that is not of its revision shows.
            let key = format!("key/{:05}", 3_999 - written % 4_000);
            let put = json!({"key": base64(key.as_bytes()), "value": base64(written.to_string().as_bytes())});
            ask(address, None, "kv/put", &put).unwrap();
            written += 1;
        }
        written
    });
    let done = act();
    STOP.store(true, Ordering::Relaxed);
    assert!(writer.join().unwrap() > 10);
    done
}

#[test]
fn everything_moves_from_3_4_to_3_7_while_somebody_writes() {
    let scene = Scene::new();
    let from = scene.etcd("3.4", "from", &[]);
    fill(&from);

    let (file, output) = while_written(&from, || scene.export("keys", &from, &["--progress", "json"]));

    let told = succeeded(&output);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(scene.files(), ["keys"]);
    let progress = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(progress.contains(r#""of":4006,"unit":"keys""#), "{progress}");
    assert!(progress.contains("etcd tells nobody the passwords"), "{progress}");
    assert!(!progress.contains("authentication is on"), "{progress}");
    let text = std::fs::read_to_string(&file).unwrap();
    let head: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let exported = head["revision"].as_u64().unwrap();
    assert!(told.contains(&format!("4006 keys at revision {exported} of cluster")), "{told}");
    assert!(exported < revision(&from));
    let wanted = keys(&from, exported);
    assert_eq!(wanted.len(), 4_006);

    let to = scene.etcd("3.7", "to", &[]);
    let output = import(&file, &to, &[]);

    let told = succeeded(&output);
    assert!(told.contains("4006 keys written into cluster"), "{told}");
    assert!(told.contains("passwords none yet for"), "{told}");
    assert_eq!(keys(&to, 0), wanted);
    let moved = leases(&to);
    assert_eq!(moved.keys().collect::<Vec<_>>(), [&77, &(i64::MAX as u64)]);
    assert_eq!(moved, leases(&from));
    assert_eq!(access(&to), access(&from));

    // Once more: nobody means that by accident, and then it changes nothing.
    let before = revision(&to);
    let told = refused(&import(&file, &to, &[]), 3);
    assert!(told.contains("has 4006 keys") && told.contains(r#""\x01\xff\x00""#), "{told}");
    let told = succeeded(&import(&file, &to, &["--into-existing"]));
    assert!(told.contains("0 keys written") && told.contains("4006 were there"), "{told}");
    assert_eq!(revision(&to), before);
    assert_eq!(leases(&to), moved);
    // Nor is a file written over.
    let (_, output) = scene.export("keys", &from, &[]);
    refused(&output, 3);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn and_back_to_an_older_version() {
    let scene = Scene::new();
    let from = scene.etcd("3.7", "from", &[]);
    fill(&from);
    let (file, output) = scene.export("keys", &from, &[]);
    succeeded(&output);
    // One that takes less at once than others.
    let to = scene.etcd("3.4", "to", &["--max-txn-ops", "50"]);

    succeeded(&import(&file, &to, &[]));

    assert_eq!(keys(&to, 0), keys(&from, 0));
    assert_eq!(leases(&to), leases(&from));
    assert_eq!(access(&to), access(&from));
}

#[test]
fn an_import_that_was_killed_goes_on() {
    let scene = Scene::new();
    let from = scene.etcd("3.6", "from", &[]);
    fill(&from);
    let (file, output) = scene.export("keys", &from, &[]);
    succeeded(&output);
    let to = scene.etcd("3.6", "to", &[]);
    // Somebody else has a lease of that name; the other one is as a killed import leaves it, granted and not yet used.
    to.call("lease/grant", &json!({"ID": 77, "TTL": 9_000}));
    to.call("lease/grant", &json!({"ID": i64::MAX, "TTL": 5_000}));
    let killed = |place: &str, more: &[&str]| {
        let mut command = command("import", &file, &to, more);
        let output = command.env("ETCD_TOOLS_FAIL_POINT", place).output().unwrap();
        assert_eq!(output.status.signal(), Some(9), "{}", String::from_utf8_lossy(&output.stderr));
        keys(&to, 0).len()
    };

    let first = killed("import:batch-written", &[]);
    assert!(first > 0 && first < 4_006, "{first}");
    let told = refused(&import(&file, &to, &[]), 3);
    assert!(told.contains("--into-existing"), "{told}");
    let second = killed("import:batch-written", &["--into-existing"]);
    assert!(second > first && second < 4_006, "{second} after {first}");
    // All keys, no user yet.
    assert_eq!(killed("import:written", &["--into-existing"]), 4_006);
    assert!(access(&to).1.is_empty());
    let there = leases(&to);
    let told = succeeded(&import(&file, &to, &["--into-existing"]));

    assert!(told.contains("0 keys written") && told.contains("4d was taken: its keys hang on"), "{told}");
    // A lease that had to be called otherwise is so for all of its keys, and not granted again.
    assert_eq!(leases(&to), there);
    let renamed = there.iter().find(|(_, (seconds, _))| *seconds == 4_000).unwrap();
    assert_eq!(renamed.1.1.len(), 2);
    let by_name = |keys: BTreeMap<String, (String, u64)>| {
        keys.into_iter()
            .map(|(key, (value, lease))| (key, value, if lease == *renamed.0 { 77 } else { lease }))
            .collect::<Vec<_>>()
    };
    assert_eq!(by_name(keys(&to, 0)), by_name(keys(&from, 0)));
    assert_eq!(access(&to), access(&from));
}

#[test]
fn what_differs_is_refused_unless_it_is_said_which_is_right() {
    let scene = Scene::new();
    let from = scene.etcd("3.6", "from", &[]);
    let to = scene.etcd("3.6", "to", &[]);
    from.put("a/differs", b"ours");
    from.put("a/new", b"1");
    from.put("a/same", b"1");
    from.call("lease/grant", &json!({"ID": 5, "TTL": 4_000}));
    put_with_lease(&from, "a/leased", "1", 5);
    from.call("auth/role/add", &json!({"name": "r"}));
    for etcd in [&from, &to] {
        etcd.call("auth/user/add", &json!({"name": "u", "password": "of-a-test"}));
    }
    to.call("auth/role/add", &json!({"name": "more"}));
    to.call("auth/user/grant", &json!({"user": "u", "role": "more"}));
    to.put("a/differs", b"theirs");
    to.put("a/leased", b"1");
    to.put("a/same", b"1");
    to.put("b/others", b"1");
    let (file, output) = scene.export("keys", &from, &[]);
    succeeded(&output);
    let before = (keys(&to, 0), access(&to), revision(&to));

    let told = refused(&import(&file, &to, &["--into-existing"]), 3);
    assert!(told.contains("3 keys, roles or users"), "{told}");
    assert!(told.contains(r#"user u, "a/differs", "a/leased""#), "{told}");
    assert_eq!((keys(&to, 0), access(&to), revision(&to)), before);

    let told = succeeded(&import(&file, &to, &["--into-existing", "--on-conflict", "keep"]));
    assert!(
        told.contains("1 keys written") && told.contains("2 keys that differ are as they were"),
        "{told}"
    );
    let kept = keys(&to, 0);
    assert_eq!(kept[&base64(b"a/differs")], (base64(b"theirs"), 0));
    assert_eq!(access(&to).1, before.1.1);

    succeeded(&import(&file, &to, &["--into-existing", "--on-conflict", "overwrite"]));
    let mut wanted = keys(&from, 0);
    wanted.insert(base64(b"b/others"), (base64(b"1"), 0));
    assert_eq!(keys(&to, 0), wanted);
    assert_eq!(access(&to).1["u"], Value::Null);
}

/// An import writes on condition that nobody else has: all of a transaction, or nothing of it.
#[test]
fn a_transaction_does_nothing_where_somebody_else_has_written() {
    let scene = Scene::new();
    let etcd = scene.etcd("3.6", "etcd", &[]);
    etcd.put("b", b"1");
    let seen = i64::try_from(revision(&etcd)).unwrap();
    let put = |key: &str, seen| Put { key: key.into(), value: b"ours".to_vec(), lease: 0, seen };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let target = Target::named(&etcd.address.to_string(), 2379);
        let mut client = EtcdClient::connect_plain(&target, PATIENCE).await.unwrap();
        let (absent, there) = (put("a", 0), put("b", seen));

        for wrong in [put("b", 0), put("b", seen - 1), put("c", seen)] {
            assert!(!client.put_all(&[&absent, &wrong]).await.unwrap(), "{wrong:?}");
        }
        assert_eq!(keys(&etcd, 0), BTreeMap::from([(base64(b"b"), (base64(b"1"), 0))]));
        assert!(client.put_all(&[&absent, &there]).await.unwrap());
        assert!(!client.put_all(&[&absent, &there]).await.unwrap());
    });
    assert_eq!(keys(&etcd, 0).values().filter(|(value, _)| *value == base64(b"ours")).count(), 2);
}

#[test]
fn a_part_is_moved_and_renamed() {
    let scene = Scene::new();
    let (from, to) = (scene.etcd("3.5", "from", &[]), scene.etcd("3.6", "to", &[]));
    for key in ["a", "app/1", "app/2", "app0", "b"] {
        from.put(key, key.as_bytes());
    }
    from.call("auth/user/add", &json!({"name": "u", "password": "of-a-test"}));
    to.put("z", b"z");
    let (file, output) = scene.export("keys", &from, &["--prefix", "app/"]);
    assert!(succeeded(&output).contains("2 keys at revision"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("users and roles are not in it"));

    // Keys elsewhere are in nobody's way.
    succeeded(&import(&file, &to, &[]));
    succeeded(&import(&file, &to, &["--prefix", "app/2", "--as", "other/"]));

    let wanted = [("app/1", "app/1"), ("app/2", "app/2"), ("other/", "app/2"), ("z", "z")];
    let wanted = wanted.map(|(key, value)| (base64(key.as_bytes()), (base64(value.as_bytes()), 0)));
    assert_eq!(keys(&to, 0), BTreeMap::from(wanted));
    assert!(access(&to).1.is_empty());
}

#[test]
fn a_backup_is_exported_as_the_cluster_would_have_been() {
    for series in ["3.4", "3.7"] {
        let scene = Scene::new();
        let from = scene.etcd(series, "from", &[]);
        fill(&from);
        from.delete("one");
        from.compact(revision(&from) - 10);
        from.put("key/00001", b"new");
        let (live, output) = scene.export("live", &from, &[]);
        succeeded(&output);
        let store = format!("file://{}", scene.file("store").display());
        let backup = |args: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-backup"));
            command.args(args).args(["--store", &store]).env_clear().stdin(Stdio::null()).output().unwrap()
        };
        succeeded(&backup(&["save", "--etcd", &format!("http://{}:2379", from.address)]));
        from.stop();

        let stored = scene.file("stored");
        let told = succeeded(&backup(&["export", stored.to_str().unwrap(), "--to", "latest"]));

        assert!(told.contains("4006 keys at revision"), "{told}");
        // But for when they were written, and what root may do, which is etcd's own knowledge.
        let lines = |file: &Path| {
            let text = std::fs::read_to_string(file).unwrap();
            let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let mut lines: Vec<Value> = lines.collect();
            lines[0]["begun"] = Value::Null;
            for line in &mut lines {
                if line["role"]["name"] == "root" {
                    line["role"]["permissions"] = Value::Null;
                }
            }
            lines.pop();
            lines
        };
        assert!(lines(&stored) == lines(&live), "{series}");
        let mut files = scene.files();
        files.sort();
        assert_eq!(files, ["live", "stored"]);
        let part = succeeded(&backup(&["export", "-", "--to", "latest", "--prefix", "leased/"]));
        assert_eq!(part.lines().filter(|line| line.starts_with("{\"key\":")).count(), 3);
        // A store without a point, or a point beside a cluster: nobody knows which is meant.
        refused(&backup(&["export", "-"]), 3);
        refused(&backup(&["export", "-", "--to", "latest", "--etcd", "http://127.0.0.1:1"]), 3);
    }
}

#[test]
fn an_export_of_a_revision_that_is_compacted_meanwhile_says_run_it_again() {
    let scene = Scene::new();
    let from = scene.etcd("3.6", "from", &[]);
    put_many(&from, 8_000, 2_000);
    let mut command = command("export", Path::new("-"), &from, &["--progress", "none"]);
    let mut export = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It has read some pages now, and waits for us: the pipe is full.
    let mut lines = BufReader::with_capacity(1_000, export.stdout.take().unwrap());
    let mut head = String::new();
    lines.read_line(&mut head).unwrap();
    assert!(head.contains("\"etcd-export\""), "{head}");
    from.put("later", b"1");

    from.compact(revision(&from));

    let mut rest = Vec::new();
    lines.read_to_end(&mut rest).unwrap();
    let told = refused(&export.wait_with_output().unwrap(), 4);
    assert!(told.contains("was compacted while its keys were read"), "{told}");
    assert!(told.contains("run it again"), "{told}");
    // What came out is taken for nothing whole.
    let half = scene.file("half");
    std::fs::write(&half, [head.as_bytes(), &rest].concat()).unwrap();
    let to = scene.etcd("3.6", "to", &[]);
    let told = refused(&import(&half, &to, &[]), 3);
    assert!(told.contains("it is cut off behind line"), "{told}");
    assert_eq!(revision(&to), 1);
    // Run again, it works.
    let (file, output) = scene.export("keys", &from, &[]);
    succeeded(&output);
    succeeded(&import(&file, &to, &[]));
    assert_eq!(keys(&to, 0), keys(&from, 0));
}

/// A CA, a server's certificate for this address and those of two users, as files in a directory.
fn certificates(directory: &Path, address: std::net::IpAddr) {
    let key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(vec![]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = ca.self_signed(&key).unwrap();
    let issuer = Issuer::new(ca, key);
    std::fs::write(directory.join("ca.crt"), certificate.pem()).unwrap();
    for name in ["server", "root", "app"] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![address.to_string()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &issuer).unwrap();
        std::fs::write(directory.join(format!("{name}.crt")), certificate.pem()).unwrap();
        std::fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

#[test]
fn with_authentication_on_the_administrator_exports_everything_and_others_what_they_may() {
    for series in ["3.4", "3.7"] {
        let scene = Scene::new();
        let directory = scene.file("certificates");
        std::fs::create_dir(&directory).unwrap();
        let start = Start::alone(series, &scene.file("from"));
        certificates(&directory, start.address);
        let file = |name: &str| directory.join(name).to_str().unwrap().to_owned();
        let secure = format!("https://{}:2381", start.address);
        let listen = format!("http://{}:2379,{secure}", start.address);
        let from = Etcd::start(&start.with(&[
            "--listen-client-urls",
            &listen,
            "--client-cert-auth",
            "--trusted-ca-file",
            &file("ca.crt"),
            "--cert-file",
            &file("server.crt"),
            "--key-file",
            &file("server.key"),
        ]));
        from.put("key/1", b"1");
        from.put("key/2", b"2");
        from.put("other", b"3");
        from.call("auth/role/add", &json!({"name": "root"}));
        let grant = json!({"permType": "READ", "key": base64(b"key/"), "range_end": base64(b"key0")});
        from.call("auth/role/add", &json!({"name": "reader"}));
        from.call("auth/role/grant", &json!({"name": "reader", "perm": grant}));
        for (user, role) in [("root", "root"), ("app", "reader")] {
            from.call("auth/user/add", &json!({"name": user, "password": "of-a-test"}));
            from.call("auth/user/grant", &json!({"user": user, "role": role}));
        }
        let wanted = (keys(&from, 0), access(&from));
        from.call("auth/enable", &json!({}));
        let export = |name: &str, user: &str, more: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-backup"));
            command.arg("export").arg(scene.file(name)).args(["--etcd", &secure]).args(more);
            command.args(["--etcd-cacert", &file("ca.crt")]);
            command.args(["--etcd-cert", &file(&format!("{user}.crt"))]);
            command.args(["--etcd-key", &file(&format!("{user}.key"))]);
            let output = command.env_clear().stdin(Stdio::null()).output().unwrap();
            (scene.file(name), output)
        };

        let told = refused(&export("nothing", "app", &[]).1, 3);
        assert!(told.contains("--prefix"), "{told}");
        assert!(!scene.file("nothing").exists());
        let (_, output) = export("part", "app", &["--prefix", "key/"]);
        assert!(succeeded(&output).contains("2 keys at revision"), "{series}");
        let (exported, output) = export("all", "root", &[]);
        succeeded(&output);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains("authentication is on"), "{told}");

        let to = scene.etcd("3.6", "to", &[]);
        let told = succeeded(&import(&exported, &to, &[]));
        assert!(told.contains("`etcdctl auth enable` turns it on here"), "{told}");
        assert_eq!((keys(&to, 0), access(&to)), wanted);
        // A user without a password is known by certificate.
        to.call("auth/enable", &json!({}));
    }
}

#[test]
fn a_key_that_the_other_cluster_does_not_take_is_named() {
    let scene = Scene::new();
    let from = scene.etcd("3.6", "from", &["--max-request-bytes", "4194304"]);
    from.put("a", b"1");
    from.put("larger", &vec![1; 3 << 20]);
    from.put("z", b"1");
    // As large as a write can be, and so too large for a transaction, which names the key twice.
    let key = base64(&[b'x'; 60]);
    let fits = (1..100)
        .map(|less| (4 << 20) - 8 * less)
        .find(|size| from.try_call("kv/put", &json!({"key": key, "value": base64(&vec![1; *size])})).is_ok());
    // A number in each request takes a byte more or less.
    from.call("kv/put", &json!({"key": key, "value": base64(&vec![1; fits.unwrap() - 8])}));
    let (file, output) = scene.export("keys", &from, &[]);
    succeeded(&output);
    let to = scene.etcd("3.7", "to", &[]);

    let told = refused(&import(&file, &to, &[]), 3);

    assert!(told.contains(r#"does not take key "larger": its value has 3145728 bytes"#), "{told}");
    assert!(told.contains("max_request_bytes") && told.contains("--into-existing"), "{told}");
    let to = scene.etcd("3.7", "larger", &["--max-request-bytes", "4194304"]);
    succeeded(&import(&file, &to, &[]));
    assert_eq!(keys(&to, 0), keys(&from, 0));
}

#[test]
fn a_lease_that_ends_during_the_import_takes_its_keys_with_it_and_that_is_told() {
    let scene = Scene::new();
    let from = scene.etcd("3.6", "from", &[]);
    put_many(&from, 8_000, 2_000);
    from.call("lease/grant", &json!({"ID": 5, "TTL": 5}));
    put_with_lease(&from, "a/leased", "1", 5);
    put_with_lease(&from, "z/leased", "1", 5);
    let (file, output) = scene.export("keys", &from, &[]);
    succeeded(&output);
    let to = scene.etcd("3.6", "to", &[]);
    let mut command = command("import", &file, &to, &[]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Held while it still writes the others, for as long as the lease lasts.
    // Only this key is asked for: reading all of them takes longer than the lease lasts, on a busy machine.
    let leased = || to.call("kv/range", &json!({"key": base64(b"a/leased")})).get("kvs").is_some();
    eventually("the first key is there", || leased().then_some(()));
    signal(&child, Signal::SIGSTOP);
    eventually("its lease ends", || (!leased()).then_some(()));
    signal(&child, Signal::SIGCONT);

    let told = succeeded(&child.wait_with_output().unwrap());

    // For the key at the end it was granted once more.
    assert!(told.contains("8002 keys written") && told.contains("2 granted"), "{told}");
    // On a slow machine that one ends as well.
    let expired = |count: u32| told.contains(&format!("expired   {count} keys, with their leases"));
    assert!(expired(1) || expired(2), "{told}");
    // Once more: the lease is granted anew, its time begins when it is imported.
    let told = succeeded(&import(&file, &to, &["--into-existing"]));
    assert!(["8000 were there", "8001 were there"].iter().any(|text| told.contains(text)), "{told}");
    assert!(leased());
}

#[test]
fn an_export_that_is_ended_or_killed_leaves_nothing_for_long() {
    let scene = Scene::new();
    let from = scene.etcd("3.6", "from", &[]);
    from.put("a", b"1");
    let (file, hidden) = (scene.file("keys"), scene.file(".keys.etcd-export"));
    let begun = || {
        from.signal(Signal::SIGSTOP);
        let mut command = command("export", &file, &from, &[]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        eventually("it has begun", || hidden.exists().then_some(()));
        child
    };
    for (by, code, name) in [(Signal::SIGINT, 130, "SIGINT"), (Signal::SIGTERM, 143, "SIGTERM")] {
        // Its handler may not be there yet when the file is: it is ended by the signal itself then, and leaves the file.
        let export = begun();
        eventually("it listens to signals", || catches(&export, by).then_some(()));
        signal(&export, by);
        let output = export.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(told.contains(name), "{told}");
        assert_eq!(scene.files(), Vec::<String>::new());
        from.signal(Signal::SIGCONT);
    }

    let mut export = begun();
    export.kill().unwrap();
    export.wait().unwrap();
    from.signal(Signal::SIGCONT);
    assert_eq!(scene.files(), [".keys.etcd-export"]);
    let (_, output) = scene.export("keys", &from, &[]);
    succeeded(&output);
    assert_eq!(scene.files(), ["keys"]);
}

/// Whether a process has a handler for a signal, as the kernel tells.
fn catches(child: &Child, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() & (1 << (signal as u64 - 1)) != 0
}
