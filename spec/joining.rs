//! The launcher killed by -9 just before each step of becoming a member, then started again as monit does:
//! it must end as a voter, with one entry in the list, and the cluster must serve all the while.

#![allow(missing_docs, reason = "test names are sentences")]
#![allow(clippy::disallowed_methods, reason = "fixtures need no durability")]

mod support;

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use etcd_release::etcd::id::{ClusterId, MemberId, PeerUrl};
use etcd_release::lifecycle::launch::decide::plan::{
    Aside, AsideReason, Join, Plan, Promotion, RecordsToo, Replace, ResumeJoin,
};
use etcd_release::lifecycle::launch::decide::step::Step;
use support::fleet::{Fleet, all_ready, voters};
use support::load::{Load, assert_nothing_lost, member_ids};
use support::trouble::id_of;

/// The steps of a join, as the plan itself tells them.
fn join_steps() -> Vec<Step> {
    let url = PeerUrl::https("a", 2380);
    Plan::Join(Join { cluster_id: ClusterId(1), members: Vec::new(), peer_url: url, clear: None }).steps()
}

/// The steps of replacing a member whose data is damaged.
fn replace_steps() -> Vec<Step> {
    Plan::Replace(Replace {
        cluster_id: ClusterId(1),
        remove: MemberId(1),
        survivors: [].into(),
        peer_url: PeerUrl::https("a", 2380),
        clear: Some(Aside { reason: AsideReason::Damaged, records: RecordsToo::Move }),
    })
    .steps()
}

fn armed(fleet: &Fleet, slug: &str) -> bool {
    fleet.store(slug).join(".launcher/fail-point").exists()
}

/// One member of a serving cluster is made to begin again, by an empty or a damaged disk, and dies before
/// each step of doing so.
#[track_caller]
fn begins_again(steps: &[Step], spoil: impl Fn(&Fleet, &str)) {
    let fleet = Fleet::new(&["bootstrap.yml"]).with_monit_cycle("1").deployed();
    let before = fleet.eventually("three voters", |seen| voters(seen) == 3 && all_ready(seen));
    let victim = fleet.slugs().pop().expect("three instances");
    let load = Load::start(&fleet);
    for step in steps {
        fleet.cli(&["stop", &victim, "--no-converge"]).succeeded();
        spoil(&fleet, &victim);
        fleet.arm(&victim, &step.fail_point());

        fleet.cli(&["start", &victim, "--no-converge"]);

        let after = fleet.eventually(&format!("three voters after dying before {step}"), |seen| {
            voters(seen) == 3 && all_ready(seen) && !armed(&fleet, &victim)
        });
        assert_eq!(before["cluster_id"], after["cluster_id"], "{step}");
        assert_eq!(member_ids(&after).len(), 3, "{step}: {after:#}");
    }
    let report = load.finish();
    assert_nothing_lost(&fleet, &report);
    assert_eq!(report.failed_writes, 0, "the others served all the while: {:?}", report.longest_gap);
}

fn peer_url(slug: &str) -> String {
    format!("https://{}.etcd.default.etcd.bosh:2380", id_of(slug))
}

/// Removes the stopped instance's entry as an operator would.
fn remove_entry(fleet: &Fleet, slug: &str) {
    let status = fleet.status();
    let entry =
        status["members"].as_array().and_then(|all| all.iter().find(|one| one["name"] == id_of(slug)));
    let id = entry.and_then(|entry| entry["id"].as_str()).unwrap_or_else(|| panic!("{slug} in {status:#}"));
    fleet.ssh("etcd/0", &format!("etcdctl member remove {id}")).succeeded();
}

/// Takes the whole store away, to where the test can look at it.
fn lose_disk(fleet: &Fleet, slug: &str) {
    static LOST: AtomicU32 = AtomicU32::new(0);
    fleet.empty_store(slug, &format!("lost-{}", LOST.fetch_add(1, Ordering::Relaxed)));
}

fn joins_again(fleet: &Fleet, victim: &str) {
    remove_entry(fleet, victim);
    lose_disk(fleet, victim);
}

/// Two halves, which run at the same time.
#[test]
fn killed_before_each_of_the_first_steps_of_a_join_it_becomes_a_member_all_the_same() {
    let steps = join_steps();
    begins_again(&steps[..steps.len() / 2], joins_again);
}

#[test]
fn killed_before_each_of_the_last_steps_of_a_join_it_becomes_a_member_all_the_same() {
    let steps = join_steps();
    begins_again(&steps[steps.len() / 2..], joins_again);
}

/// The predecessors added again what they had added before, were refused, and exited for ever.
#[test]
#[cfg_attr(not(feature = "long"), ignore = "long tier")]
fn killed_before_each_step_of_going_on_with_a_join_it_is_not_added_twice() {
    let url = PeerUrl::https("a", 2380);
    let steps = Plan::ResumeJoin(ResumeJoin {
        cluster_id: ClusterId(1),
        members: Vec::new(),
        member_id: MemberId(1),
        peer_url: url,
        promotion: Promotion::Promote,
        clear: None,
    })
    .steps();
    begins_again(&steps, |fleet, victim| {
        joins_again(fleet, victim);
        let (name, url) = (id_of(victim), peer_url(victim));
        fleet.ssh("etcd/0", &format!("etcdctl member add {name} --learner --peer-urls={url}")).succeeded();
    });
}

#[test]
fn killed_before_each_step_of_a_rejoin_its_data_is_kept_and_it_becomes_a_new_member() {
    let aside = Aside { reason: AsideReason::Removed, records: RecordsToo::Move };
    begins_again(&Plan::Rejoin(aside).steps(), remove_entry);
}

fn damage(fleet: &Fleet, victim: &str) {
    let database = fleet.store(victim).join("member/snap/db");
    let file = fs::File::options().write(true).open(&database).expect("open the database");
    // Both meta pages: no copy is left to go by.
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 8192], 0).expect("damage the database");
}

/// The steps that only a replacement has; the others are those of a join.
#[test]
fn killed_before_each_step_of_replacing_its_own_dead_entry_it_is_one_member_again() {
    let only: Vec<Step> = replace_steps().into_iter().filter(|step| !join_steps().contains(step)).collect();
    assert!(only.contains(&Step::MemberRemove), "{only:?}");
    begins_again(&only, damage);
}

#[test]
#[cfg_attr(not(feature = "long"), ignore = "long tier")]
fn killed_before_every_step_of_replacing_its_own_dead_entry_it_is_one_member_again() {
    begins_again(&replace_steps(), damage);
}
