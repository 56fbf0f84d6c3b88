//! Row 2: an operator asked for a restore. One member of the set makes the new cluster out of data that lies ready on
//! its disk, once all others of the set wait without etcd; they join it (docs/contract.md#restore).

use std::collections::BTreeMap;

use uuid::Uuid;

use super::plan::{Aside, AsideReason, Plan, RecordsToo, Restore};
use super::reason::Cause;
use super::row::Row;
use super::view::View;
use super::waiting::Waiting;
use super::{Decision, Notice, go_undrained, wait};
use crate::lifecycle::launch::attestation::InstanceId;
use crate::lifecycle::launch::observation::{Answer, Disk, Observation};
use crate::lifecycle::launch::records::{RECORD_VERSION, RestorePhase, RestoreRequest};

/// The source does not begin when less than this is left: the others must not start on their old data before they
/// can see the new cluster. In seconds; clocks of members differ by less (docs/contract.md#probe).
const MARGIN_SECS: u64 = 60;

/// What a restore request on the disk leads to.
pub(super) enum Asked {
    /// There is none.
    No,
    /// There is one that counts for nothing.
    Ignored(Notice),
    /// Row 2.
    Decided(Box<Decision>),
}

/// Looks at the request on the disk, if any.
pub(super) fn asked(seen: &Observation) -> Asked {
    let Some(request) = &seen.records.restore_request else { return Asked::No };
    if is_done(seen, request) {
        return Asked::No;
    }
    if let Some(why) = invalid(seen, request) {
        return Asked::Ignored(Notice::RequestIgnored { request: request.id, why });
    }
    let put_off = |waiting| Asked::Decided(Box::new(wait(seen, Row::RestoreRequested, waiting)));
    if request.source != seen.own.instance {
        // It serves: from here on this is a matter of joining it.
        if View::of(seen).serving().contains_key(&request.cluster_id) {
            return Asked::No;
        }
        let (request, source) = (request.id, request.source.clone());
        let said = match seen.others.get(&source).map(|other| &other.launcher) {
            None => "not in the link".to_owned(),
            Some(Answer::Pending) => "has not answered yet".to_owned(),
            Some(Answer::Failed(why)) => why.to_string(),
            Some(Answer::Got(state)) => format!("{}, row {}", state.plan, state.row),
        };
        return put_off(Waiting::RestoreElsewhere { request, source, said });
    }
    match request.phase {
        RestorePhase::Preparing => put_off(Waiting::RestorePreparing { request: request.id }),
        RestorePhase::Prepared => {
            let missing = without_it(seen, request);
            if !missing.is_empty() {
                return put_off(Waiting::RestoreOthers { request: request.id, missing });
            }
            let plan =
                Plan::Restore(Restore::Place { request: request.clone(), clear: in_the_way(&seen.disk) });
            let cause = Cause::RestoreRequested { request: request.id };
            Asked::Decided(Box::new(go_undrained(seen, Row::RestoreRequested, plan, cause)))
        }
    }
}

/// The id of the request on this disk, if it counts: what `/state` says.
pub fn pending_request(seen: &Observation) -> Option<Uuid> {
    let request = seen.records.restore_request.as_ref()?;
    (!is_done(seen, request) && invalid(seen, request).is_none()).then_some(request.id)
}

/// The source is done when it says so; who joined, when its data is of the new cluster.
fn is_done(seen: &Observation, request: &RestoreRequest) -> bool {
    if request.source == seen.own.instance {
        seen.records.restored.as_ref().is_some_and(|restored| restored.request == request.id)
    } else {
        seen.disk.cluster_id() == Some(request.cluster_id)
    }
}

fn invalid(seen: &Observation, request: &RestoreRequest) -> Option<String> {
    let margin = if request.source == seen.own.instance { MARGIN_SECS } else { 0 };
    if request.version != RECORD_VERSION {
        Some(format!("it has version {}, this program reads {RECORD_VERSION}", request.version))
    } else if seen.at_unix_secs >= request.expires_unix_secs {
        Some("it has expired".to_owned())
    } else if seen.at_unix_secs + margin >= request.expires_unix_secs {
        Some(format!("it expires in less than {MARGIN_SECS} s, too soon for the others to follow"))
    } else {
        match request.members.get(&seen.own.instance) {
            None => Some("it does not name this instance".to_owned()),
            Some(url) if *url != seen.own.peer_url => {
                Some(format!("it names this instance at {url}, which is {} now", seen.own.peer_url))
            }
            Some(_) => None,
        }
    }
}

/// The members of the set that do not wait for it.
fn without_it(seen: &Observation, request: &RestoreRequest) -> BTreeMap<InstanceId, String> {
    request
        .members
        .keys()
        .filter(|instance| **instance != seen.own.instance)
        .filter_map(|instance| Some((instance.clone(), what_instead(seen, instance, request)?)))
        .collect()
}

fn what_instead(seen: &Observation, instance: &InstanceId, request: &RestoreRequest) -> Option<String> {
    let Some(other) = seen.others.get(instance) else { return Some("not in the link".to_owned()) };
    match &other.launcher {
        Answer::Pending => Some("has not answered yet".to_owned()),
        Answer::Failed(why) => Some(why.to_string()),
        Answer::Got(state) => match &state.restore_request {
            Some(id) if *id == request.id => None,
            Some(other) => Some(format!("waits for {other}")),
            None => Some("does not wait for it".to_owned()),
        },
    }
}

fn in_the_way(disk: &Disk) -> Option<Aside> {
    match disk {
        Disk::Data(_) | Disk::Damaged { .. } | Disk::Partial { .. } => {
            Some(Aside { reason: AsideReason::Restored, records: RecordsToo::Move })
        }
        Disk::Empty { .. } | Disk::Unmounted | Disk::Foreign { .. } => None,
    }
}
