//! The jobs whose properties `etcd-backup` reads: what a Director lets through by the schema, next to what the job's own
//! program says of the same values. `spec/templates/JOB/{accepts,rejects}` has them: add a file, get a test.

use std::fmt::Write as _;
use std::process::{Command, Stdio};

use etcd_release::atomic_file;
use serde_json::{Map, Value, json};

use super::Schema;

/// Faults that only the programs tell: finer than a schema can say.
const BEYOND: [(&str, &str); 3] = [
    ("etcd-backup", "20_words_that_only_look_right.yml"),
    ("restore", "10_an_expiry_that_is_too_short.yml"),
    ("restore", "11_a_time_that_is_none.yml"),
];

/// How a job's program is asked, and what it says in front of what is wrong.
const READERS: [(&str, &[&str], &str); 3] = [
    ("etcd-backup", &["check", "--job-config"], "FILE: "),
    ("restore", &["restore-cluster", "--errand"], "the properties of job restore cannot be used: "),
    ("bbr-etcd", &["bbr", "check", "--job-config"], ""),
];

/// What is wrong with a job's properties, in the words of its program; `None`: nothing.
fn refused(schema: &Schema, properties: &Map<String, Value>) -> Option<String> {
    let (_, command, before) = READERS.iter().find(|(job, ..)| *job == schema.job).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("job.json");
    // What the job's template prints: spec/snapshots has it as the real ERB does.
    let job = json!({"version": 1, "bootstrap": true, "properties": schema.values(properties)});
    atomic_file::write(&file, job.to_string().as_bytes(), 0o600).unwrap();

    let output = Command::new(env!("CARGO_BIN_EXE_etcd-backup"))
        .args(*command)
        .arg(&file)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .unwrap();

    let told = String::from_utf8(output.stderr).unwrap().replace(&file.display().to_string(), "FILE");
    assert!(!told.contains("panicked"), "{told}");
    // `restore` goes on with what it was told, and finds that there is no cluster here.
    let first = told.lines().next()?.strip_prefix("error: ")?;
    let wrong = first.strip_prefix(before).filter(|_| !output.status.success())?;
    // Where in the file that is has no meaning for whoever wrote a manifest.
    Some(wrong.split(" at line ").next()?.to_owned())
}

#[test]
fn what_is_accepted_is_what_the_programs_take() {
    for schema in READERS.map(|(job, ..)| Schema::of(job)) {
        let accepted = schema.cases("accepts");
        assert!(!accepted.is_empty(), "{}", schema.job);

        for (name, case) in accepted {
            assert_eq!(refused(&schema, &case.properties), None, "{} {name}", schema.job);
        }
        assert_eq!(refused(&schema, &Map::new()), None, "{}: the defaults", schema.job);
    }
}

#[test]
fn what_a_schema_refuses_the_programs_refuse_and_a_case_tells_in_which_words() {
    let (mut wrong, mut through) = (String::new(), Vec::new());

    for schema in READERS.map(|(job, ..)| Schema::of(job)) {
        for (name, case) in schema.cases("rejects") {
            let told = refused(&schema, &case.properties).unwrap_or_default();
            let expected = case.told.unwrap_or_default();
            if told != expected.trim_end() {
                write!(wrong, "\n--- {} {name}, expected\n{expected}\n--- told\n{told}\n", schema.job)
                    .unwrap();
            }
            assert!(!expected.is_empty(), "{} {name}: what is it told?", schema.job);
            if schema.broken(&case.properties).is_empty() {
                through.push((schema.job, name));
            }
        }
    }

    assert!(wrong.is_empty(), "{wrong}");
    assert_eq!(through, BEYOND.map(|(job, name)| (job, name.to_owned())));
}
