//! Renders the release with ids, addresses and certificates that are the same on every machine.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use etcd_release::atomic_file;
use etcd_release::local::interpolation::{Interpolated, Sources, interpolate};
use etcd_release::local::link;
use etcd_release::local::placement::{self, Registry};
use etcd_release::local::preparation;
use etcd_release::local::render::{RenderedFile, RenderedInstance, RenderedJob, render};
use serde_json::{Map, Value, json};

/// Members that `scale.yml` asks for here.
const SCALED: u8 = 5;

/// The variables of type certificate, here a line of text each that says which one it is.
const CERTIFICATES: [&str; 20] = [
    "etcd_ca",
    "etcd_peer_ca",
    "etcd_ca_2",
    "etcd_peer_ca_2",
    "etcd_server",
    "etcd_peer",
    "etcd_admin",
    "etcd_client",
    "etcd_server_static_ips",
    "etcd_peer_static_ips",
    "tls_etcd",
    "tls_etcd_peer",
    "tls_etcdctl",
    "tls_etcdctl-root",
    "client_ca",
    "peer_ca",
    "etcd_client_tls",
    "etcd_peer_tls",
    "etcd_root_tls",
    "etcd_consumer_tls",
];

/// The top of the repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All ops files, as paths below `deployment/operations`.
pub(crate) fn operations() -> Vec<String> {
    fn below(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { below(&path, found) } else { found.push(path) }
        }
    }
    let directory = repository().join("deployment/operations");
    let mut files = Vec::new();
    below(&directory, &mut files);
    files.sort();
    files.iter().map(|path| path.strip_prefix(&directory).unwrap().display().to_string()).collect()
}

/// Where manifests are put together.
pub(crate) struct Lab {
    directory: tempfile::TempDir,
}

/// Job etcd of one instance.
pub(crate) struct Rendered {
    instance: RenderedInstance,
}

impl Rendered {
    /// Content of a file of the job.
    #[track_caller]
    pub(crate) fn file(&self, path: &str) -> &str {
        let found = self.files().iter().find(|file| file.path == path);
        &found.unwrap_or_else(|| panic!("{path} is rendered")).content
    }

    /// All files of the job.
    pub(crate) fn files(&self) -> &[RenderedFile] {
        &self.job().files
    }

    /// The text of its `monit` file.
    pub(crate) fn monit(&self) -> &str {
        &self.job().monit
    }

    fn job(&self) -> &RenderedJob {
        self.instance.jobs.iter().find(|job| job.name == "etcd").expect("every instance has job etcd")
    }
}

impl Lab {
    pub(crate) fn new() -> Self {
        let lab = Self { directory: tempfile::tempdir().unwrap() };
        let certificates: BTreeMap<&str, Value> = CERTIFICATES
            .iter()
            .map(|name| {
                let part = |part: &str| format!("({part} of {name})");
                let parts = json!({
                    "ca": part("ca"), "certificate": part("certificate"), "private_key": part("private key"),
                });
                (*name, parts)
            })
            .collect();
        lab.write("certificates.yml", &serde_json::to_string(&certificates).unwrap());
        lab
    }

    /// Renders the base manifest with ops files, named by their paths below `deployment/operations`.
    pub(crate) fn render(&self, operations: &[String]) -> Result<Vec<Rendered>> {
        let directory = repository().join("deployment/operations");
        // BOSH wants exactly as many addresses as instances; what says their number last wins.
        let members = operations.iter().fold(3, |members, file| match file.as_str() {
            "scale.yml" => SCALED,
            "single-node.yml" => 1,
            _ => members,
        });
        self.render_files(operations.iter().map(|file| directory.join(file)).collect(), members)
    }

    /// Renders the base manifest with properties of job etcd, by dotted name; null takes one away.
    pub(crate) fn render_with(&self, properties: &Map<String, Value>) -> Result<Vec<Rendered>> {
        let operations: Vec<Value> = properties
            .iter()
            .map(|(name, value)| {
                let path = format!(
                    "/instance_groups/name=etcd/jobs/name=etcd/properties/{}?",
                    // Parts that the base manifest does not have are made.
                    name.replace('.', "?/")
                );
                if value.is_null() {
                    json!({"type": "remove", "path": path})
                } else {
                    json!({"type": "replace", "path": path, "value": value})
                }
            })
            .collect();
        let file = self.write("properties.yml", &serde_json::to_string(&operations).unwrap());
        self.render_files(vec![file], 3)
    }

    fn render_files(&self, ops_files: Vec<PathBuf>, members: u8) -> Result<Vec<Rendered>> {
        let addresses: Vec<String> = (1..=members).map(|number| format!("10.0.0.{number}")).collect();
        let Interpolated { manifest, .. } = interpolate(&Sources {
            bosh: tool("bosh"),
            manifest: repository().join("deployment/etcd.yml"),
            ops_files,
            vars: vec![
                format!("etcd_instances={SCALED}"),
                "deployment_name=orders".to_owned(),
                "network_name=default".to_owned(),
                "persistent_disk_type=default".to_owned(),
                format!("etcd_static_ips=[{}]", addresses.join(",")),
            ],
            vars_files: vec![self.directory.path().join("certificates.yml")],
            vars_store: self.directory.path().join("store.yml"),
        })?;
        let catalog = preparation::catalog(repository())?;
        catalog.check(&manifest)?;
        let instances = placement::place(&manifest, &[], &mut Counted::default())?.desired();
        let links = link::resolve(&manifest, &catalog, &instances, &BTreeMap::new())?;
        let rendered = render(&tool("ruby"), &manifest, &catalog, &links, &instances)?;
        Ok(rendered.into_iter().map(|instance| Rendered { instance }).collect())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        atomic_file::write(&path, text.as_bytes(), 0o600).unwrap();
        path
    }
}

fn tool(name: &str) -> PathBuf {
    let pinned = repository().join(".tools/bin").join(name);
    if pinned.is_file() {
        return pinned;
    }
    which::which(name).unwrap_or_else(|error| panic!("{name} on PATH (ci/setup puts it there): {error}"))
}

/// Ids and addresses in order.
#[derive(Default)]
struct Counted {
    ids: u8,
    addresses: u8,
}

impl Registry for Counted {
    fn new_id(&mut self) -> String {
        self.ids += 1;
        format!("00000000-0000-4000-8000-{:012}", self.ids)
    }

    fn new_address(&mut self, _group: &str) -> Result<Ipv4Addr> {
        self.addresses += 1;
        Ok(Ipv4Addr::new(127, 0, 9, self.addresses))
    }
}
