//! Objects in a store: files, and S3 over a wire that breaks.

#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]
#![allow(missing_docs, unreachable_pub, reason = "a test target has no public items")]
#![allow(clippy::disallowed_methods, reason = "damage is written as it would be found")]

#[path = "support/s3.rs"]
mod s3;
#[path = "support/wire.rs"]
#[allow(dead_code, reason = "not each kind of fault is tried here")]
mod wire;

use std::io::Read;
use std::path::Path;
use std::process::{Command, Output};

use bytes::Bytes;
use etcd_release::backup::catalog::{Catalog, catalog};
use etcd_release::backup::codec::{CodecError, Content, Keys, Packing, Recipients, content, pack};
use etcd_release::backup::config::StoreConfig;
use etcd_release::backup::layout::{self, SetId};
use etcd_release::backup::manifest::{Cluster, Compression, Full, Object, Revisions, VERSION};
use etcd_release::backup::seal::sealed;
use etcd_release::backup::store::{Failure, PART_BYTES, Piece, Store};
use tokio::sync::mpsc;

use s3::{KEY, S3, SECRET};
use wire::{Fault, Wire};

/// Neither all the same nor all different, and compression does not make little of it.
fn some(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_be_bytes()[3]
        })
        .collect()
}

fn packing(compression: Compression) -> Packing {
    Packing { compression, recipients: Recipients::default(), bytes_per_second: None }
}

/// Packs `bytes` under a name.
async fn put(store: &Store, name: &str, bytes: &[u8]) -> Result<Object, CodecError> {
    let (sender, receiver) = mpsc::channel(4);
    let pieces: Vec<Piece> =
        bytes.chunks(1 << 20).map(|chunk| Piece::Data(Bytes::copy_from_slice(chunk))).collect();
    let sending = async move {
        for piece in pieces.into_iter().chain([Piece::End]) {
            if sender.send(piece).await.is_err() {
                break;
            }
        }
    };
    let name = name.to_owned();
    let compression = packing(Compression::None);
    let (packed, ()) =
        tokio::join!(pack(store, |suffix| format!("{name}{suffix}"), &compression, receiver), sending);
    packed.map(|object| object.expect("all of it was sent"))
}

async fn get(store: &Store, object: &Object) -> Result<Vec<u8>, CodecError> {
    let mut content = content(store, object, &Keys::default()).await?;
    let object = object.clone();
    tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).map_err(|error| Content::error(&object, &error))?;
        Ok(bytes)
    })
    .await
    .unwrap()
}

/// A set without any etcd: objects are only bytes here.
async fn put_set(store: &Store, bytes: &[u8], random: u8) -> SetId {
    let set = SetId::new(jiff::Timestamp::now(), [0, 0, 0, random]);
    let object = put(store, &layout::full_object(&set, ""), bytes).await.unwrap();
    let full = Full {
        version: VERSION,
        set: set.clone(),
        cluster: Cluster {
            id: "cdf818194e3a8c32".parse().unwrap(),
            deployment: None,
            etcd: "3.6.16".to_owned(),
            member: "8e9e05c52164694d".parse().unwrap(),
            members: vec![],
            properties: std::collections::BTreeMap::new(),
        },
        revisions: Revisions { compacted: 0, last: 4711 },
        begun: jiff::Timestamp::now(),
        ended: jiff::Timestamp::now(),
        hash: None,
        keys: None,
        object,
        written_by: "a specification".to_owned(),
    };
    let manifest = sealed(&full);
    store.put_new(&layout::full_manifest(&set), manifest).await.unwrap();
    set
}

fn files(directory: &Path) -> StoreConfig {
    StoreConfig { url: format!("file://{}", directory.display()), ..StoreConfig::default() }
}

/// `etcd-backup`, as somebody with credentials in the environment types it.
fn etcd_backup(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_etcd-backup"))
        .args(args)
        .env("AWS_ACCESS_KEY_ID", KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .env("AWS_REGION", "us-east-1")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(!text.contains(SECRET), "a secret in what is printed: {text}");
    text
}

#[tokio::test]
async fn objects_of_any_size_go_to_s3_and_come_back_and_none_is_overwritten() {
    let Some(s3) = S3::start() else { return };
    let store = Store::open(&S3::config("a/b", s3.address())).unwrap();

    for bytes in [0, 100, PART_BYTES, 2 * PART_BYTES + 1] {
        let given = some(bytes);
        let object = put(&store, &format!("v1/{bytes}"), &given).await.unwrap();
        assert!(get(&store, &object).await.unwrap() == given, "{bytes}");
    }
    let listed: Vec<_> =
        store.list("v1").await.unwrap().into_iter().map(|one| (one.name, one.bytes)).collect();
    assert_eq!(listed.len(), 4);
    assert!(listed.contains(&(format!("v1/{PART_BYTES}"), PART_BYTES as u64)), "{listed:?}");

    let again = store.put_new("v1/100", Bytes::from_static(b"other")).await.unwrap_err();
    assert_eq!(again.failure, Failure::Exists, "{again}");
    assert!(store.read_small("v1/100", 1000).await.unwrap() == some(100));
}

/// Nothing that was interrupted may look like something that was not.
#[tokio::test]
async fn a_wire_that_breaks_leaves_an_object_whole_or_not_there() {
    let Some(s3) = S3::start() else { return };
    let wire = Wire::to(s3.address());
    let straight = Store::open(&S3::config("x", s3.address())).unwrap();
    let given = some(2 * PART_BYTES + 1000);
    let mut failures = 0;
    for (number, (fault, connections)) in [
        (Fault::Refused, 2),
        (Fault::Status(503), 2),
        (Fault::Status(500), 1),
        (Fault::RequestCut(100), 1),
        (Fault::RequestCut(PART_BYTES / 2), 2),
        (Fault::RequestCut(PART_BYTES + 2000), 1),
        (Fault::AnswerCut(1), 2),
        (Fault::AnswerCut(200), 1),
        // It does not come back in time.
        (Fault::Refused, usize::MAX),
        (Fault::RequestCut(1 << 20), usize::MAX),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("v1/{number}");
        let store = Store::open(&S3::config("x", wire.address())).unwrap();
        wire.breaks(fault, connections);

        let put = put(&store, &name, &given).await;

        let there: Vec<_> =
            straight.list("v1").await.unwrap().into_iter().filter(|one| one.name == name).collect();
        match put {
            Ok(object) => assert!(get(&straight, &object).await.unwrap() == given, "{fault:?}"),
            Err(error) => {
                failures += 1;
                assert!(error.to_string().contains(&name), "{error}");
                // Its last answer may have been lost: then it is there, and whole.
                assert!(there.iter().all(|one| one.bytes == given.len() as u64), "{fault:?}: {there:?}");
            }
        }
        wire.breaks(Fault::None, 0);
    }
    assert!(failures >= 2, "the wires that stay broken are told: {failures}");

    // It is the same store afterwards.
    let store = Store::open(&S3::config("x", wire.address())).unwrap();
    let object = put(&store, "v1/afterwards", &given).await.unwrap();
    assert!(get(&store, &object).await.unwrap() == given);
}

#[tokio::test]
async fn what_is_read_over_a_wire_that_breaks_is_right_or_an_error() {
    let Some(s3) = S3::start() else { return };
    let wire = Wire::to(s3.address());
    let store = Store::open(&S3::config("x", wire.address())).unwrap();
    let given = some(3 << 20);
    let object = put(&store, "v1/object", &given).await.unwrap();
    let mut right = 0;
    for (fault, connections) in [
        (Fault::AnswerCut(1000), 1),
        (Fault::AnswerCut(1 << 20), 1),
        (Fault::AnswerCut(1 << 20), 3),
        (Fault::AnswerCut(1 << 20), usize::MAX),
        (Fault::Status(503), 2),
        (Fault::Refused, 2),
    ] {
        wire.breaks(fault, connections);
        match get(&store, &object).await {
            Ok(read) => {
                right += 1;
                assert!(read == given, "{fault:?}");
            }
            Err(error) => assert!(error.to_string().contains("v1/object"), "{fault:?}: {error}"),
        }
        wire.breaks(Fault::None, 0);
    }
    assert!(right >= 3, "what breaks once is tried again: {right}");
}

#[tokio::test]
async fn sets_are_copied_listed_shown_and_pruned_by_whoever_has_the_url() {
    let Some(s3) = S3::start() else { return };
    let directory = tempfile::tempdir().unwrap();
    let here = files(directory.path());
    let store = Store::open(&here).unwrap();
    let first = put_set(&store, &some(PART_BYTES + 7), 1).await;
    let second = put_set(&store, &some(10), 2).await;
    let endpoint = format!("http://{}", s3.address());
    let there = ["--store", "s3://bucket/copy", "--endpoint", &endpoint, "--path-style"];

    // Into S3 by a file like the job's, as `copy` takes no other credentials for the other side.
    let job = directory.path().join("job.json");
    let properties = serde_json::json!({"properties": {
        "store.url": "s3://bucket/copy", "store.endpoint": endpoint, "store.path_style": true,
        "store.region": "us-east-1", "store.access_key_id": KEY, "store.secret_access_key": SECRET,
    }});
    std::fs::write(&job, properties.to_string()).unwrap();
    let copied =
        etcd_backup(&["copy", "--all", "--store", &here.url, "--to-job-config", job.to_str().unwrap()]);
    assert!(
        stdout(&copied).starts_with("2 objects, 5.00 MiB, copied to s3://bucket/copy"),
        "{}",
        stdout(&copied)
    );

    let listed = stdout(&etcd_backup(&[&["list"], &there[..]].concat()));
    assert!(listed.contains(first.as_str()) && listed.contains(second.as_str()), "{listed}");
    let json: serde_json::Value = serde_json::from_str(&stdout(&etcd_backup(&[
        "list",
        "--json",
        "--job-config",
        job.to_str().unwrap(),
    ])))
    .unwrap();
    assert_eq!(json["sets"].as_array().unwrap().len(), 2, "{json}");
    assert_eq!(json["sets"][0]["last_revision"], 4711, "{json}");
    let shown = stdout(&etcd_backup(&[&["show", first.as_str()], &there[..]].concat()));
    assert!(shown.contains("4711 to 4711 can be restored"), "{shown}");

    let asked = stdout(&etcd_backup(&[&["prune", "--dry-run", "--keep-last", "1"], &there[..]].concat()));
    assert!(asked.contains("1 sets would go"), "{asked}");
    let pruned = stdout(&etcd_backup(&[&["prune", "--keep-last", "1"], &there[..]].concat()));
    assert!(pruned.contains("1 sets removed"), "{pruned}");
    let over_there = Store::open(&S3::config("copy", s3.address())).unwrap();
    let Catalog { sets, unfinished, .. } = catalog(&over_there).await.unwrap();
    assert_eq!((sets.len(), unfinished.len()), (1, 0));
    assert_eq!(catalog(&store).await.unwrap().sets.len(), 2, "the other store has both");
}

#[tokio::test]
async fn a_set_that_cannot_be_copied_is_named_and_holds_nobody_back() {
    let directory = tempfile::tempdir().unwrap();
    let here = files(&directory.path().join("here"));
    let there = format!("file://{}", directory.path().join("there").display());
    let store = Store::open(&here).unwrap();
    let mut sets = Vec::new();
    for number in 1..=5 {
        sets.push(put_set(&store, &some(10 + number), u8::try_from(number).unwrap()).await);
    }
    let [whole, cut, changed, unread, newest] = &sets[..] else { unreachable!() };
    let object = |set: &SetId| directory.path().join("here").join(format!("v1/{set}/full.db"));
    std::fs::write(object(cut), b"short").unwrap();
    let mut bytes = std::fs::read(object(changed)).unwrap();
    bytes[3] ^= 1;
    std::fs::write(object(changed), bytes).unwrap();
    std::fs::write(object(unread).with_file_name("full.json"), b"{}").unwrap();

    let copied = etcd_backup(&["copy", "--all", "--store", &here.url, "--to", &there]);

    let text = stderr(&copied);
    assert_eq!(copied.status.code(), Some(1), "{text}");
    assert!(text.contains("3 sets were not copied"), "{text}");
    for set in [cut, changed, unread] {
        assert!(text.contains(&format!("- {set}: ")), "{set}: {text}");
    }
    let other = Store::open(&StoreConfig { url: there.clone(), ..StoreConfig::default() }).unwrap();
    let arrived: Vec<SetId> =
        catalog(&other).await.unwrap().sets.iter().map(|entry| entry.set().clone()).collect();
    assert_eq!(arrived, [newest.clone(), whole.clone()]);
    // Who asks for one by name hears why not, and a verification of all names the same three.
    let asked = etcd_backup(&["copy", "--set", unread.as_str(), "--store", &here.url, "--to", &there]);
    assert!(stderr(&asked).contains(&format!("set {unread} cannot be restored")), "{}", stderr(&asked));
    let verified = stderr(&etcd_backup(&["verify", "--all", "--store", &here.url]));
    assert!([cut, changed, unread].iter().all(|set| verified.contains(set.as_str())), "{verified}");
    assert!(!verified.contains(&format!("v1/{whole}")), "{verified}");
}

#[tokio::test]
async fn what_is_wrong_with_a_store_is_told_with_what_to_do() {
    let Some(s3) = S3::start() else { return };
    let wire = Wire::to(s3.address());
    wire.breaks(Fault::Refused, usize::MAX);
    let unreachable = format!("http://{}", wire.address());
    let endpoint = format!("http://{}", s3.address());
    for (url, endpoint, code, told) in [
        ("s3://no-such-bucket/x", &endpoint, 1, "whether bucket and path in the URL are right"),
        ("s3://bucket/x", &unreachable, 4, "the store could not be asked"),
        ("ftp://bucket/x", &endpoint, 1, "a URL is like s3://bucket/path"),
    ] {
        let listed = etcd_backup(&["list", "--store", url, "--endpoint", endpoint, "--path-style"]);

        let text = stderr(&listed);
        assert_eq!(listed.status.code(), Some(code), "{url}: {text}");
        assert!(text.contains(told) && text.contains(url), "{url}: {text}");
    }
    let none = etcd_backup(&["list", "--job-config", "/nowhere/job.json"]);
    assert_eq!(none.status.code(), Some(3));
    assert!(stderr(&none).contains("--store s3://bucket/path"), "{}", stderr(&none));
}

#[test]
fn a_target_with_data_is_refused_before_anything_is_brought() {
    let target = tempfile::tempdir().unwrap();
    std::fs::write(target.path().join("somebodys"), "x").unwrap();
    let members = ["--initial-cluster", "a=https://a:2380", "--name", "a", "--initial-cluster-token", "t"];
    let place = ["restore", "--store", "file:///nowhere", "--data-dir", target.path().to_str().unwrap()];

    let answer = etcd_backup(&[&place[..], &members].concat());

    assert!(!answer.status.success());
    let told = String::from_utf8(answer.stderr).unwrap();
    assert!(told.contains("it holds somebodys"), "{told}");
}
