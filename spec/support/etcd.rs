//! A real etcd of any series we know, without TLS, on a loopback address of its own: what it wrote, and what it says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Nothing here takes that long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// The series whose data we read, the oldest first.
pub(crate) const SERIES: [&str; 4] = ["3.4", "3.5", "3.6", "3.7"];

/// What a member says of itself to the others. Nobody but itself ever needs it, unless it has others.
pub(crate) const PEER_URL: &str = "http://127.0.0.1:2380";
pub(crate) const CLIENT_URL: &str = "http://127.0.0.1:2379";

/// A program of a series, as `ci/setup --etcd X.Y` has put it there. 3.4 has no `etcdutl`.
pub(crate) fn etcd_of(series: &str, program: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!(".tools/etcd-{series}/bin")).join(program);
    assert!(path.exists(), "{}: run ci/setup --etcd {series}", path.display());
    path
}

/// An address nobody else has: of this process, and for a while.
pub(crate) fn own_address() -> IpAddr {
    static TAKEN: AtomicU8 = AtomicU8::new(0);
    address(&TAKEN, 100, 70)
}

/// An address that stays in a cluster's list of members: nobody gets it afterwards, or it would be called.
pub(crate) fn lasting_address() -> IpAddr {
    static TAKEN: AtomicU8 = AtomicU8::new(0);
    address(&TAKEN, 170, 20)
}

fn address(taken: &AtomicU8, first: u8, count: u8) -> IpAddr {
    let [.., high, low] = std::process::id().to_be_bytes();
    loop {
        let number = taken.fetch_add(1, Ordering::Relaxed);
        let address = IpAddr::V4(Ipv4Addr::new(127, first + number % count, high, low.clamp(1, 254)));
        if TcpListener::bind((address, 2379)).is_ok() && TcpListener::bind((address, 2380)).is_ok() {
            return address;
        }
    }
}

/// How to start one.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    pub(crate) series: &'static str,
    pub(crate) name: String,
    /// Where it listens.
    pub(crate) address: IpAddr,
    /// What it tells others; [`PEER_URL`] for one that has none.
    pub(crate) peer_url: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) more: Vec<String>,
}

impl Start {
    /// A member that is alone: nobody dials it, so that all directories name the same addresses.
    pub(crate) fn alone(series: &'static str, data_dir: &Path) -> Self {
        Self {
            series,
            name: "m1".to_owned(),
            address: own_address(),
            peer_url: PEER_URL.to_owned(),
            data_dir: data_dir.to_owned(),
            more: Vec::new(),
        }
    }

    pub(crate) fn with(mut self, more: &[&str]) -> Self {
        self.more.extend(more.iter().map(|&argument| argument.to_owned()));
        self
    }
}

/// A running etcd; ends with its guard.
pub(crate) struct Etcd {
    child: Child,
    pub(crate) series: &'static str,
    pub(crate) address: IpAddr,
    log: Receiver<String>,
    heard: Vec<String>,
    session: Option<Session>,
}

/// Who asks, with authentication on.
struct Session {
    /// `NAME:PASSWORD`, of nobody but a test.
    user: String,
    token: String,
}

impl Etcd {
    /// Starts it. It elects itself within tenths of a second, and does not wait for the disk: what it has written is
    /// there for whoever reads after it ended, also when it was killed.
    pub(crate) fn spawn(start: &Start) -> Self {
        let Start { series, name, address, peer_url, data_dir, more } = start;
        let mut child = Command::new(etcd_of(series, "etcd"))
            .args(["--name", name, "--listen-client-urls", &format!("http://{address}:2379")])
            .args(["--advertise-client-urls", CLIENT_URL])
            .args(["--listen-peer-urls", &format!("http://{address}:2380")])
            .args(["--initial-advertise-peer-urls", peer_url])
            .args(["--heartbeat-interval", "20", "--election-timeout", "200", "--unsafe-no-fsync"])
            .args(["--bcrypt-cost", "4", "--data-dir"])
            .arg(data_dir)
            .args(if more.iter().any(|argument| argument == "--initial-cluster") {
                Vec::new()
            } else {
                vec!["--initial-cluster".to_owned(), format!("{name}={peer_url}")]
            })
            .args(more)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("etcd starts");
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, log) = channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, series, address: *address, log, heard: Vec::new(), session: None }
    }

    /// Starts it and waits until it serves clients.
    pub(crate) fn start(start: &Start) -> Self {
        let mut etcd = Self::spawn(start);
        etcd.says("ready to serve client requests");
        etcd
    }

    /// Waits for a line of its log that has this text.
    pub(crate) fn says(&mut self, text: &str) {
        if let Err(why) = self.hears(&[text], PATIENCE) {
            panic!("etcd {} did not say '{text}' ({why}):\n{}", self.series, self.heard.join("\n"));
        }
    }

    /// Waits for a line that has one of these texts, and says which one; an error if it ended before.
    pub(crate) fn hears(&mut self, texts: &[&str], patience: Duration) -> Result<usize, RecvTimeoutError> {
        let deadline = Instant::now() + patience;
        loop {
            let line = self.log.recv_timeout(deadline.saturating_duration_since(Instant::now()))?;
            let which = texts.iter().position(|text| line.contains(text));
            self.heard.push(line);
            if let Some(which) = which {
                return Ok(which);
            }
        }
    }

    /// Everything it said so far, as one text.
    pub(crate) fn told(&self) -> String {
        self.heard.join("\n")
    }

    /// Waits until it has ended: its log has then no more lines.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.log.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.heard.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("etcd did not end:\n{}", self.told()),
            }
        }
        (self.child.wait().unwrap(), self.told())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    pub(crate) fn end(self, signal: Signal) {
        self.signal(signal);
        self.ended();
    }

    pub(crate) fn stop(self) {
        self.end(Signal::SIGTERM);
    }

    /// `etcdctl` of the same series, as JSON.
    pub(crate) fn etcdctl(&self, arguments: &[&str], stdin: &[u8]) -> Value {
        self.try_etcdctl(arguments, stdin).unwrap_or_else(|why| panic!("etcdctl {arguments:?}: {why}"))
    }

    /// `etcdctl` of the same series; an error is what it said instead of JSON.
    pub(crate) fn try_etcdctl(&self, arguments: &[&str], stdin: &[u8]) -> Result<Value, String> {
        let mut child = Command::new(etcd_of(self.series, "etcdctl"))
            .arg(format!("--endpoints=http://{}:2379", self.address))
            .args(["--command-timeout=60s", "-w", "json"])
            .args(arguments)
            .envs(self.session.as_ref().map(|session| ("ETCDCTL_USER", &session.user)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("etcdctl starts");
        child.stdin.take().unwrap().write_all(stdin).unwrap();
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            Ok(serde_json::from_slice(&output.stdout).unwrap_or_default())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// From here on as this user.
    pub(crate) fn log_in(&mut self, name: &str, password: &str) -> Result<(), String> {
        let answer = self.try_call("auth/authenticate", &json!({"name": name, "password": password}))?;
        let token = answer["token"].as_str().ok_or("no token")?.to_owned();
        self.session = Some(Session { user: format!("{name}:{password}"), token });
        Ok(())
    }

    pub(crate) fn is_logged_in(&self) -> bool {
        self.session.is_some()
    }

    /// Asks etcd's own JSON gateway.
    pub(crate) fn call(&self, path: &str, request: &Value) -> Value {
        self.try_call(path, request).unwrap_or_else(|why| panic!("{path} {request}: {why}\n{}", self.told()))
    }

    /// Asks etcd's own JSON gateway; an error is what it answered instead.
    pub(crate) fn try_call(&self, path: &str, request: &Value) -> Result<Value, String> {
        ask(self.address, self.session.as_ref().map(|session| session.token.as_str()), path, request)
    }

    /// What it tells other members, which needs no quorum; `None` while it does not listen.
    pub(crate) fn peers_answer(&self) -> Option<Value> {
        match exchange((self.address, 2380).into(), b"GET /members HTTP/1.0\r\n\r\n") {
            Ok((200, body)) => serde_json::from_slice(&body).ok(),
            _ => None,
        }
    }

    /// Its version and its cluster's.
    pub(crate) fn version(&self) -> Result<Value, String> {
        match exchange((self.address, 2379).into(), b"GET /version HTTP/1.0\r\n\r\n") {
            Ok((_, body)) => serde_json::from_slice(&body).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    pub(crate) fn put(&self, key: &str, value: &[u8]) {
        self.call("kv/put", &json!({"key": base64(key.as_bytes()), "value": base64(value)}));
    }

    pub(crate) fn delete(&self, key: &str) {
        self.call("kv/deleterange", &json!({"key": base64(key.as_bytes())}));
    }

    pub(crate) fn compact(&self, revision: u64) {
        self.call("kv/compaction", &json!({"revision": revision, "physical": true}));
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // Ignored: it may have ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks the JSON gateway of the etcd at an address; an error is what it answered instead.
pub(crate) fn ask(
    address: IpAddr,
    token: Option<&str>,
    path: &str,
    request: &Value,
) -> Result<Value, String> {
    let request = request.to_string();
    let token = token.map(|token| format!("Authorization: {token}\r\n")).unwrap_or_default();
    let head = format!("POST /v3/{path} HTTP/1.0\r\n{token}Content-Length: {}\r\n\r\n", request.len());
    match exchange((address, 2379).into(), &[head.as_bytes(), request.as_bytes()].concat()) {
        Ok((200, body)) => serde_json::from_slice(&body).map_err(|error| error.to_string()),
        Ok((status, body)) => Err(format!("HTTP {status} {}", String::from_utf8_lossy(&body))),
        Err(error) => Err(error.to_string()),
    }
}

/// One request over a connection of its own: status and body of the answer.
fn exchange(to: SocketAddr, request: &[u8]) -> std::io::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let invalid = || std::io::Error::other("no HTTP answer");
    let body = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(invalid)? + 4;
    let head = std::str::from_utf8(&answer[..body]).map_err(|_| invalid())?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(invalid)?;
    Ok((status, answer.split_off(body)))
}

/// As JSON carries bytes.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|at| three.get(at).copied().map_or(0, u32::from));
        let bits = (a << 16) | (b << 8) | c;
        for at in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= three.len() { letter.into() } else { '=' });
        }
    }
    text
}

/// A number of etcd's JSON: 64 bits as text, zero left out.
pub(crate) fn number(value: &Value) -> u64 {
    match value {
        Value::Null => 0,
        Value::String(text) => text.parse().unwrap_or_else(|_| panic!("'{text}' is no number")),
        other => other.as_u64().unwrap_or_else(|| panic!("{other} is no number")),
    }
}
