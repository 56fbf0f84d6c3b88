//! Everything a deploy knows before it touches an instance: manifest, placement, rendered jobs,
//! packages. Any fault ends the deploy here, with nothing changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};

use super::address::{self, Registry as Addresses};
use super::interpolation::Sources;
use super::layout::{DeploymentDir, StateDir};
use super::link::{self, OtherDeployments, SharedLink};
use super::manifest::{InstanceGroup, Manifest};
use super::model::{Identity, Machine, NetworkMode};
use super::package::{self, Fingerprints};
use super::placement::{self, Existing, Placement};
use super::release::{Catalog, Release};
use super::render::{self, RenderedInstance};
use super::state::{Deployment, Record};
use crate::atomic_file::{self, Stored};
use crate::report::Complaint;

/// What links of other deployments may weigh.
const LINKS_BYTES_MAX: u64 = 16 << 20;

/// What an instance will be given.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The manifest.
    pub manifest: Manifest,
    /// Which instances there will be.
    pub placement: Placement,
    /// Their jobs, by instance id.
    pub rendered: BTreeMap<String, RenderedInstance>,
    /// Their packages, by instance id.
    pub packages: BTreeMap<String, Fingerprints>,
    /// Links that other deployments may use.
    pub shared: Vec<SharedLink>,
    /// Networks reserved now.
    pub subnets: Vec<[u8; 3]>,
    /// How many addresses are handed out now.
    pub addresses_used: u32,
}

/// The name of the deployment: that of the manifest, after its ops files.
pub fn deployment_name(sources: &Sources) -> Result<String> {
    let mut command = Command::new(&sources.bosh);
    command.args(["--non-interactive", "interpolate", "--path", "/name"]).arg(&sources.manifest);
    for file in &sources.ops_files {
        command.arg("--ops-file").arg(file);
    }
    for var in &sources.vars {
        command.arg("--var").arg(var);
    }
    for file in &sources.vars_files {
        command.arg("--vars-file").arg(file);
    }
    let output = command
        .output()
        .with_context(|| format!("run {} (ci/setup gets the BOSH command line)", sources.bosh.display()))?;
    if !output.status.success() {
        return Err(Complaint::failed(
            format!(
                "{} cannot be read: {}",
                sources.manifest.display(),
                String::from_utf8_lossy(&output.stderr).trim()
            ),
            "it says what to deploy",
            "`bosh interpolate` with the same files shows the same fault",
        )
        .into());
    }
    let name = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if name.is_empty() || !name.chars().all(plain) {
        return Err(Complaint::failed(
            format!("the manifest's name is '{name}'"),
            "it becomes part of DNS names and of a path",
            "use letters, digits, '-' and '_'; give its variables with -v",
        )
        .into());
    }
    Ok(name)
}

/// The release directory a manifest belongs to: the nearest directory above it with `config/final.yml`.
pub fn release_of(manifest: &Path) -> Result<PathBuf> {
    let manifest = fs::canonicalize(manifest).with_context(|| format!("find {}", manifest.display()))?;
    let found = manifest.ancestors().skip(1).find(|directory| directory.join("config/final.yml").is_file());
    found.map(Path::to_owned).ok_or_else(|| {
        anyhow!(Complaint::failed(
            format!("{} does not lie in a release", manifest.display()),
            "jobs are taken from the directory above it that has config/final.yml",
            "use a manifest inside the release's directory",
        ))
    })
}

/// Releases a manifest may name: that of its directory, and those this director plays itself.
pub fn catalog(release: &Path) -> Result<Catalog> {
    let mut catalog = Catalog::default();
    catalog.add(Release::played("bpm", &["bpm"]));
    catalog.add(Release::played("bosh-dns", &["bosh-dns"]));
    catalog.add(Release::open(release)?);
    Ok(catalog)
}

/// Places, links and renders. Nothing is written but copies of packages.
pub fn prepare(
    state: &StateDir,
    deployment: &Deployment,
    manifest: Manifest,
    ruby: &Path,
    catalog: &Catalog,
) -> Result<Prepared> {
    let record = deployment.record();
    catalog.check(&manifest)?;
    let mut identities = NewIdentities::new(&record, deployment.directory(), &manifest)?;
    let existing: Vec<Existing> = record
        .instances
        .iter()
        .map(|instance| Existing {
            identity: instance.identity.clone(),
            has_disk: instance.disk.is_some(),
            ignored: instance.ignored,
        })
        .collect();
    let placement = placement::place(&manifest, &existing, &mut identities)?;
    let desired = placement.desired();
    let others = other_deployments(state, &manifest.name)?;
    let links = link::resolve(&manifest, catalog, &desired, &others)?;
    let rendered = render::render(ruby, &manifest, catalog, &links, &desired)?;
    let packages = packages(state, &record.packages, catalog, &rendered)?;
    Ok(Prepared {
        placement,
        rendered: rendered.into_iter().map(|one| (one.identity.id.clone(), one)).collect(),
        packages,
        shared: links.shared().to_vec(),
        addresses_used: identities.used,
        subnets: identities.networks,
        manifest,
    })
}

/// The packages of each instance: those of its jobs.
fn packages(
    state: &StateDir,
    built: &Path,
    catalog: &Catalog,
    rendered: &[RenderedInstance],
) -> Result<BTreeMap<String, Fingerprints>> {
    let mut named: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for instance in rendered {
        let of_instance = named.entry(&instance.identity.id).or_default();
        for job in &instance.jobs {
            of_instance.extend(catalog.job(&job.release, &job.name)?.packages.iter().cloned());
        }
    }
    let all: BTreeSet<&str> = named.values().flatten().map(String::as_str).collect();
    let fingerprints = package::collect(state, built, all)?;
    let of = |names: BTreeSet<String>| {
        names.into_iter().map(|name| (name.clone(), fingerprints[&name].clone())).collect()
    };
    Ok(named.into_iter().map(|(id, names)| (id.to_owned(), of(names))).collect())
}

/// Where a deployment's shared links are kept for others.
pub fn shared_links_file(deployment: &DeploymentDir) -> PathBuf {
    deployment.path().join("shared-links.json")
}

fn other_deployments(state: &StateDir, own: &str) -> Result<OtherDeployments> {
    let mut others = OtherDeployments::new();
    for name in super::state::deployments(state)?.into_iter().filter(|name| name != own) {
        let path = shared_links_file(&state.deployment(&name));
        let stored = atomic_file::read_json::<Vec<SharedLink>>(&path, LINKS_BYTES_MAX)
            .with_context(|| format!("read {}", path.display()))?;
        if let Stored::Unusable(why) = &stored {
            return Err(anyhow!("{} cannot be used: {why}; deploy '{name}' again", path.display()));
        }
        others.insert(name, stored.present().unwrap_or_default());
    }
    Ok(others)
}

/// Namespaces have addresses of the deployment's own network only: nothing else leads there.
fn check_static_addresses(mut addresses: impl Iterator<Item = Ipv4Addr>, network: [u8; 3]) -> Result<()> {
    let fits = |address: &Ipv4Addr| {
        let [first, second, third, host] = address.octets();
        [first, second, third] == network && host != 0 && host < address::MACHINE
    };
    let Some(stray) = addresses.find(|address| !fits(address)) else { return Ok(()) };
    let [first, second, third] = network;
    Err(Complaint::failed(
        format!(
            "the static address {stray} does not lie between {first}.{second}.{third}.1 and .{}",
            address::MACHINE - 1
        ),
        "with --network namespaces a deployment has a network of its own, chosen on its first deploy",
        "use addresses of that network, or none",
    )
    .into())
}

/// Ids at random, addresses in order, none twice.
struct NewIdentities<'a> {
    directory: &'a DeploymentDir,
    mode: NetworkMode,
    networks: Vec<[u8; 3]>,
    taken: BTreeSet<Ipv4Addr>,
    used: u32,
}

impl<'a> NewIdentities<'a> {
    fn new(record: &Record, directory: &'a DeploymentDir, manifest: &Manifest) -> Result<Self> {
        let fixed =
            manifest.instance_groups.iter().flat_map(|group| group.network.static_ips.iter().copied());
        let existing = record.instances.iter().map(|instance| instance.identity.ip);
        let mut networks = record.subnets.clone();
        if record.network == NetworkMode::Namespaces {
            networks = Addresses::default().reserve(directory, record.network, &networks, 1)?;
            check_static_addresses(fixed.clone(), networks[0])?;
        }
        Ok(Self {
            directory,
            mode: record.network,
            networks,
            taken: fixed.chain(existing).collect(),
            used: record.addresses_used,
        })
    }
}

impl placement::Registry for NewIdentities<'_> {
    fn new_id(&mut self) -> String {
        uuid::Uuid::new_v4().to_string()
    }

    fn new_address(&mut self, _group: &str) -> Result<Ipv4Addr> {
        loop {
            let wanted = address::networks_for(self.used, 1);
            if self.networks.len() < wanted {
                self.networks =
                    Addresses::default().reserve(self.directory, self.mode, &self.networks, wanted)?;
            }
            let address = address::address(&self.networks, self.used).context("count addresses")?;
            self.used += 1;
            if self.taken.insert(address) {
                return Ok(address);
            }
        }
    }
}

/// The machine that an instance of `group` needs.
pub fn machine(manifest: &Manifest, group: &InstanceGroup, identity: &Identity) -> Machine {
    let stemcell = manifest.stemcells.iter().find(|one| Some(&one.alias) == group.stemcell.as_ref());
    Machine {
        stemcell: stemcell.map(|stemcell| stemcell.release.clone()),
        vm_type: group.vm_type.clone(),
        env: group.env.clone(),
        network: identity.network.clone(),
        ip: identity.ip,
    }
}
