//! What ends in the middle: the program, a lease, or the past that is read.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Stdio};

use nix::sys::signal::Signal;
use serde_json::json;

use super::content::{access, fill, keys, leases, put_many, put_with_lease, revision};
use super::etcd::base64;
use super::scene::{Scene, command, eventually, import, refused, signal, succeeded};

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
