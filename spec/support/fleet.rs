//! A deployment of its own for each test: own state directory, own addresses, everything gone at the end.

use std::cell::Cell;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use etcd_release::local::layout::{InstanceDir, StateDir};
use etcd_release::local::process::Home;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::machine::{self, Machine};

/// Every wait on a condition is bounded by this; no test's outcome depends on it on a working machine.
pub const DEADLINE: Duration = Duration::from_mins(2);

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

    /// Everything it said, for messages of failed assertions.
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

/// A deployment of `deployment/etcd.yml` on this machine.
pub struct Fleet {
    state: tempfile::TempDir,
    manifest: PathBuf,
    ops: Vec<PathBuf>,
    variables: Vec<String>,
    variables_files: Vec<PathBuf>,
    monit_cycle: Option<String>,
    network: Option<&'static str>,
    bpm: Option<&'static str>,
    soft_open_files: Option<u32>,
    deleted: Cell<bool>,
}

impl Fleet {
    /// Nothing is deployed yet. The loopback ops file is always there: short watch times, limits that fit.
    pub fn new(ops: &[&str]) -> Self {
        let state = tempfile::Builder::new().prefix("fleet-").tempdir().expect("make a temporary directory");
        let mut fleet = Self {
            state,
            manifest: repository().join("deployment/etcd.yml"),
            ops: Vec::new(),
            variables: Vec::new(),
            variables_files: Vec::new(),
            monit_cycle: None,
            network: None,
            bpm: None,
            soft_open_files: None,
            deleted: Cell::new(false),
        };
        fleet.set_ops(ops);
        fleet
    }

    /// Deploys this manifest, as it is, instead of the release's with ops files.
    pub fn with_manifest(mut self, manifest: &Path) -> Self {
        manifest.clone_into(&mut self.manifest);
        self.ops.clear();
        self
    }

    /// Gives a variable of an ops file its value, `name=value`.
    pub fn with_variable(mut self, variable: &str) -> Self {
        self.variables.push(variable.to_owned());
        self
    }

    /// Makes monit look at processes this often instead of every ten seconds.
    pub fn with_monit_cycle(mut self, seconds: &str) -> Self {
        self.monit_cycle = Some(seconds.to_owned());
        self
    }

    /// Gives each member a network of its own, so that it has an address of its own towards others and can be
    /// [cut off](Self::cut) from them.
    pub fn in_namespaces(mut self) -> Self {
        self.network = Some("namespaces");
        self
    }

    /// Processes under bpm run by `namespaces` or `runc`.
    pub fn with_bpm(mut self, runner: &'static str) -> Self {
        self.bpm = Some(runner);
        self
    }

    /// What `etcd-local` starts inherits this soft limit of open files, as from many a monit.
    pub fn with_soft_open_files(mut self, limit: u32) -> Self {
        self.soft_open_files = Some(limit);
        self
    }

    /// `group/id` of all instances.
    pub fn slugs(&self) -> Vec<String> {
        self.instances().iter().filter_map(|row| row["instance"].as_str()).map(str::to_owned).collect()
    }

    /// The ops files of further deploys, by their names below `deployment/operations`. The variable
    /// `SPEC_ETCD_VERSION` runs the specification with another release line, as `ci/test long` does.
    pub fn set_ops(&mut self, ops: &[&str]) {
        let operations = repository().join("deployment/operations");
        let line = std::env::var("SPEC_ETCD_VERSION").ok().map(|line| format!("use-etcd-{line}.yml"));
        let always = line.as_deref().into_iter().chain(["test/loopback.yml"]);
        self.ops = ops.iter().copied().chain(always).map(|name| operations.join(name)).collect();
    }

    /// Adds an ops file with this content to further deploys.
    pub fn add_ops_text(&mut self, name: &str, text: &str) {
        let path = self.state.path().join(name);
        fs::write(&path, text).expect("write an ops file");
        self.ops.push(path);
    }

    /// Sets a variable of the ops files, `NAME=VALUE`.
    pub fn set_variable(&mut self, variable: &str) {
        self.variables.push(variable.to_owned());
    }

    /// Gives variables to further deploys, in a file.
    pub fn give_variables(&mut self, variables: &Value) {
        let path = self.state.path().join(format!("given-{}.yml", self.variables_files.len()));
        fs::write(&path, variables.to_string()).expect("write variables");
        self.variables_files.push(path);
    }

    /// Where passwords and certificates are kept that were made for this fleet.
    pub fn vars_store(&self) -> PathBuf {
        StateDir::at(self.state_dir()).deployment("etcd").vars_store()
    }

    /// Forgets variables that were made: the next deploy makes them anew.
    #[track_caller]
    pub fn forget_variables(&self, names: &[&str]) {
        let text = fs::read_to_string(self.vars_store()).expect("the store of variables");
        let mut known: Value = serde_yaml::from_str(&text).expect("variables");
        for name in names {
            let made = known.as_object_mut().and_then(|known| known.remove(*name));
            assert!(made.is_some(), "there was no variable {name}");
        }
        fs::write(self.vars_store(), known.to_string()).expect("keep the other variables");
    }

    /// Deploys with this number of members; all other ops files stay. Later deploys keep the number.
    pub fn scale_to(&mut self, members: usize) -> Answer {
        let scale = repository().join("deployment/operations/scale.yml");
        if !self.ops.contains(&scale) {
            self.ops.push(scale);
        }
        self.variables.retain(|variable| !variable.starts_with("etcd_instances="));
        self.variables.push(format!("etcd_instances={members}"));
        self.deploy()
    }

    /// Deploys and demands success.
    #[track_caller]
    pub fn deployed(self) -> Self {
        self.deploy().succeeded();
        self
    }

    pub fn deploy(&self) -> Answer {
        run(self.deploy_command(&[]))
    }

    pub fn deploy_with(&self, flags: &[&str]) -> Answer {
        run(self.deploy_command(flags))
    }

    /// The command of a deploy, for tests that kill it.
    pub fn deploy_command(&self, flags: &[&str]) -> Command {
        let mut command = self.command(&["deploy"]);
        command.arg(&self.manifest);
        for ops in &self.ops {
            command.arg("-o").arg(ops);
        }
        for variable in &self.variables {
            command.arg("-v").arg(variable);
        }
        for file in &self.variables_files {
            command.arg("-l").arg(file);
        }
        command.args(flags);
        command
    }

    /// `etcd-local` with this fleet's state.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_etcd-local");
        let mut command = match self.soft_open_files {
            None => Command::new(program),
            Some(limit) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -S -n {limit} && exec \"$0\" \"$@\""), program]);
                shell
            }
        };
        command
            .args(["-d", "etcd", "-n", "--state-dir"])
            .arg(self.state_dir())
            .args(self.monit_cycle.iter().flat_map(|seconds| ["--monit-cycle", seconds.as_str()]))
            .args(self.network.iter().flat_map(|network| ["--network", *network]))
            .args(self.bpm.iter().flat_map(|runner| ["--bpm", *runner]))
            .args(arguments)
            .env("ETCD_LOCAL_PACKAGES", packages())
            .env("PATH", path())
            .stdin(Stdio::null());
        command
    }

    pub fn cli(&self, arguments: &[&str]) -> Answer {
        run(self.command(arguments))
    }

    pub fn state_dir(&self) -> PathBuf {
        self.state.path().join("state")
    }

    /// Runs a command on an instance, as `bosh ssh` would.
    pub fn ssh(&self, slug: &str, command: &str) -> Answer {
        self.cli(&["ssh", slug, "-c", command])
    }

    /// Runs a command on all these instances at once, as `bosh ssh` does; their answers in the same order.
    pub fn ssh_all(&self, slugs: &[String], command: &str) -> Vec<Answer> {
        let run = |slug: &String| {
            let mut one = self.command(&["ssh", slug, "-c", command]);
            one.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start etcd-local")
        };
        let running: Vec<_> = slugs.iter().map(run).collect();
        let ended = |one: std::process::Child| one.wait_with_output().expect("wait for etcd-local");
        running.into_iter().map(|one| Answer::of(&ended(one))).collect()
    }

    /// The rows of `etcd-local --json instances --details`.
    #[track_caller]
    pub fn instances(&self) -> Vec<Value> {
        let answer = self.cli(&["--json", "instances", "--details"]).succeeded();
        let tables: Value =
            serde_json::from_str(&answer.stdout).unwrap_or_else(|error| panic!("{error}: {}", answer.text()));
        tables["Tables"][0]["Rows"].as_array().cloned().unwrap_or_default()
    }

    /// Number of instances of the deployment.
    pub fn size(&self) -> usize {
        self.instances().len()
    }

    /// What `etcd-status --json` says on an instance; `Null` if it says nothing.
    pub fn status_from(&self, slug: &str) -> Value {
        let answer = self.ssh(slug, "etcd-status --json");
        serde_json::from_str(&answer.stdout).unwrap_or(Value::Null)
    }

    pub fn status(&self) -> Value {
        self.status_from("etcd/0")
    }

    /// Waits until `holds` and returns what was seen then.
    #[track_caller]
    pub fn eventually(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        self.eventually_from("etcd/0", what, holds)
    }

    #[track_caller]
    pub fn eventually_from(&self, slug: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let seen = self.status_from(slug);
            if holds(&seen) {
                return seen;
            }
            assert!(
                start.elapsed() < DEADLINE,
                "never seen within {DEADLINE:?}: {what}\nlast seen: {seen:#}\n{}",
                self.log_tails()
            );
        }
    }

    /// A file as an instance sees it; empty if there is none.
    pub fn read(&self, slug: &str, path: &str) -> String {
        self.ssh(slug, &format!("cat '{path}'")).stdout
    }

    /// Job etcd's directory on the persistent disk of an instance, as this machine sees it.
    #[track_caller]
    pub fn store(&self, slug: &str) -> PathBuf {
        let id = slug.split('/').nth(1).expect("group/id");
        let instance = StateDir::at(self.state_dir()).deployment("etcd").instance(id);
        instance.attached_disk().join("etcd")
    }

    /// A log file of job etcd on an instance; empty if there is none.
    pub fn log(&self, slug: &str, file: &str) -> String {
        self.read(slug, &format!("/var/vcap/sys/log/etcd/{file}"))
    }

    /// A log file of job etcd on all instances, each below its name.
    pub fn log_all(&self, file: &str) -> String {
        let of = |slug: &String| format!("--- {slug} {file}\n{}", self.log(slug, file));
        self.slugs().iter().map(of).collect()
    }

    /// The ends of all launcher logs, for messages of failed assertions.
    pub fn log_tails(&self) -> String {
        const LINES: usize = 15;
        let mut text = String::new();
        for instance in self.instances() {
            let slug = instance["instance"].as_str().unwrap_or_default().to_owned();
            for file in ["etcd.stderr.log", "post-start.stderr.log", "post-deploy.stderr.log", "drain.log"] {
                let log = self.log(&slug, file);
                let lines: Vec<&str> = log.lines().collect();
                text.push_str("--- ");
                text.push_str(&slug);
                text.push(' ');
                text.push_str(file);
                text.push('\n');
                for line in &lines[lines.len().saturating_sub(LINES)..] {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
        text
    }

    /// The directory of an instance, given as `group/id` or `group/index`.
    #[track_caller]
    pub fn machine(&self, slug: &str) -> InstanceDir {
        let root = PathBuf::from(self.cli(&["instance-dir", slug]).succeeded().stdout.trim());
        InstanceDir::at(root.parent().expect("the root lies in the instance's directory"))
    }

    /// Ends a program on an instance (`etcd`, `etcd-launcher`) with SIGKILL; at least one must run.
    #[track_caller]
    pub fn kill9(&self, slug: &str, process: &str) {
        let home = Home::of(&self.machine(slug).root()).expect("the instance has a machine");
        let is_it = |pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == process)
        };
        let found: Vec<i32> = home.inhabitants().into_iter().filter(is_it).collect();
        assert!(!found.is_empty(), "no {process} runs on {slug}");
        for pid in found {
            // Ignored: a child may end with its parent.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    /// Pulls the plug of an instance; the next command that looks at it finds it booted anew.
    #[track_caller]
    pub fn reboot(&self, slug: &str) {
        machine::reboot(&self.machine(slug));
    }

    /// Cuts these instances off from all others, in both directions; among themselves they stay connected. What
    /// they send is lost, not refused. This machine still reaches all. Needs [`Self::in_namespaces`]; an
    /// instance that is made later, or made anew on both sides of a cut, is connected again.
    #[track_caller]
    pub fn cut(&self, slugs: &[&str]) {
        let is_inside = |row: &&Value| slugs.iter().any(|slug| fits(row, slug));
        let rows = self.instances();
        let (inside, outside): (Vec<&Value>, Vec<&Value>) = rows.iter().partition(is_inside);
        assert!(inside.len() >= slugs.len(), "there are not all of {slugs:?}: {rows:#?}");
        for one in &inside {
            for other in &outside {
                self.cut_rows(one, other);
            }
        }
    }

    /// Loses what an instance sends to all others; what they send arrives.
    #[track_caller]
    pub fn cut_from(&self, slug: &str) {
        let rows = self.instances();
        let (inside, outside): (Vec<&Value>, Vec<&Value>) = rows.iter().partition(|row| fits(row, slug));
        for one in inside.iter().filter_map(|row| self.networked(row)) {
            outside.iter().filter_map(|row| self.networked(row)).for_each(|other| one.mute(&other));
        }
    }

    /// Cuts two instances off from each other, as [`Self::cut`] does.
    #[track_caller]
    pub fn cut_between(&self, one: &str, other: &str) {
        let rows = self.instances();
        let find = |slug: &str| rows.iter().find(|row| fits(row, slug)).expect("the instance exists");
        self.cut_rows(find(one), find(other));
    }

    /// Ends all cuts.
    #[track_caller]
    pub fn heal(&self) {
        self.instances().iter().filter_map(|row| self.networked(row)).for_each(|machine| machine.heal());
    }

    /// One without a machine has nothing that could be cut.
    #[track_caller]
    fn cut_rows(&self, one: &Value, other: &Value) {
        assert!(self.network.is_some(), "on loopback all traffic leaves from one address: in_namespaces()");
        if let (Some(one), Some(other)) = (self.networked(one), self.networked(other)) {
            one.cut(&other);
        }
    }

    fn networked(&self, row: &Value) -> Option<Machine> {
        let id = row["instance"].as_str()?.split('/').nth(1)?;
        let instance = StateDir::at(self.state_dir()).deployment("etcd").instance(id);
        Machine::of(&instance, row["ips"].as_str()?)
    }

    /// Deletes the deployment and demands success.
    #[track_caller]
    pub fn delete(&self) {
        self.cli(&["delete-deployment"]).succeeded();
        self.deleted.set(true);
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if !self.deleted.get() {
            // --skip-drain: a broken test may have left nothing that could drain.
            let answer = self.cli(&["delete-deployment", "--skip-drain"]);
            assert!(
                answer.code == 0 || std::thread::panicking(),
                "the deployment could not be deleted: {}",
                answer.text()
            );
        }
    }
}

/// Whether a row of the table is about the instance `group/id` or `group/index`.
fn fits(row: &Value, slug: &str) -> bool {
    let Some((group, one)) = slug.split_once('/') else { return false };
    let instance = row["instance"].as_str().unwrap_or_default();
    instance == slug || (instance.starts_with(&format!("{group}/")) && row["index"] == one)
}

/// Runs a command to its end.
pub fn run(mut command: Command) -> Answer {
    Answer::of(&command.output().expect("start etcd-local"))
}

/// Members that serve, as `etcd-status` tells them.
pub fn voters(status: &Value) -> usize {
    status["members"].as_array().map_or(0, |members| {
        members.iter().filter(|member| member["is_learner"] == Value::Bool(false)).count()
    })
}

/// Whether every instance is ready, and the same look shows the member list: each is asked for by a question of its
/// own, and on a busy machine one may come too late.
pub fn all_ready(status: &Value) -> bool {
    voters(status) > 0
        && status["instances"].as_array().is_some_and(|instances| {
            !instances.is_empty() && instances.iter().all(|instance| instance["ready"].get("Ok").is_some())
        })
}

/// The top of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// PATH with the pinned tools first.
pub fn path() -> OsString {
    let mut path = OsString::new();
    for tools in [".tools/bin", ".tools/etcd-3.6/bin"] {
        path.push(repository().join(tools));
        path.push(":");
    }
    path.push(std::env::var_os("PATH").unwrap_or_default());
    path
}

/// The packages this test run deploys: real etcd from PATH, that of the other series from where `ci/setup` put it
/// if it did, and our binaries of this very build, which have fail points.
pub fn packages() -> &'static Path {
    static PACKAGES: OnceLock<PathBuf> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("packages-{}", std::process::id()));
        // A process that had this number before may have left it, with links to the very tools: never written into.
        match fs::remove_dir_all(&root) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                panic!("{}: {error}", root.display())
            }
            _ => {}
        }
        let (etcd, tools) = (root.join("etcd/bin"), root.join("etcd-tools/bin"));
        fs::create_dir_all(&etcd).expect("make a directory");
        fs::create_dir_all(&tools).expect("make a directory");
        for name in ["etcd", "etcdctl", "etcdutl"] {
            let found = which::which_in(name, Some(path()), ".")
                .unwrap_or_else(|_| panic!("{name} is not on PATH: run ci/setup"));
            share(&found, &etcd.join(name));
        }
        for series in ["etcd-3.4", "etcd-3.5", "etcd-3.7"] {
            // Without it, a deployment that asks for this package is told that it is not built.
            let Ok(found) = fs::read_dir(repository().join(".tools").join(series).join("bin")) else {
                continue;
            };
            let package = root.join(series).join("bin");
            fs::create_dir_all(&package).expect("make a directory");
            for program in found {
                let program = program.expect("list the programs of etcd");
                share(&program.path(), &package.join(program.file_name()));
            }
        }
        for binary in [
            env!("CARGO_BIN_EXE_etcd-backup"),
            env!("CARGO_BIN_EXE_etcd-launcher"),
            env!("CARGO_BIN_EXE_etcd-datadir"),
            env!("CARGO_BIN_EXE_etcd-drain"),
            env!("CARGO_BIN_EXE_etcd-hook"),
            env!("CARGO_BIN_EXE_etcd-status"),
            env!("CARGO_BIN_EXE_etcdctl-wrapper"),
        ] {
            let binary = Path::new(binary);
            copy(binary, &tools.join(binary.file_name().expect("a binary has a name")));
        }
        root
    })
}

/// A second name for a program, or a copy where that cannot be: etcd of four series has 300 MB, which each test binary
/// would copy.
fn share(from: &Path, to: &Path) {
    let real = fs::canonicalize(from).unwrap_or_else(|error| panic!("find {}: {error}", from.display()));
    match fs::hard_link(&real, to) {
        Ok(()) => {}
        // It may be a link to the same file: a copy would empty both.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => panic!("{} exists", to.display()),
        Err(_) => copy(&real, to),
    }
}

fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap_or_else(|error| panic!("copy {}: {error}", from.display()));
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).expect("make a binary executable");
}
