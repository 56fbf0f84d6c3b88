//! A store that is a directory, and what a reader finds in it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use etcd_release::backup::delta::{HEAD, Record};
use prost::Message;
use serde_json::Value;
use tempfile::TempDir;

use super::etcd::Etcd;
use super::{endpoint, eventually};

/// A store of this test.
pub(crate) struct Shop(pub(crate) TempDir);

impl Shop {
    pub(crate) fn new() -> Self {
        let shop = Self(tempfile::tempdir().unwrap());
        fs::create_dir(shop.place()).unwrap();
        shop
    }

    /// Where the objects lie; what else a test has lies beside it.
    pub(crate) fn place(&self) -> PathBuf {
        self.0.path().join("store")
    }

    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.place().display())
    }

    pub(crate) fn backup(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-backup"));
        command.args(arguments).args(["--store", &self.url()]).env_clear().stdin(Stdio::null());
        command
    }

    pub(crate) fn save(&self, endpoint: &str) -> Output {
        self.backup(&["save", "--json", "--etcd", endpoint]).output().unwrap()
    }

    /// Takes one, and gives its manifest.
    pub(crate) fn saved(&self, etcd: &Etcd) -> Value {
        let output = self.save(&endpoint(etcd));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What `list` tells.
    pub(crate) fn listed(&self) -> String {
        let output = self.backup(&["list"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// All files, by name.
    pub(crate) fn files(&self) -> BTreeMap<String, PathBuf> {
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
    pub(crate) fn content(&self, object: &Value, to: &Path) -> Vec<u8> {
        let packed = self.place().join(object["name"].as_str().unwrap());
        if object["compression"] == "none" {
            return fs::read(packed).unwrap();
        }
        let packed = File::open(packed).unwrap();
        zstd::stream::copy_decode(packed, File::create(to).unwrap()).unwrap();
        fs::read(to).unwrap()
    }
}

/// A set, as a reader finds it: its full snapshot, and the deltas that continue it.
pub(crate) struct Set {
    pub(crate) full: Value,
    pub(crate) deltas: Vec<Value>,
}

impl Set {
    pub(crate) fn last(&self) -> i64 {
        self.deltas.last().map_or(&self.full["revisions"]["last"], |delta| &delta["last"]).as_i64().unwrap()
    }
}

impl Shop {
    /// All sets, the oldest first.
    pub(crate) fn sets(&self) -> Vec<Set> {
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
            // Besides deltas there are notes of verifications.
            for delta in others.into_iter().filter(|other| other.get("first").is_some()) {
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
    pub(crate) fn reaches(&self, revision: i64) -> Vec<Set> {
        eventually(&format!("a set that reaches {revision}"), || {
            let sets = self.sets();
            sets.last().is_some_and(|set| set.last() >= revision).then_some(sets)
        })
    }

    pub(crate) fn records(&self, delta: &Value, scratch: &Path) -> Vec<Record> {
        let content = self.content(&delta["object"], &scratch.join("delta"));
        let mut rest = content.strip_prefix(HEAD.as_slice()).unwrap();
        let mut records = Vec::new();
        while !rest.is_empty() {
            records.push(Record::decode_length_delimited(&mut rest).unwrap());
        }
        records
    }
}
