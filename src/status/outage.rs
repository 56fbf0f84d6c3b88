//! Who is missing when no cluster serves, and which way back fits: pure, from what launchers and members answered
//! (docs/lost.md).

use std::fmt::Write;

use super::{ClusterStatus, InstanceStatus};
use crate::etcd::quorum::quorum;

/// What is known of the data of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Data {
    /// Its etcd answers, without a leader to follow.
    Runs,
    /// It has data, and its etcd does not answer.
    Lies,
    /// Its launcher says that its disk has none that can be used.
    None,
    /// Nobody answers there.
    Unknown,
}

fn data(instance: &InstanceStatus) -> Data {
    match (&instance.etcd, &instance.launcher) {
        (Ok(_), _) => Data::Runs,
        (Err(_), Ok(decision)) if decision.disk == "data" => Data::Lies,
        (Err(_), Ok(_)) => Data::None,
        (Err(_), Err(_)) => Data::Unknown,
    }
}

/// Which way back there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// A quorum of the disks is at hand: it comes back by itself, or with what stands in its way.
    Wait,
    /// With the instances that are silent there may be a quorum of disks.
    StartSilent,
    /// Disks of a quorum are lost, and some are left.
    Survivors,
    /// Nobody has data.
    Backup,
}

fn way(all: &[Data]) -> Way {
    let count = |data: Data| all.iter().filter(|one| **one == data).count();
    let at_hand = count(Data::Runs) + count(Data::Lies);
    let silent = count(Data::Unknown);
    if at_hand >= quorum(all.len()) {
        Way::Wait
    } else if at_hand + silent >= quorum(all.len()) {
        Way::StartSilent
    } else if at_hand > 0 || silent > 0 {
        Way::Survivors
    } else {
        Way::Backup
    }
}

/// What an operator reads, if no cluster serves; nothing otherwise. Before a first deploy has made a cluster this is
/// what stands in its way as well.
pub(super) fn words(status: &ClusterStatus) -> Option<String> {
    if status.cluster_id.is_some() {
        return None;
    }
    let all: Vec<Data> = status.instances.iter().map(data).collect();
    let runs = all.iter().filter(|one| **one == Data::Runs).count();
    let mut text =
        format!("error: no quorum: {runs} of {} members answer, {} are needed", all.len(), quorum(all.len()));
    for (instance, data) in status.instances.iter().zip(&all) {
        let missing = match (data, &instance.etcd, &instance.launcher) {
            (Data::Runs, ..) => continue,
            (Data::Lies, _, Ok(decision)) => format!("has data: {}", decision.because),
            (_, _, Ok(decision)) => {
                format!("has no data that can be used (disk {}): {}", decision.disk, decision.because)
            }
            (_, Err(why), _) => format!("silent: {why}"),
            (_, Ok(_), Err(why)) => format!("its launcher is silent: {why}"),
        };
        write!(text, "\n  missing {}: {missing}", instance.instance)
            .expect("writing to a String cannot fail");
    }
    let deployment = &status.deployment;
    let (why, next) = match way(&all) {
        Way::Wait => (
            "no write succeeds until a majority runs; its disks are all there",
            "nothing, if they are just starting; else repair what each launcher above waits for; docs/lost.md#quorum"
                .to_owned(),
        ),
        Way::StartSilent => (
            "no write succeeds; with the silent ones there may be a majority, and nothing is lost",
            format!(
                "bring the silent ones back: `bosh -d {deployment} cck`, then `bosh -d {deployment} start`; never remove a member by hand; docs/lost.md#quorum"
            ),
        ),
        Way::Survivors => (
            "no write succeeds, and the disks of a majority are lost: it does not come back by itself",
            format!(
                "if the lost disks cannot be had, make the cluster anew of the newest that is left: `bosh -d {deployment} run-errand restore` with restore_point=survivors; docs/lost.md#quorum"
            ),
        ),
        Way::Backup => (
            "nobody has data",
            "attach an orphaned disk if there is one (`bosh disks --orphaned`), else restore a backup; a deployment that never had data is made with operations/bootstrap.yml; docs/lost.md#everything".to_owned(),
        ),
    };
    write!(text, "\n  why:  {why}\n  next: {next}").expect("writing to a String cannot fail");
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::Data::{Lies, None, Runs, Unknown};
    use super::*;

    #[test]
    fn the_way_back_depends_on_the_disks_that_are_left() {
        let table: [(&[Data], Way); 12] = [
            (&[Runs, Lies, None], Way::Wait),
            (&[Lies, Lies, Unknown], Way::Wait),
            (&[Runs, Runs, None, None, None], Way::Survivors),
            (&[Runs, Unknown, Unknown], Way::StartSilent),
            (&[Runs, None, Unknown], Way::StartSilent),
            (&[Unknown, Unknown, Unknown], Way::StartSilent),
            (&[Runs, None, None], Way::Survivors),
            (&[Lies, None, None], Way::Survivors),
            // Of three, one alone is no majority, whatever its disk has.
            (&[None, None, Unknown], Way::Survivors),
            (&[None, None, None], Way::Backup),
            (&[None], Way::Backup),
            (&[Lies], Way::Wait),
        ];
        for (all, expected) in table {
            assert_eq!(way(all), expected, "{all:?}");
        }
    }
}
