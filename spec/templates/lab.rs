//! Renders the release with ids, addresses and certificates that are the same on every machine.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::Result;
use etcd_release::atomic_file;
use etcd_release::local::interpolation::{Interpolated, Sources, interpolate};
use etcd_release::local::link;
use etcd_release::local::manifest::Manifest;
use etcd_release::local::placement::{self, Registry};
use etcd_release::local::preparation;
use etcd_release::local::render::{Deployment, RenderedFile, RenderedInstance, RenderedJob, render_each};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use serde_json::{Map, Value, json};

/// Members that `scale.yml` asks for here.
const SCALED: u8 = 5;

/// The variables of type certificate, here a line of text each that says which one it is.
const CERTIFICATES: [&str; 26] = [
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
    "/dns_api_tls_ca",
    "/dns_api_server_tls",
    "/dns_api_client_tls",
    "/dns_healthcheck_tls_ca",
    "/dns_healthcheck_server_tls",
    "/dns_healthcheck_client_tls",
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

/// The properties `tls.…` of a manifest that is right, by dotted name: certificates for the names of the base
/// manifest, made once.
pub(crate) fn identities() -> &'static BTreeMap<String, String> {
    static IDENTITIES: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    IDENTITIES.get_or_init(|| {
        let authority = || {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
        };
        let (clients, peers) = (authority(), authority());
        let mut made = BTreeMap::new();
        for (role, authority) in [("server", &clients), ("peer", &peers), ("admin", &clients)] {
            let mut params = CertificateParams::new(vec!["*.etcd.default.etcd.bosh".to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, if role == "admin" { "root" } else { "etcd" });
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, authority).unwrap();
            made.insert(format!("tls.{role}.ca"), authority.pem());
            made.insert(format!("tls.{role}.certificate"), certificate.pem());
            made.insert(format!("tls.{role}.private_key"), key.serialize_pem());
        }
        made
    })
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
    /// How many members its group has.
    pub(crate) members: usize,
}

/// Which instances of a group are rendered.
#[derive(Clone, Copy)]
enum Which {
    All,
    /// The first, which sees all others in its link: where nothing else can differ.
    First,
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
        rendered(self.with_operations(operations)?)
    }

    /// The first instance with each of many lists of ops files, in one go.
    pub(crate) fn render_all(&self, lists: &[Vec<String>]) -> Vec<Result<Vec<Rendered>>> {
        let manifests = lists.iter().map(|operations| self.with_operations(operations)).collect();
        rendered_each(manifests, Which::First)
    }

    /// Renders the base manifest with one member, once with each of these properties of job etcd, by dotted name; null
    /// takes one away. Its certificates are [good](identities), so that pre-start speaks of nothing else.
    pub(crate) fn render_cases(&self, cases: &[&Map<String, Value>]) -> Vec<Result<Vec<Rendered>>> {
        let mut base = self.manifest();
        base["instance_groups"][0]["instances"] = json!(1);
        for (name, text) in identities() {
            set(&mut base, name, &json!(text));
        }
        let with = |properties: &&Map<String, Value>| {
            let mut manifest = base.clone();
            properties.iter().for_each(|(name, value)| set(&mut manifest, name, value));
            Manifest::parse(&serde_yaml::to_string(&manifest)?)
        };
        rendered_each(cases.iter().map(with).collect(), Which::First)
    }

    /// The base manifest with everything filled in.
    pub(crate) fn manifest(&self) -> Value {
        serde_yaml::from_str(&self.interpolated(Vec::new(), 3).unwrap().yaml).unwrap()
    }

    fn with_operations(&self, operations: &[String]) -> Result<Manifest> {
        let directory = repository().join("deployment/operations");
        // BOSH wants exactly as many addresses as instances; what says their number last wins.
        let members = operations.iter().fold(3, |members, file| match file.as_str() {
            "scale.yml" => SCALED,
            "single-node.yml" => 1,
            _ => members,
        });
        let files = operations.iter().map(|file| directory.join(file)).collect();
        Ok(self.interpolated(files, members)?.manifest)
    }

    fn interpolated(&self, ops_files: Vec<PathBuf>, members: u8) -> Result<Interpolated> {
        let addresses: Vec<String> = (1..=members).map(|number| format!("10.0.0.{number}")).collect();
        interpolate(&Sources {
            bosh: tool("bosh"),
            manifest: repository().join("deployment/etcd.yml"),
            ops_files,
            vars: vec![
                format!("etcd_instances={SCALED}"),
                "deployment_name=orders".to_owned(),
                "network_name=default".to_owned(),
                "persistent_disk_type=default".to_owned(),
                format!("etcd_static_ips=[{}]", addresses.join(",")),
                "backup_store_url=s3://backups/etcd".to_owned(),
                "restore_point=latest".to_owned(),
                "backup_store_region=eu-central-1".to_owned(),
                "backup_store_access_key_id=(key id)".to_owned(),
                "backup_store_secret_access_key=(secret key)".to_owned(),
            ],
            vars_files: vec![self.directory.path().join("certificates.yml")],
            vars_store: self.directory.path().join("store.yml"),
        })
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        atomic_file::write(&path, text.as_bytes(), 0o600).unwrap();
        path
    }
}

/// Renders a manifest in which nothing is left to fill in.
pub(crate) fn render_manifest(manifest: &Value) -> Result<Vec<Rendered>> {
    rendered(Manifest::parse(&serde_yaml::to_string(manifest)?)?)
}

fn rendered(manifest: Manifest) -> Result<Vec<Rendered>> {
    rendered_each(vec![Ok(manifest)], Which::All).remove(0)
}

/// Places, links and renders, in one process for all: starting Ruby costs more than what it does here.
fn rendered_each(manifests: Vec<Result<Manifest>>, which: Which) -> Vec<Result<Vec<Rendered>>> {
    let catalog = preparation::catalog(repository()).unwrap();
    let prepared = |manifest: Result<Manifest>| {
        let manifest = manifest?;
        catalog.check(&manifest)?;
        let instances = placement::place(&manifest, &[], &mut Counted::default())?.desired();
        let links = link::resolve(&manifest, &catalog, &instances, &BTreeMap::new())?;
        Ok((manifest, links, instances))
    };
    let prepared: Vec<Result<_>> = manifests.into_iter().map(prepared).collect();
    let deployments: Vec<Deployment<'_>> = prepared
        .iter()
        .flatten()
        .map(|(manifest, links, placed)| {
            let instances = match which {
                Which::All => placed.as_slice(),
                Which::First => &placed[..1],
            };
            Deployment { manifest, links, instances }
        })
        .collect();
    let mut outcomes = render_each(&tool("ruby"), &catalog, &deployments).unwrap().into_iter();
    let outcome = |prepared: Result<(_, _, Vec<_>)>| {
        let members = prepared?.2.len();
        let rendered = outcomes.next().expect("one for each that was prepared")?;
        Ok(rendered.into_iter().map(|instance| Rendered { instance, members }).collect())
    };
    prepared.into_iter().map(outcome).collect()
}

/// Puts a property of job etcd into a manifest; null takes it away.
pub(crate) fn set(manifest: &mut Value, name: &str, value: &Value) {
    let properties = &mut manifest["instance_groups"][0]["jobs"][1]["properties"];
    let place = name.split('.').fold(properties, |place, key| &mut place[key]);
    *place = value.clone();
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
