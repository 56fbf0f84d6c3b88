//! A constant writer, a constant reader and a watcher, and what they were promised.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use etcd_release::etcd::client::EtcdClient;
use etcd_release::etcd::connect::Target;
use etcd_release::etcd::tls::{Files, Identity, Protocol, Role};
use serde_json::Value;

use super::fleet::{DEADLINE, Fleet};

/// A write or read is tried on the next member when one refuses it; it counts as failed when all did.
const EACH_LIMIT: Duration = Duration::from_secs(5);
/// The pause between two writes.
const EVERY: Duration = Duration::from_millis(20);

/// What happened while the load ran.
#[derive(Debug, Default)]
pub struct Report {
    /// Acknowledged writes: key and last value.
    pub acknowledged: BTreeMap<String, String>,
    /// All values that were acknowledged, in their order.
    pub history: Vec<String>,
    /// Writes that no member took.
    pub failed_writes: usize,
    /// Reads that no member answered, or that did not see the last acknowledged write.
    pub failed_reads: usize,
    /// The longest time between two acknowledgements.
    pub longest_gap: Duration,
    /// When that ended, in UTC as in logs.
    pub longest_gap_until: String,
}

/// A writer and reader that run until they are stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
    thread: Option<JoinHandle<Report>>,
}

/// All members of a fleet, dialled by address and checked by name.
pub struct Members {
    targets: Vec<Target>,
    tls: Arc<rustls::ClientConfig>,
    /// How long one of them may take.
    limit: Duration,
}

impl Members {
    /// From the rendered job of the first instance.
    pub fn of(fleet: &Fleet) -> Self {
        let instances = fleet.instances();
        let first = instances[0]["instance"].as_str().expect("an instance has a name");
        let config = tempfile::tempdir().expect("make a temporary directory");
        let identity = |role| {
            let files = Files::of(config.path(), role);
            for file in [&files.ca, &files.certificate, &files.key] {
                let name =
                    file.file_name().and_then(|name| name.to_str()).expect("certificate files have names");
                fs::write(file, fleet.read(first, &format!("/var/vcap/jobs/etcd/config/{name}")))
                    .expect("keep a certificate");
            }
            Identity::load(&files).expect("the job's certificates")
        };
        Self {
            targets: targets(&instances),
            tls: identity(Role::Admin).client(&identity(Role::Server), Protocol::Grpc),
            limit: EACH_LIMIT,
        }
    }

    /// With other certificates than this release's: files in the directory `config` of job etcd, the CA of the members
    /// first, then certificate and key of the client.
    pub fn presenting(fleet: &Fleet, [ca, certificate, key]: [&str; 3]) -> Self {
        let instances = fleet.instances();
        let first = instances[0]["instance"].as_str().expect("an instance has a name");
        let kept = tempfile::tempdir().expect("make a temporary directory");
        let keep = |name: &str| {
            let path = kept.path().join(name);
            fs::write(&path, fleet.read(first, &format!("/var/vcap/jobs/etcd/config/{name}")))
                .expect("keep a certificate");
            path
        };
        let files = Files { ca: keep(ca), certificate: keep(certificate), key: keep(key) };
        Self::identified(fleet, &files)
    }

    /// With these files.
    pub fn identified(fleet: &Fleet, files: &Files) -> Self {
        let identity = Identity::load(files).expect("certificates");
        Self {
            targets: targets(&fleet.instances()),
            tls: identity.client(&identity, Protocol::Grpc),
            limit: EACH_LIMIT,
        }
    }

    /// Goes on to the next one after this time. A machine that is made anew does not answer for a while, and a quick
    /// roll makes one after the other: who waits long for each meets them all in that moment.
    pub fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Asks any of them that answers; `None` when none does.
    pub fn ask<T>(
        mut self,
        work: impl AsyncFn(&mut EtcdClient) -> Result<T, etcd_release::etcd::client::EtcdError>,
    ) -> Option<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async { on_any(&mut self, &mut None, work).await })
    }

    /// Where they are, and how they are called there.
    pub fn split(self) -> (Vec<Target>, Arc<rustls::ClientConfig>) {
        (self.targets, self.tls)
    }

    fn next(&mut self) {
        self.targets.rotate_left(1);
    }
}

/// Each instance by its address, with the name its certificate must have.
fn targets(instances: &[Value]) -> Vec<Target> {
    instances
        .iter()
        .map(|instance| {
            let ip = instance["ips"].as_str().expect("an instance has an address").trim().to_owned();
            let id = instance["instance"].as_str().and_then(|slug| slug.split('/').nth(1)).expect("group/id");
            Target { dial: ip, port: 2379, name: format!("{id}.etcd.default.etcd.bosh") }
        })
        .collect()
}

impl Load {
    /// Starts writing and reading.
    pub fn start(fleet: &Fleet) -> Self {
        Self::start_on(Members::of(fleet))
    }

    /// Starts writing and reading on these members, by the addresses and certificates they have now.
    pub fn start_on(mut members: Members) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let written = Arc::new(AtomicUsize::new(0));
        let (asked, counted) = (stop.clone(), written.clone());
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(work(&mut members, &asked, &counted))
        });
        Self { stop, written, thread: Some(thread) }
    }

    /// Stops once so many writes were acknowledged, and tells what happened: fewer would prove nothing.
    #[track_caller]
    pub fn finish_with(self, writes: usize) -> Report {
        let start = Instant::now();
        while self.written.load(Ordering::Relaxed) < writes {
            assert!(start.elapsed() < DEADLINE, "the load did not come to {writes} writes");
            std::thread::sleep(EVERY);
        }
        self.finish()
    }

    /// Stops and tells what happened.
    pub fn finish(mut self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("finished once").join().expect("the load does not panic")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The test has failed already; the load only has to be gone.
            let _ = thread.join();
        }
    }
}

/// Never the same twice, so that a watch can tell the writes of one load from those of the next.
static NEXT: AtomicU64 = AtomicU64::new(1);

async fn work(members: &mut Members, stop: &AtomicBool, written: &AtomicUsize) -> Report {
    let mut report = Report::default();
    let mut client: Option<EtcdClient> = None;
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // A hundred keys, so that restarts compare more than one, and old values are overwritten.
        let (key, value) = (format!("load/{}", number % 100), number.to_string());
        if on_any(members, &mut client, async |client| client.put(&key, &value).await.map(|_| ()))
            .await
            .is_some()
        {
            if last.elapsed() > report.longest_gap {
                report.longest_gap = last.elapsed();
                report.longest_gap_until = etcd_release::journal::now();
            }
            last = Instant::now();
            report.acknowledged.insert(key.clone(), value.clone());
            report.history.push(value.clone());
            written.store(report.history.len(), Ordering::Relaxed);
            let read = on_any(members, &mut client, async |client| client.get(&key).await).await;
            if read.flatten().as_ref() != Some(&value) {
                report.failed_reads += 1;
            }
        } else {
            report.failed_writes += 1;
        }
        tokio::time::sleep(EVERY).await;
    }
    report
}

/// Tries the current member, then each other one; `None` when all refused.
async fn on_any<T>(
    members: &mut Members,
    client: &mut Option<EtcdClient>,
    work: impl AsyncFn(&mut EtcdClient) -> Result<T, etcd_release::etcd::client::EtcdError>,
) -> Option<T> {
    for _ in 0..=members.targets.len() {
        if client.is_none() {
            *client = EtcdClient::connect(&members.targets[0], members.tls.clone(), members.limit).await.ok();
        }
        if let Some(connected) = client.as_mut()
            && let Ok(answer) = work(connected).await
        {
            return Some(answer);
        }
        *client = None;
        members.next();
    }
    None
}

/// `etcdctl watch` on an instance, from before the load begins.
pub struct Watcher {
    process: Child,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Watcher {
    /// Watches the keys of the load, as an operator's etcdctl on that instance.
    pub fn start(fleet: &Fleet, slug: &str) -> Self {
        // Its first words on stderr would be lost in a pipe nobody reads; a watch says nothing more.
        let mut process = fleet
            .command(&["ssh", slug, "-c", "exec etcdctl watch --prefix load/"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("start a watcher");
        let lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let values = seen.clone();
        std::thread::spawn(move || {
            // PUT, key, value: three lines an event.
            let lines: Box<dyn Iterator<Item = String>> = Box::new(lines.map_while(Result::ok));
            for value in lines.skip(2).step_by(3) {
                values.lock().expect("nobody panics with it").push(value);
            }
        });
        Self { process, seen }
    }

    /// Waits until the last acknowledged value was seen, and demands that all were, in their order.
    #[track_caller]
    pub fn saw_everything(mut self, history: &[String]) {
        let last = history.last().expect("the load wrote something");
        let start = Instant::now();
        while !self.seen.lock().expect("nobody panics with it").contains(last) {
            assert!(start.elapsed() < DEADLINE, "the watcher never saw {last}");
            std::thread::sleep(EVERY);
        }
        let seen = self.seen.lock().expect("nobody panics with it").clone();
        let mut events = seen.iter();
        // Writes that were not acknowledged may be among the events, never the other way round. Whatever
        // was written before the watch began is not among them.
        let first = history.iter().position(|value| seen.contains(value)).expect("it saw something");
        for value in &history[first..] {
            assert!(events.any(|event| event == value), "the watcher missed {value}");
        }
        assert!(first < history.len() / 2, "the watcher began too late: {first}");
        self.end();
    }

    fn end(&mut self) {
        // It may have ended with the instance it ran on.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.end();
    }
}

/// Reads every acknowledged write back and demands it, or a later one of the same key.
pub fn assert_nothing_lost(fleet: &Fleet, report: &Report) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut members = Members::of(fleet);
    runtime.block_on(async {
        let mut client = None;
        for (key, value) in &report.acknowledged {
            let read = on_any(&mut members, &mut client, async |client| client.get(key).await).await;
            // A write that was not acknowledged may still have been done: only an older value is a loss.
            let number = |text: &str| text.parse::<u64>().expect("the load writes numbers");
            match read.flatten() {
                Some(found) => {
                    assert!(number(&found) >= number(value), "{key}: wrote {value}, found {found}");
                }
                None => panic!("{key}: wrote {value}, found nothing"),
            }
        }
    });
}

/// One write through any member, for tests that only need to know that the cluster takes writes.
pub fn write_once(fleet: &Fleet, key: &str, value: &str) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut members = Members::of(fleet);
    runtime.block_on(async {
        let mut client = None;
        on_any(&mut members, &mut client, async |client| client.put(key, value).await).await.is_some()
    })
}

/// Asks any member that answers; `None` when none does.
pub fn ask_any<T>(
    fleet: &Fleet,
    work: impl AsyncFn(&mut EtcdClient) -> Result<T, etcd_release::etcd::client::EtcdError>,
) -> Option<T> {
    Members::of(fleet).ask(work)
}

/// The member ids of a status, sorted.
pub fn member_ids(status: &Value) -> Vec<String> {
    let mut ids: Vec<String> = status["members"]
        .as_array()
        .map(|members| members.iter().filter_map(|member| member["id"].as_str()).map(str::to_owned).collect())
        .unwrap_or_default();
    ids.sort();
    ids
}
