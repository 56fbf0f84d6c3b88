//! What a writer notices of a full snapshot and of being followed; how far the store is behind a busy cluster.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::process::{processor, took};
use super::saving::theirs;
use super::shop::{Job, LIST_EVERY, PATIENCE, Shop};
use super::writers::{Put, Writers, p99};
use crate::figure::Figure;
use crate::member::Member;
use crate::memory::megabytes;
use crate::samples::Samples;

/// How often each is measured, in turn.
const ROUNDS: usize = 3;
/// One writer with a write due so often.
const PACE: Duration = Duration::from_millis(5);
/// For how long it writes at rest, and while it is followed.
const SPAN: Duration = Duration::from_secs(5);
/// So many, each with a write due so often, are two thousand writes a second.
const BUSY: usize = 40;
const BUSY_PACE: Duration = Duration::from_millis(20);
/// For how long they write.
const BUSY_SPAN: Duration = Duration::from_secs(12);
/// The parts of it that are looked at one by one.
const PARTS: usize = 4;

/// `put_p99*`: a writer alone, while etcdctl takes a snapshot, while a full one is taken, and while it is followed.
pub fn writer(
    root: &Path,
    shop: &Shop<'_>,
    following: &Shop<'_>,
    etcd: &Member,
    scale: u32,
) -> Result<Vec<Figure>> {
    let one = || Writers::start(&etcd.url, 1, Some(PACE));
    let of = |puts: Vec<Put>| p99(puts.iter().map(Put::latency).collect());
    let (mut rest, mut etcdctl, mut saving, mut followed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        rest.push(of(one().run(SPAN * scale)?)?);

        let writes = one();
        theirs(root, etcd)?;
        etcdctl.push(of(writes.end()?)?);

        let own = Shop { directory: root.join(format!("noticed-{round}")), ..*shop };
        let writes = one();
        own.save(etcd)?;
        // etcdctl's turn has it, too.
        took(&mut Command::new("sync"))?;
        saving.push(of(writes.end()?)?);
        std::fs::remove_dir_all(&own.directory).context("remove a store")?;

        let job = Job::start(following, etcd, "1s")?;
        followed.push(of(one().run(SPAN * scale)?)?);
        job.end()?;
    }
    let beside =
        |one: &[f64], other: &[f64]| -> Vec<_> { one.iter().copied().zip(other.iter().copied()).collect() };
    Ok(vec![
        Figure::median("put_p99", &Samples::of(rest.clone()), "ms"),
        Figure::median("put_p99_while_etcdctl_saves", &Samples::of(etcdctl.clone()), "ms"),
        Figure::median("put_p99_while_saving", &Samples::of(saving.clone()), "ms"),
        Figure::median("put_p99_while_saving_ratio", &Samples::ratios(&beside(&etcdctl, &saving)), "ratio"),
        Figure::median("put_p99_while_followed", &Samples::of(followed.clone()), "ms"),
        Figure::median("put_p99_while_followed_ratio", &Samples::ratios(&beside(&rest, &followed)), "ratio"),
    ])
}

/// `delta_lag_PERIOD*` for each period, and what following takes next to what etcd takes for the writes themselves.
pub fn lag(shop: &Shop<'_>, etcd: &Member, scale: u32) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let (mut used, mut rates, mut memory) = (Vec::new(), Vec::new(), 0.0_f64);
    for (period, milliseconds) in [("500ms", 500.0), ("1s", 1000.0)] {
        let job = Job::start(shop, etcd, period)?;
        let before = (processor(etcd.pid()?)?, processor(job.pid()?)?);
        let begun = Instant::now();
        let writers = Writers::start(&etcd.url, BUSY, Some(BUSY_PACE));
        let mut seen = listings(shop, BUSY_SPAN * scale)?;
        let puts = writers.end()?;
        let minutes = begun.elapsed().as_secs_f64() / 60.0;
        used.push((
            (processor(etcd.pid()?)? - before.0) / minutes,
            (processor(job.pid()?)? - before.1) / minutes,
        ));
        rates.push(f64::from(u32::try_from(puts.len())?) / minutes / 60.0);
        let last = puts.iter().map(|put| put.revision).max().context("nothing was written")?;
        let deadline = Instant::now() + PATIENCE;
        while seen.last().is_none_or(|(_, revision)| *revision < last) {
            ensure!(Instant::now() < deadline, "revision {last} does not get into the store");
            seen.extend(listings(shop, LIST_EVERY)?);
        }
        memory = memory.max(megabytes(job.pid()?, "VmHWM")?);
        job.end()?;

        let lags: Vec<f64> = puts.iter().map(|put| lag_of(put, &seen)).collect();
        let parts: Vec<f64> =
            lags.chunks(lags.len().div_ceil(PARTS)).map(|part| p99(part.to_vec())).collect::<Result<_>>()?;
        let name = format!("delta_lag_{period}");
        figures.extend([
            Figure::exact(format!("{name}_median"), Samples::of(lags.iter().copied()).median(), "ms"),
            Figure::median(format!("{name}_p99"), &Samples::of(parts.iter().copied()), "ms")
                .goal(milliseconds + 500.0),
            Figure::median(
                format!("{name}_p99_beyond_period"),
                &Samples::of(parts.iter().map(|lag| lag - milliseconds)),
                "ms",
            ),
            Figure::exact(format!("{name}_max"), Samples::of(lags).max(), "ms"),
        ]);
    }
    figures.extend([
        Figure::median("follow_writes", &Samples::of(rates), "1/s"),
        Figure::median("follow_processor_etcd", &Samples::of(used.iter().map(|(etcd, _)| *etcd)), "s/min"),
        Figure::median("follow_processor", &Samples::of(used.iter().map(|(_, job)| *job)), "s/min"),
        Figure::median("follow_processor_ratio", &Samples::ratios(&used), "ratio"),
        Figure::exact("follow_memory", memory, "MB").goal(32.0),
    ]);
    Ok(figures)
}

/// When the store was first seen to have deltas up to which revision, while a span passes.
fn listings(shop: &Shop<'_>, span: Duration) -> Result<Vec<(Instant, i64)>> {
    let until = Instant::now() + span;
    let mut seen: Vec<(Instant, i64)> = Vec::new();
    while Instant::now() < until {
        let last = shop.listed()?;
        if seen.last().is_none_or(|(_, known)| *known < last) {
            seen.push((Instant::now(), last));
        }
        #[expect(clippy::disallowed_methods, reason = "the span between two looks at the store")]
        std::thread::sleep(LIST_EVERY);
    }
    Ok(seen)
}

/// Milliseconds from a write's answer until its delta was listed.
fn lag_of(put: &Put, seen: &[(Instant, i64)]) -> f64 {
    let listed = seen.partition_point(|(_, revision)| *revision < put.revision);
    let (at, _) = seen[listed];
    at.saturating_duration_since(put.answered).as_secs_f64() * 1e3
}
