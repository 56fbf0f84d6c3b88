//! The job's `bin/etcdctl` and `bin/etcdutl` against a real member with mutual TLS: what a person types on an
//! instance. Each test has a `/var/vcap` of its own, in a mount namespace (which takes root).

#![expect(clippy::unwrap_used, reason = "a spec that cannot go on has failed")]

#[path = "support/member.rs"]
mod member;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use etcd_release::etcd::config::{EtcdConfig, InitialState, KeyPair, render};
use etcd_release::etcd::id::{ClientUrl, PeerUrl};
use etcd_release::etcd::tls::{Files, Role};
use etcd_release::wrapper::profile;
use member::{Authority, Member, Usage, address, settings, tool, write};
use serde_json::{Value, json};
use tempfile::TempDir;

const ETCDCTL: &str = "/var/vcap/jobs/etcd/bin/etcdctl";
const ETCDUTL: &str = "/var/vcap/jobs/etcd/bin/etcdutl";

/// A directory laid out as an instance's `/var/vcap`.
struct Instance {
    root: TempDir,
    address: Ipv4Addr,
    authority: Authority,
}

impl Instance {
    fn new() -> Self {
        let (root, address, authority) = (tempfile::tempdir().unwrap(), address(), Authority::new());
        let instance = Self { root, address, authority };
        instance.authority.issue_all(&instance.path("jobs/etcd/config"), address);
        for name in ["etcdctl", "etcdutl"] {
            let shim = Path::new(env!("CARGO_MANIFEST_DIR")).join("jobs/etcd/templates/bin").join(name);
            instance.executable(&format!("jobs/etcd/bin/{name}"), &std::fs::read_to_string(shim).unwrap());
            instance.link(&tool(name), &format!("packages/etcd/bin/{name}"));
        }
        instance.link(
            Path::new(env!("CARGO_BIN_EXE_etcdctl-wrapper")),
            "packages/etcd-tools/bin/etcdctl-wrapper",
        );
        instance.linked_with(&[&address.to_string()]);
        instance
    }

    fn path(&self, below: &str) -> std::path::PathBuf {
        self.root.path().join(below)
    }

    fn executable(&self, below: &str, text: &str) {
        let path = self.path(below);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(&path);
        etcd_release::atomic_file::write(&path, text.as_bytes(), 0o750).unwrap();
    }

    fn link(&self, target: &Path, below: &str) {
        let path = self.path(below);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
    }

    /// Renders `job.json` with these addresses in the peer link.
    fn linked_with(&self, addresses: &[&str]) {
        let instances: Vec<Value> = addresses.iter().map(|address| json!({ "address": address })).collect();
        let job = json!({
            "version": 1,
            "properties": {"client_port": 2379},
            "spec": {"address": self.address.to_string()},
            "links": {"etcd_peers": {"instances": instances}},
        });
        write(&self.path("jobs/etcd/config/job.json"), &job.to_string());
    }

    /// Replaces the real tool by one that prints its arguments and environment, as the kernel has them.
    fn with_mirror(&self, name: &str) {
        let mirror = "#!/bin/sh\ncat /proc/$$/cmdline\nprintf '\\n--\\n'\ncat /proc/$$/environ\n";
        self.executable(&format!("packages/etcd/bin/{name}"), mirror);
    }

    fn url(&self) -> String {
        format!("https://{}:2379", self.address)
    }

    fn start(&self) -> Member {
        let config = self.path("jobs/etcd/config");
        let peer_urls = BTreeSet::from([PeerUrl::https(&self.address.to_string(), 2380)]);
        let client_urls = BTreeSet::from([ClientUrl::https(&self.address.to_string(), 2379)]);
        let text = render(&EtcdConfig {
            version: etcd_release::etcd::process::version(&tool("etcd")).unwrap().parse().unwrap(),
            name: "only".parse().unwrap(),
            data_dir: self.path("store/etcd"),
            wal_dir: None,
            listen_peer_urls: peer_urls.clone(),
            listen_client_urls: client_urls.clone(),
            listen_metrics_urls: BTreeSet::new(),
            initial_advertise_peer_urls: peer_urls.clone(),
            advertise_client_urls: client_urls,
            initial_cluster: BTreeMap::from([("only".parse().unwrap(), peer_urls)]),
            initial_cluster_state: InitialState::New,
            initial_cluster_token: "spec".to_owned(),
            server: Files::of(&config, Role::Server),
            peer: Files::of(&config, Role::Peer),
            jwt: KeyPair { public: PathBuf::new(), private: PathBuf::new() },
            settings: settings(),
        });
        let file = self.path("data/etcd/etcd.conf.yml");
        write(&file, &text.unwrap());
        let mut member = Member::start_with(&tool("etcd"), &file);
        member.said("ready to serve client requests");
        member
    }

    /// A command on the instance. Every process on the way execs the next: the child is the command.
    fn command(&self, program: &str, arguments: &[impl AsRef<OsStr>]) -> Command {
        const MOUNT: &str = r#"/bin/mount --bind "$0" /var/vcap
            if [ -d "$0/profile.d" ]; then /bin/mount --bind "$0/profile.d" /etc/profile.d; fi
            exec "$@""#;
        std::fs::create_dir_all("/var/vcap").expect("make /var/vcap to mount on, as root");
        let mut command = Command::new(tool("unshare"));
        command
            .args(["--mount", "/bin/sh", "-euc", MOUNT])
            .arg(self.root.path())
            .arg(program)
            .args(arguments);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
        command
    }

    fn etcdctl(&self, arguments: &[&str]) -> Output {
        self.etcdctl_with(&[], arguments)
    }

    fn etcdctl_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
        self.command(ETCDCTL, arguments).envs(variables.iter().copied()).output().unwrap()
    }
}

/// What the mirror saw: arguments (after its interpreter and own path) and environment.
fn mirrored(command: &mut Command) -> (Vec<OsString>, BTreeMap<String, OsString>) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let split = output.stdout.windows(4).position(|bytes| bytes == b"\n--\n").unwrap();
    let (arguments, environment) = (&output.stdout[..split], &output.stdout[split + 4..]);
    let arguments = arguments.strip_suffix(b"\0").unwrap().split(|byte| *byte == 0);
    let environment = environment.split(|byte| *byte == 0).filter_map(|entry| {
        let equals = entry.iter().position(|byte| *byte == b'=')?;
        let name = String::from_utf8(entry[..equals].to_vec()).unwrap();
        Some((name, OsString::from_vec(entry[equals + 1..].to_vec())))
    });
    (arguments.skip(2).map(|one| OsString::from_vec(one.to_vec())).collect(), environment.collect())
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn assert_says(output: &Output, expected: &str) {
    assert_eq!(stdout(output), expected, "{output:?}");
    assert_eq!((output.status.code(), stderr(output).as_str()), (Some(0), ""));
}

#[test]
fn the_cluster_answers_without_a_single_flag() {
    let instance = Instance::new();
    let member = instance.start();

    assert_says(&instance.etcdctl(&["put", "a", "1"]), "OK\n");
    assert_says(&instance.etcdctl(&["get", "a"]), "a\n1\n");
    let members = instance.etcdctl(&["member", "list"]);
    assert!(stdout(&members).contains(&instance.url()), "{members:?}");

    member.stop();
    let gone = instance.etcdctl(&["--command-timeout=1s", "get", "a"]);
    assert_eq!(gone.status.code(), Some(1), "{gone:?}");
}

#[test]
fn flags_of_the_user_win_even_over_their_variables() {
    let instance = Instance::new();
    let _member = instance.start();
    let other = instance.path("other");
    instance.authority.issue(&other, "mine", "me", Usage::Client, &[], 2100);
    let mine = |file: &str| other.join(file).display().to_string();
    instance.linked_with(&["127.0.0.1"]);

    let endpoints = format!("--endpoints={}", instance.url());
    assert_says(&instance.etcdctl(&[&endpoints, "put", "a", "1"]), "OK\n");
    assert_says(&instance.etcdctl(&["get", "a", "--endpoints", &instance.url()]), "a\n1\n");
    // Bare etcdctl would refuse to choose between flag and variable.
    let variables = [("ETCDCTL_ENDPOINTS", "https://127.0.0.1:1"), ("ETCDCTL_CERT", "")];
    let (ca, cert, key) = (mine("mine-ca.crt"), mine("mine.crt"), mine("mine.key"));
    let flags = ["--cacert", &ca, "--cert", &cert, "--key", &key, "get", "a", &endpoints];
    assert_says(&instance.etcdctl_with(&variables, &flags), "a\n1\n");
}

#[test]
fn variables_of_the_user_win() {
    let instance = Instance::new();
    instance.with_mirror("etcdctl");
    let ours = |file: &str| Some(OsString::from(format!("/var/vcap/jobs/etcd/config/{file}")));

    let mut command = instance.command(ETCDCTL, &["get", "a"]);
    let (_, seen) = mirrored(command.env("ETCDCTL_ENDPOINTS", "x").env("ETCDCTL_CERT", "/mine"));

    assert_eq!(seen.get("ETCDCTL_ENDPOINTS"), Some(&"x".into()));
    assert_eq!(seen.get("ETCDCTL_CERT"), Some(&"/mine".into()));
    assert_eq!(seen.get("ETCDCTL_KEY"), None, "not a key of ours to a certificate of theirs");
    assert_eq!(seen.get("ETCDCTL_CACERT").cloned(), ours("admin-ca.crt"));
    let (_, seen) = mirrored(&mut instance.command(ETCDCTL, &["get", "a"]));
    assert_eq!(seen.get("ETCDCTL_ENDPOINTS"), Some(&instance.url().into()));
    assert_eq!(seen.get("ETCDCTL_CERT").cloned(), ours("admin.crt"));
    assert_eq!(seen.get("ETCDCTL_KEY").cloned(), ours("admin.key"));
}

#[test]
fn what_follows_two_dashes_is_not_ours_to_read() {
    let instance = Instance::new();
    let _member = instance.start();

    assert_says(&instance.etcdctl(&["put", "--", "--endpoints", "--cert=x"]), "OK\n");
    assert_says(&instance.etcdctl(&["get", "--", "--endpoints"]), "--endpoints\n--cert=x\n");
}

#[test]
fn every_byte_of_every_argument_arrives() {
    let instance = Instance::new();
    instance.with_mirror("etcdctl");
    instance.with_mirror("etcdutl");
    let odd: Vec<OsString> = [
        &b"put"[..],
        b"",
        b"\xff\xfe",
        b"a b",
        b"\n",
        b"'\"$(id)`\\*",
        b"--\xff=\xff",
        b"-",
        b"--",
        b"--cert",
    ]
    .iter()
    .map(|bytes| OsStr::from_bytes(bytes).to_owned())
    .collect();

    for script in [ETCDCTL, ETCDUTL] {
        let (arguments, _) = mirrored(&mut instance.command(script, &odd));
        assert_eq!(arguments, odd, "{script}");
    }
}

#[test]
fn exit_codes_and_answers_are_the_tools_own() {
    let instance = Instance::new();
    let _member = instance.start();
    let config = instance.path("jobs/etcd/config");
    let bare = |arguments: &[&str]| {
        let file = |name: &str| config.join(name).display().to_string();
        let mut command = Command::new(tool("etcdctl"));
        command.args(arguments).env_clear().env("ETCDCTL_ENDPOINTS", instance.url());
        command.env("ETCDCTL_CACERT", file("admin-ca.crt")).env("ETCDCTL_CERT", file("admin.crt"));
        command.env("ETCDCTL_KEY", file("admin.key")).output().unwrap()
    };
    let cases: [&[&str]; 6] = [
        &["member", "list"],
        &["no-such-command"],
        &["get"],
        &["member", "remove", "zz"],
        &["--no-such-flag"],
        &["lease", "revoke", "1"],
    ];

    let mut codes = BTreeSet::new();
    for arguments in cases {
        let (bare, wrapped) = (bare(arguments), instance.etcdctl(arguments));
        assert_eq!(wrapped.status, bare.status, "{arguments:?}: {wrapped:?}");
        assert_eq!(stdout(&wrapped), stdout(&bare), "{arguments:?}");
        codes.insert(bare.status.code());
    }
    assert!(codes.len() >= 3, "the cases must differ: {codes:?}");
}

/// Ends with the test, whatever the test did.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_process_becomes_the_real_tool_and_shows_no_secret() {
    let instance = Instance::new();
    let _member = instance.start();
    assert_says(&instance.etcdctl(&["put", "a", "1"]), "OK\n");

    let mut command = instance.command(ETCDCTL, &["watch", "--rev=1", "a"]);
    let mut watching = Running(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut first = String::new();
    // Kept open to the end: without a reader etcdctl would end at its next line.
    let mut stdout = BufReader::new(watching.0.stdout.take().unwrap());
    stdout.read_line(&mut first).unwrap();

    assert_eq!(first, "PUT\n");
    let proc = Path::new("/proc").join(watching.0.id().to_string());
    assert_eq!(std::fs::read_link(proc.join("exe")).unwrap(), tool("etcdctl").canonicalize().unwrap());
    let cmdline = std::fs::read(proc.join("cmdline")).unwrap();
    assert_eq!(cmdline, b"/var/vcap/packages/etcd/bin/etcdctl\0watch\0--rev=1\0a\0");
    // Paths, and no more, are in the environment.
    let environ = String::from_utf8(std::fs::read(proc.join("environ")).unwrap()).unwrap();
    assert!(environ.contains("ETCDCTL_KEY=/var/vcap/jobs/etcd/config/admin.key\0"), "{environ}");
    assert!(!environ.contains("PRIVATE KEY"), "{environ}");
}

#[test]
fn local_asks_this_member_only() {
    let instance = Instance::new();
    let _member = instance.start();
    instance.linked_with(&[&instance.address.to_string(), "127.0.0.1"]);
    let health = ["--command-timeout=1s", "endpoint", "health"];

    let all = instance.etcdctl(&health);
    let local = instance.etcdctl_with(&[("LOCAL", "true")], &health);

    assert_eq!(all.status.code(), Some(1), "the second does not answer: {all:?}");
    assert!(stderr(&all).contains("https://127.0.0.1:2379 is unhealthy"), "{all:?}");
    assert_eq!(local.status.code(), Some(0), "{local:?}");
    let mirror = Instance::new();
    mirror.with_mirror("etcdctl");
    mirror.linked_with(&["127.0.0.1", "fd00::1"]);
    let (_, seen) = mirrored(&mut mirror.command(ETCDCTL, &["get", "a"]));
    assert_eq!(seen["ETCDCTL_ENDPOINTS"], "https://127.0.0.1:2379,https://[fd00::1]:2379");
}

#[test]
fn a_bad_certificate_is_told_before_etcdctl_speaks_in_riddles() {
    let instance = Instance::new();
    let _member = instance.start();
    let config = instance.path("jobs/etcd/config");
    instance.authority.issue(&config, "admin", "root", Usage::Client, &[], 2025);

    let expired = instance.etcdctl(&["--command-timeout=1s", "get", "a"]);
    std::fs::remove_file(config.join("admin.key")).unwrap();
    let missing = instance.etcdctl(&["version"]);

    let warning =
        "warning: /var/vcap/jobs/etcd/config/admin.crt has expired on 2025-01-01T00:00:00Z\n  why:  ";
    assert!(stderr(&expired).starts_with(warning), "{expired:?}");
    assert_eq!(expired.status.code(), Some(1), "etcdctl ran: {expired:?}");
    assert!(stderr(&missing).contains("admin.key cannot be read: No such file"), "{missing:?}");
    assert!(stdout(&missing).starts_with("etcdctl version: "), "{missing:?}");
}

#[test]
fn a_missing_tool_is_127_and_never_our_own_script() {
    let instance = Instance::new();
    std::fs::remove_dir_all(instance.path("packages/etcd")).unwrap();

    let mut command = instance.command(ETCDCTL, &["get", "a"]);
    let output = command.env("PATH", "/var/vcap/jobs/etcd/bin:/usr/sbin:/sbin").output().unwrap();

    assert_eq!(output.status.code(), Some(127), "{output:?}");
    let story = stderr(&output);
    assert!(story.starts_with("error: etcdctl is neither in /var/vcap/packages/etcd/bin nor on PATH\n"));
    assert!(story.contains("\n  why:  ") && story.contains("\n  next: "), "{story}");
}

#[test]
fn etcdutl_gets_nothing_added() {
    let instance = Instance::new();
    let version = instance.command(ETCDUTL, &["version"]).output().unwrap();
    assert!(stdout(&version).starts_with("etcdutl version: "), "{version:?}");

    instance.with_mirror("etcdutl");
    let (arguments, seen) = mirrored(&mut instance.command(ETCDUTL, &["snapshot", "status", "--cert"]));

    assert_eq!(arguments, ["snapshot", "status", "--cert"]);
    assert!(seen.keys().all(|name| !name.starts_with("ETCD")), "{seen:?}");
}

#[test]
fn a_login_shell_of_root_finds_it() {
    let instance = Instance::new();
    let _member = instance.start();
    write(&instance.path("profile.d/etcd.sh"), &profile::render().unwrap());

    let mut command = instance.command("/bin/bash", &["-lc", "etcdctl put a 1 && etcdctl get a"]);
    // Not this machine's own dot files.
    let output = command.env("HOME", instance.root.path()).output().unwrap();

    assert_says(&output, "OK\na\n1\n");
}

#[test]
fn sudo_keeps_every_variable_the_real_etcdctl_reads() {
    let help = Command::new(tool("etcdctl")).arg("--help").output().unwrap();
    let help = stdout(&help);
    let options = help.split_once("OPTIONS:").unwrap().1;
    let flags: Vec<String> = options
        .lines()
        .filter_map(|line| line.split_once("--"))
        .filter_map(|(_, flag)| flag.split(|c: char| c == '=' || c == '[' || c.is_whitespace()).next())
        .filter(|flag| !flag.is_empty() && *flag != "help")
        .map(|flag| format!("ETCDCTL_{}", flag.to_uppercase().replace('-', "_")))
        .collect();
    assert!(flags.len() >= 15, "--help was not understood: {help}");

    let profile = profile::render().unwrap();
    let kept = profile.split_once("--preserve-env=").unwrap().1.split(' ').next().unwrap();
    let kept: Vec<&str> = kept.split(',').collect();

    for flag in flags {
        assert!(kept.contains(&flag.as_str()), "{flag} is not in {kept:?}");
    }
}

#[test]
fn called_without_a_script_it_says_what_it_is() {
    for arguments in [&[][..], &["etcdctl"], &["--help"], &["bash", "/x"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_etcdctl-wrapper")).args(arguments).output().unwrap();

        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(stderr(&output).contains("bin/etcdctl"), "{output:?}");
    }
}

#[test]
fn a_closed_pipe_ends_the_tool_as_it_would_without_us() {
    let instance = Instance::new();
    // SIGPIPE (13) ignored would be bit 12; Rust ignores it for itself.
    instance.executable("packages/etcd/bin/etcdctl", "#!/bin/sh\nexec grep SigIgn /proc/self/status\n");

    let output = instance.etcdctl(&[]);

    let ignored = stdout(&output).trim().rsplit('\t').next().map(|mask| u64::from_str_radix(mask, 16));
    assert_eq!(ignored.unwrap().unwrap() & (1 << 12), 0, "{output:?}");
}
