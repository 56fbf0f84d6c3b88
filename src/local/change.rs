//! What has to happen to one instance: a pure decision from how it is, how it should be and what an
//! operator asked for. docs/local-director.md#changes

use serde::{Deserialize, Serialize};

use super::agent::drain::Cause;
use super::model::Machine;
use super::monit::JobState;
use super::package::Fingerprints;
use super::state::{Desired, Instance};

/// How an instance should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Hash of everything rendered.
    pub configuration_hash: String,
    /// Its packages.
    pub packages: Fingerprints,
    /// Its jobs.
    pub jobs: Vec<String>,
    /// Size of its persistent disk, 0 for none.
    pub disk_mib: u32,
    /// Name of the disk's type, if its size came from one.
    pub disk_type: Option<String>,
    /// Its machine.
    pub machine: Machine,
}

/// What becomes of a persistent disk, besides a change of its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiskFate {
    /// It stays.
    #[default]
    Keep,
    /// Its content is copied to a new one, as if its size had changed.
    Renew,
    /// It is put aside with its machine; an empty one takes its place.
    Lose,
}

/// What an operator asked for, besides the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// Stop and start it.
    pub restart: bool,
    /// Make its machine anew.
    pub recreate: bool,
    /// What becomes of its disk.
    pub disk: DiskFate,
}

/// What has to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Nothing.
    Nothing,
    /// Something.
    Update {
        /// Run the stop sequence, telling this; `None` when nothing runs that could be stopped.
        stop: Option<Cause>,
        /// Make the machine anew.
        recreate: bool,
        /// What becomes of the disk.
        disk: DiskFate,
    },
}

/// Decides. `now.desired` is already what the operator wants; `state` is what its agent says, `None`
/// without a machine.
pub fn decide(now: &Instance, wanted: &Wanted, state: Option<JobState>, asked: Asked) -> Work {
    if now.ignored {
        return Work::Nothing;
    }
    let applied = now.applied.as_ref();
    let hash_changed = applied.is_some_and(|applied| applied.configuration_hash != wanted.configuration_hash);
    let packages = changed_packages(now, wanted);
    let renew = asked.disk == DiskFate::Renew && now.disk.is_some() && wanted.disk_mib > 0;
    let disk_changed = renew || disk_differs(now, wanted);
    let has_vm = state.is_some();
    let content_differs = hash_changed
        || applied.is_none_or(|applied| applied.packages != wanted.packages || applied.jobs != wanted.jobs)
        || disk_changed
        || now.former.is_some();
    let state_differs = match now.desired {
        Desired::Started => state != Some(JobState::Running),
        Desired::Stopped => state != Some(JobState::Stopped),
        // A machine that is gone has nothing that could differ.
        Desired::Detached => {
            return if has_vm {
                Work::Update {
                    stop: stop_if_running(state, Cause::HardStop),
                    recreate: false,
                    disk: DiskFate::Keep,
                }
            } else {
                Work::Nothing
            };
        }
    };
    let machine_changed = now.machine.as_ref().is_some_and(|machine| *machine != wanted.machine);
    let recreate = has_vm && (asked.recreate || machine_changed);
    let restart = asked.restart && now.desired == Desired::Started;
    if !(now.dirty || content_differs || state_differs || recreate || restart) {
        return Work::Nothing;
    }
    let cause = if recreate {
        Cause::Recreate
    } else if disk_changed {
        Cause::DiskChange
    } else if now.desired == Desired::Stopped {
        Cause::Stop
    } else {
        Cause::Update { hash_changed, packages }
    };
    let disk = match asked.disk {
        DiskFate::Renew if renew => DiskFate::Renew,
        DiskFate::Lose if recreate => DiskFate::Lose,
        DiskFate::Keep | DiskFate::Renew | DiskFate::Lose => DiskFate::Keep,
    };
    Work::Update { stop: stop_if_running(state, cause), recreate, disk }
}

/// Another size or another type is another disk.
pub fn disk_differs(now: &Instance, wanted: &Wanted) -> bool {
    let type_name = now.disk.as_ref().and_then(|disk| disk.type_name.as_ref());
    now.disk_mib() != wanted.disk_mib || (wanted.disk_mib > 0 && type_name != wanted.disk_type.as_ref())
}

/// A soft-stopped instance has been through the stop sequence already.
fn stop_if_running(state: Option<JobState>, cause: Cause) -> Option<Cause> {
    match state {
        None | Some(JobState::Stopped) => None,
        Some(JobState::Running | JobState::Starting | JobState::Failing | JobState::Unresponsive) => {
            Some(cause)
        }
    }
}

/// New packages and those with another content.
fn changed_packages(now: &Instance, wanted: &Wanted) -> Vec<String> {
    let Some(applied) = &now.applied else { return Vec::new() };
    wanted
        .packages
        .iter()
        .filter(|(name, fingerprint)| applied.packages.get(*name) != Some(fingerprint))
        .map(|(name, _)| name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::model::Identity;
    use super::super::state::{Applied, Disk};
    use super::*;

    fn packages(version: &str) -> Fingerprints {
        [("etcd".to_owned(), version.to_owned()), ("tools".to_owned(), "1".to_owned())].into()
    }

    fn wanted() -> Wanted {
        Wanted {
            configuration_hash: "h".to_owned(),
            packages: packages("1"),
            jobs: vec!["etcd".to_owned()],
            disk_mib: 1024,
            disk_type: None,
            machine: machine("1"),
        }
    }

    fn machine(stemcell: &str) -> Machine {
        Machine {
            stemcell: Some(stemcell.to_owned()),
            vm_type: None,
            env: serde_json::Value::Null,
            network: "default".to_owned(),
            ip: Ipv4Addr::LOCALHOST,
        }
    }

    fn instance(desired: Desired) -> Instance {
        Instance {
            identity: Identity {
                deployment: "d".to_owned(),
                group: "g".to_owned(),
                id: "i".to_owned(),
                index: 0,
                az: None,
                network: "default".to_owned(),
                ip: Ipv4Addr::LOCALHOST,
                bootstrap: true,
            },
            desired,
            has_vm: true,
            machine: Some(machine("1")),
            disk: Some(Disk { id: "x".to_owned(), mib: 1024, type_name: None }),
            disk_to_come: None,
            disk_to_go: None,
            applied: Some(Applied {
                configuration_hash: "h".to_owned(),
                packages: packages("1"),
                jobs: vec!["etcd".to_owned()],
            }),
            dirty: false,
            ignored: false,
            former: None,
        }
    }

    fn update(hash_changed: bool, packages: &[&str]) -> Cause {
        let packages = packages.iter().map(|name| (*name).to_owned()).collect();
        Cause::Update { hash_changed, packages }
    }

    #[expect(clippy::too_many_lines, reason = "it is a table")]
    #[test]
    fn every_operation_does_what_it_must_and_no_more() {
        use Desired::{Detached, Started, Stopped};
        use JobState as J;
        const PLAIN: Asked = Asked { restart: false, recreate: false, disk: DiskFate::Keep };
        const RESTART: Asked = Asked { restart: true, ..PLAIN };
        const RECREATE: Asked = Asked { recreate: true, ..PLAIN };
        const LOSE: Asked = Asked { disk: DiskFate::Lose, ..RECREATE };
        const RENEW: Asked = Asked { disk: DiskFate::Renew, ..PLAIN };
        let running = Some(J::Running);
        let work = |stop, recreate| Work::Update { stop, recreate, disk: DiskFate::Keep };
        let dirty = Instance { dirty: true, ..instance(Started) };
        let hash = Wanted { configuration_hash: "other".to_owned(), ..wanted() };
        let package = Wanted { packages: packages("2"), ..wanted() };
        let disk = Wanted { disk_mib: 2048, ..wanted() };
        let no_disk = Wanted { disk_mib: 0, ..wanted() };
        let moved = Wanted { machine: machine("2"), ..wanted() };
        let other_type = Wanted { disk_type: Some("fast".to_owned()), ..wanted() };
        let renamed = Instance { former: Some(instance(Started).identity), ..instance(Started) };
        let ignored = Instance { ignored: true, ..dirty.clone() };
        let of_older_record = Instance { machine: None, ..instance(Started) };
        let fresh = Instance { applied: None, has_vm: false, disk: None, ..dirty.clone() };
        let rows = vec![
            ("nothing new", instance(Started), wanted(), running, PLAIN, Work::Nothing),
            ("first deploy", fresh, wanted(), None, PLAIN, work(None, false)),
            (
                "config changed",
                instance(Started),
                hash.clone(),
                running,
                PLAIN,
                work(Some(update(true, &[])), false),
            ),
            (
                "package changed",
                instance(Started),
                package,
                running,
                PLAIN,
                work(Some(update(false, &["etcd"])), false),
            ),
            (
                "disk resized",
                instance(Started),
                disk.clone(),
                running,
                PLAIN,
                work(Some(Cause::DiskChange), false),
            ),
            (
                "disk removed",
                instance(Started),
                no_disk,
                running,
                PLAIN,
                work(Some(Cause::DiskChange), false),
            ),
            ("left dirty", dirty, wanted(), running, PLAIN, work(Some(update(false, &[])), false)),
            (
                "process down",
                instance(Started),
                wanted(),
                Some(J::Failing),
                PLAIN,
                work(Some(update(false, &[])), false),
            ),
            ("machine lost", instance(Started), wanted(), None, PLAIN, work(None, false)),
            ("restart", instance(Started), wanted(), running, RESTART, work(Some(update(false, &[])), false)),
            (
                "restart with changes",
                instance(Started),
                hash.clone(),
                running,
                RESTART,
                work(Some(update(true, &[])), false),
            ),
            ("recreate", instance(Started), wanted(), running, RECREATE, work(Some(Cause::Recreate), true)),
            (
                "recreate --lose-disk",
                instance(Started),
                wanted(),
                running,
                LOSE,
                Work::Update { stop: Some(Cause::Recreate), recreate: true, disk: DiskFate::Lose },
            ),
            (
                "stemcell or address changed",
                instance(Started),
                moved.clone(),
                running,
                PLAIN,
                work(Some(Cause::Recreate), true),
            ),
            (
                "nobody knows what it was made as",
                of_older_record,
                moved.clone(),
                running,
                PLAIN,
                Work::Nothing,
            ),
            ("machine lost, stemcell changed", instance(Started), moved, None, PLAIN, work(None, false)),
            (
                "disk of another type",
                instance(Started),
                other_type,
                running,
                PLAIN,
                work(Some(Cause::DiskChange), false),
            ),
            (
                "--recreate-persistent-disks",
                instance(Started),
                wanted(),
                running,
                RENEW,
                Work::Update { stop: Some(Cause::DiskChange), recreate: false, disk: DiskFate::Renew },
            ),
            (
                "--recreate-persistent-disks without a disk before",
                Instance { disk: None, ..instance(Started) },
                wanted(),
                running,
                RENEW,
                work(Some(Cause::DiskChange), false),
            ),
            ("group renamed", renamed, wanted(), running, PLAIN, work(Some(update(false, &[])), false)),
            ("ignored", ignored, hash.clone(), running, RECREATE, Work::Nothing),
            (
                "recreate and resize",
                instance(Started),
                disk,
                running,
                RECREATE,
                work(Some(Cause::Recreate), true),
            ),
            ("stop", instance(Stopped), wanted(), running, PLAIN, work(Some(Cause::Stop), false)),
            ("stopped stays", instance(Stopped), wanted(), Some(J::Stopped), PLAIN, Work::Nothing),
            (
                "stopped, config changed",
                instance(Stopped),
                hash.clone(),
                Some(J::Stopped),
                PLAIN,
                work(None, false),
            ),
            ("stopped, restart", instance(Stopped), wanted(), Some(J::Stopped), RESTART, Work::Nothing),
            (
                "recreate of stopped",
                instance(Stopped),
                wanted(),
                Some(J::Stopped),
                RECREATE,
                work(None, true),
            ),
            ("start", instance(Started), wanted(), Some(J::Stopped), PLAIN, work(None, false)),
            ("stop --hard", instance(Detached), wanted(), running, PLAIN, work(Some(Cause::HardStop), false)),
            (
                "stop --hard of stopped",
                instance(Detached),
                wanted(),
                Some(J::Stopped),
                PLAIN,
                work(None, false),
            ),
            ("detached stays", instance(Detached), hash, None, RECREATE, Work::Nothing),
        ];
        for (row, now, wanted, state, asked, expected) in rows {
            assert_eq!(decide(&now, &wanted, state, asked), expected, "{row}");
        }
    }
}
