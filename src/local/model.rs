//! Words shared by the rooms of the local director.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// How the instances of a deployment are connected. docs/local-director.md#network
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// Addresses 127.x.y.z on this machine's loopback.
    #[default]
    Loopback,
    /// A network namespace for each instance, all on one bridge.
    Namespaces,
}

impl NetworkMode {
    /// As typed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Namespaces => "namespaces",
        }
    }
}

/// Who runs the containers of processes under bpm. docs/local-director.md#bpm
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum BpmRunner {
    /// etcd-local itself, with namespaces of the kernel; needs nothing else.
    #[default]
    Namespaces,
    /// runc, as in production, with tini; both must be installed.
    Runc,
}

impl BpmRunner {
    /// As typed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Runc => "runc",
        }
    }
}

/// What a machine cannot change while it exists: anything else in here means a new machine.
/// docs/local-director.md#changes
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Operating system and version of its stemcell.
    pub stemcell: Option<String>,
    /// Name of its VM type.
    pub vm_type: Option<String>,
    /// Its environment.
    pub env: serde_json::Value,
    /// Name of its network.
    pub network: String,
    /// Its address.
    pub ip: Ipv4Addr,
}

/// Who an instance is: fixed at creation, kept through restart and recreate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Deployment name, as in the manifest.
    pub deployment: String,
    /// Instance group name.
    pub group: String,
    /// Random UUID (lower-case, with hyphens).
    pub id: String,
    /// Lowest index that was free when the instance was created.
    pub index: u32,
    /// Availability zone, if the group has any.
    pub az: Option<String>,
    /// Name of the (first) network.
    pub network: String,
    /// Its address, never reused within a deployment.
    pub ip: Ipv4Addr,
    /// Whether it holds the group's bootstrap flag.
    pub bootstrap: bool,
}

impl Identity {
    /// `group/uuid`, as BOSH prints instances.
    pub fn slug(&self) -> String {
        format!("{}/{}", self.group, self.id)
    }

    /// The instance's BOSH DNS name, `UUID.GROUP.NETWORK.DEPLOYMENT.bosh`, with canonical labels.
    pub fn dns_name(&self) -> String {
        format!("{}.{}", self.id, self.group_domain())
    }

    /// The index form, `INDEX.GROUP.NETWORK.DEPLOYMENT.bosh`.
    pub fn dns_name_by_index(&self) -> String {
        format!("{}.{}", self.index, self.group_domain())
    }

    /// `GROUP.NETWORK.DEPLOYMENT.bosh`, below which all names of the group lie.
    pub fn group_domain(&self) -> String {
        format!(
            "{}.{}.{}.bosh",
            canonical(&self.group),
            canonical(&self.network),
            canonical(&self.deployment)
        )
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.slug(), self.index)
    }
}

/// The canonical form of a name in BOSH DNS: lower-case, `_` becomes `-`, other characters dropped.
pub fn canonical(name: &str) -> String {
    name.chars()
        .map(|c| if c == '_' { '-' } else { c.to_ascii_lowercase() })
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .collect()
}
