//! What an operator reads at three in the morning.

use uuid::Uuid;

use super::super::claim::Claim;
use super::super::decide;
use super::super::refusal::{FitsNot, NoRestore, Refusal};
use super::super::step::Step;
use super::super::waiting::{KnownFrom, Missing, Unsafe, Until, Waiting};
use super::world::*;
use crate::etcd::version::{EtcdVersion, Incompatible};
use crate::job::properties::{BootstrapFlag, BootstrapMethod};
use crate::lifecycle::launch::attestation::{DiskClass, LinkHash};
use crate::lifecycle::launch::observation::Unreachable;

fn tls() -> Unreachable {
    Unreachable::Tls { why: "certificate expired".to_owned() }
}

fn refusals() -> Vec<Refusal> {
    let clusters = || [(OURS, [id("b")].into()), (OTHER, [id("c"), id("d")].into())].into();
    let other = || [(OTHER, [id("b"), id("c")].into())].into();
    let why = || "torn page 7".to_owned();
    vec![
        Refusal::AlreadyRunning { pid: Some(4711) },
        Refusal::AlreadyRunning { pid: None },
        Refusal::Unmounted,
        Refusal::Foreign { names: ["mysql".to_owned(), "tmp".to_owned()].into() },
        Refusal::WrongVersion {
            with: FitsNot::Data,
            why: Incompatible::TooNew { binary: BINARY, found: EtcdVersion::new(3, 4, 0) },
        },
        Refusal::WrongVersion {
            with: FitsNot::Cluster { cluster_id: OURS },
            why: Incompatible::TooOld { binary: BINARY, found: EtcdVersion::new(3, 7, 0) },
        },
        Refusal::WrongVersion {
            with: FitsNot::Cluster { cluster_id: OURS },
            why: Incompatible::PatchFirst {
                binary: BINARY,
                found: EtcdVersion::new(3, 5, 9),
                least: EtcdVersion::new(3, 5, 26),
            },
        },
        Refusal::WrongVersion {
            with: FitsNot::Data,
            why: Incompatible::OldRequest { binary: EtcdVersion::new(3, 7, 3), index: 8 },
        },
        Refusal::Removed { cluster_id: OURS, member_id: ME },
        Refusal::WrongCluster { own: OURS, others: other() },
        Refusal::LoneVoter { own: OURS, others: other() },
        Refusal::Damaged { why: why(), no_restore: NoRestore::NotAsked },
        Refusal::Damaged { why: why(), no_restore: NoRestore::NotAlone },
        Refusal::Damaged { why: why(), no_restore: NoRestore::SomebodyThere { instance: id("b") } },
        Refusal::Damaged {
            why: why(),
            no_restore: NoRestore::NoBackup { why: "the store has none".to_owned() },
        },
        Refusal::Damaged { why: why(), no_restore: NoRestore::OtherCluster { own: OURS, others: other() } },
        Refusal::TwoClusters { clusters: clusters() },
        Refusal::UrlInUse { url: url("a"), member_id: ME, cluster_id: OURS },
        Refusal::BackupExists { newest: "2026-01-02T03:04:05Z".to_owned() },
        Refusal::NotTrusted { url: url("a"), by: [(id("b"), "certificate expired".to_owned())].into() },
        Refusal::NotChecked { why: "etcd-datadir was ended by SIGKILL".to_owned() },
        Refusal::NoRoom { aside_bytes: 9_000_000, free_bytes: 4096 },
        Refusal::RestoreWithoutData { request: Uuid::from_u128(0x31), directory: "/a/restore/31".to_owned() },
        Refusal::NotRestored { backup: "set-1".to_owned(), why: "no room".to_owned() },
    ]
}

fn waits() -> Vec<Waiting> {
    let silent = || [(id("b"), Unreachable::Refused), (id("c"), tls())].into();
    let not_safe = |why| Waiting::NotSafe { cluster_id: OURS, member_id: ME, why };
    let missing = [
        (id("b"), Missing::Silent { why: tls() }),
        (id("c"), Missing::Disk { class: DiskClass::Data }),
        (id("d"), Missing::Disk { class: DiskClass::Foreign }),
        (id("e"), Missing::NoNonce),
        (id("f"), Missing::OtherLink { theirs: LinkHash("12".to_owned()), ours: LinkHash("34".to_owned()) }),
        (id("k"), Missing::OtherMethod { theirs: BootstrapMethod::Static }),
        (id("g"), Missing::SomebodyElse { claims: id("x") }),
        (id("h"), Missing::SameNonce),
        (id("i"), Missing::PeerPort { said: "no answer in time".to_owned() }),
        (id("j"), Missing::Pending),
    ];
    vec![
        Waiting::RestorePreparing { request: request_id("r1") },
        Waiting::RestoreElsewhere {
            request: request_id("r1"),
            source: id("b"),
            said: "start, row 8".to_owned(),
        },
        Waiting::RestoreOthers {
            request: request_id("r1"),
            missing: [(id("b"), "has none".to_owned())].into(),
        },
        Waiting::MutexHeld { then: "join" },
        Waiting::NotAccepted { step: Step::MemberAdd, why: "etcdserver: unhealthy cluster".to_owned() },
        Waiting::NotReached { url: url("a"), by: [(id("b"), "connection refused".to_owned())].into() },
        Waiting::Confirming { claim: Claim::EntryDead { cluster_id: OURS, member_id: ME }, then: "replace" },
        Waiting::Draining { then: "rejoin" },
        not_safe(Unsafe::LivenessUnknown),
        not_safe(Unsafe::OthersMissing { missing: vec![B, C] }),
        not_safe(Unsafe::OtherUrls { urls: vec![url("x")] }),
        Waiting::BackupUnknown { why: "403 Forbidden".to_owned() },
        Waiting::NotAskedToBootstrap { silent: [].into() },
        Waiting::NotAskedToBootstrap { silent: silent() },
        Waiting::Attestations { missing: missing.into() },
        Waiting::OwnNonce,
        Waiting::LostData { known_from: KnownFrom::Mark },
        Waiting::LostData { known_from: KnownFrom::Records },
        Waiting::NoQuorum {
            who: [(id("b"), "data of cluster c1, start".to_owned())].into(),
            silent: silent(),
        },
        Waiting::FirstBootUnseen { by: id("b") },
        Waiting::FirstBootNeedsFlag { by: id("b") },
    ]
}

#[test]
fn every_refusal_says_what_why_and_next() {
    let texts: Vec<String> = refusals().iter().map(|refusal| refusal.complaint().to_string()).collect();
    insta::assert_snapshot!(texts.join("\n\n"), @r#"
    etcd already runs on this data, as process 4711
      why:  two processes on one data directory destroy it
      next: end that process, then this one goes on by itself; docs/contract.md#never-twice

    another process holds this data's lock
      why:  two processes on one data directory destroy it
      next: end that process, then this one goes on by itself; docs/contract.md#never-twice

    the persistent disk is not mounted at /var/vcap/store
      why:  data written below the mount point would be lost when the disk comes back
      next: `bosh cloud-check` finds and attaches missing disks; docs/contract.md#files

    the data directory holds names that neither etcd nor this release wrote: mysql, tmp
      why:  they may be somebody's data, so nothing was touched
      next: look at them on the VM below /var/vcap/store/etcd and move them elsewhere; docs/contract.md#files

    etcd 3.6.16 is too new for the data on the disk, which is at 3.4.0
      why:  etcd would end at once, or members would refuse each other; the data was not touched
      next: upgrade one minor release at a time: 3.4 → 3.5.26 or later → 3.6; docs/contract.md#versions

    etcd 3.6.16 is too old for cluster c1, which is at 3.7.0
      why:  etcd would end at once, or members would refuse each other; the data was not touched
      next: deploy an etcd 3.7 again; a step down from 3.7 needs etcd's own downgrade procedure first; docs/contract.md#versions

    cluster c1 still has a member on etcd 3.5.9; the step to 3.6.16 needs 3.5.26 first
      why:  older patches leave membership data that the new release reads wrongly; the data was not touched
      next: run every member once on 3.5.26 or a later 3.5, then upgrade to 3.6; docs/contract.md#versions

    the log on the disk holds, at raft index 8, a request as etcd 3.5 wrote it, which etcd 3.7.3 does not read
      why:  it would end with a panic at every start; the data was not touched
      next: deploy etcd_version "3.6" with a small snapshot_count (100), write more than that, and then go on to 3.7: a start reads only what lies behind the newest snapshot; docs/contract.md#versions

    cluster c1 no longer lists member a1, which is on this disk
      why:  a removed id can never come back; on_removed_member is refuse, so the data was left alone
      next: to join as a new member with this data moved aside, deploy with on_removed_member: rejoin; docs/contract.md#removed

    the disk belongs to cluster c1, but cluster c2 (b, c) has quorum
      why:  one address would answer with two different histories
      next: find out which side has the data you want: `etcd-status` shows who runs what, and the disk was not touched; docs/contract.md#wrong-cluster

    the disk's cluster c1 has this member as its only voter, but cluster c2 (b, c) answers on the link
      why:  alone it would have quorum at once, and clients would find two clusters
      next: find out which side has the data you want: `etcd-status` shows who runs what, and the disk was not touched; docs/contract.md#wrong-cluster

    the data cannot be used: torn page 7
      why:  etcd would end or lose what it acknowledged; it is not replaced unasked, because auto_restore is off
      next: bring the other members back first; if none has the data, restore the cluster with `etcd-backup restore-cluster` (docs/restore.md); `etcd-datadir validate --mode full` tells all that is wrong; docs/contract.md#damaged

    the data cannot be used: torn page 7
      why:  etcd would end or lose what it acknowledged; it is not replaced unasked, because there were or should be more members, whose data may be newer than any backup
      next: bring the other members back first; if none has the data, restore the cluster with `etcd-backup restore-cluster` (docs/restore.md); `etcd-datadir validate --mode full` tells all that is wrong; docs/contract.md#damaged

    the data cannot be used: torn page 7
      why:  etcd would end or lose what it acknowledged; it is not replaced unasked, because b is there or cannot be asked
      next: bring the other members back first; if none has the data, restore the cluster with `etcd-backup restore-cluster` (docs/restore.md); `etcd-datadir validate --mode full` tells all that is wrong; docs/contract.md#damaged

    the data cannot be used: torn page 7
      why:  etcd would end or lose what it acknowledged; it is not replaced unasked, because there is no backup to restore: the store has none
      next: bring the other members back first; if none has the data, restore the cluster with `etcd-backup restore-cluster` (docs/restore.md); `etcd-datadir validate --mode full` tells all that is wrong; docs/contract.md#damaged

    the data cannot be used: torn page 7
      why:  etcd would end or lose what it acknowledged; it is not replaced unasked, because the disk belongs to cluster c1, while cluster c2 (b, c) answers
      next: bring the other members back first; if none has the data, restore the cluster with `etcd-backup restore-cluster` (docs/restore.md); `etcd-datadir validate --mode full` tells all that is wrong; docs/contract.md#damaged

    the disk is empty and two clusters answer: cluster c1 (b) and cluster c2 (c, d)
      why:  joining either could be joining the wrong one
      next: stop the instances of the cluster that should not be there, then this one goes on by itself; docs/contract.md#wrong-cluster

    member a1 of cluster c1 is alive at https://a.etcd:2380, which is this instance's URL
      why:  a second member under one URL takes the other's messages
      next: find the etcd that runs there and stop it; if it is a VM that BOSH lost, `bosh cloud-check` shows it; docs/contract.md#replace

    all disks are empty, but a backup of this deployment exists: 2026-01-02T03:04:05Z
      why:  an empty cluster in place of one that had data is rarely what is wanted
      next: to get the data back restore the cluster with `etcd-backup restore-cluster` (docs/restore.md); to start without it deploy with bootstrap_cluster: again; docs/contract.md#bootstrap

    no TLS connection to this instance at https://a.etcd:2380: b says certificate expired
      why:  the cluster could not talk to this member, which would count against quorum all the same; it was not added
      next: compare certificate, CA and names of tls.peer on these instances (`openssl x509 -noout -text`); docs/contract.md#probe

    the data could not be checked: etcd-datadir was ended by SIGKILL
      why:  on damaged data etcd would end or serve something wrong, so it is not started unchecked; the check is tried again, and nothing was changed
      next: run `etcd-datadir validate --mode full` on this instance and read what it says; to start etcd unchecked, `touch /var/vcap/data/etcd/skip-validation`; docs/contract.md#validate

    9000000 bytes of data would have to stay on the disk beside their successor, and 4096 are free
      why:  nothing is deleted unasked, and etcd with a full disk stops the member; nothing was changed
      next: remove what nobody needs below /var/vcap/store/etcd/aside, or deploy with a larger persistent_disk; docs/contract.md#files

    the data of restore 00000000-0000-0000-0000-000000000031 is not in /a/restore/31
      why:  there is nothing to put in the place of the old data, which was not touched
      next: run errand restore again, it makes the data anew; or remove /var/vcap/store/etcd/.launcher/restore-request.json, then etcd starts on the old data; docs/contract.md#restore

    backup set-1 could not be restored: no room
      why:  auto_restore takes the newest state that there is or none, and puts nothing in place that is not proven; the disk was not touched
      next: mend what it says, it is tried again every 5 minutes; or choose a point yourself: restore the cluster with `etcd-backup restore-cluster` (docs/restore.md); docs/contract.md#auto-restore
    "#);
}

#[test]
fn every_wait_says_what_why_and_next() {
    let texts: Vec<String> = waits().iter().map(|waiting| waiting.complaint().to_string()).collect();
    insta::assert_snapshot!(texts.join("\n\n"), @r#"
    restore 00000000-0000-0000-0000-000000000031 is made out of the data on this disk
      why:  what is copied must not change meanwhile
      next: nothing while the errand runs; if it ended, run it again, or let the request expire; docs/contract.md#restore

    b restores the cluster (00000000-0000-0000-0000-000000000031), and this instance will join it; b: start, row 8
      why:  a member of the old cluster that went on serving would make it two clusters
      next: nothing while it goes on; if b is stuck, run errand restore again, or let the request expire: then this member starts on its own data; docs/contract.md#restore

    restore 00000000-0000-0000-0000-000000000031 waits until every member of its set waits for it: b (has none)
      why:  a member of the old cluster that went on serving would make it two clusters
      next: run errand restore on all instances, or let the request expire; docs/contract.md#restore

    'join' waits: another instance of the cluster joins, leaves or stops
      why:  membership changes one at a time, else two could each take what the other counts on
      next: nothing: its turn comes by itself, at the latest half a minute after the other one died; docs/contract.md#mutex

    the cluster does not take 'member-add' now: etcdserver: unhealthy cluster
      why:  etcd refuses changes that could cost its quorum, also for five seconds after members connected
      next: nothing for a moment; if it lasts, `etcd-status` shows which member is missing: start it, or remove it for good with `etcdctl member remove`; docs/contract.md#quorum

    members cannot reach this instance at https://a.etcd:2380: b (connection refused)
      why:  a member that others cannot reach counts against quorum all the same; it was not added
      next: look at DNS, routes and firewalls between those instances; docs/contract.md#probe

    'replace' is due, after a second look: cluster c1 sees member a1 dead
      why:  one look can meet an election or a restart, and this step cannot be taken back
      next: nothing: the second look follows by itself; docs/contract.md#twice

    'rejoin' is put off: this instance is being drained
      why:  an instance that leaves must not come back by itself
      next: nothing while BOSH stops it; if the stop was given up, `bosh restart` this instance; docs/contract.md#stop

    cluster c1 lists this instance as member a1, whose data is gone, but it is not replaced: the leader does not tell whether it is dead
      why:  removing a member while others are missing can cost the quorum
      next: repair the connection to the leader; docs/contract.md#replace

    cluster c1 lists this instance as member a1, whose data is gone, but it is not replaced: the leader also misses b1, c3
      why:  removing a member while others are missing can cost the quorum
      next: start those members first; docs/contract.md#replace

    cluster c1 lists this instance as member a1, whose data is gone, but it is not replaced: it also has the URLs https://x.etcd:2380
      why:  removing a member while others are missing can cost the quorum
      next: if it is this instance's, remove it: etcdctl member remove a1; docs/contract.md#replace

    all disks are empty, and the backup store does not say whether a backup exists: 403 Forbidden
      why:  an empty cluster in place of one that had data is rarely what is wanted
      next: repair the store's access, or deploy with bootstrap_cluster: again to start without it; docs/contract.md#bootstrap

    nobody has data, and this deploy may not create a cluster
      why:  a cluster is created only when asked for: empty disks can also mean that data was lost
      next: for a first deploy add -o deployment/operations/bootstrap.yml; else restore the cluster with `etcd-backup restore-cluster` (docs/restore.md); docs/contract.md#bootstrap

    nobody has data, and this deploy may not create a cluster; silent: b (connection refused), c (TLS: certificate expired)
      why:  a cluster is created only when asked for: empty disks can also mean that data was lost
      next: for a first deploy add -o deployment/operations/bootstrap.yml; else restore the cluster with `etcd-backup restore-cluster` (docs/restore.md); docs/contract.md#bootstrap

    the first boot waits for 10 of the link's instances: b TLS: certificate expired, c has data, d its disk is foreign, e its disk is empty, but had a member once, f was deployed with another list of instances (12, here 34), g x answers at its address, h its disk is a copy of another instance's, i its peer port: no answer in time, j has not answered yet, k was deployed with bootstrap_method: static
      why:  a cluster is created only when every instance says that its disk never had a member
      next: on a first deploy the others follow; else repair what each of them says above; docs/contract.md#bootstrap

    this disk gets the number it will be known by
      why:  the first boot tells disks apart by it
      next: nothing: the next look follows at once; docs/contract.md#bootstrap

    this disk is empty but had a member once, says the mark on the VM
      why:  a new cluster would hide that data was lost
      next: restore the cluster with `etcd-backup restore-cluster` (docs/restore.md); if the data may go, `bosh recreate` this instance; docs/contract.md#bootstrap

    this disk is empty but had a member once, says the record on the disk
      why:  a new cluster would hide that data was lost
      next: restore the cluster with `etcd-backup restore-cluster` (docs/restore.md); if the data may go, move /var/vcap/store/etcd/.launcher on this VM elsewhere; docs/contract.md#bootstrap

    there is data, but no cluster serves: b (data of cluster c1, start); silent: b (connection refused), c (TLS: certificate expired)
      why:  only members that still have their data can bring quorum back
      next: start the instances that have data; if too few are left, restore the cluster with `etcd-backup restore-cluster` (docs/restore.md); docs/contract.md#no-quorum

    b takes part in a first boot that names this disk, but its members cannot be seen yet
      why:  only the running members tell whether this disk is still waited for
      next: if it lasts, look why etcd does not run on b; docs/contract.md#bootstrap

    b takes part in a first boot that waits for this disk, but this deploy may not create a cluster
      why:  bootstrap_cluster was on when that first boot began and is off now
      next: deploy once more with -o deployment/operations/bootstrap.yml; docs/contract.md#bootstrap
    "#);
}

#[test]
fn whoever_acts_says_why_in_one_sentence() {
    let me = || [entry(ME, "a")];
    let on = || bootstrap(BootstrapFlag::On);
    let worlds: Vec<Vec<Change>> = vec![
        vec![data(OURS), healthy("b", OURS, &me(), &[])],
        vec![data(OURS), alone()],
        vec![data(OURS), no_quorum("c", OURS)],
        vec![data(OURS), healthy("b", OURS, &[], &[]), twice()],
        vec![data(OURS), healthy("b", OTHER, &[], &[]), did_restore("b", "r1", OTHER), twice()],
        vec![damaged(), healthy("b", OURS, &[], &[]), twice()],
        vec![damaged_of(None, &[ME]), alone(), auto_restore(), a_backup(), twice()],
        vec![lost(), healthy("b", OURS, &me(), &[ME]), twice()],
        vec![on(), boots("b", "a"), boot_members("b", false)],
        vec![healthy("b", OURS, &[], &[])],
        vec![healthy("b", OURS, &[unstarted(learner(FORMER, "a"))], &[FORMER])],
        vec![on(), virgin("b"), virgin("c")],
        vec![request(|_| {}), has_request("b", "r1"), has_request("c", "r1")],
    ];
    let told: Vec<String> = worlds
        .iter()
        .map(|world| decide(&with(world)))
        .map(|decision| format!("{} {}: {}", decision.row, decision.plan.name(), decision.because.sentence()))
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    4 start: cluster c1 is healthy and lists this member, says b
    8 start: the disk has a member of cluster c1, and there is no other instance to ask
    8 start: the disk has a member of cluster c1, which nobody serves; starting it is how quorum comes back (b: connection refused; c: no answer in time)
    5 rejoin: cluster c1 removed member a1 while it was away; on_removed_member is rejoin
    6 rejoin: cluster c2 was restored in place of cluster c1, which is on this disk
    9 move-aside: the data is damaged (torn page 7) and cluster c1 does not list this instance
    11 restore: the only member there ever was is damaged (torn page 7); auto_restore is on and backup 2026-01-02T03:04:05Z exists
    17 replace: the data of member a1 is gone, cluster c1 sees it dead, and the others can spare it
    14 bootstrap: b already runs the first boot this disk attested for
    15 join: the disk is empty and cluster c1 does not list this instance
    16 resume-join: cluster c1 added this instance as member a0, which never started
    18 bootstrap: all 3 instances of the link attest that their disks never had a member
    2 restore: every member of the set waits for restore 00000000-0000-0000-0000-000000000031, whose data lies ready here
    "#);
}

/// The first thing an operator does wrong is to forget bootstrap.yml.
#[test]
fn a_first_deploy_without_the_ops_file_names_it() {
    for world in [vec![virgin("b"), virgin("c")], vec![]] {
        let complaint = decide(&with(&world)).because.complaint().unwrap();
        assert!(complaint.next.contains("deployment/operations/bootstrap.yml"), "{complaint}");
    }
}

/// post-deploy does not wait for what only another deploy can bring.
#[test]
fn who_ends_a_wait_is_known() {
    let until = |changes: &[Change]| {
        let super::super::reason::Reason::Waiting(waiting) = decide(&with(changes)).because else {
            panic!("a wait")
        };
        waiting.until()
    };
    let on = || bootstrap(BootstrapFlag::On);
    assert_eq!(until(&[virgin("b"), virgin("c")]), Until::Operator);
    assert_eq!(until(&[virgin("b")]), Until::Others);
    assert_eq!(until(&[on(), virgin("b")]), Until::Others);
    assert_eq!(until(&[on(), virgin("b"), virgin("c"), lost()]), Until::Operator);
    assert_eq!(until(&[on(), no_nonce()]), Until::OwnProgress);
    assert_eq!(until(&[data(OURS), healthy("b", OURS, &[], &[])]), Until::OwnProgress);
    assert_eq!(until(&[no_quorum("b", OURS)]), Until::Others);
}
