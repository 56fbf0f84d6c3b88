//! Making a new cluster of the newest disk that is left of an old one (docs/contract.md#survivors).
//!
//! Its log may have entries of which this disk does not know that they were agreed on. On the only disk that has them
//! they count: somebody may have been told so. They are applied by etcd itself, on a copy, reached by nobody.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::net::UnixStream;

use super::step::Step;
use super::{Errand, LOOK_EVERY};
use crate::atomic_file;
use crate::datadir;
use crate::datadir::membership::Membership;
use crate::datadir::restore::{HashRule, Restored, Restoring, Run, restore};
use crate::datadir::wal::commit::commit_all;
use crate::etcd::binary;
use crate::etcd::process::{EtcdProcess, Program};
use crate::lifecycle::launch::aside::room;
use crate::lifecycle::launch::records::RestoreRequest;
use crate::lifecycle::launch::restoring::Ready;
use crate::report::Complaint;

impl Errand {
    /// Makes the data out of this disk; says what it is.
    pub(super) async fn make_of_own_disk(
        &self,
        ready: &Ready,
        held: &RestoreRequest,
        membership: &Membership,
    ) -> Result<String> {
        let room = room(&self.paths).context("measure the disk")?;
        // A copy to work on, and what is made of it.
        if room.free_bytes < 2 * room.member_bytes {
            return Err(Complaint::refused(
                format!("the data has {} bytes and the disk {} free ones", room.member_bytes, room.free_bytes),
                "it is copied twice, so that what is there is never touched; nothing was changed",
                "give the disk more room: `persistent_disk` or `persistent_disk_type` in the manifest, or remove what lies in /var/vcap/store/etcd/aside",
            )
            .into());
        }
        self.say("this disk has the newest log; etcd stops here, and a copy of its data is made")?;
        Step::Hold.reach();
        self.leave(held).await?;
        self.wait_for(&self.own, "waiting until etcd has stopped here", |look| {
            let holds = look.state.restore_request == Some(held.id) && look.state.plan == "wait";
            Ok((holds && !datadir::in_use(&self.paths.data_dir())?).then_some(()))
        })
        .await?;
        let copy = ready.directory().join("copy");
        Step::CopyDisk.reach();
        let log = self.copy(&copy)?;
        let committed = commit_all(&log).context("read the log of this disk")?;
        Step::ApplyLog.reach();
        self.apply(&copy).await?;
        let restored = self.make(ready, &copy.join("member/snap/db"), HashRule::Skipped, membership)?;
        Step::RemoveCopy.reach();
        fs::remove_dir_all(&copy).context("remove the copy")?;
        let (last, kept) = (committed.last, committed.last.index.saturating_sub(committed.before));
        Ok(format!(
            "the data of this disk up to entry {} of term {} ({kept} of them not known to be agreed on), revision {}",
            last.index,
            last.term,
            restored.raised_from.unwrap_or(restored.revision)
        ))
    }

    /// Makes the data out of a snapshot file.
    pub(super) fn make_of_snapshot(
        &self,
        ready: &Ready,
        file: &Path,
        membership: &Membership,
    ) -> Result<String> {
        let restored = self.make(ready, file, HashRule::Demanded, membership)?;
        let revision = restored.raised_from.unwrap_or(restored.revision);
        Ok(format!("the snapshot in {} up to revision {revision}", file.display()))
    }

    fn make(
        &self,
        ready: &Ready,
        snapshot: &Path,
        hash: HashRule,
        membership: &Membership,
    ) -> Result<Restored> {
        let wal_dir = ready.own_wal_dir(&self.paths);
        let restoring = Restoring {
            snapshot,
            membership,
            data_dir: &ready.data_dir(),
            wal_dir: wal_dir.as_deref(),
            hash,
            bump: self.typed.bump,
            target_version: None,
            run: Run::Real,
        };
        Step::MakeData.reach();
        Ok(restore(&restoring, &mut |_, _| {}).map_err(|error| error.complaint())?)
    }

    /// Copies the member; says where its log is. The log lies where etcd looks for it without being told.
    fn copy(&self, to: &Path) -> Result<PathBuf> {
        let member = to.join("member");
        let log = member.join("wal");
        copy_all(&self.paths.data_dir().join("member"), &member).context("copy the data")?;
        if let Some(wal_dir) = self.paths.wal_dir() {
            copy_all(wal_dir, &log).context("copy the log")?;
        }
        Ok(log)
    }

    /// Lets etcd apply the whole log, alone and without a door: its sockets lie in a directory of root's.
    async fn apply(&self, copy: &Path) -> Result<()> {
        // A host and a port is what every line takes; it is a name in the working directory.
        let (client, peer) = ("client:1", "peer:1");
        let socket = |name: &str| format!("unix://{name}");
        let configuration = copy.join("etcd.json");
        let line = self.job.properties.etcd_version;
        let content = json!({
            "name": self.job.name.to_string(),
            "data-dir": copy,
            "force-new-cluster": true,
            "listen-client-urls": socket(client),
            // Nobody is there: etcd wants a host and a port.
            "advertise-client-urls": "http://127.0.0.1:1",
            "listen-peer-urls": socket(peer),
            "initial-advertise-peer-urls": self.job.own().peer_url.to_string(),
            "initial-cluster": format!("{}={}", self.job.name, self.job.own().peer_url),
            "quota-backend-bytes": i64::MAX,
            "logger": "zap",
            "log-level": "warn",
        });
        atomic_file::write_json_for_now(&configuration, &content, 0o600)?;
        let program = Program { binary: binary::path(&self.paths, line), configuration };
        let mut etcd = EtcdProcess::spawn_in(&program, copy).context("start etcd on the copy")?;
        let began = Instant::now();
        loop {
            tokio::select! {
                ended = etcd.wait() => bail!("etcd ended on the copy of the data: {:?}; its log is above", ended?),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            // A linearizable read: everything before it has been applied.
            if healthy(&copy.join(client)).await {
                break;
            }
            if began.elapsed() >= self.typed.wait {
                bail!("etcd did not serve on the copy of the data within {} s", self.typed.wait.as_secs());
            }
        }
        // It writes what it has applied when it ends.
        etcd.signal(Signal::SIGTERM);
        etcd.wait().await.context("wait for etcd to end")?;
        Ok(())
    }
}

/// Whether the etcd behind a socket answers its health page.
async fn healthy(socket: &Path) -> bool {
    const LIMIT: Duration = Duration::from_secs(10);
    let asked = async {
        let stream = UnixStream::connect(socket).await.ok()?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        let request =
            hyper::Request::get("/health").header("host", "etcd").body(Empty::<Bytes>::new()).ok()?;
        let answer = sender.send_request(request).await.ok()?;
        let status = answer.status();
        answer.into_body().collect().await.ok()?;
        Some(status.is_success())
    };
    tokio::time::timeout(LIMIT, asked).await.ok().flatten().unwrap_or(false)
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_all(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).with_context(|| format!("copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}
