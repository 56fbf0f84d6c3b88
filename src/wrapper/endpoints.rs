//! Whom to ask and with which etcd: the client URLs of the members and the release line, from what BOSH rendered.

use std::ffi::OsStr;
use std::path::Path;

use serde::Deserialize;

use crate::etcd::id::ClientUrl;
use crate::etcd::release_line::ReleaseLine;
use crate::job::aliases;
use crate::report::Complaint;

/// Which members are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All of the peer link; etcdctl goes on to the next if one does not answer.
    Cluster,
    /// The one of this instance.
    Instance,
}

impl Scope {
    /// `LOCAL=true`, the wrapper's only switch.
    pub fn from_variable(local: Option<&OsStr>) -> Self {
        if local == Some(OsStr::new("true")) { Self::Instance } else { Self::Cluster }
    }
}

/// The part of `job.json` that is needed here. The checks of all of it are pre-start's.
#[derive(Debug, Deserialize)]
pub struct Job {
    properties: Properties,
    spec: Instance,
    links: Links,
    #[serde(default)]
    predecessors: Predecessors,
}

/// Members below a suffix have other addresses than BOSH says (docs/parity.md).
#[derive(Debug, Default, Deserialize)]
struct Predecessors {
    #[serde(rename = "etcd.dns_suffix")]
    dns_suffix: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Properties {
    client_port: u16,
    #[serde(default)]
    etcd_version: String,
}

#[derive(Debug, Deserialize)]
struct Links {
    etcd_peers: Option<Peers>,
}

#[derive(Debug, Deserialize)]
struct Peers {
    instances: Vec<Instance>,
}

#[derive(Debug, Deserialize)]
struct Instance {
    address: String,
    name: Option<String>,
    index: Option<u64>,
}

impl Instance {
    fn address(&self, suffix: Option<&str>) -> String {
        match (suffix, &self.name, self.index) {
            (Some(suffix), Some(group), Some(index)) => aliases::name_below(suffix, group, index),
            _ => self.address.clone(),
        }
    }
}

impl Job {
    /// Reads it.
    pub fn load(job_json: &Path) -> Result<Self, Complaint> {
        let unusable = |why: String| {
            Complaint::failed(
                format!("{} cannot be used: {why}", job_json.display()),
                "it names the members, so etcdctl now asks 127.0.0.1:2379, where none may listen",
                "call etcdctl as root, or give --endpoints; docs/etcdctl.md#troubleshooting",
            )
        };
        let text = std::fs::read(job_json).map_err(|error| unusable(error.to_string()))?;
        serde_json::from_slice(&text).map_err(|error| unusable(error.to_string()))
    }

    /// The release line that this instance runs; one that is none is pre-start's to tell.
    pub fn release_line(&self) -> ReleaseLine {
        self.properties.etcd_version.parse().unwrap_or(ReleaseLine::V3_6)
    }

    /// The value of `--endpoints`.
    pub fn endpoints(&self, scope: Scope) -> String {
        let instances = match (scope, &self.links.etcd_peers) {
            (Scope::Cluster, Some(peers)) => peers.instances.as_slice(),
            // Without a link there is one member, this one.
            (Scope::Cluster, None) | (Scope::Instance, _) => std::slice::from_ref(&self.spec),
        };
        let suffix = self.predecessors.dns_suffix.as_deref();
        let urls = instances
            .iter()
            .map(|instance| ClientUrl::https(&instance.address(suffix), self.properties.client_port));
        urls.map(String::from).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = r#"{"version": 1, "properties": {"client_port": 2379, "peer_port": 2380},
        "spec": {"id": "i", "address": "b.bosh"},
        "links": {"etcd_peers": {"address": "q", "instances": [{"address": "a.bosh"}, {"address": "b.bosh"}]}}}"#;

    fn job(text: &str) -> Job {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_release_line_is_that_of_the_job() {
        let of = |version: &str| {
            let text =
                JOB.replace("\"client_port\"", &format!("\"etcd_version\": \"{version}\", \"client_port\""));
            job(&text).release_line()
        };

        assert_eq!((of("3.4"), of("3.7")), (ReleaseLine::V3_4, ReleaseLine::V3_7));
        assert_eq!(job(JOB).release_line(), ReleaseLine::V3_6);
    }

    #[test]
    fn all_members_of_the_link_are_asked_and_only_this_one_with_local() {
        assert_eq!(job(JOB).endpoints(Scope::Cluster), "https://a.bosh:2379,https://b.bosh:2379");
        assert_eq!(job(JOB).endpoints(Scope::Instance), "https://b.bosh:2379");
    }

    #[test]
    fn a_member_without_a_link_is_alone() {
        let job = r#"{"properties": {"client_port": 4001}, "spec": {"address": "fd00::1"}, "links": {"etcd_peers": null}}"#;

        assert_eq!(self::job(job).endpoints(Scope::Cluster), "https://[fd00::1]:4001");
    }

    #[test]
    fn members_below_a_suffix_of_former_times_are_asked_by_that_name() {
        let job = r#"{"properties": {"client_port": 2379}, "spec": {"address": "u.bosh", "name": "etcd", "index": 1},
            "links": {"etcd_peers": {"instances": [{"address": "u.bosh", "name": "etcd", "index": 1}]}},
            "predecessors": {"etcd.dns_suffix": "etcd.internal"}}"#;

        for scope in [Scope::Cluster, Scope::Instance] {
            assert_eq!(self::job(job).endpoints(scope), "https://etcd-1.etcd.internal:2379");
        }
    }

    #[test]
    fn only_the_word_true_is_local() {
        for (value, scope) in [
            (Some("true"), Scope::Instance),
            (Some("false"), Scope::Cluster),
            (Some(""), Scope::Cluster),
            (Some("1"), Scope::Cluster),
            (None, Scope::Cluster),
        ] {
            assert_eq!(Scope::from_variable(value.map(OsStr::new)), scope, "{value:?}");
        }
    }

    #[test]
    fn a_file_that_is_missing_or_torn_is_told_with_a_way_out() {
        let directory = tempfile::tempdir().unwrap();
        let torn = directory.path().join("job.json");
        crate::atomic_file::write(&torn, &JOB.as_bytes()[..40], 0o600).unwrap();

        for path in [torn, directory.path().join("none.json")] {
            let doubt = Job::load(&path).unwrap_err();
            assert!(doubt.what.contains(path.to_str().unwrap()), "{doubt}");
            assert!(doubt.next.contains("--endpoints"), "{doubt}");
        }
    }
}
