//! Data is checked before etcd starts on it: all of it after a crash, what is seen at once after an end in order.
//! Damage is found before etcd serves it, a member of three is replaced and nothing is lost; what etcd repairs or
//! never reads stops nobody.

#![allow(missing_docs, reason = "test names are sentences")]
#![allow(clippy::disallowed_methods, reason = "fixtures need no durability")]

mod support;

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use support::damage::{overwrite, tear_log, wreck_free_page, wreck_page_with};
use support::fleet::{Fleet, all_ready, voters};
use support::load::{Load, assert_nothing_lost, member_ids, write_once};
use support::trouble::{fingerprint, give_to_owner_of, id_of, member_of};

const BOOTSTRAP: &str = "bootstrap.yml";
const SINGLE: &str = "single-node.yml";
/// In every key below, so that its pages can be found.
const MARKER: &str = "marker-";

/// Enough keys for pages of their own, and some of them deleted and compacted away, so that pages are free.
#[track_caller]
fn fill(fleet: &Fleet, slug: &str) {
    let script = format!(
        "for i in $(seq 100 160); do etcdctl put {MARKER}$i $(head -c 300 /dev/zero | tr '\\0' x) || exit 1; done
         etcdctl put again 1 && etcdctl put again 2 && etcdctl compaction --physical=true 60"
    );
    fleet.ssh(slug, &script).succeeded();
}

fn value_of(fleet: &Fleet, slug: &str, key: &str) -> String {
    fleet.ssh(slug, &format!("etcdctl get {key} --print-value-only")).succeeded().stdout.trim().to_owned()
}

/// What the launcher of an instance tells of its check.
fn validation(status: &Value, slug: &str) -> Value {
    let instances = status["instances"].as_array().cloned().unwrap_or_default();
    let one = instances.into_iter().find(|one| one["instance"] == id_of(slug)).unwrap_or_default();
    one["launcher"]["Ok"]["validation"].clone()
}

/// The checks that the log of an instance tells of, by mode and verdict.
fn checks(fleet: &Fleet, slug: &str) -> Vec<(String, String)> {
    fleet
        .log(slug, "etcd.stderr.log")
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["took_ms"].is_u64() && line["mode"].is_string())
        .map(|line| {
            let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            (text("mode"), text("verdict"))
        })
        .collect()
}

fn check(mode: &str, verdict: &str) -> (String, String) {
    (mode.to_owned(), verdict.to_owned())
}

#[test]
fn a_damaged_page_is_found_after_a_crash_and_the_member_is_replaced_with_nothing_lost() {
    let fleet = Fleet::new(&[BOOTSTRAP]).deployed();
    let slugs = fleet.slugs();
    let slug = &slugs[1];
    fill(&fleet, &slugs[0]);
    let load = Load::start(&fleet);
    let before = fleet.whole_from(&slugs[0], 3);
    let gone = member_of(&before, slug);
    fleet.crash(slug);
    let page = wreck_page_with(&fleet.db(slug), MARKER);

    fleet.resume(slug);

    let after = fleet.whole_from(&slugs[0], 3);
    assert_eq!(before["cluster_id"], after["cluster_id"]);
    assert!(!member_ids(&after).contains(&gone), "{gone} is still listed");
    let log = fleet.log(slug, "etcd.stderr.log");
    assert!(log.contains("the data is damaged") && log.contains(&format!("page {page}")), "{log}");
    assert!(log.contains(&format!("the data of member {gone} is gone")), "row 10: {log}");
    let aside = fleet.asides(slug, "damaged");
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert!(aside[0].join("member/snap/db").exists(), "the damaged data is kept");
    let report = load.finish();
    assert_nothing_lost(&fleet, &report);
    assert_eq!(report.failed_writes, 0, "longest gap {:?}", report.longest_gap);
    assert_eq!(value_of(&fleet, slug, &format!("{MARKER}160")).len(), 300);
}

/// Nobody waits for a member that the cluster does not list any more: its data only has to go out of the way.
#[test]
fn a_damaged_member_that_was_removed_meanwhile_moves_its_data_aside_and_joins_as_a_new_one() {
    let fleet = Fleet::new(&[BOOTSTRAP]).deployed();
    let slugs = fleet.slugs();
    let slug = &slugs[2];
    fill(&fleet, &slugs[0]);
    let before = fleet.whole_from(&slugs[0], 3);
    let gone = member_of(&before, slug);
    fleet.crash(slug);
    fleet.wait_until("etcd takes the removal", || {
        let answer = fleet.ssh(&slugs[0], &format!("etcdctl member remove {gone}"));
        answer.code == 0 || answer.stderr.contains("etcdserver: member not found")
    });
    // The cluster says that the member was removed before anybody looks for damage, unless it is seen at once.
    overwrite(&fleet.db(slug), 0, &[0xa5; 8192]);

    fleet.resume(slug);

    let after = fleet.whole_from(&slugs[0], 3);
    assert_eq!(before["cluster_id"], after["cluster_id"]);
    assert!(!member_ids(&after).contains(&gone), "{gone} is still listed");
    let log = fleet.log(slug, "etcd.stderr.log");
    assert!(log.contains("and cluster") && log.contains("does not list this instance"), "row 9: {log}");
    assert_eq!(fleet.asides(slug, "damaged").len(), 1);
    assert_eq!(value_of(&fleet, slug, &format!("{MARKER}160")).len(), 300);
}

#[test]
fn a_torn_end_of_the_log_is_reported_repaired_by_etcd_and_checked_again_only_at_a_glance() {
    let fleet = Fleet::new(&[BOOTSTRAP, SINGLE]).deployed();
    let slug = fleet.slugs().remove(0);
    assert!(write_once(&fleet, "acknowledged", "1"));
    let before = fleet.whole_from(&slug, 1);
    fleet.crash(&slug);
    let wal = fleet.store(&slug).join("member/wal");
    tear_log(&wal);

    fleet.resume(&slug);

    let status = fleet.whole_from(&slug, 1);
    assert_eq!(member_ids(&status), member_ids(&before));
    assert_eq!(value_of(&fleet, &slug, "acknowledged"), "1");
    assert_eq!(validation(&status, &slug)["verdict"], "repairable", "{status:#}");
    let told = fleet.told(&slug);
    assert!(
        told["notices"].to_string().contains("etcd repairs this when it starts: member/wal/"),
        "{told:#}"
    );
    let broken = fs::read_dir(&wal).expect("list the log").filter(|entry| {
        entry.as_ref().is_ok_and(|entry| entry.path().extension().is_some_and(|name| name == "broken"))
    });
    assert_eq!(broken.count(), 1, "etcd repaired the log itself");

    // An end in order: what was read once is not read again.
    let checked = checks(&fleet, &slug);
    assert_eq!(checked.last(), Some(&check("full", "repairable")), "{checked:?}");
    fleet.halt(&slug);
    fleet.resume(&slug);
    fleet.whole_from(&slug, 1);
    let again = checks(&fleet, &slug);
    assert_eq!(again.len(), checked.len() + 1, "{again:?}");
    assert_eq!(again.last(), Some(&check("sanity", "sound")), "{again:?}");
}

#[test]
fn a_damaged_single_member_is_refused_with_the_way_out_and_goes_on_once_its_file_is_mended() {
    let fleet = Fleet::new(&[BOOTSTRAP, SINGLE]).deployed();
    let slug = fleet.slugs().remove(0);
    fill(&fleet, &slug);
    let before = fleet.whole_from(&slug, 1);
    fleet.crash(&slug);
    let sound = fs::read(fleet.db(&slug)).expect("read the database");
    let page = wreck_page_with(&fleet.db(&slug), MARKER);
    let damaged = fingerprint(&fleet.store(&slug).join("member"));

    fleet.resume(&slug);

    let told = fleet.says(
        &slug,
        "refuse",
        &[
            "the data cannot be used: member/snap/db",
            &format!("page {page}"),
            "etcd-backup restore-cluster",
            "etcd-datadir validate --mode full",
        ],
    );
    assert_eq!((&told["row"], &told["disk"]), (&11.into(), &"damaged".into()), "{told:#}");
    assert_eq!(told["cluster_id"], before["cluster_id"], "it still tells whose it was");
    assert_eq!(told["validation"]["state"], "failed", "{told:#}");
    assert_eq!(told["validation"]["verdict"], "damaged", "{told:#}");
    assert_eq!(fingerprint(&fleet.store(&slug).join("member")), damaged, "the data was touched");
    assert!(fleet.asides(&slug, "").is_empty());

    // A verdict counts for the files it was about.
    let at = page * 4096;
    let from = usize::try_from(at).expect("a place in memory");
    overwrite(&fleet.db(&slug), at, &sound[from..from + 4096]);
    let after = fleet.whole_from(&slug, 1);
    assert_eq!(member_ids(&after), member_ids(&before));
    assert_eq!(value_of(&fleet, &slug, &format!("{MARKER}160")).len(), 300);
}

#[test]
fn a_damaged_page_that_nobody_reads_stops_nobody_after_an_end_in_order_and_after_a_crash() {
    let fleet = Fleet::new(&[BOOTSTRAP, SINGLE]).deployed();
    let slug = fleet.slugs().remove(0);
    fill(&fleet, &slug);
    let before = fleet.whole_from(&slug, 1);

    fleet.halt(&slug);
    wreck_free_page(&fleet.db(&slug));
    fleet.resume(&slug);
    let status = fleet.whole_from(&slug, 1);
    assert_eq!(validation(&status, &slug)["mode"], "sanity", "{status:#}");

    fleet.crash(&slug);
    wreck_free_page(&fleet.db(&slug));
    fleet.resume(&slug);
    let status = fleet.whole_from(&slug, 1);
    assert_eq!(validation(&status, &slug)["mode"], "full", "{status:#}");
    assert_eq!(validation(&status, &slug)["verdict"], "sound", "{status:#}");
    assert_eq!(member_ids(&status), member_ids(&before));
    assert_eq!(value_of(&fleet, &slug, &format!("{MARKER}160")).len(), 300);
}

/// Lets a check last until the file that is returned is removed.
#[track_caller]
fn hold_checks(fleet: &Fleet, slug: &str) -> PathBuf {
    let records = fleet.store(slug).join(".launcher");
    let path = records.join("hold-point");
    fs::write(&path, "validate").expect("hold the check");
    give_to_owner_of(&records, &path);
    path
}

#[test]
fn a_long_check_is_told_all_the_time_and_ends_when_the_instance_is_stopped() {
    let fleet = Fleet::new(&[BOOTSTRAP]).deployed();
    let slugs = fleet.slugs();
    let slug = &slugs[2];
    let before = fleet.whole_from(&slugs[0], 3);
    fleet.crash(slug);
    let held = hold_checks(&fleet, slug);
    // The one that crashed may have led. While the others elect, nobody serves, and that is row 8 instead of row 4.
    fleet.wait_until("the two others serve", || fleet.ssh(&slugs[0], "etcdctl get serving").code == 0);

    fleet.resume(slug);

    let checking = |seen: &Value| validation(seen, slug)["state"] == "progress";
    let status = fleet.eventually_from(&slugs[0], "the check, as another instance sees it", checking);
    assert_eq!(validation(&status, slug)["mode"], "full", "{status:#}");
    let told = fleet.told(slug);
    assert_eq!((&told["plan"], &told["row"]), (&"validate".into(), &4.into()), "{told:#}");
    assert_eq!(told["until"], "own-progress", "what post-start waits for: {told:#}");
    assert!(told["because"].to_string().contains("did not end gracefully"), "{told:#}");
    let table = fleet.ssh(&slugs[0], "etcd-status").stdout;
    assert!(table.contains("  data      full, "), "{table}");
    // On its way back: another one's stop waits for it instead of failing.
    assert_eq!(told["progress"], "progress", "{told:#}");

    // SIGTERM ends it, and nothing was changed.
    fleet.halt(slug);
    assert!(fleet.log(slug, "etcd.stderr.log").contains("stopped while etcd was not running"));
    fleet.resume(slug);
    fleet.eventually_from(&slugs[0], "the check, once more", checking);

    fs::remove_file(held).expect("let the check end");
    let status = fleet.eventually_from(&slugs[0], "all of them", |seen| voters(seen) == 3 && all_ready(seen));
    assert_eq!(member_ids(&status), member_ids(&before));
    assert_eq!(validation(&status, slug)["state"], "success", "{status:#}");
    assert_eq!(checks(&fleet, slug).last(), Some(&check("full", "sound")));
    let page = format!("https://{}.etcd.default.etcd.bosh:2382/metrics", id_of(slug));
    let curl = "cd /var/vcap/jobs/etcd/config && curl --silent --show-error --fail --cacert peer-ca.crt --cert admin.crt --key admin.key";
    let metrics = fleet.ssh(slug, &format!("{curl} {page}")).succeeded().stdout;
    assert!(metrics.contains("\netcd_launcher_validation_bytes "), "{metrics}");
}
