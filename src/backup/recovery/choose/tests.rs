//! One line a case.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::super::seen::{Look, Looks};
use super::{Refused, Wanted, set, source};
use crate::etcd::id::{ClusterId, PeerUrl};
use crate::job::properties::BootstrapMethod;
use crate::lifecycle::launch::attestation::{
    DiskClass, InstanceId, LinkHash, PeerState, Progress, STATE_VERSION,
};
use crate::lifecycle::launch::listener::RestoreFiles;
use crate::lifecycle::launch::records::{RECORD_VERSION, RestorePhase, RestoreRecord, RestoreRequest};
use crate::lifecycle::launch::standing::Standing;

const OLD: ClusterId = ClusterId(1);
const NEW: ClusterId = ClusterId(2);

#[expect(clippy::unnecessary_wraps, reason = "an answer, or the reason why there is none")]
pub(in super::super) fn look(change: impl FnOnce(&mut Look)) -> Result<Look, String> {
    let mut look = Look {
        state: PeerState {
            version: STATE_VERSION,
            instance: InstanceId::from("a"),
            disk: DiskClass::Data,
            nonce: None,
            bootstrap_method: BootstrapMethod::Static,
            bootstrap: None,
            restored: None,
            restore_request: None,
            cluster_id: Some(OLD),
            member_id: None,
            peer_urls: BTreeSet::new(),
            link_hash: LinkHash("l".to_owned()),
            link: BTreeSet::new(),
            once_in_link: BTreeSet::new(),
            plan: "start".to_owned(),
            row: 8,
            progress: Progress::Progress,
            since_unix_secs: 0,
        },
        because: String::new(),
        files: RestoreFiles::default(),
        ready: false,
        standing: None,
    };
    change(&mut look);
    Ok(look)
}

fn at(term: u64, index: u64) -> Result<Look, String> {
    look(|look| look.standing = Some(Standing { term, index, cluster_id: OLD }))
}

fn empty() -> Result<Look, String> {
    look(|look| look.state.cluster_id = None)
}

fn silent() -> Result<Look, String> {
    Err("connection refused".to_owned())
}

/// A source that has begun, or is done.
pub(in super::super) fn begun(instance: &str, asked: &str, done: bool, expires: u64) -> Result<Look, String> {
    let id = Uuid::from_u128(1);
    look(|look| {
        look.files.request = Some(RestoreRequest {
            version: RECORD_VERSION,
            id,
            asked: asked.to_owned(),
            point: String::new(),
            source: InstanceId::from(instance),
            phase: RestorePhase::Prepared,
            cluster_id: NEW,
            members: BTreeMap::new(),
            replaces: BTreeSet::new(),
            created_unix_secs: 0,
            expires_unix_secs: expires,
        });
        if done {
            let (version, replaced) = (RECORD_VERSION, BTreeSet::new());
            look.state.restored = Some(RestoreRecord { version, request: id, cluster_id: NEW, replaced });
            look.ready = true;
        } else {
            look.state.restore_request = Some(id);
        }
    })
}

fn three(a: Result<Look, String>, b: Result<Look, String>, c: Result<Look, String>) -> Looks {
    ["a", "b", "c"].map(InstanceId::from).into_iter().zip([a, b, c]).collect()
}

pub(in super::super) const NEVER: u64 = u64::MAX;

#[rustfmt::skip]
#[test]
fn the_source_is_the_same_whoever_looks() {
    let backup = |a, b, c| source(&three(a, b, c), Wanted::Anybody, "latest", false).map(|instance| instance.0);
    let newest = |a, b, c| source(&three(a, b, c), Wanted::Newest, "survivors", false).map(|instance| instance.0);
    let is = |instance: &str| Ok::<_, Refused>(instance.to_owned());

    assert_eq!(backup(empty(), at(1, 1), empty()), is("a"), "a backup can be restored anywhere");
    assert_eq!(backup(silent(), at(1, 1), empty()), is("b"), "the first that answers");
    assert_eq!(backup(empty(), begun("b", "latest", false, NEVER), empty()), is("b"), "who began goes on");
    assert_eq!(backup(empty(), begun("b", "7", false, NEVER), empty()), is("a"), "but not with something else");
    assert_eq!(backup(empty(), begun("c", "latest", false, NEVER), empty()), is("a"), "nor for another one");
    assert_eq!(backup(empty(), begun("b", "latest", true, NEVER), empty()), is("b"), "who is done says so");
    assert_eq!(backup(empty(), begun("b", "latest", true, 0), empty()), is("a"), "until its request is over");
    assert!(matches!(backup(silent(), silent(), silent()), Err(Refused::Silence(_))));

    assert_eq!(newest(at(2, 9), at(3, 7), at(3, 6)), is("b"), "the term counts first, then the index");
    assert_eq!(newest(at(2, 9), at(2, 9), empty()), is("a"), "the first of equals");
    assert_eq!(newest(empty(), silent(), at(1, 1)), is("c"), "the only one");
    assert_eq!(newest(empty(), silent(), empty()), Err(Refused::NoSurvivor(2)));
    assert_eq!(newest(at(1, 1), look(|look| look.ready = true), empty()), Err(Refused::Serves(InstanceId::from("b"))));
    assert_eq!(newest(at(9, 9), begun("b", "survivors", true, NEVER), empty()), is("b"), "done, though it serves now");
    let other = look(|look| look.standing = Some(Standing { term: 1, index: 1, cluster_id: NEW }));
    assert!(matches!(newest(at(1, 1), other, empty()), Err(Refused::Clusters(_))));
}

#[test]
fn again_passes_over_what_is_done_and_not_over_what_goes_on() {
    let again = |b| source(&three(empty(), b, empty()), Wanted::Anybody, "latest", true).unwrap().0;

    assert_eq!(again(begun("b", "latest", true, NEVER)), "a");
    assert_eq!(again(begun("b", "latest", false, NEVER)), "b");

    let newest = |b| source(&three(at(9, 9), b, empty()), Wanted::Newest, "survivors", true).map(|who| who.0);
    let mut made = begun("b", "survivors", true, NEVER);
    assert_eq!(newest(made.clone()), Ok("b".to_owned()), "what was made of the newest disk serves");
    made.as_mut().unwrap().ready = false;
    assert_eq!(newest(made), Ok("a".to_owned()), "it has lost its quorum once more");
}

#[test]
fn who_does_not_answer_must_not_be_able_to_serve_alone() {
    let urls: BTreeMap<InstanceId, PeerUrl> = ["a", "b", "c"]
        .into_iter()
        .map(|name| (InstanceId::from(name), PeerUrl::https(&format!("{name}.etcd"), 2380)))
        .collect();
    let names = |looks: &Looks, despite| -> Result<Vec<String>, Refused> {
        Ok(set(looks, &urls, despite)?.into_keys().map(|instance| instance.0).collect())
    };

    assert_eq!(names(&three(empty(), empty(), empty()), false).unwrap(), ["a", "b", "c"]);
    assert_eq!(names(&three(empty(), silent(), empty()), false).unwrap(), ["a", "c"]);
    let two = three(at(1, 1), silent(), silent());
    assert!(matches!(names(&two, false), Err(Refused::TooManySilent { silent: 2, all: 3, .. })));
    assert_eq!(names(&two, true).unwrap(), ["a"]);
}

#[test]
fn refusals_say_what_why_and_next() {
    let all = [
        Refused::Silence("a (connection refused)".to_owned()),
        Refused::NoSurvivor(2),
        Refused::Serves(InstanceId::from("b")),
        Refused::Clusters("a 1, b 2".to_owned()),
        Refused::TooManySilent { silent: 2, all: 3, who: "b (timeout), c (timeout)".to_owned() },
    ];
    for refused in all {
        let complaint = refused.complaint();
        assert!(complaint.why.contains("nothing was changed"), "{complaint}");
        assert!(!complaint.next.is_empty(), "{complaint}");
    }
}
