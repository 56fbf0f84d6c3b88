//! `job.json` as ERB printed it → one checked [`JobConfig`].

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use ring::digest;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::aliases::{self, Note, Predecessors};
use super::properties::{Fault, Properties};
use crate::etcd::id::{ClientUrl, MemberName, PeerUrl};
use crate::report::Complaint;

/// The version of `job.json` this release writes and reads.
const JOB_JSON_VERSION: u64 = 1;

/// What BOSH says about this instance (`spec` in a template).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Deployment name.
    pub deployment: String,
    /// Instance group name.
    pub name: String,
    /// Instance id: a UUID, kept for the instance's life. New members are named by it.
    pub id: String,
    /// Instance index.
    pub index: u64,
    /// Availability zone, if any.
    pub az: Option<String>,
    /// BOSH's bootstrap flag of the group. It moves to existing instances, so nothing here reads it
    /// as "create a cluster".
    pub bootstrap: bool,
    /// DNS name or address that other instances dial.
    pub address: String,
    /// Address of the instance's own network interface.
    pub ip: IpAddr,
    /// Persistent disk in MiB; 0 = none, or one that BOSH does not tell of (`bosh create-env`).
    pub persistent_disk: u64,
}

/// The same as templates print it. `bosh create-env` leaves three fields out (docs/contract.md#create-env).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSpec {
    deployment: String,
    name: String,
    id: String,
    index: u64,
    az: Option<String>,
    bootstrap: bool,
    address: Option<String>,
    ip: Option<IpAddr>,
    persistent_disk: Option<u64>,
}

impl RawSpec {
    /// Fills in what was left out. Without a Director an instance is dialled by address, which then is its own.
    fn complete(self, faults: &mut Vec<Fault>) -> Option<Spec> {
        let untold = |what: &str, rule: &str| Fault {
            name: format!("spec.{what}"),
            value: "(not set)".to_owned(),
            rule: rule.to_owned(),
            example: "networks: [{name: default, static_ips: [10.0.0.5]}] in the manifest".to_owned(),
        };
        let Some(address) = self.address else {
            faults.push(untold("address", "must be told by BOSH, it is what others dial"));
            return None;
        };
        let Some(ip) = self.ip.or_else(|| address.parse().ok()) else {
            faults.push(untold("ip", "must be told by BOSH where the address is a name"));
            return None;
        };
        Some(Spec {
            deployment: self.deployment,
            name: self.name,
            id: self.id,
            index: self.index,
            az: self.az,
            bootstrap: self.bootstrap,
            address,
            ip,
            persistent_disk: self.persistent_disk.unwrap_or_default(),
        })
    }
}

/// One instance of the peer link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct LinkInstance {
    /// Instance group name; absent in manual links.
    #[serde(default)]
    pub name: Option<String>,
    /// Instance id; absent in manual links.
    #[serde(default)]
    pub id: Option<String>,
    /// Instance index; absent in manual links.
    #[serde(default)]
    pub index: Option<u64>,
    /// Availability zone.
    #[serde(default)]
    pub az: Option<String>,
    /// DNS name or address.
    pub address: String,
    /// BOSH's bootstrap flag.
    #[serde(default)]
    pub bootstrap: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawJob {
    version: u64,
    properties: Map<String, Value>,
    spec: RawSpec,
    links: RawLinks,
    #[serde(default)]
    predecessors: Predecessors,
}

impl RawJob {
    /// What certificates must carry; a suffix that is none is told elsewhere.
    fn address(&self) -> String {
        match self.predecessors.dns_suffix(&mut Vec::new()) {
            Some(suffix) => aliases::name_below(&suffix, &self.spec.name, self.spec.index),
            None => self.spec.address.clone().unwrap_or_default(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLinks {
    etcd_peers: Option<RawLink>,
}

#[derive(Deserialize)]
struct RawLink {
    instances: Vec<LinkInstance>,
    #[serde(default)]
    properties: RawLinkProperties,
}

#[derive(Default, Deserialize)]
struct RawLinkProperties {
    #[serde(default)]
    peer_port: Value,
    #[serde(default)]
    launcher_port: Value,
}

/// A port of the link. One that is none is a fault of the property that it comes from, and told there.
fn link_port(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|port| u16::try_from(port).ok())
}

/// One instance of the group as this one reaches it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// Instance id; the address in manual links, which have none.
    pub instance: String,
    /// DNS name or address.
    pub address: String,
    /// Its peer URL.
    pub peer_url: PeerUrl,
    /// Its client URL (the same client port everywhere: one job, one property).
    pub client_url: ClientUrl,
    /// Port of its launcher's listener.
    pub launcher_port: u16,
}

/// Everything the job's programs know from BOSH, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct JobConfig {
    /// This instance.
    pub spec: Spec,
    /// Name of the member this instance runs.
    pub name: MemberName,
    /// The properties.
    pub properties: Properties,
    /// All instances of the link, this one included, ordered by peer URL. Exactly one without a link.
    pub instances: Vec<Peer>,
    /// What became of spellings of former releases.
    pub notes: Vec<Note>,
}

/// What `job.json` says, whether or not it can be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    /// DNS name or address that other instances dial, which certificates must carry.
    pub address: String,
    /// The configuration, or all that is wrong with it.
    pub job: Result<JobConfig, Vec<Fault>>,
}

impl JobConfig {
    /// Reads and checks `job.json`; all faults are told in one error.
    pub fn load(path: &Path) -> Result<Self, Complaint> {
        Self::read(path)?.job.map_err(|faults| faults_complaint(&faults))
    }

    /// Reads and checks `job.json`, for who has more faults to tell. Fails only on a file that is none.
    pub fn read(path: &Path) -> Result<Rendered, Complaint> {
        let unreadable = |why: String| {
            Complaint::failed(
                format!("{} cannot be used: {why}", path.display()),
                "without the properties BOSH rendered nothing can be decided, and nothing was changed",
                "deploy again; if it stays, the release's templates and binaries are of different versions",
            )
        };
        let text = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
        Self::of(&text).map_err(unreadable)
    }

    /// The same of what such a file holds. Errors: why it is none.
    pub fn of(text: &[u8]) -> Result<Rendered, String> {
        let raw: RawJob = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if raw.version != JOB_JSON_VERSION {
            return Err(format!("it has version {}, this program reads {JOB_JSON_VERSION}", raw.version));
        }
        Ok(Rendered { address: raw.address(), job: Self::check(raw) })
    }

    fn check(mut raw: RawJob) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let notes = raw.predecessors.merge(&mut raw.properties, &mut faults);
        let properties = Properties::parse(&raw.properties).map_err(|more| faults.extend(more)).ok();
        let name: Option<MemberName> = raw
            .spec
            .id
            .parse()
            .map_err(|error: crate::etcd::id::Malformed| {
                faults.push(Fault {
                    name: "spec.id".to_owned(),
                    value: format!("{:?}", raw.spec.id),
                    rule: error.to_string(),
                    example: "6f3e0c1a-96e6-4b0a-a54f-5a41bb7ad9d1".to_owned(),
                });
            })
            .ok();
        let mut spec = raw.spec.complete(&mut faults);
        if let (Some(suffix), Some(spec)) = (raw.predecessors.dns_suffix(&mut faults), spec.as_mut()) {
            name_below(&suffix, spec, raw.links.etcd_peers.as_mut());
        }
        let instances = properties
            .as_ref()
            .zip(spec.as_ref())
            .map(|(properties, spec)| peers(spec, raw.links.etcd_peers, properties, &mut faults));
        match (spec, properties, name, instances) {
            (Some(spec), Some(properties), Some(name), Some(instances)) if faults.is_empty() => {
                Ok(Self { spec, name, properties, instances, notes })
            }
            _ => Err(faults),
        }
    }

    /// This instance as its peers reach it.
    pub fn own(&self) -> &Peer {
        self.instances
            .iter()
            .find(|peer| peer.instance == self.spec.id)
            .expect("checked when loaded: the link contains this instance")
    }

    /// The other instances of the link.
    pub fn others(&self) -> impl Iterator<Item = &Peer> {
        self.instances.iter().filter(|peer| peer.instance != self.spec.id)
    }

    /// A fingerprint of who is in the link: instances agree on it exactly when they were rendered from
    /// the same list.
    pub fn link_hash(&self) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        for peer in &self.instances {
            context.update(format!("{} {}\n", peer.instance, peer.peer_url).as_bytes());
        }
        hex(&context.finish().as_ref()[..8])
    }

    /// Where etcd's client listener binds.
    pub fn client_listen_ip(&self) -> IpAddr {
        self.properties.client_listen_address.unwrap_or(self.spec.ip)
    }

    /// Where etcd's peer listener binds.
    pub fn peer_listen_ip(&self) -> IpAddr {
        self.properties.peer_listen_address.unwrap_or(self.spec.ip)
    }

    /// The address for listeners meant for this VM only: 127.0.0.1, or the instance's own address when
    /// that is itself a loopback one, so that several instances share a machine.
    pub fn private_listen_ip(&self) -> IpAddr {
        if self.spec.ip.is_loopback() { self.spec.ip } else { IpAddr::V4(Ipv4Addr::LOCALHOST) }
    }
}

/// Lower-case hexadecimal text of some bytes.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

/// The one error that lists all faults of a rendered job.
pub fn faults_complaint(faults: &[Fault]) -> Complaint {
    let list: Vec<String> = faults.iter().map(|fault| format!("\n    - {fault}")).collect();
    Complaint::refused(
        format!("{} in the properties of job etcd:{}", plural(faults.len(), "fault"), list.concat()),
        "etcd would not start with them, or not as meant; nothing was changed",
        "correct the manifest or ops file and deploy again; docs/deploy.md#properties lists them all",
    )
}

/// `1 fault`, `2 faults`.
fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("{count} {noun}") } else { format!("{count} {noun}s") }
}

/// Members below cfcr-etcd-release's suffix are known by no other name. Instances of a manual link have no index.
fn name_below(suffix: &str, spec: &mut Spec, link: Option<&mut RawLink>) {
    spec.address = aliases::name_below(suffix, &spec.name, spec.index);
    for instance in link.map(|link| link.instances.iter_mut()).into_iter().flatten() {
        if let (Some(group), Some(index)) = (&instance.name, instance.index) {
            instance.address = aliases::name_below(suffix, group, index);
        }
    }
}

fn peers(spec: &Spec, link: Option<RawLink>, properties: &Properties, faults: &mut Vec<Fault>) -> Vec<Peer> {
    let own = LinkInstance {
        name: Some(spec.name.clone()),
        id: Some(spec.id.clone()),
        index: Some(spec.index),
        az: spec.az.clone(),
        address: spec.address.clone(),
        bootstrap: Some(spec.bootstrap),
    };
    // Where another instance has the group's bootstrap flag, this one is not alone: members without a link would each
    // be a cluster of their own under one name.
    if link.is_none() && !spec.bootstrap {
        faults.push(Fault {
            name: "link etcd_peers".to_owned(),
            value: "(absent)".to_owned(),
            rule: "must be there in a group of more than one instance".to_owned(),
            example: "no `consumes: {etcd_peers: nil}` in the manifest".to_owned(),
        });
        return Vec::new();
    }
    // Without a link (bosh create-env) there is one member: this one.
    let link =
        link.unwrap_or_else(|| RawLink { instances: vec![own], properties: RawLinkProperties::default() });
    let peer_port = link_port(&link.properties.peer_port).unwrap_or(properties.peer_port);
    let launcher_port = link_port(&link.properties.launcher_port).unwrap_or(properties.launcher_port);
    let mut peers: Vec<Peer> = Vec::new();
    let mut addresses = BTreeSet::new();
    for instance in link.instances {
        let peer_url: PeerUrl = PeerUrl::https(&instance.address, peer_port);
        let parsed: Result<PeerUrl, _> = peer_url.as_str().parse();
        if parsed.is_err() || !addresses.insert(instance.address.clone()) {
            faults.push(Fault {
                name: "link etcd_peers".to_owned(),
                value: format!("address {:?}", instance.address),
                rule: if parsed.is_err() { "is neither a DNS name nor an address" } else { "appears twice" }
                    .to_owned(),
                example: "one distinct address for each instance".to_owned(),
            });
            continue;
        }
        peers.push(Peer {
            instance: instance.id.unwrap_or_else(|| instance.address.clone()),
            client_url: ClientUrl::https(&instance.address, properties.client_port),
            address: instance.address,
            peer_url,
            launcher_port,
        });
    }
    peers.sort_by(|a, b| a.peer_url.cmp(&b.peer_url));
    if faults.is_empty() && !peers.iter().any(|peer| peer.instance == spec.id) {
        faults.push(Fault {
            name: "link etcd_peers".to_owned(),
            value: format!("{} instances", peers.len()),
            rule: format!("does not contain this instance, {}", spec.id),
            example: "let the job consume its own link: consumes: {etcd_peers: {from: etcd_peers}}"
                .to_owned(),
        });
    }
    peers
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    /// `job.json` of instance `a` of three.
    pub(crate) fn job_json() -> Value {
        let instance = |id: &str| json!({"name": "etcd", "id": id, "index": 0, "az": "z1", "address": format!("{id}.etcd.default.etcd.bosh"), "bootstrap": id == "a"});
        json!({
            "version": 1,
            "properties": super::super::properties::tests::defaults(),
            "spec": {"deployment": "etcd", "name": "etcd", "id": "a", "index": 0, "az": "z1", "bootstrap": true,
                     "address": "a.etcd.default.etcd.bosh", "ip": "127.1.2.3", "persistent_disk": 10240},
            "links": {"etcd_peers": {"address": "q-s0.etcd.default.etcd.bosh",
                      "properties": {"peer_port": 2380, "launcher_port": 2382},
                      "instances": [instance("c"), instance("a"), instance("b")]}},
        })
    }

    /// A configuration for tests of other rooms.
    pub(crate) fn config(change: impl FnOnce(&mut Value)) -> Result<JobConfig, Vec<Fault>> {
        let mut value = job_json();
        change(&mut value);
        JobConfig::check(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn a_rendered_job_becomes_instances_ordered_by_peer_url() {
        let job = config(|_| {}).unwrap();

        let urls: Vec<&str> = job.instances.iter().map(|peer| peer.peer_url.as_str()).collect();
        assert_eq!(
            urls,
            [
                "https://a.etcd.default.etcd.bosh:2380",
                "https://b.etcd.default.etcd.bosh:2380",
                "https://c.etcd.default.etcd.bosh:2380"
            ]
        );
        assert_eq!(job.own().instance, "a");
        assert_eq!(job.others().count(), 2);
        assert_eq!(job.private_listen_ip().to_string(), "127.1.2.3");
    }

    #[test]
    fn without_a_link_there_is_one_member() {
        let job = config(|value| value["links"]["etcd_peers"] = Value::Null).unwrap();

        assert_eq!(job.instances.len(), 1);
        assert_eq!(job.own().peer_url.as_str(), "https://a.etcd.default.etcd.bosh:2380");
    }

    /// Members without a link would each be a cluster of their own.
    #[test]
    fn without_a_link_an_instance_that_is_not_alone_is_a_fault() {
        let faults = config(|value| {
            value["links"]["etcd_peers"] = Value::Null;
            value["spec"]["bootstrap"] = json!(false);
        })
        .unwrap_err();

        let text: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            [
                "link etcd_peers: (absent) must be there in a group of more than one instance; for example: no `consumes: {etcd_peers: nil}` in the manifest"
            ]
        );
    }

    #[test]
    fn what_create_env_leaves_out_follows_from_the_address() {
        let create_env = |change: fn(&mut Value)| {
            config(|value| {
                value["links"]["etcd_peers"] = Value::Null;
                for untold in ["ip", "persistent_disk"] {
                    value["spec"][untold] = Value::Null;
                }
                value["spec"]["address"] = json!("10.0.0.5");
                change(value);
            })
        };

        let job = create_env(|_| {}).unwrap();
        assert_eq!(job.spec.ip.to_string(), "10.0.0.5");
        assert_eq!(job.spec.persistent_disk, 0);
        assert_eq!(job.own().peer_url.as_str(), "https://10.0.0.5:2380");

        let named = create_env(|value| value["spec"]["address"] = json!("etcd.example.com")).unwrap_err();
        assert_eq!((named.len(), named[0].name.as_str()), (1, "spec.ip"), "{named:?}");
        let untold = create_env(|value| value["spec"]["address"] = Value::Null).unwrap_err();
        assert_eq!((untold.len(), untold[0].name.as_str()), (1, "spec.address"), "{untold:?}");
    }

    #[test]
    fn the_link_hash_depends_on_who_is_in_the_link_and_not_on_their_order() {
        let hash = |change: fn(&mut Value)| config(change).unwrap().link_hash();

        let reversed = hash(|value| {
            value["links"]["etcd_peers"]["instances"].as_array_mut().unwrap().reverse();
        });
        let smaller = hash(|value| {
            value["links"]["etcd_peers"]["instances"].as_array_mut().unwrap().remove(0);
        });

        assert_eq!(hash(|_| {}), reversed);
        assert_ne!(hash(|_| {}), smaller);
    }

    #[test]
    fn a_link_without_this_instance_or_with_one_address_twice_is_a_fault() {
        let without = config(|value| value["spec"]["id"] = json!("z")).unwrap_err();
        assert!(without[0].rule.contains("does not contain this instance"), "{without:?}");

        let twice = config(|value| {
            let instances = value["links"]["etcd_peers"]["instances"].as_array_mut().unwrap();
            instances[0] = instances[1].clone();
        })
        .unwrap_err();
        assert!(twice[0].rule.contains("twice"), "{twice:?}");
    }

    /// The link carries the same property: it must not hide the fault behind "job.json cannot be used".
    #[test]
    fn a_port_that_is_none_is_a_fault_of_its_property_also_in_the_link() {
        let faults = config(|value| {
            value["properties"]["launcher_port"] = json!(-1);
            value["links"]["etcd_peers"]["properties"]["launcher_port"] = json!(-1);
        })
        .unwrap_err();

        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!(faults[0].name, "launcher_port");
    }

    #[test]
    fn faults_of_properties_and_link_are_told_together() {
        let faults = config(|value| {
            value["properties"]["client_port"] = json!("x");
            value["properties"]["log_level"] = json!("loud");
            value["spec"]["id"] = json!("a=b");
        })
        .unwrap_err();

        assert_eq!(faults.len(), 3, "{faults:?}");
        let text = faults_complaint(&faults).to_string();
        assert!(text.starts_with("3 faults in the properties of job etcd:"), "{text}");
    }
}
