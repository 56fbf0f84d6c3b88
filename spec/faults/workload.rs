//! Clients that write, read, swap and append, watch every member and hold leases, until they are told to stop.
//!
//! Each call is made once: a client that does not know what came of a call says so and never asks the same again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use etcd_client::{Compare, CompareOp, GetOptions, PutOptions, Txn, TxnOp, TxnOpResponse};
use etcd_release::etcd::client::EtcdClient;
use etcd_release::etcd::client::watch::{Seen, WatchStream};
use etcd_release::etcd::connect::Target;
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

use crate::dice::Dice;
use crate::history::{Call, Event, History, Lease, Operation, Outcome};
use crate::support::fleet::{DEADLINE, Fleet};
use crate::support::load::Members;

/// Longer than an election, so that most calls learn what came of them.
const LIMIT: Duration = Duration::from_secs(4);
/// Between two calls of a client.
const EVERY: Duration = Duration::from_millis(25);
/// After a call that failed.
const PAUSE: Duration = Duration::from_millis(200);
const KEYS: u64 = 4;
/// The shortest that etcd grants without being told otherwise is about an election; this is well above.
const TTL: Duration = Duration::from_secs(5);

/// All members, and how to call them.
#[derive(Clone)]
struct Cluster {
    targets: Vec<Target>,
    tls: Arc<rustls::ClientConfig>,
}

/// Who tells the time, collects what happened and says when to stop; all of it on one thread.
#[derive(Clone)]
struct Desk {
    start: Instant,
    history: Rc<RefCell<History>>,
    stop: Arc<AtomicBool>,
    next: Rc<AtomicU64>,
}

impl Desk {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// A workload that goes on.
pub(crate) struct Workload {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<History>>,
}

impl Workload {
    /// Begins, on the members that there are now, by the addresses and names that they keep.
    pub(crate) fn begin(fleet: &Fleet, seed: u64) -> Self {
        let (targets, tls) = Members::of(fleet).split();
        let cluster = Cluster { targets, tls };
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            LocalSet::new().block_on(&runtime, work(cluster, asked, seed))
        });
        Self { stop, thread: Some(thread) }
    }

    /// Ends it, and waits until leases have ended and watches have told everything. The cluster must be at rest.
    pub(crate) fn end(mut self) -> History {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("ended once").join().expect("the workload does not panic")
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // The test has failed; the thread ends with it.
        self.stop.store(true, Ordering::Relaxed);
    }
}

async fn work(cluster: Cluster, stop: Arc<AtomicBool>, seed: u64) -> History {
    let first_revision = revision(&cluster).await;
    let desk = Desk {
        start: Instant::now(),
        history: Rc::new(RefCell::new(History { first_revision, ..History::default() })),
        stop,
        next: Rc::new(AtomicU64::new(1)),
    };
    let mut clients = Vec::new();
    for number in 0..2 * cluster.targets.len() {
        let client =
            Client { number, at: number, own: number % 2 == 0, connected: None, read: BTreeMap::new() };
        clients.push(tokio::task::spawn_local(client.call(
            cluster.clone(),
            desk.clone(),
            Dice(seed ^ number as u64),
        )));
    }
    clients.push(tokio::task::spawn_local(append(cluster.clone(), desk.clone())));
    clients.push(tokio::task::spawn_local(hold_leases(cluster.clone(), desk.clone(), Dice(!seed))));
    let heard = Rc::new(RefCell::new(BTreeMap::new()));
    let watches: Vec<_> = (0..cluster.targets.len())
        .map(|at| tokio::task::spawn_local(watch(cluster.clone(), at, desk.clone(), heard.clone())))
        .collect();
    for client in clients {
        client.await.expect("a client does not panic");
    }
    // What nobody renews any more ends by itself; after a change of leaders not before its whole time again.
    let began = Instant::now();
    loop {
        let (last, revision) = everything(&cluster).await;
        let leased = last.keys().any(|key| key.starts_with("lease/"));
        let told = heard.borrow().values().filter(|told| **told >= revision).count();
        if !leased && told == cluster.targets.len() || began.elapsed() > DEADLINE {
            let mut history = desk.history.borrow_mut();
            (history.last, history.last_revision) = (last, revision);
            break;
        }
        sleep(PAUSE).await;
    }
    watches.iter().for_each(tokio::task::JoinHandle::abort);
    let mut history = desk.history.take();
    // Other writers of the deployment, who hold mutexes, may have gone on meanwhile.
    let last = history.last_revision;
    history.watched.values_mut().for_each(|events| events.retain(|event| event.revision <= last));
    history
}

struct Client {
    number: usize,
    /// Which member it asks.
    at: usize,
    /// Whether it stays with that one, whatever happens.
    own: bool,
    connected: Option<EtcdClient>,
    /// What it last saw of each key: what a swap may find.
    read: BTreeMap<String, u64>,
}

impl Client {
    async fn call(mut self, cluster: Cluster, desk: Desk, mut dice: Dice) {
        while !desk.stops() {
            sleep(EVERY).await;
            let target = &cluster.targets[self.at % cluster.targets.len()];
            let Some(client) = connected(&mut self.connected, target, &cluster).await else {
                self.at += usize::from(!self.own);
                sleep(PAUSE).await;
                continue;
            };
            let key = format!("key/{}", dice.below(KEYS));
            let call = match (dice.below(10), self.read.get(&key)) {
                (0..4, _) => Call::Read,
                (4..7, Some(from)) => Call::Swap { from: *from, to: desk.number() },
                _ => Call::Write(desk.number()),
            };
            let began = desk.now();
            let outcome = timeout(LIMIT, ask(client, &key, call)).await.unwrap_or(Outcome::Unknown);
            let ended = desk.now();
            match (outcome, call) {
                (Outcome::Found { value: Some(value), .. }, _) => _ = self.read.insert(key.clone(), value),
                (Outcome::Written { .. }, Call::Write(to) | Call::Swap { to, .. }) => {
                    self.read.insert(key.clone(), to);
                }
                _ => _ = self.read.remove(&key),
            }
            if outcome == Outcome::Unknown {
                self.connected = None;
                self.at += usize::from(!self.own);
            }
            let (client, member) = (self.number, target.name.clone());
            let operation = Operation { client, member, key, call, began, ended, outcome };
            desk.history.borrow_mut().operations.push(operation);
        }
    }
}

/// The connection there is, or a new one.
async fn connected<'a>(
    connected: &'a mut Option<EtcdClient>,
    target: &Target,
    cluster: &Cluster,
) -> Option<&'a mut EtcdClient> {
    if connected.is_none() {
        *connected = EtcdClient::connect(target, cluster.tls.clone(), LIMIT).await.ok();
    }
    connected.as_mut()
}

async fn ask(client: &EtcdClient, key: &str, call: Call) -> Outcome {
    let mut api = client.api();
    let told = async {
        let found = |pairs: &[etcd_client::KeyValue]| {
            pairs.first().and_then(|pair| String::from_utf8_lossy(pair.value()).parse().ok())
        };
        match call {
            Call::Read => {
                let answer = api.get(key, None).await?;
                let revision = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
                Ok::<_, etcd_client::Error>(Outcome::Found { value: found(answer.kvs()), revision })
            }
            Call::Write(to) => {
                let answer = api.put(key, to.to_string(), None).await?;
                let revision = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
                Ok(Outcome::Written { revision })
            }
            Call::Swap { from, to } => {
                let swap = Txn::new()
                    .when([Compare::value(key, CompareOp::Equal, from.to_string())])
                    .and_then([TxnOp::put(key, to.to_string(), None)])
                    .or_else([TxnOp::get(key, None)]);
                let answer = api.txn(swap).await?;
                let revision = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
                if answer.succeeded() {
                    return Ok(Outcome::Written { revision });
                }
                let value = answer.op_responses().into_iter().find_map(|response| match response {
                    TxnOpResponse::Get(answer) => found(answer.kvs()),
                    _ => None,
                });
                Ok(Outcome::Found { value, revision })
            }
        }
    };
    told.await.unwrap_or(Outcome::Unknown)
}

/// Writes keys that nobody has written before, each once, at whichever member takes them.
async fn append(cluster: Cluster, desk: Desk) {
    let (mut at, mut connection) = (0, None);
    while !desk.stops() {
        sleep(2 * EVERY).await;
        let target = &cluster.targets[at % cluster.targets.len()];
        let Some(client) = connected(&mut connection, target, &cluster).await else {
            at += 1;
            sleep(PAUSE).await;
            continue;
        };
        let number = desk.number();
        let (key, began) = (format!("list/{number}"), desk.now());
        let call = Call::Write(number);
        let outcome = timeout(LIMIT, ask(client, &key, call)).await.unwrap_or(Outcome::Unknown);
        if outcome == Outcome::Unknown {
            connection = None;
            at += 1;
        }
        let (ended, member) = (desk.now(), target.name.clone());
        let operation = Operation { client: usize::MAX, member, key, call, began, ended, outcome };
        desk.history.borrow_mut().operations.push(operation);
    }
}

/// Takes a lease with a key, renews it for a while, leaves it, and takes the next.
async fn hold_leases(cluster: Cluster, desk: Desk, mut dice: Dice) {
    let (mut at, mut connection) = (0, None);
    while !desk.stops() {
        let target = &cluster.targets[at % cluster.targets.len()];
        let Some(client) = connected(&mut connection, target, &cluster).await else {
            at += 1;
            sleep(PAUSE).await;
            continue;
        };
        let renewed = desk.now();
        let Ok(Ok(id)) = timeout(LIMIT, client.grant_new_lease(TTL.as_secs().cast_signed())).await else {
            connection = None;
            at += 1;
            continue;
        };
        let key = format!("lease/{id}");
        let put = client.api();
        let written = async {
            let mut api = put;
            api.put(key.as_str(), "held", Some(PutOptions::new().with_lease(id))).await
        };
        if !matches!(timeout(LIMIT, written).await, Ok(Ok(_))) {
            connection = None;
            at += 1;
            continue;
        }
        let mut lease = Lease { key, ttl: TTL, renewed };
        for _ in 0..dice.below(8) {
            sleep(TTL / 5).await;
            let asked = desk.now();
            match timeout(LIMIT, client.renew_lease(id)).await {
                Ok(Ok(())) => lease.renewed = asked,
                _ => break,
            }
            if desk.stops() {
                break;
            }
        }
        desk.history.borrow_mut().leases.push(lease);
    }
}

/// Watches everything at one member, whatever becomes of the connection, from where it was before.
async fn watch(cluster: Cluster, at: usize, desk: Desk, heard: Rc<RefCell<BTreeMap<usize, i64>>>) {
    let target = &cluster.targets[at];
    let mut last = desk.history.borrow().first_revision;
    desk.history.borrow_mut().watched.insert(target.name.clone(), Vec::new());
    loop {
        let opened: Option<(EtcdClient, WatchStream)> = async {
            let mut client = EtcdClient::connect(target, cluster.tls.clone(), LIMIT).await.ok()?;
            let stream = client.watch_all(last + 1).await.ok()?;
            Some((client, stream))
        }
        .await;
        let Some((_client, mut stream)) = opened else {
            sleep(PAUSE).await;
            continue;
        };
        // A member that was frozen or cut off says nothing: asked anew, it must go on where it was.
        while let Ok(Ok(seen)) = timeout(2 * LIMIT, stream.next()).await {
            let Seen::Revision(revision) = seen else { continue };
            last = revision.revision;
            heard.borrow_mut().insert(at, last);
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let changes = revision
                .changes
                .iter()
                .map(|change| (text(&change.key), (!change.deleted).then(|| text(&change.value))))
                .collect();
            let event = Event { revision: last, changes, heard: desk.now() };
            desk.history.borrow_mut().watched.entry(target.name.clone()).or_default().push(event);
        }
    }
}

/// The revision of a cluster in which nothing has been written yet, from the first that answers.
async fn revision(cluster: &Cluster) -> i64 {
    everything(cluster).await.1
}

/// All keys at one revision, from the first that answers.
async fn everything(cluster: &Cluster) -> (BTreeMap<String, String>, i64) {
    loop {
        for target in &cluster.targets {
            let told = async {
                let client = EtcdClient::connect(target, cluster.tls.clone(), LIMIT).await.ok()?;
                client.api().get([0], Some(GetOptions::new().with_from_key())).await.ok()
            };
            if let Ok(Some(answer)) = timeout(LIMIT, told).await {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let all = answer.kvs().iter().map(|pair| (text(pair.key()), text(pair.value()))).collect();
                return (all, answer.header().map_or(0, etcd_client::ResponseHeader::revision));
            }
        }
        sleep(PAUSE).await;
    }
}
