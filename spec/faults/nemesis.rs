//! Carries a schedule out on a cluster that is deployed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use etcd_release::datadir::bolt::Db;
use etcd_release::datadir::bolt::pages::{PageClass, survey};
use etcd_release::etcd::client::{EtcdClient, EtcdError};
use etcd_release::etcd::id::MemberId;
use etcd_release::local::process::Home;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::dice::Dice;
use crate::schedule::{Blow, Fault, Victim};
use crate::support::damage::overwrite;
use crate::support::fleet::{Answer, DEADLINE, Fleet, all_ready, voters};
use crate::support::load::{Members, ask_any};
use crate::support::trouble::member_of;

const ETCD: &str = "etcd";
const LAUNCHER: &str = "etcd-launcher";
/// Of a member that does not answer.
const ASK_LIMIT: Duration = Duration::from_secs(2);
const PAGE: u64 = 4096;

/// What undoes a fault that lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mending {
    Heal,
    Continue(Vec<i32>),
    /// Of these processes, back to what was allowed.
    Descriptors(Vec<i32>, String),
}

pub(crate) struct Nemesis<'a> {
    fleet: &'a mut Fleet,
    slugs: Vec<String>,
    dice: Dice,
    /// What is not mended yet, and when it is due.
    open: Vec<(Instant, Mending)>,
    /// Every directory that was ever moved aside, by instance.
    asides: BTreeSet<PathBuf>,
    deploys: u64,
    disks: u64,
}

impl<'a> Nemesis<'a> {
    pub(crate) fn of(fleet: &'a mut Fleet, seed: u64) -> Self {
        let slugs = fleet.slugs();
        Self {
            fleet,
            slugs,
            dice: Dice(!seed),
            open: Vec::new(),
            asides: BTreeSet::new(),
            deploys: 0,
            disks: 0,
        }
    }

    /// All of it, one after the other; what lasts overlaps with what comes next, unless that needs a whole cluster.
    pub(crate) fn carry_out(&mut self, blows: &[Blow]) {
        for blow in blows {
            self.mend_until(Instant::now() + Duration::from_millis(blow.after_ms));
            if blow.needs_all {
                self.mend_all();
                self.whole();
            }
            println!("{} {blow}", etcd_release::journal::now());
            self.strike(blow);
            self.note_asides();
        }
        self.mend_all();
    }

    /// Waits until all are voters of one cluster that serve, and demands that nothing that was ever moved aside is gone.
    pub(crate) fn whole(&mut self) -> Value {
        let count = self.slugs.len();
        let status = self.fleet.eventually("all vote and serve, and nobody else is listed", |seen| {
            let listed = seen["members"].as_array().map_or(0, Vec::len);
            voters(seen) == count && listed == count && all_ready(seen)
        });
        self.note_asides();
        for aside in &self.asides {
            assert!(aside.exists(), "{} was moved aside and is gone", aside.display());
        }
        status
    }

    fn note_asides(&mut self) {
        for slug in &self.slugs {
            // A machine that is made anew has none for a moment.
            let Ok(entries) = fs::read_dir(self.fleet.store(slug).join("aside")) else { continue };
            self.asides.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
        }
    }

    fn mend_until(&mut self, until: Instant) {
        loop {
            let now = Instant::now();
            let due = self.open.iter().position(|(at, _)| *at <= now);
            if let Some(due) = due {
                let (_, mending) = self.open.remove(due);
                self.mend(&mending);
                continue;
            }
            if now >= until {
                return;
            }
            let next = self.open.iter().map(|(at, _)| *at).min().unwrap_or(until);
            sleep(next.min(until).saturating_duration_since(now));
        }
    }

    fn mend_all(&mut self) {
        if let Some(last) = self.open.iter().map(|(at, _)| *at).max() {
            self.mend_until(last);
        }
    }

    fn mend(&self, mending: &Mending) {
        match mending {
            Mending::Heal => self.fleet.heal(),
            Mending::Continue(pids) => signal(pids, Signal::SIGCONT),
            Mending::Descriptors(_, limit) if limit.is_empty() => {}
            Mending::Descriptors(pids, limit) => pids.iter().for_each(|pid| _ = limit_files(*pid, limit)),
        }
    }

    fn strike(&mut self, blow: &Blow) {
        let slug = self.victim(blow.victim);
        let lasts = Duration::from_millis(blow.for_ms);
        match self.begin(blow.fault, &slug) {
            Some(mending) => self.open.push((Instant::now() + lasts, mending)),
            None => self.carry_through(blow.fault, &slug, lasts),
        }
    }

    /// What goes on until it is mended.
    fn begin(&self, fault: Fault, slug: &str) -> Option<Mending> {
        match fault {
            Fault::Cut => self.fleet.cut(&[slug]),
            Fault::CutOneWay => self.fleet.cut_from(slug),
            Fault::CutAll => self.slugs.iter().for_each(|slug| self.fleet.cut(&[slug])),
            Fault::FreezeEtcd => return Some(self.freeze(slug, ETCD)),
            Fault::FreezeLauncher => return Some(self.freeze(slug, LAUNCHER)),
            Fault::Descriptors => {
                let pids = self.pids(slug, &[ETCD]);
                let before = pids.iter().find_map(|pid| {
                    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
                    limit_files(*pid, &format!("{open}:"))
                });
                // etcd may be between two lives: then nothing happens, which is fine, too.
                return Some(Mending::Descriptors(pids, before.unwrap_or_default()));
            }
            _ => return None,
        }
        Some(Mending::Heal)
    }

    /// What is over when this returns.
    fn carry_through(&mut self, fault: Fault, slug: &str, lasts: Duration) {
        match fault {
            Fault::Flap => self.pulse(lasts, |fleet| fleet.cut(&[slug]), Fleet::heal),
            Fault::KillEtcd => self.kill(&[slug], &[ETCD]),
            Fault::KillLauncher => self.kill(&[slug], &[LAUNCHER]),
            Fault::KillBoth => self.kill(&[slug], &[LAUNCHER, ETCD]),
            Fault::KillAll => {
                let all: Vec<&str> = self.slugs.iter().map(String::as_str).collect();
                self.kill(&all, &[LAUNCHER, ETCD]);
            }
            Fault::Stutter => {
                let pids = self.pids(slug, &[ETCD]);
                self.pulse(lasts, |_| signal(&pids, Signal::SIGSTOP), |_| signal(&pids, Signal::SIGCONT));
            }
            Fault::Reboot => {
                self.fleet.reboot(slug);
                // It may well fail: nobody waited for the cluster. The instance is started all the same.
                self.fleet.cli(&["start", slug, "--no-converge"]);
            }
            Fault::Restart => self.operate(&["restart", slug, "--no-converge"]),
            Fault::Recreate => self.operate(&["recreate", slug, "--no-converge"]),
            Fault::StopHard => {
                self.operate(&["stop", "--hard", slug, "--no-converge"]);
                self.operate(&["start", slug, "--no-converge"]);
            }
            Fault::Deploy => self.deploy(),
            Fault::OutAndIn => {
                let count = self.slugs.len();
                for count in [count + 1, count] {
                    let answer = self.fleet.scale_to(count);
                    self.demand(&answer);
                }
            }
            Fault::LoseDisk => {
                self.disks += 1;
                let name = format!("lost-{}", self.disks);
                self.spoil(slug, |fleet, _| _ = fleet.empty_store(slug, &name));
            }
            Fault::DamageDb => self.spoil(slug, |fleet, dice| damage_db(&fleet.db(slug), dice)),
            Fault::DamageLog => {
                self.spoil(slug, |fleet, dice| damage_log(&fleet.store(slug).join("member/wal"), dice));
            }
            Fault::RemoveMember => self.remove_member(slug),
            Fault::Cut
            | Fault::CutOneWay
            | Fault::CutAll
            | Fault::FreezeEtcd
            | Fault::FreezeLauncher
            | Fault::Descriptors => unreachable!("it goes on"),
        }
    }

    fn remove_member(&self, slug: &str) {
        let member: MemberId = member_of(&self.fleet.status(), slug).parse().expect("the id of a member");
        // etcd refuses while it has not been connected to all members for five seconds.
        self.fleet.wait_until("a whole cluster removes a member", || {
            let removed = ask_any(self.fleet, async |client| match client.remove_member(member).await {
                Ok(()) | Err(EtcdError::MemberNotFound) => Ok(()),
                Err(error) => Err(error),
            });
            removed.is_some()
        });
    }

    fn victim(&self, victim: Victim) -> String {
        let leader = match victim {
            Victim::Instance(number) => Some(number),
            Victim::Leader => leader(Members::of(self.fleet)),
        };
        self.slugs[leader.unwrap_or(0) % self.slugs.len()].clone()
    }

    fn pids(&self, slug: &str, names: &[&str]) -> Vec<i32> {
        let home = Home::of(&self.fleet.machine(slug).root()).expect("the instance has a machine");
        let is_it = |pid: &i32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            names.contains(&name.trim_end())
        };
        home.inhabitants().into_iter().filter(is_it).collect()
    }

    /// Whoever is between two lives already is not killed again.
    fn kill(&self, slugs: &[&str], names: &[&str]) {
        let all: Vec<i32> = slugs.iter().flat_map(|slug| self.pids(slug, names)).collect();
        signal(&all, Signal::SIGKILL);
    }

    fn freeze(&self, slug: &str, name: &str) -> Mending {
        let pids = self.pids(slug, &[name]);
        signal(&pids, Signal::SIGSTOP);
        Mending::Continue(pids)
    }

    fn pulse(&self, lasts: Duration, on: impl Fn(&Fleet), off: impl Fn(&Fleet)) {
        const PULSE: Duration = Duration::from_millis(150);
        let began = Instant::now();
        while began.elapsed() < lasts {
            on(self.fleet);
            sleep(PULSE);
            off(self.fleet);
            sleep(PULSE);
        }
    }

    fn operate(&self, arguments: &[&str]) {
        self.demand(&self.fleet.cli(arguments));
    }

    fn demand(&self, answer: &Answer) {
        assert!(answer.code == 0, "{}\n{}", answer.text(), self.fleet.log_tails());
    }

    fn deploy(&mut self) {
        self.deploys += 1;
        // Any property that becomes a line of etcd's configuration: all members are restarted for it.
        let ops = format!(
            "- type: replace\n  path: /instance_groups/name=etcd/jobs/name=etcd/properties/snapshot_count?\n  value: {}\n",
            10_000 + self.deploys
        );
        self.fleet.add_ops_text(&format!("deploy-{}.yml", self.deploys), &ops);
        let answer = self.fleet.deploy();
        self.demand(&answer);
    }

    /// Changes the disk of an instance that crashed, and starts it again.
    fn spoil(&mut self, slug: &str, spoil: impl FnOnce(&Fleet, &mut Dice)) {
        self.fleet.crash(slug);
        self.note_asides();
        spoil(self.fleet, &mut self.dice);
        self.fleet.resume(slug);
    }
}

impl Drop for Nemesis<'_> {
    fn drop(&mut self) {
        // A process that stands still cannot be ended by its supervisor.
        for (_, mending) in std::mem::take(&mut self.open) {
            if let Mending::Continue(pids) = mending {
                signal(&pids, Signal::SIGCONT);
            }
        }
    }
}

/// Who leads, by its place in the list of instances; `None` if nobody says so of itself.
fn leader(members: Members) -> Option<usize> {
    let (targets, tls) = members.split();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for (number, target) in targets.iter().enumerate() {
            let Ok(mut client) = EtcdClient::connect(target, tls.clone(), ASK_LIMIT).await else { continue };
            if client.status().await.is_ok_and(|status| status.leader == Some(status.member_id)) {
                return Some(number);
            }
        }
        None
    })
}

/// The hash of everything that each member has at one revision, once all of them have it.
pub(crate) fn hashes(fleet: &Fleet, revision: i64) -> BTreeMap<String, (u32, i64)> {
    let (targets, tls) = Members::of(fleet).split();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let began = Instant::now();
        let mut hashes = BTreeMap::new();
        for target in &targets {
            loop {
                let hash = async {
                    let mut client = EtcdClient::connect(target, tls.clone(), ASK_LIMIT).await?;
                    client.hash_kv(revision).await
                };
                match hash.await {
                    Ok(hash) => _ = hashes.insert(target.name.clone(), (hash.hash, hash.compacted)),
                    Err(error) => {
                        assert!(began.elapsed() < DEADLINE, "{} tells no hash: {error}", target.name);
                        tokio::time::sleep(Duration::from_millis(200)).await;
                        continue;
                    }
                }
                break;
            }
        }
        hashes
    })
}

fn signal(pids: &[i32], signal: Signal) {
    for pid in pids {
        // Ignored: it may have ended by itself.
        let _ = kill(Pid::from_raw(*pid), signal);
    }
}

/// Sets the soft limit of open files; what it was before. `None` if the process is gone.
fn limit_files(pid: i32, limit: &str) -> Option<String> {
    let prlimit = |arguments: &[&str]| {
        Command::new("prlimit").arg(format!("--pid={pid}")).args(arguments).output().ok()
    };
    let before = prlimit(&["--nofile", "--noheadings", "--output=SOFT"])?;
    prlimit(&[&format!("--nofile={limit}")])?;
    let before = String::from_utf8_lossy(&before.stdout).trim().to_owned();
    (!before.is_empty()).then(|| format!("{before}:"))
}

/// Overwrites a part of any page in use.
fn damage_db(db: &Path, dice: &mut Dice) {
    let file = File::open(db).expect("open the database");
    let pages = file.metadata().expect("measure the database").len() / PAGE;
    let survey = survey(&Db::open(file).expect("a database"), &mut ()).expect("walk through it");
    let live: Vec<u64> = (0..pages).filter(|page| survey.class(*page) == PageClass::Live).collect();
    let page = dice.pick(&live).expect("a database has pages");
    overwrite(db, page * PAGE + dice.below(PAGE - 64), &[0xa5; 64]);
}

/// Changes a byte of what was written to the newest file of the log.
fn damage_log(wal: &Path, dice: &mut Dice) {
    let mut segments: Vec<PathBuf> = fs::read_dir(wal)
        .expect("list the log")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .collect();
    segments.sort();
    let newest = segments.last().expect("a file of the log");
    let bytes = fs::read(newest).expect("read the log");
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("something was written") as u64;
    let at = dice.below(end);
    let byte = bytes[usize::try_from(at).expect("a place in the file")];
    overwrite(newest, at, &[!byte]);
    println!("byte {at} of {end} of the log");
}
