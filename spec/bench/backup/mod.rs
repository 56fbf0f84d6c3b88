//! Backups, next to what people use today: `etcdctl snapshot save` and `etcdutl snapshot restore`.
//!
//! One real etcd with much data that do not compress, which waits for its disk as a deployed one does; the store is a
//! directory on the same disk, or an S3 server on this machine.

mod noticed;
mod process;
mod restoring;
mod saving;
mod shop;
mod writers;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use shop::{Job, Shop};
use writers::Writers;

use crate::figure::Figure;
use crate::member::{Member, VALUE};

/// The two sizes whose memory is compared, in bytes of values.
const SMALL: usize = 64 << 20;
const LARGE: usize = 1 << 30;
/// Changes in the deltas that are timed; at least.
const EVENTS: i64 = 100_000;
/// Writers and the pace of each, for the deltas behind the large full snapshot.
const WRITERS: usize = 64;
const SPAN: std::time::Duration = std::time::Duration::from_secs(3);

/// All of them. `scale` makes the data, the deltas and the spans of writing so many times as large.
pub fn measure(packages: &Path, scale: u32) -> Result<Vec<Figure>> {
    let tool = packages.join("etcd-tools/bin/etcd-backup");
    ensure!(tool.exists(), "{} is missing", tool.display());
    let root = tempfile::tempdir().context("make a temporary directory")?;
    let (small_root, large_root) = (root.path().join("small"), root.path().join("large"));
    let small = filled(&small_root, SMALL)?;
    let large = filled(&large_root, LARGE * usize::try_from(scale)?)?;

    let mut figures = saving::measure(&tool, root.path(), &small, &large)?;
    small.end()?;

    let shop = Shop { tool: &tool, directory: root.path().join("store") };
    shop.save(&large)?;
    let job = Job::start(&shop, &large, "1s")?;
    Writers::start(&large.url, WRITERS, None).run(SPAN)?;
    shop.has(large.revision()?)?;
    job.end()?;
    figures.extend(restoring::measure(root.path(), &shop, &large)?);
    figures.extend(noticed::writer(root.path(), &shop, &shop, &large, scale)?);
    figures.extend(noticed::lag(&shop, &large, scale)?);
    large.end()?;
    figures.extend(restoring::applied(&tool, root.path(), EVENTS * i64::from(scale))?);
    Ok(figures)
}

/// An etcd with so many bytes of values. It is filled without waiting for the disk, and then started as it is deployed.
fn filled(root: &Path, bytes: usize) -> Result<Member> {
    let filling = Member::start(root, &["--unsafe-no-fsync"])?;
    filling.fill(bytes, noise)?;
    filling.end()?;
    Member::start(root, &[])
}

/// A value that does not compress.
fn noise(key: &str) -> Vec<u8> {
    let mut state = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut value = Vec::with_capacity(VALUE);
    while value.len() < VALUE {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value.extend_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
    }
    value
}
