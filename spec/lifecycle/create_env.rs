//! One member without a Director: what `bosh create-env` makes of `deployment/create-env.yml`.
//!
//! Making a VM needs a cloud, which is not here. So the real `bosh` fills the manifest in, the templates are rendered
//! in a context like its own (`create_env.rb`), and the result runs under `etcd-local` as if it had been rendered there:
//! a release whose templates are the rendered files. The scripts of a stop are called as the CLI's agent calls them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};

use super::support::fleet::{Answer, Fleet, all_ready, path, repository, voters};
use super::support::load::member_ids;

const CONTEXT: &str = include_str!("create_env.rb");

/// What the agent of a VM that the CLI made calls scripts with: no variable of a Director, and a disk that seems to go,
/// since the CLI tells it of none.
const SCRIPT: &str = "env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin";

/// A release that is rendered, and the manifest that deploys it here.
struct Machine {
    directory: tempfile::TempDir,
    address: String,
}

impl Machine {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("create-env-").tempdir().expect("a directory");
        // Static, as in the manifest; none of those that etcd-local hands out.
        let id = std::process::id();
        let address = format!("127.250.{}.{}", id / 250 % 250 + 1, id % 250 + 1);
        let machine = Self { directory, address };
        for name in ["config", "packages"] {
            std::os::unix::fs::symlink(repository().join(name), machine.path(name))
                .expect("link the release");
        }
        for name in ["deployment", "jobs/etcd/templates"] {
            fs::create_dir_all(machine.path(name)).expect("make the release");
        }
        for name in ["spec", "monit"] {
            let job = repository().join("jobs/etcd");
            fs::copy(job.join(name), machine.path("jobs/etcd").join(name)).expect("copy the job");
        }
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn local_manifest(&self) -> PathBuf {
        self.path("deployment/local.yml")
    }

    /// The manifest as the CLI sees it, filled in by the real `bosh`.
    fn manifest(&self) -> Value {
        let network = self.address.rsplit_once('.').expect("four numbers").0;
        let output = Command::new("bosh")
            .args(["int", "--var-errs", "--vars-store"])
            .arg(self.path("vars.yml"))
            .arg(repository().join("deployment/create-env.yml"))
            .args(["-v", &format!("internal_ip={}", self.address), "-v"])
            .args([&format!("internal_cidr={network}.0/24"), "-v", &format!("internal_gw={network}.254")])
            .args(["-l".as_ref(), repository().join("spec/lifecycle/create_env.yml").as_os_str()])
            .env("PATH", path())
            .output()
            .expect("run bosh");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_yaml::from_slice(&output.stdout).expect("a manifest")
    }

    /// Renders job etcd as the CLI would, with an id as new as it makes one at every run.
    fn render(&self, id: &str) {
        let manifest = self.manifest();
        let group = &manifest["instance_groups"][0];
        let job = &group["jobs"][1];
        self.write_local_manifest(group);
        let spec: Value = yaml(&repository().join("jobs/etcd/spec"));
        let sources: Vec<String> =
            spec["templates"].as_object().expect("templates").keys().cloned().collect();
        let text = |source: &String| {
            fs::read_to_string(repository().join("jobs/etcd/templates").join(source)).expect("a template")
        };
        let request = json!({
            "spec": {
                "index": 0, "id": id, "az": "unknown", "bootstrap": true, "job": {"name": "etcd"},
                "deployment": manifest["name"], "address": group["networks"][0]["static_ips"][0],
                "networks": {"default": {"ip": "", "netmask": "", "gateway": ""}},
            },
            "properties": bound(&spec, &job["properties"]),
            "templates": sources.iter().map(text).collect::<Vec<_>>(),
        });
        for (source, content) in sources.iter().zip(ruby(&request)) {
            assert!(!content.contains("<%"), "{source} would be rendered twice");
            let path = self.path("jobs/etcd/templates").join(source);
            fs::create_dir_all(path.parent().expect("below templates")).expect("make a directory");
            fs::write(path, content).expect("write what was rendered");
        }
    }

    /// The same group for etcd-local, which wants a Director's manifest.
    fn write_local_manifest(&self, group: &Value) {
        let mut group = group.clone();
        group["persistent_disk"] = json!(10240);
        let watch = "100-60000";
        let local = json!({
            "name": "etcd",
            "releases": [{"name": "etcd", "version": "latest"}, {"name": "bpm", "version": "latest"}],
            "update": {"canaries": 1, "max_in_flight": 1, "canary_watch_time": watch, "update_watch_time": watch},
            "instance_groups": [group],
        });
        fs::write(self.local_manifest(), local.to_string()).expect("write the manifest");
    }
}

fn yaml(path: &Path) -> Value {
    serde_yaml::from_slice(&fs::read(path).expect("a file of the repository")).expect("it is YAML")
}

/// The declared properties, each as the manifest says or by default.
fn bound(spec: &Value, written: &Value) -> Value {
    let declared: BTreeMap<String, Value> =
        serde_json::from_value(spec["properties"].clone()).expect("properties");
    let mut bound = Value::Object(Map::new());
    for (name, definition) in declared {
        let pointer = format!("/{}", name.replace('.', "/"));
        let value = written.pointer(&pointer).unwrap_or(&definition["default"]);
        let place = name.split('.').fold(&mut bound, |place, key| &mut place[key]);
        *place = value.clone();
    }
    // Fewer open files than the default, as the ops file for loopback says elsewhere.
    bound["open_files"] = json!(16384);
    bound
}

fn ruby(request: &Value) -> Vec<String> {
    let mut child = Command::new("ruby")
        .args(["-E", "UTF-8:UTF-8", "-e", CONTEXT])
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Ruby is on PATH");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(request.to_string().as_bytes()).expect("ask Ruby");
    drop(stdin);
    let output = child.wait_with_output().expect("wait for Ruby");
    assert!(output.status.success(), "a template does not render without a Director");
    serde_json::from_slice(&output.stdout).expect("one text per template")
}

/// pre-stop and drain, as `bosh create-env` has them called before it stops the processes.
fn stopped_by_the_cli(fleet: &Fleet, disk_mib: u32) -> Answer {
    fleet.ssh("etcd/0", &format!("{SCRIPT} /var/vcap/jobs/etcd/bin/pre-stop")).succeeded();
    let now = format!("BOSH_JOB_STATE='{{\"persistent_disk\":{disk_mib}}}'");
    let next = "BOSH_JOB_NEXT_STATE='{\"persistent_disk\":0}'";
    let drain = "/var/vcap/jobs/etcd/bin/drain job_shutdown hash_unchanged";
    fleet.ssh("etcd/0", &format!("{SCRIPT} {now} {next} {drain}"))
}

/// Whatever the CLI says of the disk, the member stays: it is the only copy. And whatever id the CLI thinks of next, the
/// data is that member's.
#[test]
fn a_single_member_without_a_director_keeps_its_data_through_stop_and_start() {
    let machine = Machine::new();
    machine.render("11111111-0000-4000-8000-000000000001");
    let fleet = Fleet::new(&[]).with_manifest(&machine.local_manifest()).deployed();
    let before = fleet.eventually("one voter, ready", |seen| voters(seen) == 1 && all_ready(seen));
    assert_eq!(before["instances"][0]["address"], machine.address.as_str());
    fleet.ssh("etcd/0", "etcdctl put kept 1").succeeded();

    // An agent that was told of no disk, and one that knows it.
    for disk_mib in [0, 10240] {
        let drained = stopped_by_the_cli(&fleet, disk_mib).succeeded();
        assert_eq!(drained.stdout.trim(), "0", "{}", drained.text());
    }
    fleet.cli(&["stop", "--skip-drain"]).succeeded();
    machine.render("22222222-0000-4000-8000-000000000002");
    fleet.deploy().succeeded();
    fleet.cli(&["start"]).succeeded();

    let after = fleet.eventually("one voter, ready", |seen| voters(seen) == 1 && all_ready(seen));
    assert_eq!(member_ids(&after), member_ids(&before));
    assert_eq!(after["cluster_id"], before["cluster_id"]);
    assert_eq!(after["instances"][0]["instance"], "22222222-0000-4000-8000-000000000002");
    let value = fleet.ssh("etcd/0", "etcdctl get kept --print-value-only").succeeded();
    assert_eq!(value.stdout, "1\n");

    it_is_restored_like_any_other(&fleet, &after["cluster_id"]);
}

/// The one member is the source, and there is nobody to stop.
fn it_is_restored_like_any_other(fleet: &Fleet, before: &Value) {
    let store = tempfile::tempdir().expect("a directory");
    let etcd_backup = |command: &str| {
        let url = store.path().display();
        fleet.ssh("etcd/0", &format!("/var/vcap/jobs/etcd/bin/etcd-backup {command} --store file://{url}"))
    };
    etcd_backup("save").succeeded();
    fleet.ssh("etcd/0", "etcdctl put kept 2").succeeded();

    let restored = etcd_backup("restore-cluster --to latest");

    assert_eq!(restored.code, 0, "{}\n{}", restored.text(), fleet.log_tails());
    let after = fleet.eventually("one voter, ready", |seen| voters(seen) == 1 && all_ready(seen));
    assert_ne!(after["cluster_id"], *before);
    let value = fleet.ssh("etcd/0", "etcdctl get kept --print-value-only").succeeded();
    assert_eq!(value.stdout, "1\n");
    assert_eq!(fleet.asides(&fleet.slugs()[0], "restored").len(), 1);
}
