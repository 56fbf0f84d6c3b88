use nix::errno::Errno;

use super::*;
use crate::datadir::verdict::{Finding, Report, Severity, Verdict};
use crate::etcd::id::{ClusterId, MemberId};
use std::fs;

fn finding(severity: Severity, what: &str) -> Finding {
    Finding {
        severity,
        file: "member/snap/db".to_owned(),
        offset: Some(28672),
        place: Some("page 7".to_owned()),
        what: what.to_owned(),
        matters: "it does".to_owned(),
        next: "nothing".to_owned(),
    }
}

fn report(findings: &[(Severity, &str)]) -> Report {
    let findings = findings.iter().map(|(severity, what)| finding(*severity, what)).collect();
    Report::of(Mode::Full, findings, 0, 4096)
}

#[test]
fn what_follows_from_each_outcome() {
    use Severity::{Damage, Note, Repairable, Warning};
    let of = |findings: &[(Severity, &str)]| judgement(&Outcome::Reported(report(findings)));
    let refused =
        |verdict| judgement(&Outcome::Reported(report(&[(Note, "somebody else's")]).with_verdict(verdict)));

    assert_eq!(of(&[]), Judgement::Usable { repairs: vec![] });
    assert_eq!(of(&[(Warning, "odd"), (Note, "free page")]), Judgement::Usable { repairs: vec![] });
    assert_eq!(
        of(&[(Repairable, "torn tail"), (Warning, "odd")]),
        Judgement::Usable { repairs: vec!["member/snap/db, page 7: torn tail".to_owned()] }
    );
    assert_eq!(
        of(&[(Damage, "key order"), (Damage, "lost page"), (Repairable, "torn tail")]),
        Judgement::Damaged { why: "member/snap/db, page 7: key order (and 1 more findings)".to_owned() }
    );
    let names = ["member/snap/db".to_owned()].into();
    assert_eq!(refused(Verdict::Foreign), Judgement::Refused(Refusal::Foreign { names }));
    assert_eq!(refused(Verdict::Locked), Judgement::Refused(Refusal::AlreadyRunning { pid: None }));
    let why = "SIGBUS".to_owned();
    assert_eq!(
        judgement(&Outcome::Unreadable { why: why.clone() }),
        Judgement::Damaged { why: "the disk does not give the data back: SIGBUS".to_owned() }
    );
    // Never taken for sound, and never for damaged either: data is moved aside for that.
    assert_eq!(
        judgement(&Outcome::NotDone { why: why.clone() }),
        Judgement::Refused(Refusal::NotChecked { why })
    );
}

#[test]
fn an_error_of_the_medium_is_not_an_error_of_the_check() {
    let of = |errno: Errno| of_result(Err(io::Error::from_raw_os_error(errno as i32)));

    assert!(matches!(of(Errno::EIO), Outcome::Unreadable { .. }));
    assert!(matches!(of(Errno::EACCES), Outcome::NotDone { .. }));
    assert!(matches!(of(Errno::ENOMEM), Outcome::NotDone { .. }));
}

fn data() -> DiskData {
    DiskData {
        cluster_id: ClusterId(1),
        member_id: MemberId(2),
        voters: Some([MemberId(2)].into()),
        storage_version: None,
        cluster_version: None,
        old_request: None,
        validated: Validated::NotYet,
    }
}

/// A launcher with a member directory of one file.
fn disk() -> (tempfile::TempDir, Paths) {
    let root = tempfile::tempdir().unwrap();
    let paths = Paths::below(root.path());
    fs::create_dir_all(paths.data_dir().join("member/snap")).unwrap();
    fs::create_dir_all(paths.ephemeral()).unwrap();
    fs::write(paths.data_dir().join("member/snap/db"), "a").unwrap();
    (root, paths)
}

fn judged(validation: &Validation<'_>, damaged: Option<&str>) {
    let of = Stamp::of(&validation.paths.data_dir(), None).unwrap();
    let judgement = match damaged {
        Some(why) => Judgement::Damaged { why: why.to_owned() },
        None => Judgement::Usable { repairs: Vec::new() },
    };
    validation.judged.replace(Some(Judged { of, judgement }));
}

#[test]
fn a_verdict_counts_until_the_files_change() {
    let (_root, paths) = disk();
    let validation = Validation::new(&paths);
    assert_eq!(validation.judge(data()).unwrap(), Disk::Data(data()));

    judged(&validation, None);
    let usable = Disk::Data(DiskData { validated: Validated::Usable { repairs: vec![] }, ..data() });
    assert_eq!(validation.judge(data()).unwrap(), usable);

    judged(&validation, Some("key order"));
    let damaged = Disk::Damaged {
        why: "key order".to_owned(),
        cluster_id: Some(ClusterId(1)),
        voters: Some([MemberId(2)].into()),
    };
    assert_eq!(validation.judge(data()).unwrap(), damaged);

    // Somebody put another file there.
    fs::write(paths.data_dir().join("member/snap/db"), "bb").unwrap();
    assert_eq!(validation.judge(data()).unwrap(), Disk::Data(data()));
}

#[test]
fn who_waives_the_check_waives_the_verdict_too() {
    let (_root, paths) = disk();
    let validation = Validation::new(&paths);
    judged(&validation, Some("key order"));

    fs::write(paths.skip_validation(), "").unwrap();

    let waived = Disk::Data(DiskData { validated: Validated::Waived, ..data() });
    assert_eq!(validation.judge(data()).unwrap(), waived);
    fs::remove_file(paths.skip_validation()).unwrap();
    assert!(matches!(validation.judge(data()).unwrap(), Disk::Damaged { .. }));
}

#[test]
fn what_is_told_comes_back_and_fits_in_a_table() {
    let outcome = Outcome::Reported(report(&[(Severity::Damage, "key order")]));
    let took = Duration::from_millis(7);
    let told_of = |outcome: &Outcome| told(Mode::Full, outcome, &judgement(outcome), took);
    let sound = Outcome::Reported(report(&[]));
    let progress = |done, of| Told::Progress { mode: Mode::Full, done, of };
    let rows = [
        (Told::New, None),
        (progress(0, 0), Some("full, begins")),
        (progress(1 << 30, 3 << 30), Some("full, 33% of 3072 MiB")),
        (told_of(&sound), Some("full, sound (7 ms)")),
        (told_of(&outcome), Some("full, failed: member/snap/db, page 7: key order")),
    ];
    for (told, words) in rows {
        assert_eq!(told.words().as_deref(), words);
        let json = serde_json::to_string(&told).unwrap();
        assert_eq!(serde_json::from_str::<Told>(&json).unwrap(), told, "{json}");
    }
}

#[tokio::test]
async fn a_check_that_cannot_be_made_is_refused_and_leaves_nothing_to_go_by() {
    let (_root, paths) = disk();
    let validation = Validation::new(&paths);

    let checked = validation.check(Mode::Full, &Board::default()).await.unwrap();

    assert!(matches!(checked, Checked::Refused(Refusal::NotChecked { .. })), "{checked:?}");
    assert_eq!(validation.judge(data()).unwrap(), Disk::Data(data()));
    assert_eq!(validation.told()["state"], "failed");
}
