//! Processes under bpm, in containers of `etcd-local`'s own and in those of real runc: what they see and may do, how
//! they start and stop, and the real etcd in them. The rules are bpm's, docs/local-director.md#bpm.
//!
//! Where runc cannot run, its half says SKIPPED and why.
#![allow(missing_docs, unreachable_pub, reason = "a test target has no public items")]
#![allow(dead_code, reason = "it uses a part of what specs share")]
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "specs write fixtures, and fail where they stop"
)]

#[path = "local/lab.rs"]
mod lab;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use etcd_release::local::bpm::vcap::Vcap;
use etcd_release::local::process::Home;
use lab::{Answer, Lab};
use serde_json::{Value, json};
use support::fleet::{Fleet, all_ready, voters};
use support::load::write_once;

const OURS: &str = "namespaces";
const RUNC: &str = "runc";

/// Whether runc can run a container on this machine at all: with a bundle of runc's own making, not of ours, so that
/// no fault of ours skips anything. Asked once: tests that ask at the same time would be in each other's way.
fn runc_runs() -> bool {
    static ANSWER: OnceLock<Result<(), String>> = OnceLock::new();
    let answer = ANSWER.get_or_init(try_runc);
    if let Err(why) = answer {
        skipped("containers by runc", why);
    }
    answer.is_ok()
}

fn try_runc() -> Result<(), String> {
    if !Path::new("/usr/bin/tini").exists() {
        return Err("there is no tini on this machine (apt-get install tini)".to_owned());
    }
    let directory = tempfile::Builder::new().prefix("probe-").tempdir().unwrap();
    let runc = |arguments: &[&str]| {
        let output = Command::new("runc")
            .current_dir(directory.path())
            // Debian's is in /usr/sbin, which is not on everybody's PATH.
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .args(["--root", "state"])
            .args(arguments)
            .output()
            .map_err(|error| format!("runc cannot be run: {error} (apt-get install runc)"))?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(format!("runc {arguments:?}: {told}")) }
    };
    runc(&["spec"])?;
    let file = directory.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = json!(["/bin/true"]);
    let programs = ["/bin", "/lib", "/lib64", "/usr"].into_iter().filter(|path| Path::new(path).exists());
    let binds = programs
        .map(|path| json!({"destination": path, "type": "bind", "source": path, "options": ["bind", "ro"]}));
    let proc = json!({"destination": "/proc", "type": "proc", "source": "proc"});
    config["mounts"] = std::iter::once(proc).chain(binds).collect();
    fs::create_dir(directory.path().join("rootfs")).unwrap();
    fs::write(&file, config.to_string()).unwrap();
    runc(&["run", directory.path().file_name().unwrap().to_str().unwrap()])
}

/// Says loudly what was not tried: past the harness, which keeps to itself what tests print that pass.
fn skipped(what: &str, why: &str) {
    let line = format!("SKIPPED: {what}: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// Keys of a process that runs a script in bash.
fn bash(script: &str) -> Value {
    json!({"executable": "/bin/bash", "args": ["-c", script]})
}

fn with(mut keys: Value, more: &Value) -> String {
    keys.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    keys.to_string()
}

/// Tries what a container is for, and tells how it went; then waits to be stopped.
const TRIES: &str = r#"
    trap 'echo "got TERM"; exit 0' TERM
    try() {
      local what=$1 said; shift
      if said=$("$@" 2>&1); then echo "$what: done"; else echo "$what: ${said##*: }"; fi
    }
    echo "directory: $PWD"
    echo "env: GREETING=$GREETING HOME=$HOME LANG=$LANG TMPDIR=$TMPDIR PATH=$PATH"
    echo "variables: $(env | cut -d= -f1 | sort | tr '\n' ' ')"
    echo "limits: $(ulimit -Sn) $(ulimit -Hn) files, core $(ulimit -Hc)"
    echo "jobs: $(ls /var/vcap/jobs | tr '\n' ' ')"
    echo "vcap: $(ls /var/vcap /var/vcap/sys /var/vcap/data /var/vcap/store | tr '\n' ' ')"
    try 'read there' cat /var/vcap/data/there/file
    try 'write there' touch /var/vcap/data/there/new
    try 'write missing' touch /var/vcap/data/missing/deep/new
    try 'write foreign' touch /var/vcap/data/foreign/new
    for place in /var/vcap/data/tools /var/vcap/data/recorder /var/vcap/store/recorder /tmp /dev/shm; do
      cp /bin/true $place/true
      try "execute in $place" $place/true
    done
    try 'write root' touch /new
    try 'write etc' touch /etc/new
    try 'read kcore' sh -c 'test ! -s /proc/kcore || cat /proc/kcore'
    perl -e '
      my @forked;
      while (@forked < 100 && defined(my $child = fork)) { $child ? push @forked, $child : sleep 1000 }
      print "forks: ", (@forked < 30 ? "few" : scalar @forked), ": $!\n";
      kill KILL => @forked;
    '
    perl -e '$all = "x" x (1 << 29); print "took it all\n"'
    echo "memory: ended with $?"
    perl -e '
      for (@ARGV) {
        my ($name, $number, @arguments) = split /,/;
        print "$name: ", (syscall($number + 0, map { $_ + 0 } @arguments) == -1 ? $! : "done"), "\n";
      }
    ' unshare,272,268435456 ptrace,101,0,0,0,0 close_range,436,50,51,0 clone3,435,0,0 faccessat2,439,0,0,0,0 \
      openat2,437,-100,0,0,0 personality,135,4294967295
    echo settled
    while true; do sleep 0.1; done
"#;

/// Mounts as §4 of bpm's rules has them: where, and how.
const MOUNTS: [&str; 26] = [
    "/bin ro,nosuid,nodev",
    "/dev rw,nosuid,noexec",
    "/dev/mqueue rw,nosuid,nodev,noexec",
    "/dev/pts rw,nosuid,noexec",
    "/dev/shm rw,nosuid,nodev,noexec",
    "/etc ro,nosuid,nodev",
    "/lib ro,nosuid,nodev",
    "/lib64 ro,nosuid,nodev",
    "/proc rw",
    "/sbin ro,nosuid,nodev",
    "/sys ro,nosuid,nodev,noexec",
    "/tmp rw,nosuid,nodev,noexec",
    "/usr ro,nosuid,nodev",
    "/var/tmp rw,nosuid,nodev,noexec",
    "/var/vcap/data/foreign rw,nosuid,nodev,noexec",
    "/var/vcap/data/missing/deep rw,nosuid,nodev,noexec",
    "/var/vcap/data/packages ro,nosuid,nodev",
    "/var/vcap/data/recorder rw,nosuid,nodev,noexec",
    "/var/vcap/data/recorder/tmp rw,nosuid,nodev,noexec",
    "/var/vcap/data/shared ro,nosuid,nodev,noexec",
    "/var/vcap/data/there ro,nosuid,nodev,noexec",
    "/var/vcap/data/tools rw,nosuid,nodev",
    "/var/vcap/jobs/recorder ro,nosuid,nodev",
    "/var/vcap/packages ro,nosuid,nodev",
    "/var/vcap/store/recorder rw,nosuid,nodev,noexec",
    "/var/vcap/sys/log/recorder rw,nosuid,nodev,noexec",
];

fn a_container_keeps_bpms_rules(runner: &'static str) {
    let lab = Lab::new().instances(1).with_bpm(runner).deployed();
    // Before the start that is looked at: directories that bpm finds, and those it must leave alone.
    let prepare =
        "cd /var/vcap/data; mkdir -m 0755 there foreign tools shared shared/later; echo x > there/file";
    lab.ssh("recorder/0", prepare).succeeded();
    let process = with(
        bash(TRIES),
        &json!({
            "env": {"GREETING": "hello", "LANG": "C"},
            "workdir": "/var/vcap/data/recorder/work/deep",
            "limits": {"open_files": 4096, "core_file_size": 0, "processes": 30, "memory": "128M"},
            "additional_volumes": [
                {"path": "/var/vcap/data/there"},
                {"path": "/var/vcap/data/missing/deep", "writable": true},
                {"path": "/var/vcap/data/foreign", "writable": true, "mount_only": true},
                {"path": "/var/vcap/data/tools", "writable": true, "allow_executions": true},
                {"path": "/var/vcap/data/shared", "shared": true},
                // A default is not changed by naming it again.
                {"path": "/var/vcap/sys/log/recorder", "allow_executions": true, "mount_only": true},
            ],
        }),
    );

    let lab = lab.property("process", &process);
    let answer = lab.deploy().succeeded();

    let vcap = lab.vcap("recorder/0");
    let log = || fs::read_to_string(vcap.join("sys/log/recorder/recorder.stdout.log")).unwrap();
    lab.eventually("all was tried", || log().contains("settled"));
    let log = log();
    let path = "/var/vcap/jobs/recorder/bin:/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin:.";
    let tmp = "/var/vcap/data/recorder/tmp";
    let mut told = vec![
        "directory: /var/vcap/data/recorder/work/deep".to_owned(),
        format!("env: GREETING=hello HOME=/var/vcap/data/recorder LANG=C TMPDIR={tmp} PATH={path}"),
        // bash adds the last two, and PWD.
        "variables: GREETING HOME LANG PATH PWD SHLVL TMPDIR _ ".to_owned(),
        format!(
            "hook: user root, directory /, PATH {path}, TMPDIR {tmp}, variables GREETING HOME LANG PATH PWD SHLVL TMPDIR _ "
        ),
        "limits: 4096 4096 files, core 0".to_owned(),
        "jobs: recorder ".to_owned(),
        "read there: done".to_owned(),
        "write there: Read-only file system".to_owned(),
        "write missing: done".to_owned(),
        "write foreign: Permission denied".to_owned(),
        "execute in /var/vcap/data/tools: done".to_owned(),
        "execute in /var/vcap/data/recorder: Permission denied".to_owned(),
        "execute in /var/vcap/store/recorder: Permission denied".to_owned(),
        "execute in /tmp: Permission denied".to_owned(),
        "execute in /dev/shm: Permission denied".to_owned(),
        "write root: Permission denied".to_owned(),
        "write etc: Read-only file system".to_owned(),
        "read kcore: done".to_owned(),
    ];
    for (limit, line) in
        [("processes", "forks: few: Resource temporarily unavailable"), ("memory", "memory: ended with 137")]
    {
        let warning = format!("limits.{limit} is not enforced");
        match answer.text().lines().find(|line| line.contains(&warning)) {
            None => told.push(line.to_owned()),
            Some(why) => skipped(&format!("limits.{limit}"), why),
        }
    }
    if runner == RUNC && cfg!(target_arch = "x86_64") {
        // Each as bpm's own container answered.
        for call in [
            "unshare: Operation not permitted",
            "ptrace: Operation not permitted",
            "close_range: Operation not permitted",
            "clone3: Function not implemented",
            "faccessat2: Function not implemented",
            "openat2: Invalid argument",
            "personality: done",
        ] {
            told.push(call.to_owned());
        }
    }
    for line in told {
        assert!(log.lines().any(|said| said == line), "{line:?} is missing in\n{log}");
    }

    let pid = lab.pid("recorder/0");
    assert_eq!(mounts(pid), expected_mounts());
    let state = status(pid);
    assert_confined(&state, runner);
    // What bpm does to directories, at each start.
    let user = Vcap::find().unwrap();
    let owner = |name: &str| {
        let metadata = fs::metadata(vcap.join(name)).unwrap();
        (metadata.permissions().mode() & 0o7777, metadata.uid())
    };
    assert_eq!(owner("data/there"), (0o700, user.user));
    assert_eq!(owner("data/there/file"), (0o644, 0), "only the directory itself is given to vcap");
    assert_eq!(owner("data/missing/deep"), (0o700, user.user));
    assert_eq!(owner("data/missing"), (0o700, 0));
    assert_eq!(owner("data/foreign"), (0o755, 0));
    // What is mounted in a shared volume later is seen inside: `mount` acts where monit is.
    let monit = lab.supervisors()[0].to_string();
    let mounting = "mount -t tmpfs later /var/vcap/data/shared/later";
    let output = Command::new("nsenter").args(["-t", &monit, "-m", "sh", "-c", mounting]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mounted = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    assert!(mounted.contains(" /var/vcap/data/shared/later "), "{mounted}");
    lab.cli(&["stop"]).succeeded();
    assert!(fs::read_to_string(format!("/proc/{monit}/mountinfo")).unwrap().contains("/data/shared/later "));

    lab.delete();
    assert_no_groups(&vcap);
}

/// No control group of an instance is left.
fn assert_no_groups(vcap: &Path) {
    let id = vcap.parent().unwrap().file_name().unwrap().to_str().unwrap();
    let mut places = vec![Path::new("/sys/fs/cgroup").to_owned()];
    places.extend(fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path()));
    for place in places {
        assert!(!place.join("etcd-local").join(id).exists(), "{}", place.display());
    }
}

/// `/proc/PID/status` by name.
fn status(pid: i32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    text.lines()
        .filter_map(|line| line.split_once(":\t"))
        .map(|(name, value)| (name.to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect()
}

/// User vcap, no capability at all, no way to more, and behind a filter where runc sets one.
fn assert_confined(status: &BTreeMap<String, String>, runner: &str) {
    let Vcap { user, group } = Vcap::find().unwrap();
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status[set], "0000000000000000", "{set}");
    }
    assert_eq!(status["Uid"], format!("{user} {user} {user} {user}"));
    assert_eq!(status["Gid"], format!("{group} {group} {group} {group}"));
    assert_eq!(status["NoNewPrivs"], "1");
    if runner == RUNC {
        assert_eq!(status["CapBnd"], "0000000000000000");
        assert_eq!(status["Seccomp"], "2");
    }
}

/// The mounts a process sees, but for those that depend on the machine: single devices, hidden parts of `/proc` and
/// `/sys`, and what is mounted below `/etc`, as an instance's hosts file is.
fn mounts(pid: i32) -> BTreeSet<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    text.lines()
        .map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let flags: Vec<&str> = fields[5].split(',').filter(|flag| !flag.ends_with("atime")).collect();
            format!("{} {}", fields[4], flags.join(","))
        })
        .filter(|mount| {
            let ours = ["/dev/mqueue ", "/dev/pts ", "/dev/shm "].iter().any(|own| mount.starts_with(own));
            let others = ["/dev/", "/proc/", "/sys/", "/etc/", "/run/", "/ "];
            ours || !others.iter().any(|other| mount.starts_with(other))
        })
        .collect()
}

fn expected_mounts() -> BTreeSet<String> {
    let has_lib64 = Path::new("/lib64").exists();
    let here = MOUNTS.into_iter().filter(|mount| has_lib64 || !mount.starts_with("/lib64 "));
    here.map(str::to_owned).collect()
}

#[test]
fn a_container_of_our_own_keeps_bpms_rules() {
    a_container_keeps_bpms_rules(OURS);
}

#[test]
fn a_container_by_runc_keeps_bpms_rules() {
    if runc_runs() {
        a_container_keeps_bpms_rules(RUNC);
    }
}

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

/// Pids of a program on an instance.
fn pids(fleet: &Fleet, slug: &str, program: &str) -> Vec<i32> {
    let home = Home::of(&fleet.machine(slug).root()).unwrap();
    let is_it =
        |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == program);
    home.inhabitants().into_iter().filter(is_it).collect()
}

/// The limit of open files of etcd itself, soft and hard.
fn open_files(fleet: &Fleet, slug: &str) -> (String, String) {
    let pid = pids(fleet, slug, "etcd")[0];
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap().to_owned();
    let mut numbers = line.split_whitespace().skip(3).map(str::to_owned);
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// Weakness 19 of a predecessor: no limit of open files under bpm, so etcd had the soft limit that monit inherited,
/// often 1024, and with it as many clients.
#[test]
fn etcd_may_open_as_many_files_as_the_property_says_whatever_monit_inherited() {
    let mut fleet = Fleet::new(&["bootstrap.yml", "single-node.yml"]).with_soft_open_files(1024).deployed();
    assert_eq!(open_files(&fleet, "etcd/0"), ("16384".to_owned(), "16384".to_owned()));

    fleet.add_ops_text(
        "fewer.yml",
        "- {type: replace, path: /instance_groups/name=etcd/jobs/name=etcd/properties/open_files, value: 8192}\n",
    );
    fleet.deploy().succeeded();

    assert_eq!(open_files(&fleet, "etcd/0"), ("8192".to_owned(), "8192".to_owned()));
}

/// The real manifest in production's containers: launcher, wrapper, hooks, drain, restart and monit work there.
#[test]
fn a_cluster_lives_in_containers_by_runc() {
    if !runc_runs() {
        return;
    }
    let fleet = Fleet::new(&["bootstrap.yml"]).with_bpm(RUNC).with_monit_cycle("0.5").deployed();
    fleet.eventually("three voters, all ready", |seen| voters(seen) == 3 && all_ready(seen));
    let slugs = fleet.slugs();
    for slug in &slugs {
        for program in ["etcd", "etcd-launcher"] {
            let found = pids(&fleet, slug, program);
            assert_eq!(found.len(), 1, "{program} on {slug}: {found:?}");
            assert_confined(&status(found[0]), RUNC);
        }
        assert_eq!(open_files(&fleet, slug), ("16384".to_owned(), "16384".to_owned()));
    }
    assert!(write_once(&fleet, "kept", "1"));
    fleet.ssh("etcd/1", "etcdctl get kept --print-value-only").succeeded();

    // Drain hands over, TERM ends etcd by itself, and it comes back on its data.
    fleet.cli(&["restart"]).succeeded();
    for slug in &slugs {
        let log = fleet.log(slug, "etcd.stderr.log");
        assert!(log.contains("\"how\":\"graceful\""), "{slug}\n{log}");
        let bpm = fleet.log(slug, "bpm.log");
        assert!(bpm.contains("\"stopped\"") && !bpm.contains("failed-to-stop"), "{slug}\n{bpm}");
    }
    let value = fleet.ssh("etcd/0", "etcdctl get kept --print-value-only").succeeded();
    assert_eq!(value.stdout, "1\n");

    // The plug of one container, and monit starts it again.
    let before = pids(&fleet, &slugs[0], "etcd");
    fleet.kill9(&slugs[0], "etcd-launcher");
    fleet.eventually_from(&slugs[1], "three voters, all ready, another etcd", |seen| {
        let now = pids(&fleet, &slugs[0], "etcd");
        voters(seen) == 3 && all_ready(seen) && !now.is_empty() && now != before
    });
    fleet.delete();
}
