//! Who is let in: every door of a member, and every certificate that must not open it.

#![allow(missing_docs, unreachable_pub, reason = "a test target has no public items")]
#![allow(clippy::disallowed_methods, reason = "fixtures need no durability")]
#![allow(clippy::unwrap_used, reason = "a spec that cannot go on has failed")]

#[path = "certificates/given.rs"]
#[allow(dead_code, reason = "not each kind of certificate is made here")]
mod given;
#[path = "support/s3.rs"]
#[allow(dead_code, reason = "the job has its own configuration")]
mod s3;
#[path = "security/secrets.rs"]
mod secrets;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use age::secrecy::ExposeSecret;
use etcd_release::etcd::connect::{ConnectError, Target};
use etcd_release::etcd::http;
use etcd_release::etcd::tls::{Role, provider};
use etcd_release::local::process::Home;
use rcgen::{ExtendedKeyUsagePurpose, SanType};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use given::{Ca, Leaf, begins, ends, variables};
use s3::S3;
use secrets::{Secrets, Watch};
use support::fleet::Fleet;
use support::trouble::{id_of, property};

const LIMIT: Duration = Duration::from_secs(30);
/// etcd for clients, etcd for peers, etcd's metrics, the launcher, the backup job.
const DOORS: [(u16, &str, &str); 5] = [
    (2379, "/version", "clients"),
    (2380, "/version", "peers"),
    (2381, "/health", "metrics"),
    (2382, "/readyz", "launcher"),
    (2383, "/metrics", "backups"),
];

/// Whom the doors of this member trust.
struct Member {
    fleet: Fleet,
    slug: String,
    clients: Ca,
    members: Ca,
}

fn member() -> Member {
    let (clients, members) = (Ca::new("clients"), Ca::new("members"));
    let mut fleet = Fleet::new(&["bootstrap.yml", "single-node.yml", "backup.yml"])
        .with_variable("backup_store_url=file:///var/vcap/store/backups")
        .with_variable("backup_store_region=none")
        .with_variable("backup_store_access_key_id=none")
        .with_variable("backup_store_secret_access_key=none")
        .in_namespaces();
    let settings = [property("metrics_port", "2381"), property("metrics_listen_address", "0.0.0.0")];
    fleet.add_ops_text("metrics.yml", &settings.concat());
    fleet.give_variables(&variables(&clients, &members));
    fleet.deploy().succeeded();
    let slug = fleet.slugs().remove(0);
    fleet.whole_from(&slug, 1);
    Member { fleet, slug, clients, members }
}

/// Grown, restarted, failing, backed up, restored, shrunk and deleted: nothing secret is ever where others can see it.
#[test]
fn in_a_whole_life_no_secret_is_on_a_command_line_in_an_environment_in_a_log_or_in_an_open_file() {
    let Some(s3) = S3::start() else { return };
    let identity = age::x25519::Identity::generate();
    let mut secrets = Secrets::default();
    secrets.add("the store's key", s3::SECRET);
    secrets.add("the key of backups", identity.to_string().expose_secret());
    let mut fleet = Fleet::new(&["bootstrap.yml", "backup.yml"])
        .with_variable("backup_store_url=s3://bucket/etcd")
        .with_variable("backup_store_region=us-east-1")
        .with_variable(&format!("backup_store_access_key_id={}", s3::KEY))
        .with_variable(&format!("backup_store_secret_access_key={}", s3::SECRET))
        .with_monit_cycle("1");
    let backup = |name: &str, value: &str| {
        let path = format!("/instance_groups/name=etcd/jobs/name=etcd-backup/properties/{name}?");
        format!("- type: replace\n  path: {path}\n  value: {value}\n")
    };
    let settings = [
        backup("store/endpoint", &format!("http://{}", s3.address())),
        backup("store/path_style", "true"),
        backup("encryption?/recipients", &format!("[{}]", identity.to_public())),
        backup("encryption?/identities", &format!("[{}]", identity.to_string().expose_secret())),
    ];
    fleet.add_ops_text("store.yml", &settings.concat());
    let watch = Watch::begin(&fleet, secrets.clone());

    fleet.scale_to(1).succeeded();
    let slug = fleet.slugs().remove(0);
    let mut keys = Secrets::default();
    for name in ["server", "peer", "admin"] {
        let key = fleet.read(&slug, &format!("/var/vcap/jobs/etcd/config/{name}.key"));
        keys.add_key(&format!("the {name} key"), &key);
    }
    watch.also(&keys);
    secrets.extend(keys);
    fleet.scale_to(3).succeeded();
    fleet.ssh(&slug, "etcdctl put kept 1 && etcd-status").succeeded();
    fleet
        .ssh(&slug, "/var/vcap/jobs/etcd/bin/etcd-backup save && /var/vcap/jobs/etcd/bin/etcd-backup list")
        .succeeded();
    fleet.cli(&["restart", &slug, "--no-converge"]).succeeded();
    let slugs = fleet.slugs();
    let restore = "/var/vcap/jobs/etcd/bin/etcd-backup restore-cluster --to latest";
    for answer in fleet.ssh_all(&slugs, restore) {
        assert_eq!(answer.code, 0, "{}", answer.text());
    }
    fleet.whole_from(&slug, 3);
    // A start that fails tells why, and a store that refuses as well.
    let config = fleet.instance(&slugs[2]).job("etcd").join("config");
    let whole = fs::read_to_string(config.join("peer.crt")).unwrap();
    given::replace(&config.join("peer.crt"), &whole[..whole.len() / 2]);
    fleet.cli(&["restart", &slugs[2], "--no-converge"]).failed();
    given::replace(&config.join("peer.crt"), &whole);
    fleet.cli(&["start", &slugs[2], "--no-converge"]).succeeded();
    fleet.scale_to(1).succeeded();

    let (found, seen) = watch.end();
    assert_eq!(found, BTreeSet::new());
    for program in ["etcd", "etcd-launcher", "etcd-backup", "etcd-drain", "etcd-hook", "etcdctl"] {
        assert!(seen.contains(program), "{program} was never looked at: {seen:?}");
    }
    let state = fleet.state_dir();
    let may_have_them = |path: &std::path::Path| {
        // A job's configuration, and what a Director keeps in its database.
        let inside = path.strip_prefix(&state).unwrap_or(path).to_string_lossy().into_owned();
        let of_the_director =
            ["vars.yml", "manifest.yml", "spec.json"].iter().any(|name| path.ends_with(name));
        inside.contains("/jobs/") && inside.contains("/config/") || of_the_director
    };
    let found = secrets::files(&state.join("deployments"), &secrets, &may_have_them);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// What a door says to this certificate, shown whatever the door asks for; the server is who it says it is.
fn knock(member: &Member, port: u16, page: &str, shown: Option<&Leaf>) -> Result<u16, ConnectError> {
    let mut roots = RootCertStore::empty();
    for ca in [&member.clients.pem, &member.members.pem] {
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match shown {
        None => config.with_no_client_auth(),
        Some(leaf) => {
            let (chain, key) = leaf.loaded();
            config.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let target =
        Target { dial: member.fleet.address(&member.slug), port, name: "etcd.default.etcd.bosh".to_owned() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(http::get(&target, page, Arc::new(config), LIMIT)).map(|answer| answer.status)
}

#[test]
fn every_door_of_a_member_is_known_and_opens_to_its_own_certificates_only() {
    let member = member();
    member.fleet.wait_until("the backup job listens", || {
        listening(&member).values().any(|ports| ports.contains(&2383))
    });

    nobody_listens_anywhere_else(&member);
    plain_text_is_not_answered(&member);

    let (clients, members, strangers) = (&member.clients, &member.members, Ca::new("clients"));
    let server_only = |ca: &Ca, role| {
        ca.issue_changed(role, |leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth])
    };
    let expired = |ca: &Ca, role| ca.issue_changed(role, |leaf| ends(leaf, -1));
    let to_come = |ca: &Ca, role| ca.issue_changed(role, |leaf| begins(leaf, 2));
    let elsewhere = |ca: &Ca| {
        ca.issue_changed(Role::Peer, |leaf| {
            leaf.subject_alt_names = vec![SanType::DnsName("elsewhere.example.org".try_into().unwrap())];
        })
    };
    let shown = [
        ("no certificate", None, vec![]),
        ("an administrator's", Some(clients.issue(Role::Admin, 300)), vec![2379, 2381, 2382, 2383]),
        ("a client's", Some(clients.issue(Role::Client, 300)), vec![2379, 2381]),
        // etcd looks where a member calls from: this machine is none of those that the certificate names.
        ("a member's, from elsewhere", Some(members.issue(Role::Peer, 300)), vec![2382, 2383]),
        ("of another CA with the same name", Some(strangers.issue(Role::Admin, 300)), vec![]),
        ("a member's of another CA", Some(strangers.issue(Role::Peer, 300)), vec![]),
        ("a client's for servers only", Some(server_only(clients, Role::Admin)), vec![]),
        ("a member's for servers only", Some(server_only(members, Role::Peer)), vec![]),
        ("a client's that has expired", Some(expired(clients, Role::Admin)), vec![]),
        ("a member's that has expired", Some(expired(members, Role::Peer)), vec![]),
        ("a client's not yet valid", Some(to_come(clients, Role::Admin)), vec![]),
        ("a member's not yet valid", Some(to_come(members, Role::Peer)), vec![]),
        ("a member's that names another machine", Some(elsewhere(members)), vec![2382, 2383]),
    ];
    let mut wrong = Vec::new();
    for (what, leaf, opens) in &shown {
        for (port, page, door) in DOORS {
            let answer = knock(&member, port, page, leaf.as_ref());
            // Nothing but a refused handshake counts: a door that is closed for another reason proves nothing.
            let as_expected = match &answer {
                Ok(200) => opens.contains(&port),
                Err(ConnectError::Tls(_) | ConnectError::Untrusted(_) | ConnectError::Network(_)) => {
                    !opens.contains(&port)
                }
                Ok(_) | Err(_) => false,
            };
            if !as_expected {
                wrong.push(format!("{what} at the door for {door} ({port}): {answer:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    peers_are_let_in_from_where_their_certificate_says(&member);
}

/// Without this, a peer port that lets nobody in would pass.
fn peers_are_let_in_from_where_their_certificate_says(member: &Member) {
    let url = format!("https://{}.etcd.default.etcd.bosh:2380/version", id_of(&member.slug));
    let curl = format!(
        "cd /var/vcap/jobs/etcd/config && curl --silent --show-error --fail --http1.1 --cacert peer-ca.crt {url}"
    );
    member.fleet.ssh(&member.slug, &curl).failed();
    let version = member.fleet.ssh(&member.slug, &format!("{curl} --cert peer.crt --key peer.key"));
    assert_eq!(version.code, 0, "{}\n{}", version.text(), member.fleet.log(&member.slug, "etcd.stderr.log"));
    assert!(version.stdout.contains("etcdserver"), "{}", version.text());
}

/// The ports on which each program of the instance listens.
fn listening(member: &Member) -> BTreeMap<String, BTreeSet<u16>> {
    let home = Home::of(&member.fleet.machine(&member.slug).root()).unwrap();
    let mut found: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
    for pid in home.inhabitants() {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        let sockets: BTreeSet<String> = files
            .filter_map(|file| fs::read_link(file.ok()?.path()).ok())
            .filter_map(|link| {
                Some(link.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned())
            })
            .collect();
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
        for table in ["tcp", "tcp6", "udp", "udp6"] {
            let lines = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
            for line in lines.lines().skip(1) {
                let fields: Vec<&str> = line.split_whitespace().collect();
                // 0A listens; a datagram socket that is not connected, 07, takes what comes.
                let listens = fields[3] == if table.starts_with("tcp") { "0A" } else { "07" };
                if listens && sockets.contains(fields[9]) {
                    let port = fields[1].rsplit(':').next().unwrap();
                    found.entry(name.clone()).or_default().insert(u16::from_str_radix(port, 16).unwrap());
                }
            }
        }
    }
    found
}

/// A listener that somebody adds must be added here, and to the table above.
fn nobody_listens_anywhere_else(member: &Member) {
    let expected: BTreeMap<String, BTreeSet<u16>> = [
        ("etcd".to_owned(), [2379, 2380, 2381].into()),
        ("etcd-launcher".to_owned(), [2382].into()),
        ("etcd-backup".to_owned(), [2383].into()),
    ]
    .into();
    assert_eq!(listening(member), expected);
}

fn plain_text_is_not_answered(member: &Member) {
    for (port, page, door) in DOORS {
        let mut stream = TcpStream::connect((member.fleet.address(&member.slug), port)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let asked = format!("GET {page} HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n\r\n");
        let mut answer = Vec::new();
        // Ignored: the other side may end it in whatever way it likes.
        let _ = stream.write_all(asked.as_bytes());
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.contains(" 200 "), "the door for {door} answers plain text: {answer}");
    }
}
