//! cfcr-etcd-release and jfmyers9/etcd-release replaced in place: real etcd on disks as their scripts leave them
//! (`fixtures/predecessors`), then this release in the same deployment. Nobody who writes notices, no member is
//! replaced, and who consumes their links goes on to find what they need.
//!
//! In network namespaces: their peer certificates have no 127.0.0.1, from which all connections leave on loopback.

#![allow(missing_docs, reason = "test names are sentences")]
#![allow(clippy::disallowed_methods, reason = "fixtures need no durability")]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use etcd_release::etcd::member::Member;
use etcd_release::etcd::tls::Files;
use serde_json::Value;
use support::fleet::{Answer, Fleet, all_ready, packages, repository, run, voters};
use support::load::{Load, Members, assert_nothing_lost, write_once};

/// What its members have for clients: the CA of the members, certificate and key of user root.
const CFCR: [&str; 3] = ["etcd-ca.crt", "etcdctl-root.crt", "etcdctl-root.key"];
/// Its servers and clients have one certificate.
const JFMYERS9: [&str; 3] = ["server-ca.crt", "server.crt", "server.key"];

/// The ops file of that name of cfcr-etcd-release, which goes on to work.
const SHARE_LINKS: &str = "
- type: replace
  path: /instance_groups/name=etcd/jobs/name=etcd/provides/etcd/shared?
  value: true
";

/// A release that this one takes the place of.
struct Predecessor {
    /// Its directory in `fixtures/predecessors`, and in the name of the ops file.
    name: &'static str,
    /// Where its package has the programs of etcd.
    programs: &'static str,
    certificates: [&'static str; 3],
    disk_type: &'static str,
}

const FROM_CFCR: Predecessor =
    Predecessor { name: "cfcr-etcd-release", programs: "bin", certificates: CFCR, disk_type: "default" };
const FROM_JFMYERS9: Predecessor =
    Predecessor { name: "jfmyers9-etcd-release", programs: "", certificates: JFMYERS9, disk_type: "10GB" };

impl Predecessor {
    fn manifest(&self, name: &str) -> PathBuf {
        repository().join("spec/fixtures/predecessors").join(self.name).join("manifests").join(name)
    }

    /// Its packages: real etcd as its scripts call it.
    fn packages(&self, fleet: &Fleet) -> PathBuf {
        let root = fleet.state_dir().with_file_name("old-packages");
        let programs = root.join("etcd").join(self.programs);
        fs::create_dir_all(&programs).expect("make a directory");
        for name in ["etcd", "etcdctl"] {
            let real = fs::canonicalize(old_programs().join(name)).expect("run ci/setup --etcd 3.4");
            if !programs.join(name).exists() && fs::hard_link(&real, programs.join(name)).is_err() {
                fs::copy(&real, programs.join(name)).expect("copy a program");
            }
        }
        root
    }

    /// Deploys one of its manifests in the state of the fleet.
    fn deploy(&self, fleet: &Fleet, deployment: &str, manifest: &str) -> Answer {
        let mut command = command(fleet, deployment, &["deploy"]);
        command.arg(self.manifest(manifest)).env("ETCD_LOCAL_PACKAGES", self.packages(fleet));
        run(command)
    }

    /// Three members of this release that serve, with data, and with somebody who consumes their link.
    fn three_members(&self) -> (Fleet, Vec<Member>) {
        let mut fleet =
            Fleet::new(&[&format!("migrate-from-{}.yml", self.name), "use-etcd-3.4.yml"]).in_namespaces();
        for variable in ["deployment_name=etcd", "network_name=default"] {
            fleet.set_variable(variable);
        }
        fleet.set_variable(&format!("persistent_disk_type={}", self.disk_type));
        self.deploy(&fleet, "etcd", "etcd.yml").succeeded();
        fleet.wait_until("the old cluster has three members", || {
            self.members(&fleet)
                .is_some_and(|members| members.len() == 3 && members.iter().all(Member::has_published))
        });
        for command in ["put kept old", "put deleted soon", "del deleted", "lease grant 3600"] {
            old_etcdctl(&fleet, command).succeeded();
        }
        self.deploy(&fleet, "consumer", "consumer.yml").succeeded();
        let members = self.members(&fleet).expect("the old cluster serves");
        (fleet, members)
    }

    fn members(&self, fleet: &Fleet) -> Option<Vec<Member>> {
        Members::presenting(fleet, self.certificates)
            .ask(async |client| client.linearizable_members().await.map(|membership| membership.members))
    }

    /// Somebody who writes from now on, with the certificate its clients have.
    fn load(&self, fleet: &Fleet) -> Load {
        Load::start_on(Members::presenting(fleet, self.certificates).within(Duration::from_secs(2)))
    }

    /// What the consumer of the link was given, after it was deployed again.
    fn consumed(&self, fleet: &Fleet) -> Value {
        self.deploy(fleet, "consumer", "consumer.yml").succeeded();
        let read = ["ssh", "consumer/0", "-c", "cat /var/vcap/jobs/consumer/config/link.json"];
        let answer = run(command(fleet, "consumer", &read)).succeeded();
        serde_json::from_str(&answer.stdout).expect("what the consumer wrote")
    }
}

/// Etcd 3.3 as both have it, if somebody has set it up (`ci/setup --etcd 3.3`), else the oldest that is there.
fn old_programs() -> PathBuf {
    let of = |series: &str| repository().join(".tools").join(series).join("bin");
    if of("etcd-3.3").join("etcd").exists() { of("etcd-3.3") } else { of("etcd-3.4") }
}

/// `etcd-local` for any deployment in the state of the fleet. Only that of etcd has networks of its own.
fn command(fleet: &Fleet, deployment: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-local"));
    command.args(["-d", deployment, "-n", "--state-dir"]).arg(fleet.state_dir());
    if deployment == "etcd" {
        command.args(["--network", "namespaces"]);
    }
    command.args(arguments).env("PATH", support::fleet::path()).stdin(Stdio::null());
    command
}

fn old_etcdctl(fleet: &Fleet, arguments: &str) -> Answer {
    fleet.ssh("etcd/0", &format!("/var/vcap/jobs/etcd/bin/etcdctl {arguments}"))
}

/// Whether an instance has the job of this release.
fn is_switched(fleet: &Fleet, slug: &str) -> bool {
    fleet.instance(slug).root().join("jobs/etcd/bin/etcd-status").exists()
}

/// Ids, and who they are to each other. Names may change with a release, ids may not.
fn identities(members: &[Member]) -> Vec<String> {
    let mut all: Vec<String> =
        members.iter().map(|member| format!("{} at {:?}", member.id, member.peer_urls)).collect();
    all.sort();
    all
}

/// The members of the switched cluster, as this release's administrator sees them.
fn members_now(fleet: &Fleet) -> Vec<Member> {
    support::load::ask_any(fleet, async |client| {
        client.linearizable_members().await.map(|membership| membership.members)
    })
    .expect("the cluster serves")
}

/// The same members on the same data, and nothing put aside.
#[track_caller]
fn nothing_was_replaced(fleet: &Fleet, before: &[Member]) {
    fleet.eventually("three voters, all ready", |seen| voters(seen) == 3 && all_ready(seen));
    let now = members_now(fleet);
    assert_eq!(identities(&now), identities(before));
    for slug in fleet.slugs() {
        assert!(!fleet.store(&slug).join("aside").exists(), "{slug} moved data: {}", fleet.log_tails());
    }
    let kept = fleet.ssh("etcd/0", "etcdctl get kept --print-value-only").succeeded();
    assert_eq!(kept.stdout, "old\n");
    let deleted = fleet.ssh("etcd/0", "etcdctl get deleted").succeeded();
    assert_eq!(deleted.stdout, "");
    let leases = fleet.ssh("etcd/0", "etcdctl lease list").succeeded();
    assert!(leases.stdout.contains("found 1 leases"), "{}", leases.text());
}

/// A consumer with what the link gave it writes and reads.
#[track_caller]
fn opens_the_door(fleet: &Fleet, consumed: &Value) {
    let directory = tempfile::tempdir().expect("make a temporary directory");
    let keep = |part: &str| {
        let path = directory.path().join(part);
        fs::write(&path, consumed[part].as_str().expect("the link has it")).expect("keep a certificate");
        path
    };
    let files = Files { ca: keep("ca"), certificate: keep("certificate"), key: keep("private_key") };
    let wrote =
        Members::identified(fleet, &files).ask(async |client| client.put("consumer", "was here").await);
    assert!(wrote.is_some(), "{consumed:#}");
}

/// Deploys, and kills the command once `until` holds.
fn deploy_killed(fleet: &Fleet, what: &str, until: impl Fn() -> bool) {
    let mut deploy = fleet.deploy_command(&[]);
    let mut deploy = deploy.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start a deploy");
    fleet.wait_until(what, || {
        assert!(deploy.try_wait().expect("look after the deploy").is_none(), "it ended before: {what}");
        until()
    });
    deploy.kill().expect("kill the deploy");
    deploy.wait().expect("wait for it");
}

/// A step that etcd does not support is refused first; then one is switched and stays so for a while, the second
/// switch is killed in the middle, and the deploy after that does the rest.
#[test]
fn cfcr_etcd_release_is_replaced_member_by_member_while_somebody_writes() {
    let (mut fleet, before) = FROM_CFCR.three_members();
    let asked_before = FROM_CFCR.consumed(&fleet);
    let load = FROM_CFCR.load(&fleet);
    let slugs = fleet.slugs();
    for slug in &slugs[1..] {
        fleet.cli(&["ignore", slug]).succeeded();
    }

    fleet.set_ops(&["migrate-from-cfcr-etcd-release.yml"]);
    fleet.deploy().failed();
    let refused = fleet.log(&slugs[0], "post-start.stderr.log");
    assert!(refused.contains("upgrade one minor release at a time"), "{refused}\n{}", fleet.log_tails());
    fleet.set_ops(&["migrate-from-cfcr-etcd-release.yml", "use-etcd-3.4.yml"]);
    fleet.add_ops_text("share-links.yml", SHARE_LINKS);
    fleet.deploy().succeeded();

    assert_eq!(slugs.iter().filter(|slug| is_switched(&fleet, slug)).count(), 1, "{slugs:?}");
    let seen = fleet
        .eventually_from(&slugs[0], "three voters, one of them of this release", |seen| voters(seen) == 3);
    assert!(seen["leader"].is_string(), "{seen:#}");
    assert_eq!(identities(&members_now(&fleet)), identities(&before));
    assert!(write_once(&fleet, "one-of-three", "switched"));

    for slug in &slugs[1..] {
        fleet.cli(&["unignore", slug]).succeeded();
    }
    deploy_killed(&fleet, "the second member is being switched", || is_switched(&fleet, &slugs[1]));
    assert!(write_once(&fleet, "killed", "in the middle"));
    fleet.deploy().succeeded();

    let report = load.finish();
    nothing_was_replaced(&fleet, &before);
    assert_nothing_lost(&fleet, &report);
    assert_eq!(report.failed_writes, 0, "{report:?}\n{}", fleet.log_tails());
    // Their one certificate authority, their names, and the key of a client.
    let asked = FROM_CFCR.consumed(&fleet);
    assert_eq!(asked, asked_before);
    opens_the_door(&fleet, &asked);
}

/// Its own manifest first, with nothing but the release changed, then ours with the ops file. Weakness 32 of the
/// predecessors: with etcd 3.4 its scripts do not start on their own defaults. Weakness 23: its link hands the
/// server's key to every consumer.
#[test]
fn jfmyers9_etcd_release_is_replaced_under_its_own_manifest_and_then_under_ours() {
    let (fleet, before) = FROM_JFMYERS9.three_members();
    let server_key = fleet.read("etcd/0", "/var/vcap/jobs/etcd/config/server.key");
    let asked_before = FROM_JFMYERS9.consumed(&fleet);
    assert_eq!(asked_before["private_key"].as_str().map(str::trim), Some(server_key.trim()), "its weakness");
    let load = FROM_JFMYERS9.load(&fleet);

    let mut own = command(&fleet, "etcd", &["deploy"]);
    own.arg(repository().join("spec/fixtures/predecessors/manifests/jfmyers9-with-this-release.yml"));
    own.env("ETCD_LOCAL_PACKAGES", packages());
    run(own).succeeded();

    nothing_was_replaced(&fleet, &before);
    let written = fleet.read("etcd/0", "/var/vcap/data/etcd/etcd.conf.yml");
    for line in ["log-level: \"debug\"", "heartbeat-interval: 100", "election-timeout: 1000"] {
        assert!(written.contains(line), "{line}: {written}");
    }
    let told = fleet.log("etcd/0", "pre-start.stderr.log");
    assert!(told.contains("log_package_levels") && told.contains("1000 is taken for 1000ms"), "{told}");

    fleet.deploy().succeeded();

    let report = load.finish();
    nothing_was_replaced(&fleet, &before);
    assert_nothing_lost(&fleet, &report);
    assert_eq!(report.failed_writes, 0, "{report:?}\n{}", fleet.log_tails());
    // The same members and the same CA; the key is a client's.
    let asked = FROM_JFMYERS9.consumed(&fleet);
    for part in ["addresses", "port", "ca"] {
        assert_eq!(asked[part], asked_before[part], "{part}");
    }
    assert_ne!(asked["private_key"].as_str().map(str::trim), Some(server_key.trim()));
    opens_the_door(&fleet, &asked);
}

/// Weakness 33 of the predecessors: their etcdctl asked for the API of etcd 2 unless told otherwise, and every call
/// on a shell failed from 3.4 on.
#[test]
fn an_etcdctl_of_3_4_is_called_on_a_login_shell_without_any_variable() {
    let fleet = Fleet::new(&["bootstrap.yml", "single-node.yml", "use-etcd-3.4.yml"]).deployed();

    let version = fleet.ssh("etcd/0", "etcdctl version").succeeded();
    assert!(version.stdout.contains("etcdctl version: 3.4."), "{}", version.text());
    let unset = fleet.ssh("etcd/0", "echo [${ETCDCTL_API-}${LOCAL-}]").succeeded();
    assert_eq!(unset.stdout, "[]\n");
    fleet.ssh("etcd/0", "set -u; etcdctl put asked interactively").succeeded();
    let read = fleet.ssh("etcd/0", "etcdctl get asked --print-value-only").succeeded();
    assert_eq!(read.stdout, "interactively\n");
    for command in ["member list", "endpoint status", "endpoint health", "alarm list", "auth status"] {
        let answer = fleet.ssh("etcd/0", &format!("etcdctl {command}"));
        assert_eq!(answer.code, 0, "{command}: {}", answer.text());
    }
}

/// Certificates for both ways of being called, of variables of their own: a vars store makes none anew.
fn certificates_for_both(addresses: &[String]) -> String {
    let variable = |role: &str, ca: &str| {
        format!(
            "- type: replace\n  path: /variables/-\n  value: {{name: etcd_{role}_both, type: certificate, options: \
             {{ca: {ca}, common_name: etcd, alternative_names: [etcd.default.etcd.bosh, '*.etcd.default.etcd.bosh', \
             127.0.0.1, {}], extended_key_usage: [server_auth, client_auth]}}}}\n\
             - type: replace\n  path: /instance_groups/name=etcd/jobs/name=etcd/properties/tls/{role}\n  value: {{ca: \
             ((etcd_{role}_both.ca)), certificate: ((etcd_{role}_both.certificate)), private_key: \
             ((etcd_{role}_both.private_key))}}\n",
            addresses.join(", ")
        )
    };
    variable("server", "etcd_ca") + &variable("peer", "etcd_peer_ca")
}

/// Weakness 20 of the predecessors: one never updated the URLs its members know each other by, the other did so only
/// after a health check that needs the old names. Here each member tells its own once it serves.
#[test]
fn members_that_are_called_by_address_from_now_on_tell_each_other_so_one_by_one() {
    let mut fleet = Fleet::new(&["bootstrap.yml"]).deployed();
    fleet.eventually("three voters, all ready", |seen| voters(seen) == 3 && all_ready(seen));
    let before = members_now(&fleet);
    let addresses: Vec<String> = fleet.slugs().iter().map(|slug| fleet.address(slug)).collect();
    let load = Load::start(&fleet);
    fleet.add_ops_text("both.yml", &certificates_for_both(&addresses));
    fleet.deploy().succeeded();

    fleet.add_ops_text(
        "addresses.yml",
        &format!(
            "- type: replace\n  path: /features/use_dns_addresses\n  value: false\n\
             - type: replace\n  path: /instance_groups/name=etcd/networks/name=default/static_ips?\n  value: [{}]\n",
            addresses.join(", ")
        ),
    );
    fleet.deploy().succeeded();

    let report = load.finish();
    fleet.eventually("three voters at addresses", |seen| {
        let urls = seen["members"].to_string();
        voters(seen) == 3 && all_ready(seen) && !urls.contains(".etcd.default.etcd.bosh:2380")
    });
    let ids = |members: &[Member]| {
        members.iter().map(|member| member.id).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(ids(&members_now(&fleet)), ids(&before));
    assert_nothing_lost(&fleet, &report);
    assert_eq!(report.failed_writes, 0, "{report:?}\n{}", fleet.log_tails());
}
