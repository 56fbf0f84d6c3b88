//! Trouble made by hand: processes stopped without BOSH's scripts, disks changed behind the launcher's
//! back; and what the launcher says to it.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use etcd_release::local::layout::{InstanceDir, StateDir};
use serde_json::Value;

use super::fleet::{Answer, DEADLINE, Fleet, all_ready, voters};

const MONIT: &str = "/var/vcap/bosh/bin/monit";
const BPM: &str = "/var/vcap/jobs/bpm/bin/bpm";
/// Between two looks at something that costs nothing to look at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// An ops file that sets a property of job etcd.
pub fn property(name: &str, value: &str) -> String {
    format!(
        "- type: replace\n  path: /instance_groups/name=etcd/jobs/name=etcd/properties/{name}?\n  value: {value}\n"
    )
}

impl Fleet {
    /// The directory that is an instance's virtual machine.
    #[track_caller]
    pub fn instance(&self, slug: &str) -> InstanceDir {
        StateDir::at(self.state_dir()).deployment("etcd").instance(id_of(slug))
    }

    /// The address of an instance.
    #[track_caller]
    pub fn address(&self, slug: &str) -> String {
        let rows = self.instances();
        let row = rows.iter().find(|row| row["instance"] == slug).expect("an instance of the fleet");
        row["ips"].as_str().expect("an address").trim().to_owned()
    }

    /// Stops etcd and its launcher as a reboot does: without drain, and nobody starts them again. What
    /// the launcher said is forgotten, so that whatever is read later is news.
    #[track_caller]
    pub fn halt(&self, slug: &str) {
        self.ssh(slug, &format!("{MONIT} unmonitor etcd && {BPM} stop etcd")).succeeded();
        match fs::remove_file(self.status_file(slug)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("forget: {error}"),
            Ok(()) | Err(_) => {}
        }
    }

    /// Starts the launcher again; monit watches it.
    #[track_caller]
    pub fn resume(&self, slug: &str) {
        self.ssh(slug, &format!("{MONIT} start etcd")).succeeded();
    }

    /// Starts the launcher once; nobody starts it again when it ends. Unlike monit, which sees the disk that
    /// was there when it was started itself, this sees the one that is attached now.
    #[track_caller]
    pub fn resume_unwatched(&self, slug: &str) -> Answer {
        self.ssh(slug, &format!("{BPM} start etcd"))
    }

    fn status_file(&self, slug: &str) -> PathBuf {
        self.instance(slug).root().join("data/etcd/status.json")
    }

    /// What the launcher of an instance last told on `/state`; `Null` if it told nothing yet.
    pub fn told(&self, slug: &str) -> Value {
        let page = fs::read(self.status_file(slug)).unwrap_or_default();
        serde_json::from_slice(&page).map_or(Value::Null, |mut page: Value| page["state"].take())
    }

    /// Waits until the launcher of an instance has this plan and says all these words, in what it tells
    /// people: what happened, why it matters, what to do next.
    #[track_caller]
    pub fn says(&self, slug: &str, plan: &str, words: &[&str]) -> Value {
        let mut told = Value::Null;
        self.wait_until(&format!("{slug} has plan '{plan}' and says {words:?}"), || {
            told = self.told(slug);
            let text: Vec<&str> =
                ["because", "why", "next"].iter().filter_map(|part| told[part].as_str()).collect();
            let text = text.join("; ");
            told["plan"] == plan && words.iter().all(|word| text.contains(word))
        });
        told
    }

    /// Waits until `holds`.
    #[track_caller]
    pub fn wait_until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(
                start.elapsed() < DEADLINE,
                "never seen within {DEADLINE:?}: {what}\n{}",
                self.log_tails()
            );
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits for so many voters, all instances ready, as an instance sees it.
    #[track_caller]
    pub fn whole_from(&self, slug: &str, count: usize) -> Value {
        self.eventually_from(slug, &format!("{count} voters, all ready"), |seen| {
            voters(seen) == count && all_ready(seen)
        })
    }

    /// What was moved aside for this reason, in the order of time.
    pub fn asides(&self, slug: &str, reason: &str) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.store(slug).join("aside")) else { return Vec::new() };
        let mut all: Vec<PathBuf> = entries
            .map(|entry| entry.expect("list what was moved aside").path())
            .filter(|path| path.to_string_lossy().contains(reason))
            .collect();
        all.sort();
        all
    }

    /// Moves data and records of an instance from its store to a new directory beside it on the disk, as
    /// if the disk had been emptied.
    #[track_caller]
    pub fn empty_store(&self, slug: &str, name: &str) -> PathBuf {
        let store = self.store(slug);
        let kept = store.with_file_name(name);
        fs::create_dir(&kept).expect("make a directory on the disk");
        move_store(&store, &kept);
        kept
    }

    /// Names the places at which processes of an instance die, one after the other.
    #[track_caller]
    pub fn arm_all(&self, slug: &str, fail_points: &[String]) -> PathBuf {
        self.arm(slug, &fail_points.join("\n"))
    }

    /// Names the place where the launcher of an instance dies next, on a disk without records as well.
    #[track_caller]
    pub fn arm(&self, slug: &str, fail_point: &str) -> PathBuf {
        let store = self.store(slug);
        let records = store.join(".launcher");
        if !records.exists() {
            fs::create_dir(&records).expect("make the directory of records");
            give_to_owner_of(&store, &records);
        }
        let path = records.join("fail-point");
        fs::write(&path, fail_point).expect("name a fail point");
        path
    }
}

/// Moves data and records from one directory of a disk to another.
#[track_caller]
pub fn move_store(from: &Path, to: &Path) {
    for name in ["member", ".launcher"] {
        match fs::rename(from.join(name), to.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("move {name}: {error}"),
            Ok(()) | Err(_) => {}
        }
    }
}

/// Gives a file to user vcap, whose directory `like` is.
#[track_caller]
pub fn give_to_owner_of(like: &Path, path: &Path) {
    let owner = fs::metadata(like).expect("look at a directory of vcap");
    chown(path, Some(owner.uid()), Some(owner.gid())).expect("give a file to vcap");
}

/// Names, sizes and times of change of all files below a directory: equal twice if nobody touched them.
#[track_caller]
pub fn fingerprint(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = vec![directory.to_owned()];
    while let Some(path) = rest.pop() {
        let metadata = fs::symlink_metadata(&path).expect("look at a file");
        if metadata.is_dir() {
            rest.extend(
                fs::read_dir(&path).expect("list a directory").map(|entry| entry.expect("list").path()),
            );
        }
        found.push(format!(
            "{} inode {} {} bytes, changed {}.{}",
            path.display(),
            metadata.ino(),
            metadata.len(),
            metadata.ctime(),
            metadata.ctime_nsec()
        ));
    }
    found.sort();
    found
}

/// Takes a port as soon as it is free.
#[track_caller]
pub fn take_port(ip: &str, port: u16) -> TcpListener {
    let start = Instant::now();
    loop {
        match TcpListener::bind((ip, port)) {
            Ok(listener) => return listener,
            Err(error) => assert!(start.elapsed() < DEADLINE, "{ip}:{port} stays taken: {error}"),
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The id of an instance, out of `group/id`.
#[track_caller]
pub fn id_of(slug: &str) -> &str {
    slug.split('/').nth(1).expect("group/id")
}

/// The member id that the etcd of an instance says it has.
#[track_caller]
pub fn member_of(status: &Value, slug: &str) -> String {
    let instances = status["instances"].as_array().cloned().unwrap_or_default();
    let one = instances.iter().find(|one| one["instance"] == id_of(slug)).expect("an instance of the link");
    one["etcd"]["Ok"]["member_id"].as_str().expect("an etcd that answers").to_owned()
}
