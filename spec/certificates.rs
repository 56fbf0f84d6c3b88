//! Certificates in a running cluster: renewed, brought along, replaced with their CAs, about to end. Whoever
//! writes meanwhile notices nothing, and what would split the cluster stops at its first member.

#![allow(missing_docs, unreachable_pub, reason = "a test target has no public items")]
#![allow(clippy::disallowed_methods, reason = "fixtures need no durability")]
#![allow(clippy::unwrap_used, reason = "a spec that cannot go on has failed")]

#[path = "certificates/given.rs"]
#[allow(dead_code, reason = "not each kind of certificate is made here")]
mod given;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use etcd_release::etcd::connect::{ConnectError, Target, connect};
use etcd_release::etcd::http;
use etcd_release::etcd::tls::{Files, Identity, Protocol, Role, certificates};
use etcd_release::job::lifetime::Lifetime;
use rustls::ClientConfig;
use serde_json::{Value, json};

use given::{Ca, replace, serial_in, variables};
use support::fleet::{Fleet, repository};
use support::load::{Load, Report, assert_nothing_lost, write_once};
use support::trouble::{id_of, property};

const BOOTSTRAP: &str = "bootstrap.yml";
const SINGLE: &str = "single-node.yml";
const LEAVES: [&str; 4] = ["etcd_server", "etcd_peer", "etcd_admin", "etcd_client"];
/// The ops files of the three deploys that replace both CAs, as docs/certificates.md tells them.
const TRUST: [&str; 2] = ["trust-two-client-cas.yml", "trust-two-peer-cas.yml"];
const ISSUE: [&str; 2] = ["issue-from-second-client-ca.yml", "issue-from-second-peer-ca.yml"];
/// How much is written at least during each deploy.
const WRITES: usize = 40;
const LIMIT: Duration = Duration::from_secs(30);

fn config(fleet: &Fleet, slug: &str) -> PathBuf {
    fleet.instance(slug).job("etcd").join("config")
}

fn identity(config: &Path, role: Role) -> Identity {
    Identity::load(&Files::of(config, role)).unwrap()
}

/// Subjects of the CAs that an instance trusts in a role.
fn cas(config: &Path, role: Role) -> Vec<String> {
    let bundle = certificates(&Files::of(config, role).ca).unwrap();
    bundle.iter().map(|ca| Lifetime::of("", ca).unwrap().subject).collect()
}

/// Serial numbers of all leaves of all instances, by role.
fn serials(fleet: &Fleet) -> BTreeSet<String> {
    let of = |slug: &String| {
        let config = config(fleet, slug);
        [Role::Server, Role::Peer, Role::Admin].map(|role| serial_in(&Files::of(&config, role).certificate))
    };
    fleet.slugs().iter().flat_map(of).collect()
}

#[track_caller]
fn nobody_noticed(fleet: &Fleet, what: &str, report: &Report) {
    eprintln!("{what}: {} writes, longest gap {:?}", report.history.len(), report.longest_gap);
    assert_eq!(report.failed_writes, 0, "{what}: {report:?}\n{}", fleet.log_tails());
    assert_nothing_lost(fleet, report);
}

/// Deploys while somebody writes with the certificates of before.
#[track_caller]
fn deploy_under_a_writer(fleet: &Fleet, what: &str) {
    let load = Load::start(fleet);
    fleet.deploy().succeeded();
    let report = load.finish_with(WRITES);
    fleet.whole_from(&fleet.slugs()[0], 3);
    nobody_noticed(fleet, what, &report);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The serial number of the certificate that a new connection is shown.
fn shown(address: &str, port: u16, tls: &Arc<ClientConfig>) -> Result<String, ConnectError> {
    let target = Target { dial: address.to_owned(), port, name: "etcd.default.etcd.bosh".to_owned() };
    runtime().block_on(async {
        let stream = connect(&target, tls.clone(), LIMIT).await?;
        let chain = stream.get_ref().1.peer_certificates().expect("a server shows a certificate");
        Ok(Lifetime::of("", &chain[0]).unwrap().serial)
    })
}

/// GETs a page, as whoever `tls` is.
fn page(address: &str, port: u16, path: &str, tls: &Arc<ClientConfig>) -> Result<String, ConnectError> {
    let target = Target { dial: address.to_owned(), port, name: "etcd.default.etcd.bosh".to_owned() };
    let answer = runtime().block_on(http::get(&target, path, tls.clone(), LIMIT))?;
    Ok(String::from_utf8(answer.body).unwrap())
}

/// Weakness 28 of earlier releases: how to replace a CA was not told, and could not be done.
#[test]
fn leaves_and_then_both_cas_are_replaced_under_a_writer_and_no_write_fails() {
    let mut fleet = Fleet::new(&[BOOTSTRAP]).deployed();
    let slugs = fleet.slugs();
    let before = fleet.whole_from(&slugs[0], 3);
    let trusted = |role| slugs.iter().map(|slug| cas(&config(&fleet, slug), role)).collect::<BTreeSet<_>>();
    assert_eq!(trusted(Role::Peer), BTreeSet::from([vec!["etcd_peer_ca".to_owned()]]));

    let old = serials(&fleet);
    fleet.forget_variables(&LEAVES);
    deploy_under_a_writer(&fleet, "new leaves");
    assert!(serials(&fleet).is_disjoint(&old));

    fleet.set_ops(&TRUST);
    deploy_under_a_writer(&fleet, "two CAs are trusted");

    let old = serials(&fleet);
    fleet.set_ops(&[TRUST, ISSUE].concat());
    fleet.forget_variables(&LEAVES);
    deploy_under_a_writer(&fleet, "the second CA issues");
    assert!(serials(&fleet).is_disjoint(&old));

    fleet.set_ops(&ISSUE);
    deploy_under_a_writer(&fleet, "the first CA is gone");
    for slug in &slugs {
        let config = config(&fleet, slug);
        assert_eq!(cas(&config, Role::Server), ["etcd_ca_2"]);
        assert_eq!(cas(&config, Role::Admin), ["etcd_ca_2"]);
        assert_eq!(cas(&config, Role::Peer), ["etcd_peer_ca_2"]);
    }
    let after = fleet.whole_from(&slugs[0], 3);
    assert_eq!(after["cluster_id"], before["cluster_id"]);
    assert_eq!(support::load::member_ids(&after), support::load::member_ids(&before));
}

/// The way back to the first names is the same three deploys the other way round.
#[test]
fn the_next_rotation_goes_back_to_the_first_names_with_the_same_ops_files() {
    let page = fs::read_to_string(repository().join("docs/certificates.md")).unwrap();
    let command = |files: &[&str]| {
        let ops: Vec<String> = files.iter().map(|file| format!("-o deployment/operations/{file}")).collect();
        format!("bosh -d etcd deploy deployment/etcd.yml {}", ops.join(" "))
    };
    for step in [&TRUST[..], &[TRUST, ISSUE].concat(), &ISSUE] {
        assert!(page.contains(&command(step)), "docs/certificates.md lacks: {}", command(step));
    }

    let store = tempfile::tempdir().unwrap();
    let store = store.path().join("vars.yml");
    let issued = |files: &[&str], forgotten: &[&str]| {
        let mut known: Value = serde_yaml::from_str(&fs::read_to_string(&store).unwrap_or_default()).unwrap();
        if let Value::Object(known) = &mut known {
            known.retain(|name, _| !forgotten.contains(&name.as_str()));
            fs::write(&store, serde_yaml::to_string(known).unwrap()).unwrap();
        }
        let mut bosh = Command::new(which::which_in("bosh", Some(support::fleet::path()), ".").unwrap());
        bosh.args(["int", "--var-errs"]).arg(repository().join("deployment/etcd.yml"));
        bosh.arg("--vars-store").arg(&store);
        for file in files {
            bosh.arg("-o").arg(repository().join("deployment/operations").join(file));
        }
        let output = bosh.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let manifest: Value = serde_yaml::from_slice(&output.stdout).unwrap();
        manifest["instance_groups"][0]["jobs"][1]["properties"]["tls"]["peer"].clone()
    };
    let trusts = |peer: &Value| peer["ca"].as_str().unwrap().matches("BEGIN CERTIFICATE").count();
    let second = issued(&TRUST, &[]);
    let second = [issued(&[TRUST, ISSUE].concat(), &LEAVES), issued(&ISSUE, &[]), second];
    assert_eq!([trusts(&second[0]), trusts(&second[1]), trusts(&second[2])], [2, 1, 2]);
    assert_eq!(second[0]["certificate"], second[1]["certificate"]);

    // The old CAs are forgotten, made anew under their names, trusted, used, and alone.
    let first = issued(&[TRUST, ISSUE].concat(), &["etcd_ca", "etcd_peer_ca"]);
    assert_eq!((trusts(&first), &first["certificate"]), (2, &second[1]["certificate"]));
    assert!(
        !second[2]["ca"]
            .as_str()
            .unwrap()
            .contains(first["ca"].as_str().unwrap().split("\n\n").next().unwrap())
    );
    let back = issued(&TRUST, &LEAVES);
    assert_eq!(trusts(&back), 2);
    assert_ne!(back["certificate"], first["certificate"]);
    let base = issued(&[], &["etcd_ca_2", "etcd_peer_ca_2"]);
    assert_eq!((trusts(&base), &base["certificate"]), (1, &back["certificate"]));
}

/// Weakness 28 of earlier releases: the first restarted member could not talk to the rest, and the deploy went on.
#[test]
fn a_ca_replaced_in_one_step_stops_at_the_first_member_and_going_back_repairs_it() {
    let fleet = Fleet::new(&[BOOTSTRAP]).deployed();
    let slugs = fleet.slugs();
    let before = fleet.whole_from(&slugs[0], 3);
    let good = fs::read(fleet.vars_store()).unwrap();
    let load = Load::start(&fleet);

    for (forgotten, words) in [
        (
            &["etcd_ca", "etcd_server", "etcd_admin", "etcd_client"][..],
            "with tls.server and tls.admin of this deploy",
        ),
        (&["etcd_peer_ca", "etcd_peer"], "with tls.peer of this deploy"),
    ] {
        fs::write(fleet.vars_store(), &good).unwrap();
        fleet.forget_variables(forgotten);
        let refused = fleet.deploy().failed();
        assert!(refused.text().contains("pre-start"), "{}", refused.text());
        let log = |slug: &str| fleet.log(slug, "pre-start.stderr.log");
        let (stopped, others): (Vec<&String>, Vec<&String>) =
            slugs.iter().partition(|slug| log(slug).contains("do not trust each other"));
        assert_eq!(stopped.len(), 1, "the deploy went on: {}", fleet.log_all("pre-start.stderr.log"));
        let said = log(stopped[0]);
        let said = said.rsplit_once("error: ").expect("a complaint").1;
        for word in [words, "it is not started", "docs/certificates.md#one-step"] {
            assert!(said.contains(word), "{word:?} is missing: {said}");
        }
        // The others were not touched, and are a quorum.
        let seen = fleet.status_from(others[0]);
        assert!(seen["cluster_id"].is_string(), "{seen:#}");
        for one in seen["instances"].as_array().unwrap() {
            let ready = one["ready"].get("Ok").is_some();
            assert_eq!(ready, one["instance"] != id_of(stopped[0]), "{one:#}");
        }
    }

    fs::write(fleet.vars_store(), &good).unwrap();
    fleet.deploy().succeeded();
    let after = fleet.whole_from(&slugs[0], 3);
    nobody_noticed(&fleet, "a CA in one step, and back", &load.finish_with(WRITES));
    assert_eq!(after["cluster_id"], before["cluster_id"]);
    assert_eq!(support::load::member_ids(&after), support::load::member_ids(&before));
}

/// The way out when nobody trusts anybody any more, because the CAs have ended.
#[test]
#[cfg_attr(not(feature = "long"), ignore = "long tier")]
fn with_all_members_down_cas_are_replaced_in_one_step_and_the_data_stays() {
    let fleet = Fleet::new(&[BOOTSTRAP]).deployed();
    let slugs = fleet.slugs();
    let before = fleet.whole_from(&slugs[0], 3);
    assert!(write_once(&fleet, "kept", "1"));

    fleet.cli(&["stop", "--skip-drain"]).succeeded();
    fleet.forget_variables(&[&LEAVES[..], &["etcd_ca", "etcd_peer_ca"]].concat());
    fleet.deploy().succeeded();
    fleet.cli(&["start"]).succeeded();

    let after = fleet.whole_from(&slugs[0], 3);
    assert_eq!(after["cluster_id"], before["cluster_id"]);
    let kept = fleet.ssh(&slugs[0], "etcdctl get kept --print-value-only").succeeded();
    assert_eq!(kept.stdout, "1\n");
}

/// Weaknesses 22 and 27 of earlier releases, on certificates with ECDSA keys that an operator brings: no check
/// through 127.0.0.1, only RSA, and metrics for everybody. The members' come from an intermediate CA.
#[test]
fn ecdsa_certificates_of_ones_own_serve_through_localhost_too_and_metrics_ask_for_one() {
    let (clients, members) = (Ca::new("own clients"), Ca::new("own members").intermediate("in between"));
    let mut fleet = Fleet::new(&[BOOTSTRAP, SINGLE]).in_namespaces();
    fleet.add_ops_text("listen.yml", &property("client_listen_address", "0.0.0.0"));
    fleet.add_ops_text("metrics.yml", &property("metrics_port", "2381"));
    fleet.give_variables(&variables(&clients, &members));
    fleet.deploy().succeeded();
    let slug = fleet.slugs().remove(0);
    fleet.whole_from(&slug, 1);
    assert!(write_once(&fleet, "own", "certificates"));

    let endpoints = "https://127.0.0.1:2379,https://localhost:2379";
    fleet.ssh(&slug, &format!("etcdctl --endpoints={endpoints} endpoint health")).succeeded();

    // 127.0.0.1:2381, in the kernel's table as a number in this machine's order of bytes.
    let listeners = fleet.read(&slug, "/proc/net/tcp");
    assert!(listeners.contains("0100007F:094D"), "{listeners}");
    assert!(!listeners.contains("00000000:094D"), "{listeners}");
    let curl = "cd /var/vcap/jobs/etcd/config && curl --silent --fail --cacert server-ca.crt https://127.0.0.1:2381/metrics";
    fleet.ssh(&slug, curl).failed();
    let metrics = fleet.ssh(&slug, &format!("{curl} --cert admin.crt --key admin.key")).succeeded();
    assert!(metrics.stdout.contains("etcd_server_has_leader 1"), "{}", metrics.text());

    renewed_files_are_shown_at_the_next_handshake(&fleet, &slug, &clients, &members);
    an_end_that_is_near_is_told_everywhere(&fleet, &slug, &members);
    cas_are_read_at_the_next_start(&fleet, &slug, &clients);
}

/// etcd's client port, etcd's peer port and the launcher, and no process was restarted.
fn renewed_files_are_shown_at_the_next_handshake(fleet: &Fleet, slug: &str, clients: &Ca, members: &Ca) {
    let (config, address) = (config(fleet, slug), fleet.address(slug));
    let (server, peer) = (identity(&config, Role::Server), identity(&config, Role::Peer));
    let doors = |port| match port {
        2379 => identity(&config, Role::Admin).client(&server, Protocol::Http1),
        _ => peer.client(&peer, Protocol::Http1),
    };
    let (for_clients, for_members) = (clients.issue(Role::Server, 200), members.issue(Role::Peer, 200));

    for_clients.lay(&config, Role::Server);
    for_members.lay(&config, Role::Peer);

    for (port, expected) in [(2379, &for_clients), (2380, &for_members), (2382, &for_members)] {
        assert_eq!(shown(&address, port, &doors(port)), Ok(expected.serial()), "port {port}");
    }
    let log = fleet.log(slug, "etcd.stderr.log");
    assert!(log.contains("a renewed certificate is used from now on"), "{log}");
    clients.issue(Role::Admin, 200).lay(&config, Role::Admin);
    fleet.ssh(slug, "etcd-status").succeeded();
    fleet.wait_until("the launcher tells the new end", || {
        let state = page(&address, 2382, "/state", &doors(2382)).unwrap();
        let state: Value = serde_json::from_str(&state).unwrap();
        let told = state["certificates"].as_array().unwrap().clone();
        let of = |name: &str| told.iter().find(|one| one["certificate"] == name).unwrap()["serial"].clone();
        of("server") == for_clients.serial().as_str() && of("peer") == for_members.serial().as_str()
    });
}

fn an_end_that_is_near_is_told_everywhere(fleet: &Fleet, slug: &str, members: &Ca) {
    let config = config(fleet, slug);
    let near = members.issue(Role::Peer, 10);
    near.lay(&config, Role::Peer);

    fleet.wait_until("etcd-status warns", || {
        let status = fleet.ssh(slug, "etcd-status").stdout;
        [
            "certs     first peer: ends in 9 days",
            "warning: peer ends in 9 days",
            "credhub regenerate -n /DIRECTOR/etcd/etcd_peer",
        ]
        .iter()
        .all(|words| status.contains(words))
    });
    let status = fleet.status_from(slug);
    let told = status["instances"][0]["certificates"].as_array().unwrap().clone();
    let peer = told.iter().find(|one| one["certificate"] == "peer").unwrap();
    assert_eq!(peer["serial"], near.serial());
    let identity = identity(&config, Role::Peer);
    let metrics =
        page(&fleet.address(slug), 2382, "/metrics", &identity.client(&identity, Protocol::Http1)).unwrap();
    let line = format!(
        "etcd_launcher_certificate_not_after_seconds{{certificate=\"peer\"}} {}\n",
        peer["not_after_unix_secs"]
    );
    assert!(metrics.contains(&line), "{metrics}");
    assert!(metrics.contains("{certificate=\"server-ca\",subject=\"own clients\",serial=\""), "{metrics}");
    let told = fleet.ssh(slug, "/var/vcap/jobs/etcd/bin/pre-start").succeeded().stderr;
    assert!(told.contains("a certificate ends soon") && told.contains("\"certificate\":\"peer\""), "{told}");
}

/// Unlike certificates and keys.
fn cas_are_read_at_the_next_start(fleet: &Fleet, slug: &str, clients: &Ca) {
    let (config, address) = (config(fleet, slug), fleet.address(slug));
    let other = Ca::new("other clients");
    let elsewhere = tempfile::tempdir().unwrap();
    for name in ["admin.crt", "admin.key", "admin-ca.crt"] {
        fs::copy(config.join(name), elsewhere.path().join(name)).unwrap();
    }
    other.issue(Role::Admin, 100).lay(elsewhere.path(), Role::Admin);
    let stranger =
        identity(elsewhere.path(), Role::Admin).client(&identity(&config, Role::Server), Protocol::Http1);
    let version = |tls| page(&address, 2379, "/version", tls);

    replace(&Files::of(&config, Role::Server).ca, &format!("{}{}", clients.pem, other.pem));
    assert!(matches!(version(&stranger), Err(ConnectError::Untrusted(_))), "{:?}", version(&stranger));

    fleet.halt(slug);
    fleet.resume(slug);
    fleet.whole_from(slug, 1);
    assert!(version(&stranger).unwrap().contains("etcdserver"));
}

/// A CA made by somebody else issues what BOSH makes.
#[test]
fn an_existing_ca_issues_the_certificates_that_bosh_makes() {
    let directory = tempfile::tempdir().unwrap();
    let made = Command::new("bash")
        .args(["-euo", "pipefail", "-c", "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=corporate -days 3650 -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign -keyout key.pem -out ca.crt && openssl rsa -traditional -in key.pem -out ca.key"])
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
    let ca = json!({"ca": read("ca.crt"), "certificate": read("ca.crt"), "private_key": read("ca.key")});
    let mut fleet = Fleet::new(&[BOOTSTRAP, SINGLE, "use-existing-ca.yml"]);
    fleet.give_variables(&json!({"etcd_ca": ca, "etcd_peer_ca": ca}));

    fleet.deploy().succeeded();

    let slug = fleet.slugs().remove(0);
    fleet.whole_from(&slug, 1);
    for role in [Role::Server, Role::Peer, Role::Admin] {
        assert_eq!(cas(&config(&fleet, &slug), role), ["corporate"]);
    }
    fleet.ssh(&slug, "etcdctl endpoint health").succeeded();
}
