//! All of a cluster, or a part of it, into another one; and out of a backup.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use super::content::{access, fill, keys, leases, revision};
use super::etcd::{Etcd, ask, base64};
use super::scene::{Scene, import, refused, succeeded};

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
