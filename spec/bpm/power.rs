//! How processes start and stop.

use std::fs;

use serde_json::{Value, json};

use super::lab::{Answer, Lab};
use super::runc::runc_runs;
use super::{OURS, RUNC, bash, status, with};

/// bpm by hand on an instance whose monit looks away.
struct Hand<'a> {
    lab: &'a Lab,
}

impl Hand<'_> {
    fn bpm(&self, command: &str) -> Answer {
        self.lab.ssh("recorder/0", &format!("/var/vcap/jobs/bpm/bin/bpm {command}"))
    }

    fn write(&self, yaml: &str) {
        fs::write(self.lab.vcap("recorder/0").join("jobs/recorder/config/bpm.yml"), yaml).unwrap();
    }

    /// Lays down a process that runs a script, with more keys.
    fn lay_down(&self, script: &str, more: &Value) {
        let process = with(bash(script), &with_name(more));
        self.write(&format!("processes: [{process}]"));
    }

    fn log(&self, name: &str) -> String {
        let path = self.lab.vcap("recorder/0").join("sys/log/recorder").join(name);
        fs::read_to_string(path).unwrap_or_default()
    }

    fn status(&self) -> String {
        let table = self.bpm("list").succeeded().stdout;
        let row = table.lines().nth(1).unwrap_or_default().to_owned();
        row.split_whitespace().last().unwrap_or_default().to_owned()
    }
}

fn with_name(more: &Value) -> Value {
    let mut keys = json!({"name": "recorder"});
    keys.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    keys
}

fn starts_and_stops_are_bpms(runner: &'static str) {
    const LIVES: &str = "trap 'echo got INT; exit 0' INT; echo up; while true; do sleep 0.1; done";
    const STUBBORN: &str = "trap '' TERM; echo up; while true; do sleep 0.1; done";
    let lab = Lab::new().instances(1).with_bpm(runner).deployed();
    lab.cli(&["stop"]).succeeded();
    let hand = Hand { lab: &lab };
    let up = |count: usize| {
        lab.eventually("it is up", || hand.log("recorder.stdout.log").matches("up\n").count() == count);
    };

    // Of what does not run nothing is asked, not even whether its file is sound.
    hand.write("processes: [{name: recorder}]");
    hand.bpm("stop recorder").succeeded();
    for (yaml, told) in [
        (
            "processes: [{name: recorder}]",
            "Error: failed to parse job configuration: invalid config: executable\n",
        ),
        (
            "processes: [{name: other, executable: /x}]",
            "Error: process \"recorder\" not present in job configuration (/var/vcap/jobs/recorder/config/bpm.yml)\n",
        ),
        (
            "processes: [{name: recorder, executable: /bin/true, limits: {memory: lots}}]",
            "Error: failed to start job-process: byte quantity must be a positive integer with a unit of measurement \
             like M, MB, MiB, G, GiB, or GB\n",
        ),
        (
            "processes: [{name: recorder, executable: /bin/true, hooks: {post_start: /bin/true}}]",
            "Error: failed to start job-process: prestart hook failed: exec: no command\n",
        ),
        (
            "processes: [{name: recorder, executable: /bin/true, hooks: {pre_start: /bin/false}}]",
            "Error: failed to start job-process: prestart hook failed: /bin/false: exit status: 1\n",
        ),
    ] {
        hand.write(yaml);
        let answer = hand.bpm("start recorder");
        assert_eq!((answer.code, answer.stderr.as_str()), (1, told), "{yaml}");
        assert_eq!(hand.bpm("pid recorder").code, 1, "{yaml}");
    }
    let answer = hand.bpm("pid recorder");
    assert_eq!(answer.stderr, "Error: process is not running or could not be found\n");
    let answer = hand.bpm("start");
    assert_eq!((answer.code, answer.stderr.as_str()), (1, "Error: must specify a job\n"));

    // Started twice it runs once. INT, where it is asked for.
    hand.lay_down(LIVES, &json!({"shutdown_signal": "INT"}));
    hand.bpm("start recorder").succeeded();
    let pid = hand.bpm("pid recorder").succeeded().stdout;
    hand.bpm("start recorder").succeeded();
    assert_eq!(hand.bpm("pid recorder").succeeded().stdout, pid);
    assert_eq!(
        hand.bpm("list").succeeded().stdout,
        format!("Name     Pid{} Status\nrecorder {} running\n", " ".repeat(pid.trim().len() - 3), pid.trim())
    );
    up(1);
    // A broken file keeps it running.
    hand.write("processes: [{name: recorder}]");
    let answer = hand.bpm("stop recorder").failed();
    assert_eq!(answer.stderr, "Error: failed to parse job configuration: invalid config: executable\n");
    assert_eq!(hand.bpm("pid recorder").succeeded().stdout, pid);
    hand.lay_down(LIVES, &json!({"shutdown_signal": "INT"}));
    hand.bpm("stop recorder").succeeded();
    assert!(hand.log("recorder.stdout.log").ends_with("got INT\n"), "{}", hand.log("recorder.stdout.log"));
    let vcap = lab.vcap("recorder/0");
    assert!(!vcap.join("sys/run/bpm/recorder/recorder.pid").exists());
    assert!(!vcap.join("data/bpm/bundles/recorder/recorder").exists());

    // What ended by itself is called failed, keeps its pidfile, and is started afresh.
    hand.lay_down(STUBBORN, &json!({}));
    hand.bpm("start recorder").succeeded();
    up(2);
    let pid: i32 = hand.bpm("pid recorder").succeeded().stdout.trim().parse().unwrap();
    lab.kill(pid);
    lab.eventually("it is called failed", || hand.status() == "failed");
    hand.bpm("pid recorder").failed();
    assert!(vcap.join("sys/run/bpm/recorder/recorder.pid").exists());
    if runner == RUNC {
        // Torn, as a power loss leaves it.
        fs::write(vcap.join("sys/run/bpm-runc/bpm-recorder/state.json"), "{").unwrap();
    }
    hand.bpm("start recorder").succeeded();
    up(3);
    assert_eq!(hand.status(), "running");

    // TERM, 15 s, QUIT.
    assert_eq!(count(&lab, "/bin/bash -c"), 1);
    let begin = std::time::Instant::now();
    hand.bpm("stop recorder").succeeded();
    let took = begin.elapsed().as_secs();
    assert!((15..25).contains(&took), "{took} s");
    assert_eq!(hand.status(), "stopped");
    let log = hand.log("bpm.log");
    assert!(log.contains("\"failed-to-stop\"") && log.contains("\"signal\":\"SIGQUIT\""), "{log}");
    assert_eq!(count(&lab, "/bin/bash -c"), 0);

    // A program that is not there: the start went well, the process failed.
    hand.write("processes: [{name: recorder, executable: /nowhere}]");
    hand.bpm("start recorder").succeeded();
    lab.eventually("it is called failed", || hand.status() == "failed");
    assert!(hand.log("recorder.stderr.log").contains("/nowhere"), "{}", hand.log("recorder.stderr.log"));
    hand.bpm("stop recorder").succeeded();
    assert_eq!(hand.status(), "stopped");
}

#[test]
fn our_own_containers_start_and_stop_as_bpms() {
    starts_and_stops_are_bpms(OURS);
}

#[test]
fn containers_by_runc_start_and_stop_as_bpms() {
    if runc_runs() {
        starts_and_stops_are_bpms(RUNC);
    }
}

/// The deployment's runner may be changed while processes run: each is stopped by the one that started it.
#[test]
fn a_process_is_stopped_by_who_started_it_and_started_by_whom_the_deployment_names() {
    if !runc_runs() {
        return;
    }
    let program = "/bin/bash /var/vcap/packages/recorder/bin/recorder";
    let lab = Lab::new().instances(1).deployed();
    let is_by_runc = || status(lab.pid("recorder/0"))["Seccomp"] == "2";
    assert!(!is_by_runc());

    lab.cli(&["--bpm", "runc", "restart"]).succeeded();
    assert!(is_by_runc());
    assert_eq!(count(&lab, program), 1);
    // Kept: nobody says it again.
    lab.cli(&["restart"]).succeeded();
    assert!(is_by_runc());

    lab.cli(&["--bpm", "namespaces", "restart"]).succeeded();
    assert!(!is_by_runc());
    assert_eq!(count(&lab, program), 1);
}

/// How many processes of a lab have a command line that begins like this.
fn count(lab: &Lab, line: &str) -> usize {
    let begins = |told: &&String| told.split_once(' ').is_some_and(|(_, command)| command.starts_with(line));
    lab.processes().iter().filter(begins).count()
}

/// What bpm has and this director does not is refused, never left out in silence.
#[test]
fn what_is_not_played_is_refused() {
    let lab = Lab::new().instances(1).deployed();
    lab.cli(&["stop"]).succeeded();
    let hand = Hand { lab: &lab };

    for (keys, told) in [
        (json!({"unsafe": {"privileged": true}}), "etcd-local does not play bpm's `unsafe`"),
        (json!({"capabilities": ["NET_BIND_SERVICE"]}), "only runc gives `capabilities`"),
    ] {
        hand.lay_down("sleep 100", &keys);
        let answer = hand.bpm("start recorder").failed();
        assert!(answer.stderr.contains(told), "{}", answer.text());
    }
}
