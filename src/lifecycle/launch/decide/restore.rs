//! Row 2: an operator asked for a restore, on every member of a set or on none.

use std::collections::BTreeMap;

use super::plan::{Aside, AsideReason, Plan, RecordsToo, Restore, RestoreSource};
use super::reason::Cause;
use super::row::Row;
use super::waiting::Waiting;
use super::{Decision, Notice, go_undrained, wait};
use crate::lifecycle::launch::attestation::InstanceId;
use crate::lifecycle::launch::observation::{Answer, Disk, Observation};
use crate::lifecycle::launch::records::{RECORD_VERSION, RestoreRequest};

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
        return Asked::Ignored(Notice::RequestIgnored { request: request.id.clone(), why });
    }
    let missing = without_it(seen, request);
    let decision = if missing.is_empty() {
        let plan = Plan::Restore(Restore {
            source: RestoreSource::Request(request.clone()),
            clear: in_the_way(&seen.disk),
        });
        let cause = Cause::RestoreRequested { request: request.id.clone() };
        go_undrained(seen, Row::RestoreRequested, plan, cause)
    } else {
        let waiting = Waiting::RestoreOthers { request: request.id.clone(), missing };
        wait(seen, Row::RestoreRequested, waiting)
    };
    Asked::Decided(Box::new(decision))
}

/// The id of the request on this disk, if it counts: what `/state` says.
pub fn pending_request(seen: &Observation) -> Option<&str> {
    let request = seen.records.restore_request.as_ref()?;
    (!is_done(seen, request) && invalid(seen, request).is_none()).then_some(request.id.as_str())
}

fn is_done(seen: &Observation, request: &RestoreRequest) -> bool {
    seen.records.restored.as_ref().is_some_and(|restored| restored.request == request.id)
}

fn invalid(seen: &Observation, request: &RestoreRequest) -> Option<String> {
    if request.version != RECORD_VERSION {
        Some(format!("it has version {}, this program reads {RECORD_VERSION}", request.version))
    } else if seen.at_unix_secs >= request.expires_unix_secs {
        Some("it has expired".to_owned())
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

/// The members of the set that neither have the request nor have carried it out.
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
        Answer::Got(state) => {
            let has = state.restore_request.as_deref() == Some(request.id.as_str());
            let did = state.restored.as_ref().is_some_and(|restored| restored.request == request.id);
            match &state.restore_request {
                _ if has || did => None,
                Some(other) => Some(format!("has request {other}")),
                None => Some("has none".to_owned()),
            }
        }
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
