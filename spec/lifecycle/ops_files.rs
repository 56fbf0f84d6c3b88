//! The combinations of ops files that the pages show, deployed: one member, to be quick.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::support::fleet::{Answer, Fleet, all_ready, packages, path, repository, run, voters};

/// Before and after the operator wants more of a cluster.
const PLAIN: [&str; 3] = ["bootstrap.yml", "single-node.yml", "static-ips.yml"];
const MORE: [&str; 6] = [
    "bootstrap.yml",
    "single-node.yml",
    "static-ips.yml",
    "share-links.yml",
    "enable-metrics.yml",
    "raise-limits.yml",
];

/// Another deployment, with a job that consumes the cluster's link as docs/consume.md tells.
struct Consumer<'a> {
    fleet: &'a Fleet,
    release: tempfile::TempDir,
}

impl<'a> Consumer<'a> {
    fn new(fleet: &'a Fleet) -> Self {
        let release = tempfile::Builder::new().prefix("consumer-").tempdir().expect("a directory");
        let page = fs::read_to_string(repository().join("docs/consume.md")).expect("the page");
        let block = |heading: &str| {
            let below =
                page.split_once(heading).unwrap_or_else(|| panic!("docs/consume.md lacks {heading}")).1;
            below.split("```").nth(1).and_then(|block| block.split_once('\n')).expect("a block").1.to_owned()
        };
        let files = [
            ("config/final.yml", "name: app\n".to_owned()),
            ("jobs/app/spec", block("## The job")),
            ("jobs/app/templates/etcd.json.erb", block("## Its template")),
            ("jobs/app/monit", String::new()),
            ("deployment/app.yml", block("## The manifest")),
        ];
        for (name, text) in files {
            let path = release.path().join(name);
            fs::create_dir_all(path.parent().expect("a directory")).expect("make it");
            fs::write(path, text).expect("write the release");
        }
        fs::create_dir_all(release.path().join("packages")).expect("make a directory");
        Self { fleet, release }
    }

    fn cli(&self, arguments: &[&str]) -> Answer {
        let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-local"));
        command
            .args(["-d", "app", "-n", "--state-dir"])
            .arg(self.fleet.state_dir())
            .args(arguments)
            .env("ETCD_LOCAL_PACKAGES", packages())
            .env("PATH", path())
            .stdin(Stdio::null());
        run(command)
    }

    /// Deploys with the certificate authority of the cluster, which a Director would look up by its name.
    fn deploy(&self) -> Answer {
        let manifest = self.release.path().join("deployment/app.yml");
        let text = fs::read_to_string(&manifest).expect("the manifest");
        assert!(text.contains("ca: /DIRECTOR/etcd/etcd_ca"), "{text}");
        fs::write(&manifest, text.replace("/DIRECTOR/etcd/etcd_ca", "etcd_ca")).expect("written");
        let store = self.release.path().join("etcd-ca.yml");
        fs::write(&store, self.authority()).expect("written");
        let answer = self.cli(&[
            "deploy",
            manifest.to_str().expect("a path of ours"),
            "--vars-store",
            store.to_str().expect("a path of ours"),
        ]);
        fs::write(&manifest, text).expect("as it was");
        answer
    }

    /// The cluster's CA as its own deployment keeps it.
    fn authority(&self) -> String {
        let kept: Value = serde_yaml::from_slice(&fs::read(self.variables()).expect("kept")).expect("YAML");
        serde_yaml::to_string(&serde_json::json!({"etcd_ca": kept["etcd_ca"]})).expect("YAML")
    }

    fn variables(&self) -> PathBuf {
        let answer = self.fleet.cli(&["instance-dir", "etcd/0"]).succeeded();
        let root = PathBuf::from(answer.stdout.trim());
        let deployment = root.ancestors().find(|directory| directory.join("vars.yml").is_file());
        deployment.expect("a deployment keeps its variables").join("vars.yml")
    }

    /// A file that the consumer's job was given.
    fn rendered(&self, name: &str) -> String {
        self.cli(&["ssh", "app/0", "-c", &format!("cat /var/vcap/jobs/app/{name}")]).succeeded().stdout
    }
}

impl Drop for Consumer<'_> {
    fn drop(&mut self) {
        let answer = self.cli(&["delete-deployment", "--force", "--skip-drain"]);
        assert!(answer.code == 0 || std::thread::panicking(), "{}", answer.text());
    }
}

#[test]
fn metrics_larger_limits_and_a_shared_link_come_to_a_cluster_that_runs() {
    let id = std::process::id();
    let address = format!("127.251.{}.{}", id / 250 % 250 + 1, id % 250 + 1);
    let mut fleet = Fleet::new(&PLAIN).with_variable(&format!("etcd_static_ips=[{address}]")).deployed();
    let consumer = Consumer::new(&fleet);
    let told = consumer.deploy().failed().text();
    assert!(
        told.contains("Failed to resolve link 'etcd'") && told.contains("No link providers found"),
        "{told}"
    );
    drop(consumer);

    fleet.set_ops(&MORE);
    fleet.deploy().succeeded();
    fleet.eventually("one voter, ready", |seen| voters(seen) == 1 && all_ready(seen));

    // More than the default takes, and less than etcdctl itself sends.
    let large = "head -c 2000000 /dev/zero | tr '\\0' a | etcdctl put large";
    fleet.ssh("etcd/0", large).succeeded();
    let configuration = fleet.read("etcd/0", "/var/vcap/data/etcd/etcd.conf.yml");
    for line in ["quota-backend-bytes: 8589934592", "max-txn-ops: 1024"] {
        assert!(configuration.contains(line), "{line}\n{configuration}");
    }
    let scrape = |page: &str, flags: &str| {
        let curl =
            "cd /var/vcap/jobs/etcd/config && curl --silent --show-error --fail --cacert server-ca.crt";
        fleet.ssh("etcd/0", &format!("{curl} {flags} https://{address}:2381/{page}"))
    };
    let certificate = "--cert admin.crt --key admin.key";
    let metrics = scrape("metrics", certificate).succeeded();
    assert!(metrics.stdout.contains("etcd_server_has_leader 1"), "{}", metrics.text());
    scrape("metrics", "").failed();
    scrape("v3/kv/range", certificate).failed();

    fleet.ssh("etcd/0", "etcdctl put shared 1").succeeded();
    let consumer = Consumer::new(&fleet);
    consumer.deploy().succeeded();
    let link: Value = serde_json::from_str(&consumer.rendered("config/etcd.json")).expect("JSON");
    assert_eq!(link["endpoints"][0], format!("https://{address}:2379"));
    let directory = consumer.release.path();
    for (name, part) in [("ca.pem", "ca"), ("client.pem", "certificate"), ("client.key", "private_key")] {
        fs::write(directory.join(name), link[part].as_str().expect("a text")).expect("written");
    }
    let value = Command::new("etcdctl")
        .args(["get", "shared", "--print-value-only", "--endpoints"])
        .arg(link["endpoints"][0].as_str().expect("a text"))
        .args(["--cacert", "ca.pem", "--cert", "client.pem", "--key", "client.key"])
        .current_dir(directory)
        .env("PATH", path())
        .output()
        .expect("run etcdctl");
    assert_eq!(String::from_utf8_lossy(&value.stdout), "1\n", "{value:?}");
}
