//! A full snapshot into a directory and into an S3 server, in turn with `etcdctl snapshot save` to the same disk.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::process::{Took, took};
use super::shop::Shop;
use crate::figure::Figure;
use crate::member::Member;
use crate::s3::{KEY, S3, SECRET};
use crate::samples::{Samples, in_turn};

/// How often each way is taken, alternating.
const ROUNDS: usize = 3;
const S3_ROUNDS: usize = 2;
/// What is put into the S3 server in one piece, to know its speed.
const BARE: usize = 64 << 20;

/// `save*` and `etcdctl_save*`, seconds and memory.
pub fn measure(tool: &Path, root: &Path, small: &Member, large: &Member) -> Result<Vec<Figure>> {
    let (small_theirs, small_ours) = both(tool, root, small, 0)?;
    let rounds = (0..ROUNDS).map(|round| both(tool, root, large, round)).collect::<Result<Vec<_>>>()?;
    let seconds: Vec<_> = rounds.iter().map(|(theirs, ours)| (theirs.seconds, ours.seconds)).collect();
    let most = |memory: fn(&(Took, Took)) -> f64| rounds.iter().map(memory).fold(0.0, f64::max);
    let mut figures = vec![
        Figure::median("etcdctl_save", &Samples::of(seconds.iter().map(|(theirs, _)| *theirs)), "s"),
        Figure::median("save", &Samples::of(seconds.iter().map(|(_, ours)| *ours)), "s"),
        Figure::median("save_ratio", &Samples::ratios(&seconds), "ratio").goal(1.0),
        Figure::exact("etcdctl_save_memory_small", small_theirs.memory, "MB"),
        Figure::exact("etcdctl_save_memory_large", most(|(theirs, _)| theirs.memory), "MB"),
        Figure::exact("save_memory_small", small_ours.memory, "MB").goal(32.0),
        Figure::exact("save_memory_large", most(|(_, ours)| ours.memory), "MB").goal(32.0),
    ];
    // Where there is none, that is told, and the other figures count.
    if let Some(server) = S3::start() {
        figures.extend(into_s3(tool, root, large, &server)?);
    }
    Ok(figures)
}

/// etcdctl's and ours, the order changing with each round.
fn both(tool: &Path, root: &Path, etcd: &Member, round: usize) -> Result<(Took, Took)> {
    in_turn(round, || theirs(root, etcd), || ours(tool, root, etcd))
}

/// etcdctl's snapshot, which is removed again.
pub fn theirs(root: &Path, etcd: &Member) -> Result<Took> {
    let file = root.join("theirs.db");
    let taken =
        took(Command::new("etcdctl").args(["--endpoints", &etcd.url, "snapshot", "save"]).arg(&file))?;
    settled()?;
    fs::remove_file(&file).context("remove etcdctl's snapshot")?;
    Ok(taken)
}

fn ours(tool: &Path, root: &Path, etcd: &Member) -> Result<Took> {
    let shop = Shop { tool, directory: root.join("saved") };
    let taken = shop.save(etcd)?;
    settled()?;
    fs::remove_dir_all(&shop.directory).context("remove our snapshot")?;
    Ok(taken)
}

/// Neither side pays for writing back what the other one left dirty.
fn settled() -> Result<()> {
    took(&mut Command::new("sync")).map(|_| ())
}

/// `save_s3*` next to etcdctl to the disk, and `s3_bare_put`: how quickly that server takes bytes over the loopback.
fn into_s3(tool: &Path, root: &Path, etcd: &Member, server: &S3) -> Result<Vec<Figure>> {
    let endpoint = format!("http://{}", server.address());
    let mut bare = Vec::new();
    let mut rounds = Vec::new();
    for round in 0..S3_ROUNDS {
        bare.push(bare_put(server.address())?);
        let store = format!("s3://bucket/round-{round}");
        let mut command = Command::new(tool);
        command
            .args(["save", "--etcd", &etcd.url, "--store", &store, "--path-style"])
            .args(["--region", "us-east-1", "--endpoint", &endpoint])
            .env_clear()
            .envs([("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET)]);
        rounds.push(in_turn(round, || theirs(root, etcd), || took(&mut command))?);
    }
    let seconds: Vec<_> = rounds.iter().map(|(theirs, ours)| (theirs.seconds, ours.seconds)).collect();
    let memory = rounds.iter().map(|(_, ours)| ours.memory).fold(0.0, f64::max);
    Ok(vec![
        Figure::median("s3_bare_put", &Samples::of(bare), "MB/s"),
        Figure::median("save_s3", &Samples::of(seconds.iter().map(|(_, ours)| *ours)), "s"),
        Figure::median("save_s3_ratio", &Samples::ratios(&seconds), "ratio").goal(1.0),
        Figure::exact("save_s3_memory_large", memory, "MB").goal(32.0),
    ])
}

/// MB/s of one plain PUT.
fn bare_put(address: SocketAddr) -> Result<f64> {
    let body = vec![b'b'; BARE];
    let started = Instant::now();
    let mut stream = TcpStream::connect(address).context("connect to the S3 server")?;
    write!(
        stream,
        "PUT /bucket/bare HTTP/1.1\r\nHost: {address}\r\nContent-Length: {BARE}\r\nConnection: close\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential={KEY}/20261126/us-east-1/s3/aws4_request, \
         SignedHeaders=host, Signature=0\r\n\r\n"
    )?;
    stream.write_all(&body).context("put to the S3 server")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("hear from the S3 server")?;
    ensure!(answer.starts_with("HTTP/1.1 20"), "the S3 server answered {answer}");
    #[expect(clippy::cast_precision_loss, reason = "64 MiB")]
    Ok(BARE as f64 / 1e6 / started.elapsed().as_secs_f64())
}
