//! Staying as etcd's parent: signals passed on, leadership handed over first, and the exit record
//! written after etcd has ended.

use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::signal::unix::{self, SignalKind};

use super::observe::unix_secs;
use super::records::{Ending, ExitRecord, RECORD_VERSION};
use crate::datadir::{self, Found};
use crate::etcd::connect::Target;
use crate::etcd::handover::{Handover, hand_over};
use crate::etcd::id::MemberId;
use crate::etcd::process::{Ended, EtcdProcess};
use crate::job::paths::Paths;
use crate::journal;
use crate::lifecycle::records;

/// bpm gives 15 s between SIGTERM and SIGQUIT; the rest is etcd's own graceful stop.
const HANDOVER_LIMIT: Duration = Duration::from_secs(3);

/// The signals a supervisor gets from bpm's init, registered before anything slow begins.
pub struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    quit: unix::Signal,
    hangup: unix::Signal,
}

impl Signals {
    /// Registers them all.
    pub fn register() -> std::io::Result<Self> {
        Ok(Self {
            terminate: unix::signal(SignalKind::terminate())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
            quit: unix::signal(SignalKind::quit())?,
            hangup: unix::signal(SignalKind::hangup())?,
        })
    }

    /// The next one that asks this process to stop. SIGHUP is not one: it is swallowed, because etcd
    /// would die of it.
    pub async fn stop(&mut self) -> Signal {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Signal::SIGTERM,
                _ = self.interrupt.recv() => return Signal::SIGINT,
                _ = self.quit.recv() => return Signal::SIGQUIT,
                _ = self.hangup.recv() => {}
            }
        }
    }
}

/// How to reach the own member when leadership has to move.
#[derive(Clone)]
pub struct OwnMember {
    /// Who it is.
    pub member_id: MemberId,
    /// Its client listener.
    pub target: Target,
    /// With the administrator's certificate.
    pub tls: std::sync::Arc<rustls::ClientConfig>,
}

/// Waits for etcd to end, passing on what this process is told.
pub async fn supervise(
    etcd: &mut EtcdProcess,
    signals: &mut Signals,
    own: &OwnMember,
    paths: &Paths,
) -> anyhow::Result<Ended> {
    let mut requested = false;
    let ended = loop {
        tokio::select! {
            ended = etcd.wait() => break ended.context("wait for etcd")?,
            signal = signals.stop() => {
                if signal == Signal::SIGTERM && !requested {
                    requested = true;
                    // etcd may end meanwhile by itself: then there is nothing to hand over.
                    tokio::select! {
                        ended = etcd.wait() => break ended.context("wait for etcd")?,
                        outcome = hand_over(&own.target, &own.tls, HANDOVER_LIMIT) => tell(&outcome),
                    }
                }
                requested = true;
                journal::info("signal passed on to etcd", &json!({"signal": signal.as_str(), "pid": etcd.pid()}));
                etcd.signal(signal);
            }
        }
    };
    let how = ending(ended, requested);
    let fields = json!({"exit_code": ended.exit_code(), "requested": requested, "how": how});
    if requested {
        journal::info("etcd ended", &fields);
    } else {
        journal::error("etcd ended by itself", &fields);
    }
    // An etcd that ended before it had a log leaves no member behind that a record could speak of: the disk is
    // as untouched as before, and may still take part in a first boot.
    if !matches!(
        datadir::classify(&paths.data_dir(), paths.wal_dir()),
        Ok(Found::Data(_) | Found::Damaged { .. })
    ) {
        return Ok(ended);
    }
    let record =
        ExitRecord { version: RECORD_VERSION, member_id: own.member_id, how, at_unix_secs: unix_secs() };
    records::write(paths, &record).context("write the exit record")?;
    Ok(ended)
}

/// Graceful only if etcd was asked to stop and then ended by that signal or with success: it raises the
/// signal again once its files are closed.
fn ending(ended: Ended, requested: bool) -> Ending {
    match ended {
        Ended::Code(0) | Ended::Signal(2 | 15) if requested => Ending::Graceful,
        Ended::Code(_) | Ended::Signal(_) => Ending::Abrupt,
    }
}

fn tell(outcome: &Handover) {
    match outcome {
        Handover::NotLeader | Handover::OnlyVoter => {}
        Handover::Moved { to } => journal::info("leadership handed over", &json!({"to": to})),
        Handover::Kept { why } => journal::warn("leadership was not handed over", &json!({"why": why})),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_requested_stop_that_etcd_finished_is_graceful() {
        assert_eq!(ending(Ended::Signal(15), true), Ending::Graceful);
        assert_eq!(ending(Ended::Signal(2), true), Ending::Graceful);
        assert_eq!(ending(Ended::Code(0), true), Ending::Graceful);
        assert_eq!(ending(Ended::Signal(9), true), Ending::Abrupt);
        assert_eq!(ending(Ended::Code(2), true), Ending::Abrupt);
        assert_eq!(ending(Ended::Code(0), false), Ending::Abrupt);
        assert_eq!(ending(Ended::Signal(15), false), Ending::Abrupt);
    }
}
