//! The director for one machine, proved with a release whose scripts write down how they are called.
//! The order of this file: what operations tell scripts, processes, what people see. What survives a kill is in
//! `local/kill.rs`, changes of a whole deployment are in `local/rollout.rs`, networks in `local/network.rs`.
#![allow(missing_docs, unreachable_pub, reason = "a test target has no public items")]
#![expect(clippy::disallowed_methods, reason = "specs write fixtures")]

#[path = "local/kill.rs"]
mod kill;
#[path = "local/lab.rs"]
mod lab;
#[path = "support/machine.rs"]
mod machine;
#[path = "local/network.rs"]
mod network;
#[path = "local/rollout.rs"]
mod rollout;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use lab::Lab;

const KEEP: &str = "BOSH_DEPLOYMENT_NEXT_STATE=keep BOSH_INSTANCE_NEXT_STATE=keep BOSH_VM_NEXT_STATE=keep";
const DELETE_VM: &str =
    "BOSH_DEPLOYMENT_NEXT_STATE=keep BOSH_INSTANCE_NEXT_STATE=keep BOSH_VM_NEXT_STATE=delete";

/// The stop sequence as scripts see it.
fn stopping(states: &str, drain: &str, next_mib: u32) -> Vec<String> {
    vec![
        format!("pre-stop [] {states}"),
        format!(
            "drain [{drain}] BOSH_JOB_NEXT_STATE={{\"persistent_disk\":{next_mib}}} \
             BOSH_JOB_STATE={{\"persistent_disk\":1024}}"
        ),
        "post-stop []".to_owned(),
    ]
}

fn starting() -> Vec<String> {
    ["pre-start []", "post-start []", "post-deploy []"].map(str::to_owned).to_vec()
}

fn then(mut first: Vec<String>, next: Vec<String>) -> Vec<String> {
    first.extend(next);
    first
}

#[test]
fn every_operation_runs_the_scripts_the_director_runs() {
    let lab = Lab::new().instances(1);
    let update = |drain: &str| then(stopping(KEEP, drain, 1024), starting());
    let post_deploy = || vec!["post-deploy []".to_owned()];

    lab.deploy().succeeded();
    assert_eq!(lab.story(), starting(), "first deploy");

    lab.deploy().succeeded();
    assert_eq!(lab.story(), post_deploy(), "deploy without a change");

    let lab = lab.greeting("good morning");
    lab.deploy().succeeded();
    assert_eq!(lab.story(), update("job_changed hash_changed"), "configuration changed");

    lab.change_package();
    lab.deploy().succeeded();
    assert_eq!(lab.story(), update("job_changed hash_unchanged recorder"), "package changed");

    lab.cli(&["restart"]).succeeded();
    assert_eq!(lab.story(), update("job_changed hash_unchanged"), "restart");

    lab.cli(&["restart", "recorder/0", "--no-converge"]).succeeded();
    let without_post_deploy = |story: Vec<String>| story[..story.len() - 1].to_vec();
    assert_eq!(
        lab.story(),
        without_post_deploy(update("job_shutdown hash_unchanged")),
        "restart --no-converge"
    );

    lab.cli(&["recreate"]).succeeded();
    let recreated = then(stopping(DELETE_VM, "job_shutdown hash_unchanged", 1024), starting());
    assert_eq!(lab.story(), recreated, "recreate");

    lab.cli(&["restart", "--skip-drain"]).succeeded();
    assert_eq!(lab.story(), then(vec!["post-stop []".to_owned()], starting()), "restart --skip-drain");

    lab.cli(&["stop"]).succeeded();
    assert_eq!(lab.story(), stopping(KEEP, "job_shutdown hash_unchanged", 1024), "stop");

    lab.deploy().succeeded();
    assert_eq!(lab.story(), Vec::<String>::new(), "deploy of what is stopped");

    lab.cli(&["start"]).succeeded();
    assert_eq!(lab.story(), starting(), "start");

    lab.cli(&["stop", "--hard"]).succeeded();
    let hard = stopping(DELETE_VM, "job_shutdown hash_unchanged", 1024);
    assert_eq!(lab.story_on_disk(), hard, "stop --hard");

    lab.cli(&["start"]).succeeded();
    assert_eq!(lab.story(), starting(), "start of what has no machine");

    let lab = lab.disk_mib(2048);
    lab.deploy().succeeded();
    let resized = then(stopping(KEEP, "job_shutdown hash_unchanged", 2048), starting());
    assert_eq!(lab.story(), resized, "disk resized");
}

#[test]
fn an_instance_that_goes_for_good_is_told_so() {
    let lab = Lab::new().instances(2).deployed();
    lab.story_of("recorder/1");

    let lab = lab.instances(1).deployed();

    let leaving = "BOSH_DEPLOYMENT_NEXT_STATE=keep BOSH_INSTANCE_NEXT_STATE=delete BOSH_VM_NEXT_STATE=delete";
    let orphans = lab.orphaned_stories();
    assert_eq!(orphans.len(), 1);
    assert!(orphans[0].ends_with(&stopping(leaving, "job_shutdown hash_unchanged", 0)), "{orphans:?}");
    assert_eq!(lab.rows("instances").len(), 1);
}

#[test]
fn deleting_the_deployment_tells_all_leaves_no_process_and_keeps_disks() {
    let lab = Lab::new().instances(2).deployed();
    // Stopped on purpose: a deletion runs the scripts all the same.
    lab.cli(&["stop", "recorder/1"]).succeeded();

    lab.delete();

    let going = "BOSH_DEPLOYMENT_NEXT_STATE=delete BOSH_INSTANCE_NEXT_STATE=delete BOSH_VM_NEXT_STATE=delete";
    let orphans = lab.orphaned_stories();
    assert_eq!(orphans.len(), 2);
    for story in &orphans {
        assert!(story.ends_with(&stopping(going, "job_shutdown hash_unchanged", 0)), "{story:?}");
    }
    assert_eq!(lab.processes(), Vec::<String>::new());
}

#[test]
fn a_hard_stopped_instance_is_deleted_without_a_script() {
    let lab = Lab::new().instances(1).deployed();
    lab.cli(&["stop", "--hard"]).succeeded();
    let before = lab.story_on_disk();

    lab.delete();

    assert!(lab.orphaned_stories()[0].ends_with(&before));
}

#[test]
fn scripts_get_nothing_but_path_and_their_output_goes_to_their_logs() {
    let lab = Lab::new().instances(1).deployed();
    lab.cli(&["restart"]).succeeded();

    for script in ["pre-start", "post-start", "post-deploy", "pre-stop", "drain", "post-stop"] {
        let variables = lab.ssh("recorder/0", &format!("cat /var/vcap/store/environment-{script}"));
        assert_eq!(variables.succeeded().stdout.trim(), "PATH", "{script}");
    }
    let said =
        fs::read_to_string(lab.vcap("recorder/0").join("sys/log/recorder/pre-stop.stdout.log")).unwrap();
    assert_eq!(said, "said by pre-stop\n");
}

#[test]
fn a_dynamic_drain_is_asked_again_until_it_is_done() {
    let lab = Lab::new().instances(1).property("drain_rounds", "1").deployed();
    lab.story();

    lab.cli(&["stop"]).succeeded();

    let story = lab.story();
    assert_eq!(story[2], "drain [job_check_status hash_unchanged] BOSH_JOB_STATE={\"persistent_disk\":1024}");
    assert_eq!(story.len(), 4, "{story:?}");
}

#[test]
fn a_drain_that_fails_stops_the_task_even_if_it_printed_an_integer() {
    let lab = Lab::new().instances(1).property("fail", "drain").deployed();

    let answer = lab.cli(&["restart"]).failed();
    assert!(
        answer.stdout.contains("1 of 1 drain scripts failed. Failed Jobs: recorder."),
        "{}",
        answer.text()
    );
    // Processes run on, unmonitored, as with a Director.
    assert_eq!(lab.rows("instances")[0]["process_state"], "failing");
    assert_eq!(lab.recorders(), 1);

    // --skip-drain is the way out.
    lab.cli(&["restart", "--skip-drain"]).succeeded();
    assert_eq!(lab.rows("instances")[0]["process_state"], "running");
}

#[test]
fn a_failure_stops_the_deploy_and_the_next_one_goes_on() {
    let lab = Lab::new().instances(2).property("fail", "pre-start");

    let answer = lab.deploy().failed();
    assert!(
        answer.stdout.contains("1 of 1 pre-start scripts failed. Failed Jobs: recorder."),
        "{}",
        answer.text()
    );
    assert!(answer.stderr.contains("Expected task '1' to succeed but state is 'error'"), "{}", answer.text());
    assert_eq!(answer.code, 1);
    assert_eq!(lab.recorders(), 0, "the second instance is not begun");

    let lab = lab.property("fail", "none");
    lab.deploy().succeeded();
    assert_eq!(lab.recorders(), 2);
}

#[test]
fn single_instances_can_be_worked_on_before_any_deploy_succeeded() {
    let lab = Lab::new().instances(1).property("fail", "post-deploy");
    lab.deploy().failed();
    lab.story();

    lab.cli(&["restart", "recorder/0", "--no-converge"]).succeeded();

    let restarted = then(
        stopping(KEEP, "job_shutdown hash_unchanged", 1024),
        vec!["pre-start []".to_owned(), "post-start []".to_owned()],
    );
    assert_eq!(lab.story(), restarted);
    let answer = lab.cli(&["restart"]).failed();
    assert!(answer.stderr.contains("this deployment was never deployed successfully"), "{}", answer.text());
}

#[test]
fn recreate_keeps_disk_id_index_and_address_and_nothing_else() {
    let lab = Lab::new().instances(1).deployed();
    let before = lab.rows("instances --details");
    lab.ssh("recorder/0", "touch /var/vcap/store/kept /var/vcap/data/lost").succeeded();

    lab.cli(&["recreate", "recorder/0"]).succeeded();

    assert_eq!(lab.rows("instances --details"), before);
    let there = lab.ssh("recorder/0", "ls /var/vcap/store/kept /var/vcap/data/lost").failed();
    assert_eq!(there.stdout.trim(), "/var/vcap/store/kept");
}

#[test]
fn monit_starts_a_process_that_died_without_any_hook() {
    let lab = Lab::new().instances(1).deployed();
    let before = lab.pid("recorder/0");
    lab.story();

    lab.kill(before);

    lab.eventually("another process", || lab.pid("recorder/0") != before && lab.recorders() == 1);
    assert_eq!(lab.story(), Vec::<String>::new());
}

#[test]
fn a_supervisor_that_died_comes_back_with_the_next_command_and_adopts_what_runs() {
    let lab = Lab::new().instances(1).deployed();
    let before = lab.pid("recorder/0");

    lab.kill(lab.supervisors()[0]);
    lab.eventually("no supervisor", || lab.supervisors().is_empty());

    assert_eq!(lab.rows("instances")[0]["process_state"], "running");
    assert_eq!((lab.pid("recorder/0"), lab.supervisors().len()), (before, 1));
    lab.kill(before);
    lab.eventually("another process", || lab.pid("recorder/0") != before);
}

#[test]
fn a_container_shows_its_job_and_nothing_else() {
    let lab = Lab::new().instances(1).deployed();

    let stdout =
        fs::read_to_string(lab.vcap("recorder/0").join("sys/log/recorder/recorder.stdout.log")).unwrap();
    for line in [
        "arguments: 2: one two words",
        "greeting: hello",
        "user: vcap",
        "pid: 2",
        "jobs: recorder ",
        "sys: log ",
    ] {
        assert!(stdout.lines().any(|said| said == line), "{line:?} is missing in\n{stdout}");
    }
    assert!(stdout.contains("rename across mounts fails"), "{stdout}");
    assert!(stdout.contains("store is a mount point"), "{stdout}");
}

#[test]
fn stopping_lets_the_process_end_itself() {
    let lab = Lab::new().instances(1).deployed();

    lab.cli(&["stop"]).succeeded();

    let stdout =
        fs::read_to_string(lab.vcap("recorder/0").join("sys/log/recorder/recorder.stdout.log")).unwrap();
    assert!(stdout.ends_with("got TERM\n"), "{stdout}");
    assert_eq!(lab.recorders(), 0);
    assert_eq!(lab.rows("instances")[0]["process_state"], "stopped");
}

#[test]
fn a_lost_disk_is_put_aside_and_an_empty_one_takes_its_place() {
    let lab = Lab::new().instances(1).deployed();
    lab.ssh("recorder/0", "touch /var/vcap/store/mine").succeeded();

    lab.cli(&["recreate", "recorder/0", "--lose-disk"]).succeeded();

    lab.ssh("recorder/0", "test -e /var/vcap/store/mine").failed();
    let orphans = lab.orphans();
    assert_eq!(orphans.len(), 1);
    assert!(orphans[0].join("mine").exists());
}

#[test]
fn logs_of_all_jobs_come_in_an_archive() {
    let lab = Lab::new().instances(1).deployed();
    let target = tempfile::tempdir().unwrap();

    lab.cli(&["logs", "recorder/0", "--dir", target.path().to_str().unwrap()]).succeeded();

    let archive = fs::read_dir(target.path()).unwrap().next().unwrap().unwrap().path();
    let listing = std::process::Command::new("tar").arg("-tzf").arg(&archive).output().unwrap();
    let listing = String::from_utf8(listing.stdout).unwrap();
    for file in ["recorder/recorder.stdout.log", "recorder/pre-start.stdout.log", "recorder/bpm.log"] {
        assert!(listing.contains(file), "{file} is missing in\n{listing}");
    }
}

#[test]
fn nothing_runs_on_when_the_state_directory_is_taken_away() {
    let lab = Lab::new().instances(1).deployed();

    fs::remove_dir_all(lab.state_dir()).unwrap();

    lab.eventually("no process", || lab.processes().is_empty());
    lab.forget();
}

#[test]
fn ssh_passes_output_and_exit_code_and_keeps_the_machine_untouched() {
    let lab = Lab::new().instances(1).deployed();

    let answer = lab.ssh("recorder/0", "echo out; echo err >&2; exit 7");
    assert_eq!((answer.code, answer.stdout.as_str(), answer.stderr.as_str()), (7, "out\n", "err\n"));

    lab.ssh("recorder/0", "echo 'export LAB=yes' > /etc/profile.d/lab.sh").succeeded();
    assert_eq!(lab.ssh("recorder/0", "echo $LAB").succeeded().stdout, "yes\n");
    assert!(!std::path::Path::new("/etc/profile.d/lab.sh").exists());
    assert_eq!(fs::read_dir("/var/vcap").unwrap().count(), 0, "the mount point stays empty");

    let id = lab.ssh("recorder/0", "cat /var/vcap/instance/id").succeeded().stdout;
    let named = lab.ssh("recorder/0", &format!("getent hosts {id}.recorder.default.recorder.bosh"));
    assert!(
        named.succeeded().stdout.starts_with(lab.rows("instances")[0]["ips"].as_str().unwrap()),
        "the hosts file names it"
    );
}

#[test]
fn deployments_in_other_state_directories_get_other_addresses() {
    let (one, other) = (Lab::new().instances(1).deployed(), Lab::new().instances(1).deployed());

    assert_ne!(one.rows("instances")[0]["ips"], other.rows("instances")[0]["ips"]);
}

#[test]
fn an_errand_runs_on_all_instances_of_its_job_and_its_failure_is_told() {
    let lab = Lab::new().instances(2).deployed();

    let answer = lab.cli(&["--json", "run-errand", "errand"]).succeeded();
    let document: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
    let rows = document["Tables"][0]["Rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert_eq!(row["exit_code"], "0");
        assert!(row["stdout"].as_str().unwrap().contains("errand on recorder/"), "{row}");
        assert!(row["stdout"].as_str().unwrap().contains("Process 'recorder'"), "{row}");
    }

    let answer = lab.cli(&["run-errand", "nobody"]).failed();
    assert!(answer.stderr.contains("Errand 'nobody' doesn't exist"), "{}", answer.text());
}

#[test]
fn what_cannot_be_is_refused_with_a_way_out() {
    let lab = Lab::new().instances(1);
    let answer = lab.cli(&["instances"]).failed();
    assert!(answer.stderr.contains("Deployment 'recorder' doesn't exist"), "{}", answer.text());
    let answer = lab.cli(&["start"]).failed();
    assert!(answer.stderr.contains("etcd-local deploy"), "{}", answer.text());

    lab.deploy().succeeded();
    let answer = lab.cli(&["restart", "--no-converge"]).failed();
    assert!(answer.stderr.contains("--no-converge works on a single instance"), "{}", answer.text());
    let answer = lab.ssh("recorder/7", "true").failed();
    assert!(answer.stderr.contains("Instance 'recorder/7' doesn't exist"), "{}", answer.text());
    // Without -n and without a terminal nobody can say yes.
    let answer = lab.cli_that_would_ask(&["restart"]);
    assert_eq!(answer.code, 3, "{}", answer.text());
}

#[test]
fn a_second_command_waits_and_is_told_who_works() {
    let lab = Lab::new().instances(1).property("fail", "none");
    let mut first = lab.deploy_command(&[]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(first.stdout.take().unwrap()).lines();
    lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("Rendering"))).unwrap().unwrap();

    // It waits for its turn and then finds nothing to do.
    lab.deploy().succeeded();

    lines.for_each(drop);
    assert!(first.wait().unwrap().success());
    assert_eq!(lab.recorders(), 1);
}

/// A cron job, a CI runner and `env -i` have no locale; templates are read as a Director reads them all the same.
#[test]
fn the_callers_locale_changes_nothing() {
    let lab = Lab::new().instances(1);

    let output = lab.deploy_command(&[]).env_remove("LANG").env("LC_ALL", "C").output().unwrap();

    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(lab.recorders(), 1);
}
