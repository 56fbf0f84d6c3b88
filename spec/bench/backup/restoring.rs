//! A full snapshot with deltas restored, in turn with `etcdutl snapshot restore`; and how quickly deltas are added.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::process::{Took, took};
use super::shop::{Job, Shop};
use super::writers::Writers;
use crate::figure::Figure;
use crate::member::Member;
use crate::samples::Samples;

/// How often each way is taken, alternating.
const ROUNDS: usize = 3;
/// How many write as quickly as etcd answers.
const WRITERS: usize = 64;

/// `restore_set`, `etcdutl_restore_full` and their ratio.
pub fn measure(root: &Path, shop: &Shop<'_>, etcd: &Member) -> Result<Vec<Figure>> {
    let snapshot = root.join("full.db");
    took(Command::new("etcdctl").args(["--endpoints", &etcd.url, "snapshot", "save"]).arg(&snapshot))?;
    let target = root.join("restored");
    let theirs = || {
        let mut command = Command::new("etcdutl");
        command.args(["snapshot", "restore"]).arg(&snapshot);
        restore(command.args(["--initial-advertise-peer-urls", PEER]), &target)
    };
    let ours = || restore(&mut shop.command(&["restore"]), &target);
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        rounds.push(if round % 2 == 0 {
            let theirs = theirs()?;
            (theirs, ours()?)
        } else {
            let ours = ours()?;
            (theirs()?, ours)
        });
    }
    fs::remove_file(&snapshot).context("remove the snapshot")?;
    let seconds: Vec<_> = rounds.iter().map(|(theirs, ours)| (theirs.seconds, ours.seconds)).collect();
    let most = |memory: fn(&(Took, Took)) -> f64| rounds.iter().map(memory).fold(0.0, f64::max);
    Ok(vec![
        Figure::median("etcdutl_restore_full", &Samples::of(seconds.iter().map(|(theirs, _)| *theirs)), "s"),
        Figure::median("restore_set", &Samples::of(seconds.iter().map(|(_, ours)| *ours)), "s"),
        Figure::median("restore_set_ratio", &Samples::ratios(&seconds), "ratio").goal(0.333),
        Figure::exact("etcdutl_restore_full_memory", most(|(theirs, _)| theirs.memory), "MB"),
        Figure::exact("restore_set_memory", most(|(_, ours)| ours.memory), "MB"),
    ])
}

/// `delta_applied`: microseconds for each of at least `events` changes, each a revision of its own: the restore of all
/// of them less that of the full snapshot alone.
pub fn applied(tool: &Path, root: &Path, events: i64) -> Result<Vec<Figure>> {
    let place = root.join("applied");
    fs::create_dir(&place).context("make a directory")?;
    let etcd = Member::start(&place, &["--unsafe-no-fsync"])?;
    let shop = Shop { tool, directory: place.join("store") };
    shop.save(&etcd)?;
    let full = etcd.revision()?;
    let job = Job::start(&shop, &etcd, "1s")?;
    let writers = Writers::start(&etcd.url, WRITERS, None);
    shop.has(full + events)?;
    writers.end()?;
    let last = etcd.revision()?;
    shop.has(last)?;
    job.end()?;
    etcd.end()?;

    let target = place.join("restored");
    let changes = f64::from(i32::try_from(last - full)?);
    let to_full = full.to_string();
    let mut pairs = Vec::new();
    for _ in 0..ROUNDS {
        let without = restore(&mut shop.command(&["restore", "--to", &to_full]), &target)?;
        let with = restore(&mut shop.command(&["restore"]), &target)?;
        pairs.push((without.seconds * 1e6 / changes, with.seconds * 1e6 / changes));
    }
    eprintln!("   {changes} changes");
    Ok(vec![Figure::median("delta_applied", &Samples::differences(&pairs), "us").goal(10.0)])
}

const PEER: &str = "http://127.0.0.1:2380";

/// Restores to `target`, which is gone afterwards.
fn restore(command: &mut Command, target: &Path) -> Result<Took> {
    let restored = took(
        command
            .args(["--name", "m1", "--initial-cluster", &format!("m1={PEER}")])
            .args(["--initial-cluster-token", "bench", "--data-dir"])
            .arg(target),
    )?;
    // Neither side pays for writing back what the other one left dirty.
    took(&mut Command::new("sync"))?;
    fs::remove_dir_all(target).with_context(|| format!("remove {}", target.display()))?;
    Ok(restored)
}
