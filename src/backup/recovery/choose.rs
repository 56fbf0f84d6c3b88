//! Who makes the new cluster, and who has to stop for it: pure, from what the launchers say.

use std::collections::{BTreeMap, BTreeSet};

use super::seen::{Look, Looks};
use crate::etcd::id::{ClusterId, PeerUrl};
use crate::lifecycle::launch::attestation::InstanceId;
use crate::lifecycle::launch::records::{RestorePhase, RestoreRequest};
use crate::report::Complaint;

/// Which instance the data can come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Any: it comes from a store.
    Anybody,
    /// The one whose disk has the newest log.
    Newest,
}

/// Whether nothing has to be done once more for `again`: the cluster that was made of the newest disk serves, and a
/// cluster that serves is never made of a disk again. So a command that was killed behind its work is run again like any.
pub(super) fn suffices(look: &Look, wanted: Wanted, again: bool) -> bool {
    !again || wanted == Wanted::Newest && look.ready
}

/// Why nobody restores.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No launcher answers.
    #[error("no launcher answers: {0}")]
    Silence(String),
    /// Nobody has data that can be read.
    #[error("none of the {0} instances that answer has data that can be read to its end")]
    NoSurvivor(usize),
    /// The cluster works.
    #[error("the cluster serves: {0} answers linearizable reads")]
    Serves(InstanceId),
    /// Their disks are of two clusters.
    #[error("the disks are of different clusters: {0}")]
    Clusters(String),
    /// Those that do not answer could be serving the old cluster.
    #[error("{silent} of {all} instances do not answer, which could be a quorum of the old cluster: {who}")]
    TooManySilent {
        /// How many.
        silent: usize,
        /// Of how many.
        all: usize,
        /// Which, and why.
        who: String,
    },
}

impl Refused {
    /// The same for an operator.
    pub fn complaint(&self) -> Complaint {
        let what = self.to_string();
        match self {
            Self::Silence(_) => Complaint::try_again(
                what,
                "the launchers carry the restore out; nothing was changed",
                "`monit summary` on each VM says whether they run; `monit start etcd`, then run the errand again",
            ),
            Self::NoSurvivor(_) => Complaint::refused(
                what,
                "there is nothing to make a cluster of; nothing was changed",
                "restore a backup: point latest, a time or a revision (`etcd-backup list` shows what there is)",
            ),
            Self::Serves(_) => Complaint::refused(
                what,
                "a cluster with quorum has everything that was acknowledged, and repairs lost members by itself; nothing was changed",
                "`etcd-status` shows what is missing; to go back to an older state name it: a time, a revision or latest",
            ),
            Self::Clusters(_) => Complaint::refused(
                what,
                "the logs of different clusters cannot be compared, and the wrong one would be lost; nothing was changed",
                "stop the instances whose data is not wanted (`bosh stop`), and run the errand on the others with despite_silence",
            ),
            Self::TooManySilent { .. } => Complaint::refused(
                what,
                "if they run somewhere, clients would be served by two clusters; nothing was changed",
                "repair or recreate these VMs (`bosh cck`); if they are gone for good, say so: despite_silence: true, or --despite-silence",
            ),
        }
    }
}

/// Who makes the new cluster. Every instance that looks comes to the same answer: whoever began already goes on.
pub fn source(looks: &Looks, wanted: Wanted, asked: &str, again: bool) -> Result<InstanceId, Refused> {
    let answering: Vec<(&InstanceId, &Look)> =
        looks.iter().filter_map(|(instance, look)| Some((instance, look.as_ref().ok()?))).collect();
    if answering.is_empty() {
        return Err(Refused::Silence(silent(looks)));
    }
    let begun = |(instance, look): &&(&InstanceId, &Look)| {
        let mine = look.files.request.as_ref().filter(|request| request.source == **instance);
        mine.is_some_and(|request| {
            let done = look.has_restored(request.id);
            let counts = look.state.restore_request == Some(request.id);
            request.asked == asked && (counts || done && suffices(look, wanted, again) && !is_over(request))
        })
    };
    if let Some((instance, _)) = answering.iter().find(begun) {
        return Ok((*instance).clone());
    }
    match wanted {
        Wanted::Anybody => Ok(answering[0].0.clone()),
        Wanted::Newest => newest(&answering),
    }
}

/// The request that a source has left and that counts, or that was carried out a moment ago.
pub fn begun(looks: &Looks, asked: &str) -> Option<RestoreRequest> {
    looks.iter().find_map(|(instance, look)| {
        let look = look.as_ref().ok()?;
        let mine = look.files.request.as_ref().filter(|request| request.source == *instance)?;
        let fits = mine.asked == asked && mine.phase == RestorePhase::Prepared && !is_over(mine);
        fits.then(|| mine.clone())
    })
}

fn is_over(request: &RestoreRequest) -> bool {
    crate::lifecycle::launch::observe::unix_secs() >= request.expires_unix_secs
}

fn newest(answering: &[(&InstanceId, &Look)]) -> Result<InstanceId, Refused> {
    if let Some((instance, _)) = answering.iter().find(|(_, look)| look.ready) {
        return Err(Refused::Serves((*instance).clone()));
    }
    let standing = answering.iter().filter_map(|(instance, look)| Some((*instance, look.standing?)));
    let clusters: BTreeSet<ClusterId> = standing.clone().map(|(_, standing)| standing.cluster_id).collect();
    if clusters.len() > 1 {
        let told: Vec<String> =
            standing.map(|(instance, standing)| format!("{instance} {}", standing.cluster_id)).collect();
        return Err(Refused::Clusters(told.join(", ")));
    }
    // The first of several that are as far.
    let best = standing.max_by_key(|(instance, standing)| {
        (standing.term, standing.index, std::cmp::Reverse((*instance).clone()))
    });
    best.map(|(instance, _)| instance.clone()).ok_or(Refused::NoSurvivor(answering.len()))
}

/// Who has to stop: everybody who answers. Those who do not must not be able to serve the old cluster without them.
pub fn set(
    looks: &Looks,
    urls: &BTreeMap<InstanceId, PeerUrl>,
    despite_silence: bool,
) -> Result<BTreeMap<InstanceId, PeerUrl>, Refused> {
    let quorum = looks.len() / 2 + 1;
    let silent_ones = looks.values().filter(|look| look.is_err()).count();
    if silent_ones >= quorum && !despite_silence {
        return Err(Refused::TooManySilent { silent: silent_ones, all: looks.len(), who: silent(looks) });
    }
    let answering = looks.iter().filter(|(_, look)| look.is_ok());
    Ok(answering.filter_map(|(instance, _)| Some((instance.clone(), urls.get(instance)?.clone()))).collect())
}

/// All clusters that are on some disk: the new one takes their place.
pub fn replaced(looks: &Looks) -> BTreeSet<ClusterId> {
    looks.values().filter_map(|look| look.as_ref().ok()?.state.cluster_id).collect()
}

fn silent(looks: &Looks) -> String {
    let told: Vec<String> = looks
        .iter()
        .filter_map(|(instance, look)| Some(format!("{instance} ({})", look.as_ref().err()?)))
        .collect();
    told.join(", ")
}

#[cfg(test)]
pub(super) mod tests;
