//! Addresses. Each deployment reserves networks of 256 addresses for itself in a registry of this machine,
//! so that deployments in other state directories, tests among them, never meet: `127.x.y.0/24`, or with
//! `--network namespaces` a private one that no route of this machine overlaps.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use nix::fcntl::{Flock, FlockArg};

use super::layout::DeploymentDir;
use super::model::NetworkMode;
use super::network;
use crate::atomic_file;

/// Where reservations of this machine lie; gone after a reboot, then made again.
const REGISTRY: &str = "/run/etcd-local";
/// Hosts 1 to 253 of a network; 254 is this machine's own address in it.
const HOSTS: u32 = 253;
/// The last part of this machine's own address in a network of namespaces.
pub const MACHINE: u8 = 254;

/// The reservations of a machine: files named after networks, holding the deployment's directory.
#[derive(Debug, Clone)]
pub struct Registry {
    directory: PathBuf,
}

impl Default for Registry {
    fn default() -> Self {
        Self { directory: PathBuf::from(REGISTRY) }
    }
}

impl Registry {
    /// Makes sure that the deployment has at least `count` networks, beginning with those it had.
    ///
    /// What is left of the former holder of a network of namespaces is removed.
    pub fn reserve(
        &self,
        deployment: &DeploymentDir,
        mode: NetworkMode,
        had: &[[u8; 3]],
        count: usize,
    ) -> Result<Vec<[u8; 3]>> {
        let routes = match mode {
            NetworkMode::Loopback => Vec::new(),
            NetworkMode::Namespaces => network::routes()?,
        };
        let _lock = self.lock("lock")?;
        let mut reserved = Vec::new();
        for network in had {
            if !self.take(*network, deployment)? {
                bail!(
                    "the addresses {} of this deployment are now used by {}; delete one of the two deployments",
                    name(*network),
                    self.holder(*network).unwrap_or_default().display()
                );
            }
            if let Some(route) = routes.iter().find(|route| route.overlaps(*network)) {
                bail!(
                    "the addresses {} of this deployment are now also reached by {route}; \
                     remove that route or delete the deployment",
                    name(*network)
                );
            }
            reserved.push(*network);
        }
        if mode == NetworkMode::Namespaces && count > 1 {
            bail!("all {HOSTS} addresses of this deployment were handed out; delete it and deploy again");
        }
        for network in candidates(mode) {
            if reserved.len() >= count {
                break;
            }
            let is_free = !reserved.contains(&network) && !routes.iter().any(|route| route.overlaps(network));
            if is_free && self.take(network, deployment)? {
                if mode == NetworkMode::Namespaces {
                    network::clear(network)?;
                }
                reserved.push(network);
            }
        }
        if reserved.len() < count {
            bail!(
                "all networks are in use: by other deployments ({}), or by routes of this machine",
                self.directory.display()
            );
        }
        Ok(reserved)
    }

    /// Gives networks back.
    pub fn release(&self, deployment: &DeploymentDir, networks: &[[u8; 3]]) -> Result<()> {
        let _lock = self.lock("lock")?;
        for network in networks {
            if self.holder(*network).as_deref() == Some(deployment.path()) {
                atomic_file::remove(&self.file(*network)).context("give a network back")?;
            }
        }
        Ok(())
    }

    /// Takes a network that is free, held by a deployment that is gone, or already ours.
    fn take(&self, network: [u8; 3], deployment: &DeploymentDir) -> Result<bool> {
        if let Some(holder) = self.holder(network)
            && holder != deployment.path()
            && DeploymentDir::is_deployed(&holder)
        {
            return Ok(false);
        }
        let path = deployment.path().as_os_str().as_encoded_bytes();
        atomic_file::write(&self.file(network), path, 0o644)
            .with_context(|| format!("reserve {}", name(network)))?;
        Ok(true)
    }

    fn holder(&self, network: [u8; 3]) -> Option<PathBuf> {
        fs::read_to_string(self.file(network)).ok().map(PathBuf::from)
    }

    fn file(&self, network: [u8; 3]) -> PathBuf {
        self.directory.join(name(network))
    }

    /// Waits for the lock of that name; locks are of this machine, not of a deployment.
    pub fn lock(&self, name: &str) -> Result<Flock<fs::File>> {
        fs::create_dir_all(&self.directory).with_context(|| format!("make {}", self.directory.display()))?;
        let path = self.directory.join(name);
        let file = fs::OpenOptions::new().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("open {}", path.display()))?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, error)| anyhow!("lock {}: {error}", path.display()))
    }
}

/// Networks in the order in which they are tried. Private ones that people rarely use come first; the last
/// are meant for tests of network devices (RFC 2544) and free even where a VPN takes all private ones.
fn candidates(mode: NetworkMode) -> impl Iterator<Item = [u8; 3]> {
    let ranges: &[(u8, std::ops::RangeInclusive<u8>)] = match mode {
        NetworkMode::Loopback => &[(127, 64..=254)],
        NetworkMode::Namespaces => &[(10, 200..=254), (172, 24..=31), (198, 18..=19)],
    };
    let seconds =
        ranges.iter().flat_map(|(first, seconds)| seconds.clone().map(move |second| (first, second)));
    seconds.flat_map(|(first, second)| (0..=255u8).map(move |third| [*first, second, third]))
}

fn name(network: [u8; 3]) -> String {
    format!("{}.{}.{}", network[0], network[1], network[2])
}

/// How many networks `used` addresses fill, with room for `more`.
pub fn networks_for(used: u32, more: u32) -> usize {
    usize::try_from((used + more).div_ceil(HOSTS)).expect("a count of networks fits").max(1)
}

/// The address number `used`, counted from 0, of these networks.
pub fn address(networks: &[[u8; 3]], used: u32) -> Option<Ipv4Addr> {
    let network = networks.get(usize::try_from(used / HOSTS).ok()?)?;
    let host = u8::try_from(used % HOSTS + 1).expect("253 hosts fit into a byte");
    Some(Ipv4Addr::new(network[0], network[1], network[2], host))
}

#[cfg(test)]
mod tests {
    use super::super::layout::StateDir;
    use super::*;

    const LOOPBACK: NetworkMode = NetworkMode::Loopback;

    #[test]
    fn deployments_never_share_a_network_and_dead_ones_lose_theirs() {
        let directory = tempfile::tempdir().unwrap();
        let registry = Registry { directory: directory.path().join("run") };
        let deployment = |name: &str| {
            let deployment = StateDir::at(directory.path()).deployment(name);
            fs::create_dir_all(deployment.path()).unwrap();
            fs::write(deployment.record(), "{}").unwrap();
            deployment
        };
        let (one, two, three) = (deployment("one"), deployment("two"), deployment("three"));

        let first = registry.reserve(&one, LOOPBACK, &[], 1).unwrap();
        assert_eq!(first, [[127, 64, 0]]);
        assert_eq!(
            registry.reserve(&one, LOOPBACK, &first, 1).unwrap(),
            first,
            "again after a kill or reboot"
        );
        assert_eq!(registry.reserve(&two, LOOPBACK, &[], 1).unwrap(), [[127, 64, 1]]);
        fs::remove_dir_all(one.path()).unwrap();
        assert_eq!(registry.reserve(&three, LOOPBACK, &[], 2).unwrap(), [[127, 64, 0], [127, 64, 2]]);
        registry.release(&three, &[[127, 64, 0]]).unwrap();
        assert_eq!(
            registry.reserve(&two, LOOPBACK, &[[127, 64, 1]], 2).unwrap(),
            [[127, 64, 1], [127, 64, 0]]
        );
        let error = registry.reserve(&three, LOOPBACK, &[[127, 64, 0]], 1).unwrap_err().to_string();
        assert!(error.contains("127.64.0 of this deployment are now used by"), "{error}");
    }

    #[test]
    fn addresses_run_through_one_network_and_into_the_next() {
        let networks = [[127, 64, 0], [127, 64, 5]];

        assert_eq!(address(&networks, 0), Some(Ipv4Addr::new(127, 64, 0, 1)));
        assert_eq!(address(&networks, 252), Some(Ipv4Addr::new(127, 64, 0, 253)));
        assert_eq!(address(&networks, 253), Some(Ipv4Addr::new(127, 64, 5, 1)));
        assert_eq!(address(&networks, 600), None);
        assert_eq!([networks_for(0, 0), networks_for(0, 3), networks_for(252, 2)], [1, 1, 2]);
    }
}
