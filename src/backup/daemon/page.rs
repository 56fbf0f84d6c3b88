//! The pages' text: what the board knows, for programs. Pure.

use std::fmt::Write;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::board::{Active, Content, Work};
use crate::backup::store::{Act, Figures};

/// The version of `/state`. Fields are added, never changed.
const VERSION: u32 = 1;

/// What was asked of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Requests {
    /// By [`Act`].
    pub(super) acts: [Figures; Act::ALL.len()],
    pub(super) uploaded_bytes: u64,
}

/// Prometheus' text format, family by family.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}")
            .expect("writing to a String cannot fail");
    }

    fn value(&mut self, name: &str, labels: &str, value: f64) {
        writeln!(self.0, "{name}{labels} {value}").expect("writing to a String cannot fail");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help);
        self.value(name, "", value);
    }

    /// Nothing, if it is not known.
    fn gauge(&mut self, name: &str, help: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.one(name, "gauge", help, value);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "revisions and bytes on a page; below 2^53 they are exact")]
fn of(number: i64) -> f64 {
    number as f64
}

#[expect(clippy::cast_precision_loss, reason = "as above")]
fn of_u64(number: u64) -> f64 {
    number as f64
}

fn seconds(at: Timestamp) -> f64 {
    at.duration_since(Timestamp::UNIX_EPOCH).as_secs_f64()
}

/// `/metrics`.
pub(super) fn metrics(content: &Content, requests: &Requests, now: Timestamp) -> String {
    let mut page = Page(String::new());
    page.gauge(
        "etcd_backup_active",
        "1 on the instance that takes the backups, 0 on a standby.",
        Some(f64::from(u8::from(content.active.is_some()))),
    );
    if let Some(active) = &content.active {
        of_the_active(&mut page, active, now);
    }
    let name = "etcd_backup_failures_total";
    page.family(name, "counter", "What failed since the start, whether or not it was repeated with success.");
    for work in Work::ALL {
        let labels = format!("{{act=\"{}\"}}", work.name());
        page.value(name, &labels, of_u64(content.failures[work as usize]));
    }
    let name = "etcd_backup_store_request_seconds";
    page.family(name, "summary", "Seconds that requests to the store took.");
    for act in Act::ALL {
        let (labels, figures) = (format!("{{act=\"{}\"}}", act.name()), requests.acts[act as usize]);
        page.value(&format!("{name}_sum"), &labels, figures.took.as_secs_f64());
        page.value(&format!("{name}_count"), &labels, of_u64(figures.requests));
    }
    let name = "etcd_backup_store_failures_total";
    page.family(name, "counter", "Requests to the store that failed.");
    for act in Act::ALL {
        let labels = format!("{{act=\"{}\"}}", act.name());
        page.value(name, &labels, of_u64(requests.acts[act as usize].failures));
    }
    page.one(
        "etcd_backup_uploaded_bytes_total",
        "counter",
        "Bytes that went to the store since the start.",
        of_u64(requests.uploaded_bytes),
    );
    page.one(
        "etcd_backup_defragmented_bytes_total",
        "counter",
        "Bytes that members gave back to their disks since the start.",
        of_u64(content.gained_bytes),
    );
    page.0
}

fn of_the_active(page: &mut Page, active: &Active, now: Timestamp) {
    let full = active.full.as_ref();
    page.gauge(
        "etcd_backup_last_full_timestamp_seconds",
        "When the newest full snapshot was begun, in seconds since 1970.",
        full.map(|full| seconds(full.at)),
    );
    page.gauge(
        "etcd_backup_last_full_revision",
        "The last revision in the newest full snapshot.",
        full.map(|full| of(full.revision)),
    );
    page.gauge(
        "etcd_backup_last_full_bytes",
        "The size of the newest full snapshot in the store.",
        full.map(|full| of_u64(full.bytes)),
    );
    let delta = active.delta.as_ref();
    page.gauge(
        "etcd_backup_last_delta_timestamp_seconds",
        "When the last change in the newest delta arrived, in seconds since 1970.",
        delta.map(|delta| seconds(delta.at)),
    );
    page.gauge(
        "etcd_backup_last_delta_revision",
        "The last revision in the newest delta.",
        delta.map(|delta| of(delta.revision)),
    );
    page.gauge(
        "etcd_backup_last_delta_bytes",
        "The size of the newest delta in the store.",
        delta.map(|delta| of_u64(delta.bytes)),
    );
    page.gauge(
        "etcd_backup_lag_seconds",
        "For how long the oldest change that is not in the store has been waiting.",
        active.lag.seconds(now),
    );
    page.gauge(
        "etcd_backup_lag_revisions",
        "How many revisions the store is behind etcd.",
        active.lag.revisions().map(of),
    );
    let verification = active.verification.as_ref();
    page.gauge(
        "etcd_backup_last_verified_timestamp_seconds",
        "When a set was last found to be whole, in seconds since 1970.",
        verification.map(|verification| seconds(verification.at)),
    );
    page.gauge(
        "etcd_backup_last_verified_revision",
        "Up to which revision it was.",
        verification.map(|verification| of(verification.revision)),
    );
    let is = |known: bool| f64::from(u8::from(known));
    page.gauge(
        "etcd_backup_last_verified_deep",
        "1 if it was restored for that, 0 if it was only read.",
        verification.map(|verification| is(verification.deep)),
    );
    page.gauge(
        "etcd_backup_verification_sound",
        "0 if the last verification that was due here failed, else 1.",
        active.sound.map(is),
    );
    page.gauge(
        "etcd_backup_next_full_timestamp_seconds",
        "When the next full snapshot is due, in seconds since 1970.",
        active.next_full.map(seconds),
    );
    page.gauge(
        "etcd_backup_last_defragmentation_timestamp_seconds",
        "When the members were last looked through for free pages, in seconds since 1970.",
        active.defragmentation.map(|last| seconds(last.at)),
    );
    page.gauge(
        "etcd_backup_store_sets",
        "How many sets are in the store.",
        active.holdings.map(|holdings| of_u64(holdings.sets as u64)),
    );
    page.gauge(
        "etcd_backup_store_bytes",
        "How much is in the store.",
        active.holdings.map(|holdings| of_u64(holdings.bytes)),
    );
}

/// `/state`, but for who else is active.
pub(super) fn state(content: &Content, instance: &str, store: &str, now: Timestamp) -> Value {
    let mut state = json!({
        "version": VERSION,
        "instance": instance,
        "role": if content.active.is_some() { "active" } else { "standby" },
        "store": store,
        "last_failure": content.last_failure,
    });
    let (Some(active), Value::Object(fields)) = (&content.active, &mut state) else { return state };
    let more = json!({
        "active": {"instance": instance, "since": active.since},
        "cluster_id": active.cluster,
        "member": active.member,
        "last": {
            "full": active.full,
            "delta": active.delta,
            "verification": active.verification,
            "defragmentation": active.defragmentation,
        },
        "lag": {"seconds": active.lag.seconds(now), "revisions": active.lag.revisions()},
        "next": {
            "full": active.next_full,
            "verification": active.next_verification,
            "defragmentation": active.next_defragmentation,
        },
        "holds": active.holdings,
    });
    if let Value::Object(more) = more {
        fields.extend(more);
    }
    state
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::backup::daemon::board::{Board, Holdings, LastDefragmentation};
    use crate::backup::fixture::{delta, full, minute, set};
    use crate::backup::manifest::{VERSION, Verification};
    use crate::etcd::id::ClusterId;

    /// Everything that can be known.
    fn content() -> Content {
        let board = Board::default();
        board.active(minute(1));
        board.note(|active| {
            active.of_cluster(ClusterId(1));
            active.took_full(&full(0, 10));
            active.took_delta(&delta(0, 11, 15, 1).1);
            active.lag.seen(minute(3), 20);
            active.member = Some("a.etcd.default.etcd.bosh:2379".to_owned());
            active.verified(&Verification {
                version: VERSION,
                set: set(0),
                at: minute(2),
                deep: false,
                revision: 15,
                objects: 2,
                bytes: 14,
            });
            active.sound = Some(true);
            active.holdings = Some(Holdings { sets: 1, bytes: 14 });
            active.next_full = Some(minute(60));
            active.next_verification = Some(minute(120));
            active.defragmentation =
                Some(LastDefragmentation { at: minute(1), members: 3, gained_bytes: 4_096 });
            active.next_defragmentation = Some(minute(180));
        });
        board.failed(Work::Delta, "the store is away");
        let mut content = board.content();
        content.last_failure.as_mut().unwrap().at = minute(2);
        content
    }

    fn page() -> String {
        let figures = Figures { requests: 4, failures: 1, took: Duration::from_millis(500) };
        let requests = Requests { acts: [figures; 4], uploaded_bytes: 14 };
        metrics(&content(), &requests, minute(4))
    }

    /// The families of a page.
    fn names(page: &str) -> BTreeSet<&str> {
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
    }

    /// What in a text looks like one of our metrics, without the ends that a summary has.
    fn mentioned(text: &str) -> BTreeSet<&str> {
        let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
        let ours = words.filter(|word| word.starts_with("etcd_backup_"));
        ours.map(|word| word.strip_suffix("_sum").or(word.strip_suffix("_count")).unwrap_or(word)).collect()
    }

    #[test]
    fn the_pages_of_the_active_instance() {
        insta::assert_snapshot!(page());
        let state = state(&content(), "a", "s3://bucket/etcd", minute(4));
        insta::assert_snapshot!(serde_json::to_string_pretty(&state).unwrap());
    }

    #[test]
    fn a_standby_tells_what_it_is_and_nothing_of_what_it_once_knew() {
        let content = Content { active: None, ..content() };

        let page = metrics(&content, &Requests::default(), minute(4));

        assert!(page.contains("\netcd_backup_active 0\n"), "{page}");
        assert!(page.contains("\netcd_backup_failures_total{act=\"delta\"} 1\n"), "{page}");
        assert!(!page.contains("last_full") && !page.contains("lag"), "{page}");
        let state = state(&content, "b", "s3://bucket/etcd", minute(4));
        assert_eq!(state["role"], "standby");
        assert_eq!(state.get("last"), None);
    }

    #[test]
    fn each_alert_looks_at_metrics_that_there_are_and_the_docs_name_all() {
        let page = page();
        let names = names(&page);
        let alerts = mentioned(include_str!("../../../deployment/alerts/etcd-backup.yml"));
        let docs = include_str!("../../../docs/metrics.md");

        let rules: serde_yaml::Value =
            serde_yaml::from_str(include_str!("../../../deployment/alerts/etcd-backup.yml")).unwrap();
        let rules = rules["groups"][0]["rules"].as_sequence().unwrap();
        assert!(rules.iter().all(|rule| rule["alert"].is_string() && rule["expr"].is_string()));
        let unknown: Vec<_> = alerts.difference(&names).collect();
        assert!(unknown.is_empty(), "alerts on metrics that no page has: {unknown:?}");
        assert_eq!(mentioned(docs), names);
    }
}
