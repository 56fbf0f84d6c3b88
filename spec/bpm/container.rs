//! What a process sees of the machine and may do to it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use etcd_release::local::bpm::vcap::Vcap;
use serde_json::json;

use super::lab::Lab;
use super::runc::{runc_runs, skipped};
use super::{OURS, RUNC, assert_confined, bash, status, with};

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
