//! Members from DNS, as etcd's `--discovery-srv` finds them (docs/contract.md#membership-sources).
//!
//! Each record `_etcd-server-ssl._tcp.DOMAIN` (or `_etcd-server._tcp.DOMAIN`, without TLS) is a member. Records carry
//! no names: the member that is made has its own, the others are numbered.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::{Listed, Unfit, initial_cluster, url};
use crate::etcd::id::{MemberName, PeerUrl};

pub mod query;

/// One record: a host and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Lower ones come first.
    pub priority: u16,
    /// The host, without the dot at its end.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// What DNS says about a domain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Records {
    /// Of `_etcd-server-ssl._tcp`.
    pub tls: Vec<Target>,
    /// Of `_etcd-server._tcp`.
    pub plain: Vec<Target>,
}

/// Asks DNS for the members of `domain`; `suffix` is what etcd calls `--discovery-srv-name`.
pub fn discover(
    dns: &query::Dns,
    domain: &str,
    suffix: Option<&str>,
    own: &MemberName,
    advertised: &BTreeSet<PeerUrl>,
) -> Result<Listed, Unfit> {
    let suffix = suffix.map(|suffix| format!("-{suffix}")).unwrap_or_default();
    let ask = |service: &str| {
        let name = format!("_{service}{suffix}._tcp.{domain}");
        dns.targets(&name).map_err(|error| Unfit::Dns(format!("{name}: {error}")))
    };
    let records = Records { tls: ask("etcd-server-ssl")?, plain: ask("etcd-server")? };
    listed(records, domain, own, advertised, &mut |host| {
        dns.addresses(host).map_err(|error| Unfit::Dns(format!("{host}: {error}")))
    })
}

/// The members that the records list. `addresses` tells a host's.
///
/// etcd takes the records in an order that DNS shuffles; here it is that of priority and name. It leaves out a host
/// that does not resolve at this moment, and so computes other ids than its peers; here that is an error.
fn listed(
    records: Records,
    domain: &str,
    own: &MemberName,
    advertised: &BTreeSet<PeerUrl>,
    addresses: &mut dyn FnMut(&str) -> Result<BTreeSet<IpAddr>, Unfit>,
) -> Result<Listed, Unfit> {
    let (scheme, mut targets) = match (records.tls.is_empty(), records.plain.is_empty()) {
        (false, true) => ("https", records.tls),
        (true, false) => ("http", records.plain),
        (true, true) => return Err(Unfit::Dns(format!("{domain} has no SRV records of etcd"))),
        (false, false) => {
            return Err(Unfit::Dns(format!(
                "{domain} has records with TLS and without, and nothing tells which of them are one member's"
            )));
        }
    };
    targets.sort();
    let mut own_places = BTreeSet::new();
    for url in advertised {
        own_places.extend(addresses(url.host())?.into_iter().map(|ip| SocketAddr::new(ip, url.port())));
    }
    let mut listed = Listed::new();
    let mut numbers = (0_u64..).map(|number| number.to_string()).filter(|name| name != own.as_str());
    for target in targets {
        let places = addresses(&target.host)?;
        let is_own = places.iter().any(|ip| own_places.contains(&SocketAddr::new(*ip, target.port)));
        let name = if is_own { own.clone() } else { numbers.next().unwrap_or_default().parse()? };
        let bracketed =
            if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.clone() };
        let url = url::peer_url(&format!("{scheme}://{bracketed}:{}", target.port))?;
        initial_cluster::add(&mut listed, name, url)?;
    }
    Ok(listed)
}

#[cfg(test)]
mod tests;
