//! A real server of the S3 protocol (moto), on a port of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use etcd_release::backup::config::StoreConfig;

/// What moto makes of a secret is its own matter; it only has to be the same on both sides.
pub const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
pub const SECRET: &str = "a-secret-that-must-never-be-printed";

/// The server, with one bucket.
pub struct S3 {
    server: Child,
    address: SocketAddr,
}

impl S3 {
    /// Starts one, or says SKIPPED where `ci/setup --s3` could not get it.
    pub fn start() -> Option<Self> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/s3/bin/moto_server");
        if !program.exists() {
            eprintln!("SKIPPED: there is no S3 server; ci/setup --s3 says why");
            return None;
        }
        let mut server = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
        let address = lines
            .by_ref()
            .find_map(|line| {
                line.unwrap().split_once("Running on http://").map(|(_, rest)| rest.parse().unwrap())
            })
            .expect("moto says where it listens");
        // Nobody reads its log, but it must not block on it.
        thread::spawn(move || lines.for_each(drop));
        let s3 = Self { server, address };
        s3.request("PUT", "/bucket");
        Some(s3)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A store in the bucket, reached by `address`: the server's own or that of a wire.
    pub fn config(path: &str, address: SocketAddr) -> StoreConfig {
        StoreConfig {
            url: format!("s3://bucket/{path}"),
            region: Some("us-east-1".to_owned()),
            endpoint: Some(format!("http://{address}")),
            path_style: true,
            access_key_id: Some(KEY.to_owned()),
            secret_access_key: Some(SECRET.to_owned()),
            ..StoreConfig::default()
        }
    }

    /// A request without a body; moto believes everybody who signs at all.
    pub fn request(&self, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential={KEY}/20261126/us-east-1/s3/aws4_request, \
             SignedHeaders=host, Signature=0\r\n\r\n",
            self.address,
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
        answer
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}
