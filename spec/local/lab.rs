//! A deployment of the fixture release, in a state directory of its own, gone at the end.

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use etcd_release::local::layout::InstanceDir;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Every wait on a condition is bounded by this.
const DEADLINE: Duration = Duration::from_mins(1);

/// What a command answered.
#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Answer {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub fn text(&self) -> String {
        format!("exit code {}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.stdout, self.stderr)
    }

    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.text());
        self
    }

    #[track_caller]
    pub fn failed(self) -> Self {
        assert_ne!(self.code, 0, "{}", self.text());
        self
    }
}

/// A deployment of `spec/fixtures/recorder`.
pub struct Lab {
    directory: tempfile::TempDir,
    instances: u32,
    disk_mib: u32,
    properties: Vec<(String, String)>,
    network: Option<&'static str>,
    bpm: Option<&'static str>,
    ops: Vec<String>,
    /// How much of each instance's story was read.
    read: RefCell<std::collections::BTreeMap<String, usize>>,
    over: Cell<bool>,
}

impl Lab {
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("lab-").tempdir().expect("make a directory");
        let lab = Self {
            directory,
            instances: 1,
            disk_mib: 1024,
            properties: Vec::new(),
            network: None,
            bpm: None,
            ops: Vec::new(),
            read: RefCell::default(),
            over: Cell::new(false),
        };
        let package = lab.package();
        fs::create_dir_all(package.parent().expect("it lies in bin")).expect("make the package");
        fs::copy(fixture().join("built/recorder/bin/recorder"), &package).expect("copy the package");
        fs::set_permissions(&package, fs::Permissions::from_mode(0o755)).expect("make it executable");
        lab
    }

    pub fn instances(mut self, instances: u32) -> Self {
        self.instances = instances;
        self
    }

    pub fn disk_mib(mut self, disk_mib: u32) -> Self {
        self.disk_mib = disk_mib;
        self
    }

    /// Each instance in a network namespace of its own.
    pub fn in_namespaces(mut self) -> Self {
        self.network = Some("namespaces");
        self
    }

    /// Processes under bpm run by `namespaces` or `runc`.
    #[allow(dead_code, reason = "for spec/bpm.rs")]
    pub fn with_bpm(mut self, runner: &'static str) -> Self {
        self.bpm = Some(runner);
        self
    }

    /// These operations and no others, after those that the rest of this lab asks for.
    pub fn ops(mut self, ops: &[&str]) -> Self {
        self.ops = ops.iter().map(|line| (*line).to_owned()).collect();
        self
    }

    pub fn greeting(self, greeting: &str) -> Self {
        self.property("greeting", greeting)
    }

    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.retain(|(known, _)| known != name);
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn change_package(&self) {
        let text = fs::read_to_string(self.package()).expect("read the package");
        fs::write(self.package(), format!("{text}# another build\n")).expect("change the package");
    }

    fn package(&self) -> PathBuf {
        self.directory.path().join("built/recorder/bin/recorder")
    }

    #[track_caller]
    pub fn deployed(self) -> Self {
        self.deploy().succeeded();
        self
    }

    pub fn deploy(&self) -> Answer {
        Answer::of(&self.deploy_command(&[]).output().expect("start etcd-local"))
    }

    #[track_caller]
    pub fn deploy_with(&self, flags: &[&str]) -> Answer {
        Answer::of(&self.deploy_command(flags).output().expect("start etcd-local"))
    }

    pub fn deploy_command(&self, flags: &[&str]) -> Command {
        let ops = self.directory.path().join("ops.yml");
        let mut text = format!(
            "- {{type: replace, path: /instance_groups/name=recorder/instances, value: {}}}\n\
             - {{type: replace, path: /instance_groups/name=recorder/persistent_disk, value: {}}}\n",
            self.instances, self.disk_mib
        );
        for (name, value) in &self.properties {
            let path = format!("/instance_groups/name=recorder/jobs/name=recorder/properties?/{name}");
            writeln!(text, "- {{type: replace, path: \"{path}\", value: {value}}}")
                .expect("write to a String");
        }
        for operation in &self.ops {
            writeln!(text, "- {operation}").expect("write to a String");
        }
        fs::write(&ops, text).expect("write the ops file");
        let mut command = self.command(&["--monit-cycle", "0.2", "deploy"]);
        command.args(self.network.iter().flat_map(|network| ["--network", *network]));
        command.args(self.bpm.iter().flat_map(|runner| ["--bpm", *runner]));
        command.arg(fixture().join("deployment/recorder.yml")).arg("-o").arg(ops);
        command.arg("--packages").arg(self.directory.path().join("built")).args(flags);
        command
    }

    /// `etcd-local -n` with this lab's state.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare_command();
        command.arg("-n").args(arguments);
        command
    }

    fn bare_command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-local"));
        command.args(["-d", "recorder", "--state-dir"]).arg(self.state_dir());
        command.env("PATH", path()).env_remove("ETCD_LOCAL_PACKAGES").stdin(Stdio::null());
        command
    }

    pub fn cli(&self, arguments: &[&str]) -> Answer {
        Answer::of(&self.command(arguments).output().expect("start etcd-local"))
    }

    pub fn cli_that_would_ask(&self, arguments: &[&str]) -> Answer {
        Answer::of(&self.bare_command().args(arguments).output().expect("start etcd-local"))
    }

    pub fn ssh(&self, slug: &str, command: &str) -> Answer {
        self.cli(&["ssh", slug, "-c", command])
    }

    pub fn state_dir(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// Starts a command and kills it with SIGKILL when it says `words`.
    #[track_caller]
    pub fn kill_when(&self, arguments: &[&str], words: &str) {
        let mut command = match arguments {
            ["deploy", flags @ ..] => self.deploy_command(flags),
            other => self.command(other),
        };
        let mut child = command.stdout(Stdio::piped()).spawn().expect("start etcd-local");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut said = String::new();
        // Byte by byte: a line stays open until the next event.
        while !said.contains(words) {
            let buffer = lines.fill_buf().expect("read what etcd-local says");
            assert!(!buffer.is_empty(), "it never said {words:?}:\n{said}");
            said.push(char::from(buffer[0]));
            lines.consume(1);
        }
        child.kill().expect("kill etcd-local");
        child.wait().expect("reap etcd-local");
    }

    /// Runs a command that dies at the named fail point; `false` if it never got there.
    #[cfg(feature = "fail-points")]
    pub fn dies_at(&self, arguments: &[&str], point: &str) -> bool {
        let mut command = match arguments {
            ["deploy", flags @ ..] => self.deploy_command(flags),
            other => self.command(other),
        };
        let output = command.env("ETCD_TOOLS_FAIL_POINT", point).output().expect("start etcd-local");
        let killed =
            std::os::unix::process::ExitStatusExt::signal(&output.status) == Some(Signal::SIGKILL as i32);
        assert!(killed || output.status.success(), "{}", Answer::of(&output).text());
        killed
    }

    /// How many persistent disks instances have.
    #[cfg(feature = "fail-points")]
    pub fn disks(&self) -> usize {
        fs::read_dir(self.state_dir().join("deployments/recorder/disks")).map_or(0, Iterator::count)
    }

    /// The rows of a table.
    #[track_caller]
    pub fn rows(&self, arguments: &str) -> Vec<Value> {
        let mut all = vec!["--json"];
        all.extend(arguments.split(' '));
        let answer = self.cli(&all).succeeded();
        let document: Value = serde_json::from_str(&answer.stdout).expect("read the JSON document");
        document["Tables"][0]["Rows"].as_array().cloned().unwrap_or_default()
    }

    /// The directory of an instance.
    #[track_caller]
    pub fn machine(&self, slug: &str) -> InstanceDir {
        let root = self.vcap(slug);
        InstanceDir::at(root.parent().expect("the root lies in the instance's directory"))
    }

    /// A directory of this machine for whatever a test needs.
    pub fn scratch(&self) -> PathBuf {
        let path = self.directory.path().join("scratch");
        fs::create_dir_all(&path).expect("make a directory");
        path
    }

    #[track_caller]
    pub fn vcap(&self, slug: &str) -> PathBuf {
        PathBuf::from(self.cli(&["instance-dir", slug]).succeeded().stdout.trim())
    }

    /// What the scripts of `recorder/0` wrote down since the last time this was asked.
    #[track_caller]
    pub fn story(&self) -> Vec<String> {
        self.story_of("recorder/0")
    }

    #[track_caller]
    pub fn story_of(&self, slug: &str) -> Vec<String> {
        let text = self.ssh(slug, "cat /var/vcap/store/story").succeeded().stdout;
        self.news(slug, &text)
    }

    /// The same for an instance without a machine.
    #[track_caller]
    pub fn story_on_disk(&self) -> Vec<String> {
        let disks = self.state_dir().join("deployments/recorder/disks");
        let disk = fs::read_dir(disks).expect("list disks").next().expect("a disk").expect("list disks");
        let text = fs::read_to_string(disk.path().join("story")).expect("read the story");
        self.news("recorder/0", &text)
    }

    fn news(&self, slug: &str, text: &str) -> Vec<String> {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let already = self.read.borrow_mut().insert(slug.to_owned(), lines.len()).unwrap_or_default();
        lines[already..].to_vec()
    }

    /// Disks that were put aside.
    pub fn orphans(&self) -> Vec<PathBuf> {
        let disks = fs::read_dir(self.state_dir().join("orphaned-disks/recorder"));
        disks.into_iter().flatten().map(|disk| disk.expect("list disks").path()).collect()
    }

    /// The stories on them.
    pub fn orphaned_stories(&self) -> Vec<Vec<String>> {
        let read = |disk: &PathBuf| -> Vec<String> {
            let story = fs::read_to_string(disk.join("story")).expect("read the story");
            story.lines().map(str::to_owned).collect()
        };
        self.orphans().iter().map(read).collect()
    }

    /// The pid of the process in its container; 0 if there is none.
    pub fn pid(&self, slug: &str) -> i32 {
        let answer = self.ssh(slug, "/var/vcap/jobs/bpm/bin/bpm pid recorder");
        answer.stdout.trim().parse().unwrap_or(0)
    }

    #[expect(clippy::unused_self, reason = "it is a process of this lab")]
    pub fn kill(&self, pid: i32) {
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("kill a process of this lab");
    }

    /// Pids of the supervisors of this lab.
    pub fn supervisors(&self) -> Vec<i32> {
        let state = self.state_dir().display().to_string();
        all_processes()
            .into_iter()
            .filter(|(_, line)| line.contains("internal-supervise") && line.contains(&state))
            .map(|(pid, _)| pid)
            .collect()
    }

    /// How many programs of this lab run: each is pid 2 of its container; what it forks has another one.
    pub fn recorders(&self) -> usize {
        let is_second = |line: &&String| {
            let pid = line.split(' ').next().unwrap_or_default();
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t2"))
        };
        self.processes().iter().filter(is_second).count()
    }

    /// Command lines of everything that belongs to this lab: it sees something mounted from its directory,
    /// or names that directory.
    pub fn processes(&self) -> Vec<String> {
        let directory = self.directory.path().display().to_string();
        let belongs = |pid: i32, line: &str| {
            let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
            line.contains(&directory) || mounts.contains(&directory)
        };
        all_processes()
            .into_iter()
            .filter(|(pid, line)| belongs(*pid, line))
            .map(|(pid, line)| format!("{pid} {line}"))
            .collect()
    }

    #[track_caller]
    pub fn eventually(&self, what: &str, holds: impl Fn() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(
                start.elapsed() < DEADLINE,
                "never seen within {DEADLINE:?}: {what}\n{:#?}",
                self.processes()
            );
        }
    }

    #[track_caller]
    pub fn delete(&self) {
        self.cli(&["delete-deployment"]).succeeded();
        self.forget();
    }

    /// Nothing is left to delete at the end.
    pub fn forget(&self) {
        self.over.set(true);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.over.get() {
            let answer = self.cli(&["delete-deployment", "--skip-drain", "--force"]);
            assert!(answer.code == 0 || std::thread::panicking(), "{}", answer.text());
        }
    }
}

fn all_processes() -> Vec<(i32, String)> {
    let entries = fs::read_dir("/proc").expect("list processes");
    entries
        .filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ").trim().to_owned();
            (!line.is_empty()).then_some((pid, line))
        })
        .collect()
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/fixtures/recorder")
}

/// PATH with the pinned tools first.
pub fn path() -> OsString {
    let mut path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/bin").into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    path
}
