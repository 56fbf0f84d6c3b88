//! Loopback addresses. Each deployment reserves networks `127.x.y.0/24` for itself in a registry of
//! this machine, so that deployments in other state directories, tests among them, never meet.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use nix::fcntl::{Flock, FlockArg};

use super::layout::DeploymentDir;
use crate::atomic_file;

/// Where reservations of this machine lie; gone after a reboot, then made again.
const REGISTRY: &str = "/run/etcd-local";
/// Hosts 1 to 254 of a network.
const HOSTS: u32 = 254;

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
    pub fn reserve(&self, deployment: &DeploymentDir, had: &[[u8; 3]], count: usize) -> Result<Vec<[u8; 3]>> {
        let _lock = self.lock()?;
        let mut reserved = Vec::new();
        for network in had {
            if !self.take(*network, deployment)? {
                bail!(
                    "the addresses {} of this deployment are now used by {}; delete one of the two deployments",
                    name(*network),
                    self.holder(*network).unwrap_or_default().display()
                );
            }
            reserved.push(*network);
        }
        let candidates = (64..=254u8).flat_map(|second| (0..=255u8).map(move |third| [127, second, third]));
        for network in candidates {
            if reserved.len() >= count {
                break;
            }
            if !reserved.contains(&network) && self.take(network, deployment)? {
                reserved.push(network);
            }
        }
        if reserved.len() < count {
            bail!(
                "all networks from 127.64.0.0 to 127.254.255.0 are reserved in {}",
                self.directory.display()
            );
        }
        Ok(reserved)
    }

    /// Gives networks back.
    pub fn release(&self, deployment: &DeploymentDir, networks: &[[u8; 3]]) -> Result<()> {
        let _lock = self.lock()?;
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

    fn lock(&self) -> Result<Flock<fs::File>> {
        fs::create_dir_all(&self.directory).with_context(|| format!("make {}", self.directory.display()))?;
        let path = self.directory.join("lock");
        let file = fs::OpenOptions::new().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("open {}", path.display()))?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, error)| anyhow!("lock {}: {error}", path.display()))
    }
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
    let host = u8::try_from(used % HOSTS + 1).expect("254 hosts fit into a byte");
    Some(Ipv4Addr::new(network[0], network[1], network[2], host))
}

#[cfg(test)]
mod tests {
    use super::super::layout::StateDir;
    use super::*;

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

        let first = registry.reserve(&one, &[], 1).unwrap();
        assert_eq!(first, [[127, 64, 0]]);
        assert_eq!(registry.reserve(&one, &first, 1).unwrap(), first, "again after a kill or reboot");
        assert_eq!(registry.reserve(&two, &[], 1).unwrap(), [[127, 64, 1]]);
        fs::remove_dir_all(one.path()).unwrap();
        assert_eq!(registry.reserve(&three, &[], 2).unwrap(), [[127, 64, 0], [127, 64, 2]]);
        registry.release(&three, &[[127, 64, 0]]).unwrap();
        assert_eq!(registry.reserve(&two, &[[127, 64, 1]], 2).unwrap(), [[127, 64, 1], [127, 64, 0]]);
        let error = registry.reserve(&three, &[[127, 64, 0]], 1).unwrap_err().to_string();
        assert!(error.contains("127.64.0 of this deployment are now used by"), "{error}");
    }

    #[test]
    fn addresses_run_through_one_network_and_into_the_next() {
        let networks = [[127, 64, 0], [127, 64, 5]];

        assert_eq!(address(&networks, 0), Some(Ipv4Addr::new(127, 64, 0, 1)));
        assert_eq!(address(&networks, 253), Some(Ipv4Addr::new(127, 64, 0, 254)));
        assert_eq!(address(&networks, 254), Some(Ipv4Addr::new(127, 64, 5, 1)));
        assert_eq!(address(&networks, 600), None);
        assert_eq!([networks_for(0, 0), networks_for(0, 3), networks_for(253, 2)], [1, 1, 2]);
    }
}
