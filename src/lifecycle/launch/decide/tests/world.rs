//! A small world to decide in: three instances `a` (this one), `b` and `c`, and a cluster or two.

use std::collections::{BTreeMap, BTreeSet};

use crate::etcd::id::{ClientUrl, ClusterId, MemberId, PeerUrl};
use crate::etcd::member::Member;
use crate::etcd::version::EtcdVersion;
use crate::job::properties::{BootstrapFlag, BootstrapMethod, OnRemovedMember};
use crate::lifecycle::launch::attestation::{
    ClusterToken, DiskClass, InstanceId, LinkHash, Nonce, Nonces, PeerState, Progress, STATE_VERSION,
};
use crate::lifecycle::launch::observation::{
    Answer, Backup, Connected, Disk, DiskData, EtcdAnswer, Healthy, History, MembersAnswer, Observation, Own,
    Process, Seen, Unreachable, Validated,
};
use crate::lifecycle::launch::records::{
    BootPhase, BootstrapRecord, DrainMark, Ending, ExitRecord, JoinPhase, JoinRecord, RECORD_VERSION,
    Records, RestorePhase, RestoreRecord, RestoreRequest,
};

pub(super) const OURS: ClusterId = ClusterId(0xc1);
pub(super) const OTHER: ClusterId = ClusterId(0xc2);
/// The member on this instance's disk.
pub(super) const ME: MemberId = MemberId(0xa1);
/// Another member under this instance's URL.
pub(super) const FORMER: MemberId = MemberId(0xa0);
pub(super) const B: MemberId = MemberId(0xb1);
pub(super) const C: MemberId = MemberId(0xc3);
pub(super) const NOW: u64 = 1_000_000;
pub(super) const BINARY: EtcdVersion = EtcdVersion::new(3, 6, 16);

pub(super) fn id(name: &str) -> InstanceId {
    InstanceId::from(name)
}

pub(super) fn url(name: &str) -> PeerUrl {
    PeerUrl::https(&format!("{name}.etcd"), 2380)
}

pub(super) fn nonce(name: &str) -> Nonce {
    Nonce::of([name.as_bytes()[0]; 16])
}

fn link(names: &[&str]) -> BTreeMap<InstanceId, PeerUrl> {
    names.iter().map(|name| (id(name), url(name))).collect()
}

/// An empty disk that never had a member, with its nonce; nobody listens anywhere; bootstrap is off.
pub(super) fn lonely() -> Observation {
    Observation {
        at_unix_secs: NOW,
        own: Own {
            deployment: "etcd".to_owned(),
            instance: id("a"),
            peer_url: url("a"),
            link: link(&["a", "b", "c"]),
            link_hash: LinkHash("abc".to_owned()),
            bootstrap: BootstrapFlag::Off,
            bootstrap_method: BootstrapMethod::Static,
            on_removed_member: OnRemovedMember::Rejoin,
            auto_restore: false,
            binary: BINARY,
        },
        process: Process::Down,
        disk: Disk::Empty { history: History::Virgin },
        records: Records { nonce: Some(nonce("a")), ..Records::default() },
        backup: Backup::NoStore,
        others: [(id("b"), silent()), (id("c"), silent())].into(),
        confirmed: BTreeSet::new(),
    }
}

/// One change to the world: a line of a table is a list of them.
pub(super) type Change = Box<dyn Fn(&mut Observation)>;

pub(super) fn with(changes: &[Change]) -> Observation {
    let mut seen = lonely();
    for change in changes {
        change(&mut seen);
    }
    seen
}

fn change(change: impl Fn(&mut Observation) + 'static) -> Change {
    Box::new(change)
}

// --- This instance.

pub(super) fn disk(disk: Disk) -> Change {
    change(move |seen| seen.disk = disk.clone())
}

pub(super) fn member_of(cluster_id: ClusterId) -> DiskData {
    DiskData {
        cluster_id,
        member_id: ME,
        voters: Some([ME, B, C].into()),
        storage_version: Some(EtcdVersion::new(3, 6, 0)),
        cluster_version: Some(EtcdVersion::new(3, 6, 0)),
        old_request: None,
        validated: Validated::Usable { repairs: Vec::new() },
    }
}

pub(super) fn data_that_is(validated: Validated) -> Change {
    disk(Disk::Data(DiskData { validated, ..member_of(OURS) }))
}

pub(super) fn data(cluster_id: ClusterId) -> Change {
    disk(Disk::Data(member_of(cluster_id)))
}

pub(super) fn lone_voter(cluster_id: ClusterId) -> Change {
    disk(Disk::Data(DiskData { voters: Some([ME].into()), ..member_of(cluster_id) }))
}

pub(super) fn data_of_version(version: &str) -> Change {
    let version = Some(version.parse().unwrap());
    disk(Disk::Data(DiskData { storage_version: version, cluster_version: version, ..member_of(OURS) }))
}

pub(super) fn damaged() -> Change {
    damaged_of(None, &[ME, B, C])
}

pub(super) fn damaged_of(cluster_id: Option<ClusterId>, voters: &[MemberId]) -> Change {
    let voters: BTreeSet<MemberId> = voters.iter().copied().collect();
    disk(Disk::Damaged { why: "torn page 7".to_owned(), cluster_id, voters: Some(voters) })
}

pub(super) fn partial() -> Change {
    disk(Disk::Partial { history: History::Virgin })
}

pub(super) fn lost() -> Change {
    disk(Disk::Empty { history: History::InitialisedBefore })
}

pub(super) fn bootstrap(flag: BootstrapFlag) -> Change {
    change(move |seen| seen.own.bootstrap = flag)
}

pub(super) fn seeded() -> Change {
    change(|seen| seen.own.bootstrap_method = BootstrapMethod::Seeded)
}

pub(super) fn policy(policy: OnRemovedMember) -> Change {
    change(move |seen| seen.own.on_removed_member = policy)
}

pub(super) fn auto_restore() -> Change {
    change(|seen| seen.own.auto_restore = true)
}

pub(super) fn backup(backup: Backup) -> Change {
    change(move |seen| seen.backup = backup.clone())
}

pub(super) fn a_backup() -> Change {
    backup(Backup::Exists { newest: "2026-01-02T03:04:05Z".to_owned() })
}

pub(super) fn running() -> Change {
    change(|seen| seen.process = Process::Running { pid: Some(7) })
}

pub(super) fn draining() -> Change {
    change(|seen| seen.records.drain = DrainMark::Begun)
}

pub(super) fn alone() -> Change {
    change(|seen| {
        seen.own.link = link(&["a"]);
        seen.others.clear();
    })
}

pub(super) fn no_nonce() -> Change {
    change(|seen| seen.records.nonce = None)
}

pub(super) fn exit(how: Ending) -> Change {
    change(move |seen| {
        seen.records.exit =
            Some(ExitRecord { version: RECORD_VERSION, member_id: ME, how, at_unix_secs: NOW - 9 });
    })
}

pub(super) fn joined(member_id: Option<MemberId>, phase: JoinPhase) -> Change {
    change(move |seen| {
        seen.records.join = Some(JoinRecord {
            version: RECORD_VERSION,
            cluster_id: OURS,
            peer_url: url("a"),
            member_id,
            phase,
        });
    })
}

pub(super) fn own_first_boot(phase: BootPhase) -> Change {
    change(move |seen| seen.records.bootstrap = Some(BootstrapRecord { phase, ..first_boot("a") }))
}

/// Confirms whatever the decision rests on.
pub(super) fn twice() -> Change {
    change(|seen| {
        if let Some(claim) = super::super::decide(seen).rests_on {
            seen.confirmed.insert(claim);
        }
    })
}

/// A request's id, by its last character.
pub(super) fn request_id(name: &str) -> uuid::Uuid {
    uuid::Uuid::from_u128(name.bytes().last().map_or(0, u128::from))
}

pub(super) fn request(change_it: impl Fn(&mut RestoreRequest) + 'static) -> Change {
    change(move |seen| {
        let mut request = RestoreRequest {
            version: RECORD_VERSION,
            id: request_id("r1"),
            asked: "latest".to_owned(),
            point: "set 1 up to revision 7".to_owned(),
            source: id("a"),
            phase: RestorePhase::Prepared,
            cluster_id: OTHER,
            members: link(&["a", "b", "c"]),
            replaces: [OURS].into(),
            created_unix_secs: NOW - 60,
            expires_unix_secs: NOW + 600,
        };
        change_it(&mut request);
        seen.records.restore_request = Some(request);
    })
}

pub(super) fn restored(request: &'static str) -> Change {
    change(move |seen| seen.records.restored = Some(restore_record(request, OURS)))
}

fn restore_record(request: &str, cluster_id: ClusterId) -> RestoreRecord {
    RestoreRecord {
        version: RECORD_VERSION,
        request: request_id(request),
        cluster_id,
        replaced: [OURS].into(),
    }
}

// --- The others.

/// Nobody listens there.
pub(super) fn silent() -> Seen {
    failing(&Unreachable::Refused)
}

pub(super) fn failing(why: &Unreachable) -> Seen {
    Seen {
        launcher: Answer::Failed(why.clone()),
        etcd: Answer::Failed(why.clone()),
        members: Answer::Failed(why.clone()),
    }
}

pub(super) fn other(name: &'static str, seen: Seen) -> Change {
    change(move |world| {
        world.others.insert(id(name), seen.clone());
    })
}

pub(super) fn launcher(name: &'static str, change_it: impl Fn(&mut PeerState) + 'static) -> Change {
    change(move |seen| {
        let mut said = state(name);
        change_it(&mut said);
        seen.others.get_mut(&id(name)).unwrap().launcher = Answer::Got(said);
    })
}

/// The launcher of an instance whose disk never had a member.
pub(super) fn state(name: &str) -> PeerState {
    PeerState {
        version: STATE_VERSION,
        instance: id(name),
        disk: DiskClass::Empty,
        nonce: Some(nonce(name)),
        bootstrap_method: BootstrapMethod::Static,
        bootstrap: None,
        restored: None,
        restore_request: None,
        cluster_id: None,
        member_id: None,
        peer_urls: [url(name)].into(),
        link_hash: LinkHash("abc".to_owned()),
        link: BTreeSet::new(),
        once_in_link: BTreeSet::new(),
        plan: "wait".to_owned(),
        row: 20,
        progress: Progress::Progress,
        since_unix_secs: NOW - 5,
    }
}

pub(super) fn virgin(name: &'static str) -> Change {
    launcher(name, |_| {})
}

pub(super) fn with_data(name: &'static str) -> Change {
    launcher(name, |state| {
        state.disk = DiskClass::Data;
        state.nonce = None;
        state.cluster_id = Some(OURS);
        state.plan = "start".to_owned();
    })
}

/// A first boot of `a`, `b` and `c`; `c`'s nonce can be another one.
pub(super) fn first_boot(nonce_of_a: &str) -> BootstrapRecord {
    let nonces: Nonces = [(id("a"), nonce(nonce_of_a)), (id("b"), nonce("b")), (id("c"), nonce("c"))].into();
    BootstrapRecord {
        version: RECORD_VERSION,
        token: ClusterToken::of("etcd", nonces.values()),
        nonces,
        members: link(&["a", "b", "c"]),
        method: BootstrapMethod::Static,
        phase: BootPhase::Running,
    }
}

pub(super) fn boots(name: &'static str, nonce_of_a: &'static str) -> Change {
    launcher(name, move |state| {
        state.disk = DiskClass::Data;
        state.nonce = None;
        state.bootstrap = Some(first_boot(nonce_of_a));
    })
}

/// What the etcd of a first boot that has no quorum yet answers on its peer port.
pub(super) fn boot_members(name: &'static str, published: bool) -> Change {
    change(move |seen| {
        let record = first_boot("a");
        let members = ["a", "b", "c"].map(|member| {
            let mut entry = entry(record.member_id(&id(member)).unwrap(), member);
            // Static bootstrap gives every first member its name, started or not (seen with 3.6.16).
            if !(published && member == "a") {
                entry.client_urls.clear();
            }
            entry
        });
        let answer = MembersAnswer { cluster_id: record.cluster_id(), members: members.into() };
        seen.others.get_mut(&id(name)).unwrap().members = Answer::Got(answer);
    })
}

/// A published voter.
pub(super) fn entry(id: MemberId, name: &str) -> Member {
    Member {
        id,
        name: Some(name.to_owned()),
        peer_urls: [url(name)].into(),
        client_urls: [ClientUrl::https(&format!("{name}.etcd"), 2379)].into(),
        is_learner: false,
    }
}

pub(super) fn learner(id: MemberId, name: &str) -> Member {
    Member { is_learner: true, ..entry(id, name) }
}

pub(super) fn unstarted(member: Member) -> Member {
    Member { name: None, client_urls: BTreeSet::new(), ..member }
}

/// `name` answers as the leader of a healthy cluster: `b`, `c` and these entries. `down` names whom it is
/// not connected to.
pub(super) fn healthy_answer(cluster_id: ClusterId, own: &[Member], down: &[MemberId]) -> Healthy {
    let members: Vec<Member> =
        [entry(B, "b"), entry(C, "c")].into_iter().chain(own.iter().cloned()).collect();
    let connected = members
        .iter()
        .filter(|member| member.id != B)
        .map(|member| (member.id, if down.contains(&member.id) { Connected::Down } else { Connected::Up }))
        .collect();
    Healthy {
        cluster_id,
        answered_by: B,
        leader: B,
        servers: members.iter().map(|member| (member.id, BINARY)).collect(),
        members,
        cluster_version: Some(EtcdVersion::new(3, 6, 0)),
        connected: Some(connected),
    }
}

pub(super) fn healthy(
    name: &'static str,
    cluster_id: ClusterId,
    own: &[Member],
    down: &[MemberId],
) -> Change {
    let answer = healthy_answer(cluster_id, own, down);
    healthy_as(name, answer)
}

pub(super) fn healthy_as(name: &'static str, answer: Healthy) -> Change {
    change(move |seen| {
        let other = seen.others.get_mut(&id(name)).unwrap();
        other.members =
            Answer::Got(MembersAnswer { cluster_id: answer.cluster_id, members: answer.members.clone() });
        other.etcd = Answer::Got(EtcdAnswer::Healthy(answer.clone()));
    })
}

/// An etcd that runs without a leader: only its peer port answers.
pub(super) fn no_quorum(name: &'static str, cluster_id: ClusterId) -> Change {
    change(move |seen| {
        let other = seen.others.get_mut(&id(name)).unwrap();
        other.etcd = Answer::Failed(Unreachable::Timeout);
        other.members = Answer::Got(MembersAnswer {
            cluster_id,
            members: vec![entry(ME, "a"), entry(B, "b"), entry(C, "c")],
        });
    })
}

pub(super) fn has_request(name: &'static str, request: &'static str) -> Change {
    launcher(name, move |state| state.restore_request = Some(request_id(request)))
}

pub(super) fn did_restore(name: &'static str, request: &'static str, cluster_id: ClusterId) -> Change {
    launcher(name, move |state| {
        state.disk = DiskClass::Data;
        state.nonce = None;
        state.restored = Some(restore_record(request, cluster_id));
    })
}
