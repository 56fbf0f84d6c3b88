//! Where the members of a new cluster come from: the flags that name them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use crate::datadir::membership::dns_srv::{self, query::Dns};
use crate::datadir::membership::{Listed, Membership, Unfit, initial_cluster, members_file, peer_urls};
use crate::etcd::id::{MemberName, PeerUrl};
use crate::job::config::JobConfig;

/// Who the members are, and which of them this is.
#[derive(Debug, Args)]
pub(crate) struct Source {
    #[command(flatten)]
    list: List,
    /// With --dns-srv: the records of this service name, as etcd's --discovery-srv-name
    #[arg(long, value_name = "NAME", requires = "dns_srv")]
    dns_srv_name: Option<String>,
    /// With --dns-srv: the name server to ask [default: those of /etc/resolv.conf]
    #[arg(long, value_name = "ADDRESS[:PORT]", requires = "dns_srv", value_parser = dns_server)]
    dns_server: Option<Dns>,
    /// Name of the member that is made [default with --from-link: this instance's id]
    #[arg(long, value_name = "NAME", required_unless_present = "from_link")]
    name: Option<MemberName>,
    /// Token of the cluster, the same for all members; no other cluster may ever have had it
    #[arg(long, value_name = "TOKEN")]
    initial_cluster_token: String,
    /// Peer URLs of the member that is made, with commas [default: the listed ones]
    #[arg(long, value_name = "URLS")]
    initial_advertise_peer_urls: Option<String>,
}

/// Exactly one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct List {
    /// The members, as NAME=URL with commas; one with several URLs repeats its name
    #[arg(long, value_name = "LIST")]
    initial_cluster: Option<String>,
    /// The members in a file (YAML, JSON, or what `etcdctl member list -w json` prints); `-` reads stdin
    #[arg(long, value_name = "FILE")]
    members_file: Option<PathBuf>,
    /// The members of the job's link, from its job.json
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "/var/vcap/jobs/etcd/config/job.json")]
    from_link: Option<PathBuf>,
    /// The members that the SRV records of this domain list
    #[arg(long, value_name = "DOMAIN", requires = "initial_advertise_peer_urls")]
    dns_srv: Option<String>,
}

/// What a source tells.
struct Told {
    listed: Listed,
    /// The member that is made, and its URLs, if the source knows.
    own: Option<MemberName>,
}

impl Source {
    /// Reads the members and judges them.
    pub(crate) fn membership(&self) -> Result<Membership> {
        let advertised = self
            .initial_advertise_peer_urls
            .as_deref()
            .map(peer_urls)
            .transpose()
            .map_err(|unfit| unfit.complaint())?;
        let Told { listed, own } = self.read(advertised.as_ref())?;
        let own = self.name.clone().or(own).context("clap demands a name where no source tells one")?;
        // Without URLs of its own the member has the listed ones; one that is not listed is refused for that.
        let advertised = advertised.or_else(|| listed.get(&own).cloned()).unwrap_or_default();
        Ok(Membership::found(&listed, &self.initial_cluster_token, &own, &advertised)
            .map_err(|unfit| unfit.complaint())?)
    }

    fn read(&self, advertised: Option<&BTreeSet<PeerUrl>>) -> Result<Told> {
        let anonymous = |listed| Told { listed, own: None };
        match &self.list {
            List { initial_cluster: Some(text), .. } => {
                Ok(anonymous(initial_cluster::parse(text).map_err(|unfit| unfit.complaint())?))
            }
            List { members_file: Some(path), .. } => {
                let text = text(path)?;
                Ok(anonymous(members_file::parse(&text).map_err(|unfit| unfit.complaint())?))
            }
            List { dns_srv: Some(domain), .. } => {
                let (own, advertised) = self
                    .name
                    .as_ref()
                    .zip(advertised)
                    .context("clap demands a name and URLs together with --dns-srv")?;
                let dns = self.dns_server.as_ref().unwrap_or(&Dns::System);
                let suffix = self.dns_srv_name.as_deref();
                Ok(anonymous(
                    dns_srv::discover(dns, domain, suffix, own, advertised)
                        .map_err(|unfit| unfit.complaint())?,
                ))
            }
            List { from_link: Some(path), .. } => of_link(&JobConfig::load(path)?),
            List { .. } => anyhow::bail!("clap demands one source"),
        }
    }
}

/// The members as the launcher names them: by instance id.
fn of_link(job: &JobConfig) -> Result<Told> {
    let mut listed = Listed::new();
    for peer in &job.instances {
        let name = peer.instance.parse().map_err(|error| Unfit::Name(error).complaint())?;
        listed.insert(name, BTreeSet::from([peer.peer_url.clone()]));
    }
    Ok(Told { listed, own: Some(job.name.clone()) })
}

/// A file's text, or stdin's; no more of it than a list of members can have.
fn text(path: &Path) -> Result<String> {
    let unreadable = |error: io::Error| Unfit::Unreadable(format!("{}: {error}", path.display())).complaint();
    let mut text = String::new();
    let limit = members_file::BYTES_MAX + 1;
    let length = if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_string(&mut text)
    } else {
        File::open(path).map_err(unreadable)?.take(limit).read_to_string(&mut text)
    }
    .map_err(unreadable)?;
    if length as u64 == limit {
        let why = format!("{}: it has more than {} bytes", path.display(), members_file::BYTES_MAX);
        return Err(Unfit::Unreadable(why).complaint().into());
    }
    Ok(text)
}

fn dns_server(text: &str) -> Result<Dns, String> {
    Dns::at(text).ok_or_else(|| "it is no address, with or without a port".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::config::tests::config;

    #[test]
    fn the_link_lists_its_instances_as_the_launcher_names_them() {
        let job = config(|_| {}).unwrap();

        let told = of_link(&job).unwrap();

        let own: MemberName = "a".parse().unwrap();
        assert_eq!(told.listed.keys().map(MemberName::as_str).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(told.listed[&own], BTreeSet::from([PeerUrl::https("a.etcd.default.etcd.bosh", 2380)]));
        assert_eq!(told.own, Some(own));
    }
}
