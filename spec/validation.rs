//! What etcd of every series leaves on a disk, judged and described by us; and what etcd makes of damage that we judged.

#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]
#![allow(dead_code, reason = "several specs share the support")]
#![allow(clippy::disallowed_methods, reason = "files of a test need no durability")]

#[path = "support/corpus.rs"]
mod corpus;
#[path = "support/dice.rs"]
mod dice;
#[path = "support/etcd.rs"]
mod etcd;
#[path = "support/facts.rs"]
mod facts;
#[path = "support/mutation.rs"]
mod mutation;
#[path = "support/outcome.rs"]
mod outcome;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use corpus::Entry;
use dice::Dice;
use etcd::{Etcd, Start};
use etcd_release::datadir::validate::validate;
use etcd_release::datadir::verdict::{Mode, Report, Verdict};
use facts::MemberFact;
use mutation::Kind;
use outcome::Outcome;
use serde_json::{Value, json};

/// How many etcds run at a time: most of the time they wait.
const AT_A_TIME: usize = 4;

fn judge(data_dir: &Path, mode: Mode) -> Report {
    validate(data_dir, None, mode, &mut |_, _| {}).unwrap()
}

/// Runs `etcd-datadir` on a directory: its exit code, and the JSON that it prints.
fn datadir(arguments: &[&str], data_dir: &Path) -> (Option<i32>, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_etcd-datadir"))
        .args(arguments)
        .args(["--json", "--data-dir"])
        .arg(data_dir)
        .env_clear()
        .output()
        .unwrap();
    let said = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), said)
}

#[test]
fn what_etcd_left_behind_is_sound() {
    let mut others = Vec::new();
    for entry in corpus::all() {
        for mode in [Mode::Sanity, Mode::Full] {
            let mut report = judge(&entry.data_dir, mode);
            report.findings.retain(|finding| !is_told(entry, &finding.what));
            if report.verdict != Verdict::Sound || !report.findings.is_empty() {
                others.push(format!("{}: {report:#?}", entry.title()));
            }
        }
    }
    assert!(others.is_empty(), "{}", others.join("\n"));
}

/// Whether somebody should know this of a directory that is sound.
fn is_told(entry: &Entry, what: &str) -> bool {
    what.contains("raised the alarm") && !entry.facts.alarms.is_empty()
        || what.contains("was removed from its cluster") && entry.name == "three-removed"
        // The restore of 3.4 leaves the members of before in the database.
        || what.contains("members") && entry.title() == "3.4 restored"
}

#[test]
fn what_we_read_is_what_etcd_says() {
    let mut differences = Vec::new();
    for entry in corpus::all() {
        let (code, said) = datadir(&["inspect"], &entry.data_dir);
        assert_eq!(code, Some(0), "{}", entry.title());
        let length = entry.data_dir.join("member/snap/db").metadata().unwrap().len();
        let expected = expected(entry).into_iter().chain([("/backend/file/bytes", json!(length))]);
        for (field, expected) in expected {
            let found = said.pointer(field).unwrap_or(&Value::Null);
            if *found != expected {
                differences.push(format!("{}: {field} is {found}, etcd says {expected}", entry.title()));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// What the fields of our document should be, by their JSON pointers.
fn expected(entry: &Entry) -> Vec<(&'static str, Value)> {
    let facts = &entry.facts;
    let status = facts.status.as_ref().unwrap();
    let hex = |id: u64| json!(format!("{id:x}"));
    let mut fields = vec![
        ("/class/kind", json!("data")),
        ("/cluster_id", hex(facts.cluster_id)),
        ("/member_id", hex(facts.member_id)),
        ("/unreadable", json!([])),
        // Of the database, whatever the log has behind it. A new one counts from 1.
        ("/backend/revision", json!(status.revision.max(1))),
        ("/backend/cluster_version", json!(facts.cluster_version)),
        ("/backend/auth/enabled", json!(facts.auth_enabled)),
        ("/backend/auth/users", json!(facts.users)),
        ("/backend/auth/roles", json!(facts.roles)),
        (
            "/backend/alarms",
            facts
                .alarms
                .iter()
                .map(|alarm| json!({"member": hex(alarm.member), "alarm": alarm.alarm}))
                .collect(),
        ),
        ("/backend/leases_count", json!(facts.leases.len())),
        (
            "/backend/leases",
            facts.leases.iter().map(|it| json!({"id": hex(it.id), "ttl": it.ttl, "remaining": 0})).collect(),
        ),
    ];
    // The restore of 3.4 leaves the members of before in the database: that is a difference, and told.
    let restored_by_3_4 = entry.title() == "3.4 restored";
    if !restored_by_3_4 {
        fields.push(("/differences", json!([])));
    }
    if let Some(members) = facts.members.as_ref().filter(|_| !restored_by_3_4) {
        // A restored member has not said yet where clients reach it.
        let client_urls =
            |it: &MemberFact| if entry.name == "restored" { vec![] } else { it.client_urls.clone() };
        let members: BTreeMap<String, &MemberFact> =
            members.iter().map(|it| (format!("{:x}", it.id), it)).collect();
        let members = members.values().map(|it| {
            json!({
                "id": hex(it.id), "name": it.name, "peer_urls": it.peer_urls, "client_urls": client_urls(it),
                "learner": it.learner,
            })
        });
        fields.push(("/backend/members", members.collect()));
        fields.push(("/backend/removed", facts.removed.iter().map(|&id| hex(id)).collect()));
    }
    // Nobody could ask the removed member, and the killed one has more in its log than in its database.
    if facts.members.is_some() && entry.name != "killed" {
        fields.push(("/backend/revision", json!(facts.revision)));
        fields.push(("/backend/keys/live", json!(facts.keys)));
        // Each disk is marked some time after the cluster agreed.
        if entry.is_alone() {
            fields.push(("/backend/storage_version", json!(facts.storage_version)));
        }
        fields.push(("/backend/compaction/finished", json!(facts.compact_revision)));
        fields.push(("/backend/compaction/scheduled", json!(facts.compact_revision)));
    }
    // The record that a restore adds to go on from another revision is no key to those who read.
    if entry.name != "bumped" {
        fields.push(("/backend/keys/live", json!(status.total_keys)));
    }
    if let Some(raft) = &facts.raft {
        // 3.4 does not write it down for everything that it applies.
        if entry.series != "3.4" {
            fields.push(("/backend/consistent_index", json!(raft.applied)));
        }
        fields.push(("/log/last_index", json!(raft.applied)));
        fields.push(("/log/term", json!(raft.term)));
    }
    fields
}

#[test]
fn a_running_member_is_locked() {
    let entry = corpus::all().iter().find(|entry| entry.title() == "3.6 compacted").unwrap();
    let (_guard, data_dir) = entry.copy();
    let etcd = Etcd::start(&Start::alone(entry.series, &data_dir));

    for mode in ["sanity", "full"] {
        let (code, said) = datadir(&["validate", "--mode", mode], &data_dir);
        assert_eq!((code, &said["verdict"]), (Some(13), &json!("locked")), "{mode}");
    }

    etcd.stop();
    let (code, said) = datadir(&["validate", "--mode", "full"], &data_dir);
    assert_eq!((code, &said["verdict"]), (Some(0), &json!("sound")));
}

/// The directories that are damaged for etcd: of every series, with and without snapshots, alone and not.
const DAMAGED: [&str; 4] = ["3.4 compacted", "3.5 three-voter", "3.6 segments", "3.7 everything"];

#[test]
fn damage_is_what_etcd_dies_of_or_serves_wrongly() {
    let before: BTreeMap<String, Outcome> =
        chosen(&DAMAGED).map(|entry| (entry.title(), Outcome::of(entry, &entry.copy().1))).collect();
    let samples = chosen(&DAMAGED).flat_map(|entry| Kind::ALL.map(|kind| (entry, kind))).enumerate();
    let queue = Mutex::new(samples);
    let done = Mutex::new((0, Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let Some((seed, (entry, kind))) = queue.lock().unwrap().next() else { break };
                    let (_guard, data_dir) = entry.copy();
                    let Some(what) = kind.apply(&data_dir, &mut Dice(seed as u64)) else { continue };
                    let report = judge(&data_dir, Mode::Full);
                    let after = Outcome::of(entry, &data_dir);
                    let agreement = agreement(kind, report.verdict, &before[&entry.title()], &after);
                    let line =
                        format!("{} {kind:?} {what}: we say {}, etcd {after}", entry.title(), report.verdict);
                    println!("{line}: {agreement:?}");
                    let mut done = done.lock().unwrap();
                    done.0 += 1;
                    if agreement == Agreement::No {
                        done.1.push(format!("{line}\n{:#?}", report.findings));
                    }
                }
            });
        }
    });
    let (count, disagreements) = done.into_inner().unwrap();
    assert!(disagreements.is_empty(), "{}", disagreements.join("\n\n"));
    assert!(count >= 60, "only {count} samples");
}

fn chosen(titles: &[&str]) -> impl Iterator<Item = &'static Entry> {
    titles.iter().map(|&title| corpus::all().iter().find(|entry| entry.title() == title).unwrap())
}

/// Whether our verdict and what etcd did go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Agreement {
    Yes,
    /// Nobody could know better.
    NotToBeSeen,
    /// We say damaged, and etcd is lucky (docs/contract.md#judging).
    Stricter,
    No,
}

fn agreement(kind: Kind, verdict: Verdict, before: &Outcome, after: &Outcome) -> Agreement {
    let same = before == after;
    match verdict {
        Verdict::Sound if same => Agreement::Yes,
        _ if kind.is_harmless() => Agreement::No,
        Verdict::Repairable if same => Agreement::Yes,
        Verdict::Sound | Verdict::Repairable if after.fails() => Agreement::No,
        Verdict::Sound if kind.may_be_legal() => Agreement::NotToBeSeen,
        Verdict::Sound | Verdict::Repairable if kind.cuts_the_log() => Agreement::NotToBeSeen,
        Verdict::Damaged if !same => Agreement::Yes,
        Verdict::Damaged if kind.etcd_may_be_lucky() => Agreement::Stricter,
        _ => Agreement::No,
    }
}

/// `ci/corpus` puts them in the place of the committed ones.
#[test]
#[cfg(feature = "long")]
fn the_committed_directories_can_be_made_again() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("committed");
    if directory.exists() {
        std::fs::remove_dir_all(&directory).unwrap();
    }

    corpus::make_committed(&directory);

    for path in corpus::files(&directory) {
        let length = path.metadata().unwrap().len();
        assert!(length <= 150_000, "{} is too large to commit: {length} bytes", path.display());
    }
}

/// Nothing panics, everything ends, and what nobody reads is never called damage.
#[test]
#[cfg(feature = "long")]
fn ten_thousand_mutations_are_judged_by_what_they_hit() {
    const SEED: u64 = 20_261_121;
    let entries: Vec<&Entry> = corpus::all().iter().collect();
    let next = Mutex::new(0..10_000_u64);
    let done = Mutex::new((BTreeMap::new(), Vec::new()));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(number) = next.lock().unwrap().next() else { break };
                    if number % 1000 == 0 {
                        println!("mutation {number}");
                    }
                    let mut dice = Dice(SEED.wrapping_add(number));
                    let mut entry = entries[usize::try_from(dice.below(entries.len() as u64)).unwrap()];
                    // Large logs take longer than all others together: one in twenty is enough.
                    while entry.name == "segments" && dice.below(20) > 0 {
                        entry = entries[usize::try_from(dice.below(entries.len() as u64)).unwrap()];
                    }
                    let kind = Kind::ALL[usize::try_from(dice.below(Kind::ALL.len() as u64)).unwrap()];
                    let (_guard, data_dir) = entry.copy();
                    let Some(what) = kind.apply(&data_dir, &mut dice) else { continue };
                    let verdict = judge(&data_dir, Mode::Full).verdict;
                    let sanity = judge(&data_dir, Mode::Sanity).verdict;
                    let mut done = done.lock().unwrap();
                    *done.0.entry(format!("{kind:?} {verdict}")).or_insert(0_u64) += 1;
                    let wrong = (kind.is_harmless() && verdict != Verdict::Sound)
                        || (sanity > verdict)
                        || (kind.is_seen() && verdict == Verdict::Sound);
                    if wrong {
                        done.1.push(format!(
                            "{number}: {} {kind:?} {what}: {verdict}, {sanity}",
                            entry.title()
                        ));
                    }
                }
            });
        }
    });
    let (counts, wrong) = done.into_inner().unwrap();
    for (what, count) in counts {
        println!("{what}: {count}");
    }
    assert!(wrong.is_empty(), "seed {SEED}:\n{}", wrong.join("\n"));
}
