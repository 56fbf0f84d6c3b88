//! One real etcd member with mutual TLS, on a loopback address of its own, for specs that need no more.

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use etcd_release::etcd::settings::EtcdSettings;
use etcd_release::job::aliases::SPELLINGS;
use etcd_release::job::properties::Properties;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use serde_json::Value;

/// Generous: the machine may be busy with other specs.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The path of a tool on PATH.
pub(crate) fn tool(name: &str) -> PathBuf {
    which::which(name).unwrap_or_else(|error| panic!("{name} on PATH (ci/setup puts it there): {error}"))
}

/// An address that no other spec of this run uses.
pub(crate) fn address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 192 + NEXT.fetch_add(1, Ordering::Relaxed) % 48, high, low.clamp(1, 254))
}

/// How etcd behaves by the defaults of job etcd.
pub(crate) fn settings() -> EtcdSettings {
    let spec = Path::new(env!("CARGO_MANIFEST_DIR")).join("jobs/etcd/spec");
    let spec: Value = serde_yaml::from_str(&std::fs::read_to_string(spec).unwrap()).unwrap();
    let former = |name: &str| SPELLINGS.iter().any(|(former, _)| *former == name);
    let printed = |name: &str| {
        !name.starts_with("tls.") && !["jwt.public_key", "jwt.private_key"].contains(&name) && !former(name)
    };
    let properties = spec["properties"].as_object().unwrap().iter().filter(|(name, _)| printed(name));
    let defaults = properties.map(|(name, definition)| (name.clone(), definition["default"].clone()));
    Properties::parse(&defaults.collect()).unwrap().etcd
}

/// What a certificate's owner may be.
#[derive(Clone, Copy)]
pub(crate) enum Usage {
    Member,
    Client,
}

/// A certificate authority with a short life.
pub(crate) struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = parameters.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(parameters, key) }
    }

    /// Writes `ROLE-ca.crt`, `ROLE.crt` and `ROLE.key`; `until` is the first year it no longer holds in.
    pub(crate) fn issue(
        &self,
        directory: &Path,
        role: &str,
        common_name: &str,
        usage: Usage,
        names: &[String],
        until: i32,
    ) {
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, common_name);
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = match usage {
            Usage::Member => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        parameters.not_before = date_time_ymd(2020, 1, 1);
        parameters.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        write(&directory.join(format!("{role}-ca.crt")), &self.pem);
        write(&directory.join(format!("{role}.crt")), &certificate.pem());
        write(&directory.join(format!("{role}.key")), &key.serialize_pem());
    }

    /// The certificates of one member at `address`, and the administrator's.
    pub(crate) fn issue_all(&self, directory: &Path, address: Ipv4Addr) {
        let names = [address.to_string(), "127.0.0.1".to_owned()];
        for role in ["server", "peer"] {
            self.issue(directory, role, "etcd", Usage::Member, &names, 2100);
        }
        self.issue(directory, "admin", "root", Usage::Client, &[], 2100);
    }
}

/// Writes a small file, with its directory.
pub(crate) fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    etcd_release::atomic_file::write(path, text.as_bytes(), 0o640).unwrap();
}

/// A running etcd; ends with its guard.
pub(crate) struct Member {
    child: Child,
    log: Receiver<String>,
    heard: Vec<String>,
}

impl Member {
    /// Starts this etcd on a configuration file.
    pub(crate) fn start_with(etcd: &Path, configuration: &Path) -> Self {
        let mut child = Command::new(etcd)
            .arg("--config-file")
            .arg(configuration)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let (lines, log) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, log, heard: Vec::new() }
    }

    /// The first log line with this `msg`, from the start on.
    pub(crate) fn said(&mut self, message: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let matching =
            |line: &String| serde_json::from_str::<Value>(line).ok().filter(|event| event["msg"] == message);
        if let Some(event) = self.heard.iter().find_map(matching) {
            return event;
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.log.recv_timeout(left) else {
                panic!("etcd never said {message:?}, but:\n{}", self.heard.join("\n"));
            };
            let event = matching(&line);
            self.heard.push(line);
            if let Some(event) = event {
                return event;
            }
        }
    }

    /// Ends it as bpm would.
    pub(crate) fn stop(mut self) -> ExitStatus {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Both fail only if it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
