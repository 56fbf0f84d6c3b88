//! Evidence for a first boot: who attests, who already runs one, and what is missing
//! (docs/contract.md#bootstrap).

use std::collections::BTreeMap;

use super::plan::{Aside, Bootstrap};
use super::view::View;
use super::waiting::{KnownFrom, Missing, Waiting};
use crate::job::properties::BootstrapFlag;
use crate::lifecycle::launch::attestation::{ClusterToken, InstanceId, Nonce, Nonces};
use crate::lifecycle::launch::observation::{Answer, Disk, History, Observation, Seen};
use crate::lifecycle::launch::records::{BootPhase, BootstrapRecord, RECORD_VERSION, Records};

/// The nonce this instance attests with: only of a disk that never had a member, as far as VM, disk and
/// records know. This is what `/state` says.
pub fn attested<'a>(disk: &Disk, records: &'a Records) -> Option<&'a Nonce> {
    if never_had_a_member(disk, records) { records.nonce.as_ref() } else { None }
}

/// Whether this disk never had a member.
pub(super) fn never_had_a_member(disk: &Disk, records: &Records) -> bool {
    had_a_member(disk, records).is_none()
}

fn had_a_member(disk: &Disk, records: &Records) -> Option<KnownFrom> {
    match disk {
        Disk::Empty { history: History::InitialisedBefore }
        | Disk::Partial { history: History::InitialisedBefore } => Some(KnownFrom::Mark),
        Disk::Empty { history: History::Virgin } | Disk::Partial { history: History::Virgin } => {
            records.tell_of_a_member().then_some(KnownFrom::Records)
        }
        Disk::Unmounted | Disk::Foreign { .. } | Disk::Damaged { .. } | Disk::Data(_) => {
            Some(KnownFrom::Records)
        }
    }
}

/// All nonces of the link, or who is missing and why.
pub(super) fn attestations(seen: &Observation) -> Result<Nonces, BTreeMap<InstanceId, Missing>> {
    let mut nonces = Nonces::new();
    let mut missing = BTreeMap::new();
    for instance in seen.own.link.keys() {
        let answer = if *instance == seen.own.instance {
            attested(&seen.disk, &seen.records).ok_or(Missing::NoNonce)
        } else {
            seen.others.get(instance).ok_or(Missing::Pending).and_then(|other| attests(seen, instance, other))
        };
        match answer {
            Ok(nonce) if nonces.values().any(|known| known == nonce) => {
                missing.insert(instance.clone(), Missing::SameNonce);
            }
            Ok(nonce) => {
                nonces.insert(instance.clone(), nonce.clone());
            }
            Err(why) => {
                missing.insert(instance.clone(), why);
            }
        }
    }
    if missing.is_empty() { Ok(nonces) } else { Err(missing) }
}

fn attests<'a>(seen: &Observation, instance: &InstanceId, other: &'a Seen) -> Result<&'a Nonce, Missing> {
    let state = match &other.launcher {
        Answer::Pending => return Err(Missing::Pending),
        Answer::Failed(why) => return Err(Missing::Silent { why: why.clone() }),
        Answer::Got(state) => state,
    };
    if state.instance != *instance {
        return Err(Missing::SomebodyElse { claims: state.instance.clone() });
    }
    let Some(nonce) = state.attests() else {
        return Err(match state.disk {
            class if class.is_empty() => Missing::NoNonce,
            class => Missing::Disk { class },
        });
    };
    if state.link_hash != seen.own.link_hash {
        return Err(Missing::OtherLink { theirs: state.link_hash.clone(), ours: seen.own.link_hash.clone() });
    }
    if state.bootstrap_method != seen.own.bootstrap_method {
        return Err(Missing::OtherMethod { theirs: state.bootstrap_method });
    }
    etcd_is_down(other)?;
    Ok(nonce)
}

/// Nobody answers as etcd there, and that is certain: a timeout may hide a member.
fn etcd_is_down(other: &Seen) -> Result<(), Missing> {
    if other.etcd.got().is_some() {
        return Err(Missing::PeerPort { said: "etcd answers clients".to_owned() });
    }
    match &other.members {
        Answer::Pending => Err(Missing::Pending),
        Answer::Got(answer) => {
            Err(Missing::PeerPort { said: format!("etcd of cluster {} answers", answer.cluster_id) })
        }
        Answer::Failed(why) if why.proves_silence() => Ok(()),
        Answer::Failed(why) => Err(Missing::PeerPort { said: why.to_string() }),
    }
}

/// The plan that makes a new cluster of these disks.
pub(super) fn founding(seen: &Observation, nonces: Nonces, clear: Option<Aside>) -> Bootstrap {
    let record = BootstrapRecord {
        version: RECORD_VERSION,
        token: ClusterToken::of(&seen.own.deployment, nonces.values()),
        nonces,
        members: seen.own.link.clone(),
        method: seen.own.bootstrap_method,
        phase: BootPhase::Prepared,
    };
    Bootstrap::from_record(&seen.own.instance, &record, clear)
        .expect("the link contains this instance: attestations() found its nonce there")
}

/// A first boot of others that counts on this very disk.
pub(super) fn naming_us<'a>(
    seen: &Observation,
    view: &View<'a>,
) -> Option<(&'a InstanceId, &'a BootstrapRecord)> {
    let nonce = attested(&seen.disk, &seen.records)?;
    view.states().find_map(|(instance, state)| {
        let record = state.bootstrap.as_ref()?;
        let counts_on_us = record.names(&seen.own.instance, nonce)
            && record.members.get(&seen.own.instance) == Some(&seen.own.peer_url);
        counts_on_us.then_some((instance, record))
    })
}

/// What the running members of a first boot say about this instance's member.
pub(super) enum Standing {
    /// None of them can be seen.
    Unseen,
    /// It is listed with the computed id and has never published itself.
    Awaited,
    /// It is not listed, or it has once run.
    NotAwaited,
}

/// What the running members of that first boot say about this instance's member.
pub(super) fn standing(seen: &Observation, view: &View<'_>, record: &BootstrapRecord) -> Standing {
    let cluster_id = record.cluster_id();
    let healthy = view.healthy().map(|(_, answer)| (answer.cluster_id, &answer.members));
    let members = view.members().map(|(_, answer)| (answer.cluster_id, &answer.members));
    let mut standing = Standing::Unseen;
    for (_, list) in healthy.chain(members).filter(|(cluster, _)| *cluster == cluster_id) {
        let own = record.member_id(&seen.own.instance);
        match list.iter().find(|member| Some(member.id) == own) {
            Some(member) if !member.has_published() => standing = Standing::Awaited,
            // One that says otherwise is enough: that this member has run is never taken back.
            Some(_) | None => return Standing::NotAwaited,
        }
    }
    standing
}

/// Row 20: what there is to say when nothing can be done.
pub(super) fn nothing_to_go_by(
    seen: &Observation,
    view: &View<'_>,
    missing: BTreeMap<InstanceId, Missing>,
) -> Waiting {
    if let Some((by, record)) = naming_us(seen, view) {
        match (standing(seen, view, record), seen.own.bootstrap) {
            (Standing::Unseen | Standing::Awaited, BootstrapFlag::Off) => {
                return Waiting::FirstBootNeedsFlag { by: by.clone() };
            }
            (Standing::Unseen, BootstrapFlag::On | BootstrapFlag::Again) => {
                return Waiting::FirstBootUnseen { by: by.clone() };
            }
            // Awaited with the flag on is row 14.
            (Standing::Awaited | Standing::NotAwaited, _) => {}
        }
    }
    let who = view.with_data();
    if !who.is_empty() {
        return Waiting::NoQuorum { who, silent: view.silent() };
    }
    if let Some(known_from) = had_a_member(&seen.disk, &seen.records) {
        return Waiting::LostData { known_from };
    }
    match seen.own.bootstrap {
        BootstrapFlag::Off => Waiting::NotAskedToBootstrap { silent: view.silent() },
        BootstrapFlag::On | BootstrapFlag::Again if seen.records.nonce.is_none() => Waiting::OwnNonce,
        BootstrapFlag::On | BootstrapFlag::Again => Waiting::Attestations { missing },
    }
}
