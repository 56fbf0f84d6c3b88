//! What cfcr-etcd-release and jfmyers9/etcd-release called the properties, and what that means here, so that their
//! manifests keep their meaning when this release takes their place. docs/parity.md has the table.
//!
//! The rules are in docs/contract.md#former-names. Certificates are not here: templates take the first spelling that
//! is set. Everything that has a default is, because a template cannot tell a default from what an operator wrote.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::properties::Fault;

/// The properties as two predecessors spelled them, with the name of today; docs/parity.md says the same.
pub const SPELLINGS: [(&str, &str); 20] = [
    ("debug", "log_level"),
    ("log_package_levels", "log_level"),
    ("etcd.dns_suffix", "link etcd_peers"),
    ("etcd.metrics_port", "metrics_port"),
    ("etcd.metrics_protocol", "metrics_protocol"),
    ("users", "users"),
    ("tls.etcd.ca", "tls.server.ca"),
    ("tls.etcd.certificate", "tls.server.certificate"),
    ("tls.etcd.private_key", "tls.server.private_key"),
    ("tls.etcdctl-root.certificate", "tls.admin.certificate"),
    ("tls.etcdctl-root.private_key", "tls.admin.private_key"),
    ("tls.etcdctl.ca", "tls.client.ca"),
    ("tls.etcdctl.certificate", "tls.client.certificate"),
    ("tls.etcdctl.private_key", "tls.client.private_key"),
    ("tls.trusted_ca", "tls.server.ca"),
    ("tls.cert", "tls.server.certificate"),
    ("tls.key", "tls.server.private_key"),
    ("tls.peer_trusted_ca", "tls.peer.ca"),
    ("tls.peer_cert", "tls.peer.certificate"),
    ("tls.peer_key", "tls.peer.private_key"),
];

/// What an operator should know about a spelling that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The property.
    pub name: &'static str,
    /// What is made of it.
    pub what: String,
}

/// The predecessors' part of `job.json`, as far as it was set.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Predecessors {
    debug: Value,
    log_package_levels: Value,
    #[serde(rename = "etcd.dns_suffix")]
    dns_suffix: Value,
    #[serde(rename = "etcd.metrics_port")]
    metrics_port: Value,
    #[serde(rename = "etcd.metrics_protocol")]
    metrics_protocol: Value,
    users: Vec<Value>,
    two_values: Vec<(String, String)>,
}

impl Predecessors {
    /// Writes into `properties` what the former spellings mean; what they contradict is a fault.
    pub fn merge(&self, properties: &mut Map<String, Value>, faults: &mut Vec<Fault>) -> Vec<Note> {
        let mut merge = Merge { properties, faults, notes: Vec::new() };
        self.logging(&mut merge);
        merge.renamed("metrics_port", &Value::Null, "etcd.metrics_port", &self.metrics_port);
        merge.renamed("metrics_protocol", &json!("https"), "etcd.metrics_protocol", &self.metrics_protocol);
        if !self.metrics_port.is_null() && !self.metrics_protocol.is_null() {
            merge.renamed("metrics_listen_address", &Value::Null, "etcd.metrics_port", &json!("0.0.0.0"));
        }
        for name in ["heartbeat_interval", "election_timeout"] {
            merge.milliseconds(name);
        }
        for name in ["grpc_keepalive_interval", "grpc_keepalive_min_time", "grpc_keepalive_timeout"] {
            merge.zero_is_off(name);
        }
        for name in ["cors", "wal_dir"] {
            merge.empty_is_not_set(name);
        }
        self.users(&mut merge);
        for (name, former) in &self.two_values {
            merge.faults.push(two_values(name, "(set)", former, "(set to something else)"));
        }
        merge.notes
    }

    fn users(&self, merge: &mut Merge<'_>) {
        let Some(names) = self.users.iter().map(Value::as_str).collect::<Option<Vec<_>>>() else {
            let names = Value::Array(self.users.clone());
            merge.faults.push(fault("users", &names, "must be a list of users with names", "[{name: root}]"));
            return;
        };
        if !names.is_empty() {
            merge.note(
                "users",
                format!(
                    "the list ({}) is not applied by this version: users, roles and passwords stay as they are on \
                     the disks; change them with etcdctl",
                    names.join(", ")
                ),
            );
        }
    }

    /// The suffix of the members' names, if there is one.
    pub fn dns_suffix(&self, faults: &mut Vec<Fault>) -> Option<String> {
        match &self.dns_suffix {
            Value::Null => None,
            Value::String(suffix) if is_domain(suffix) => Some(suffix.clone()),
            other => {
                faults.push(fault("etcd.dns_suffix", other, "must be a DNS domain", "etcd.cfcr.internal"));
                None
            }
        }
    }

    fn logging(&self, merge: &mut Merge<'_>) {
        match &self.debug {
            Value::Null | Value::Bool(false) => {}
            Value::Bool(true) => merge.renamed("log_level", &json!("info"), "debug", &json!("debug")),
            other => merge.faults.push(fault("debug", other, "must be true or false", "true")),
        }
        match &self.log_package_levels {
            Value::Null => {}
            Value::String(text) if text.is_empty() => {}
            Value::String(_) => merge.note(
                "log_package_levels",
                "has no effect: etcd has one level for all its parts now, log_level".to_owned(),
            ),
            other => merge.faults.push(fault(
                "log_package_levels",
                other,
                "must be a text; it has no effect",
                "log_level: debug",
            )),
        }
    }
}

/// The name of a member below a suffix: the group with dashes for underscores, and the index.
pub fn name_below(suffix: &str, group: &str, index: u64) -> String {
    format!("{}-{index}.{suffix}", group.replace('_', "-"))
}

/// Labels of letters, digits and dashes.
fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.split('.').all(label)
}

struct Merge<'a> {
    properties: &'a mut Map<String, Value>,
    faults: &'a mut Vec<Fault>,
    notes: Vec<Note>,
}

impl Merge<'_> {
    fn note(&mut self, name: &'static str, what: String) {
        self.notes.push(Note { name, what });
    }

    /// Takes the former spelling where ours is at its default. A default that somebody wrote looks the same, and
    /// then the former spelling counts, too: it is the one that says something.
    fn renamed(&mut self, name: &str, default: &Value, former: &'static str, value: &Value) {
        if value.is_null() {
            return;
        }
        let Some(ours) = self.properties.get_mut(name) else { return };
        if *ours == *default {
            *ours = value.clone();
        } else if ours != value {
            self.faults.push(two_values(name, &ours.to_string(), former, &value.to_string()));
        }
    }

    /// A bare number counts milliseconds, as etcd's flags do.
    fn milliseconds(&mut self, name: &'static str) {
        let Some(value) = self.properties.get_mut(name) else { return };
        if let Some(number) = value.as_u64() {
            *value = json!(format!("{number}ms"));
            self.note(name, format!("{number} is taken for {number}ms; write it with its unit"));
        }
    }

    fn zero_is_off(&mut self, name: &'static str) {
        let Some(value) = self.properties.get_mut(name) else { return };
        if *value == json!(0) || *value == json!("0") {
            *value = json!("0s");
        }
    }

    fn empty_is_not_set(&mut self, name: &'static str) {
        let Some(value) = self.properties.get_mut(name) else { return };
        if *value == json!("") {
            *value = Value::Null;
        }
    }
}

fn fault(name: &str, value: &Value, rule: &str, example: &str) -> Fault {
    Fault {
        name: name.to_owned(),
        value: value.to_string(),
        rule: rule.to_owned(),
        example: example.to_owned(),
    }
}

/// Nobody can tell which of the two an operator means.
fn two_values(name: &str, value: &str, former: &str, theirs: &str) -> Fault {
    Fault {
        name: name.to_owned(),
        value: value.to_owned(),
        rule: format!("is also said by its former name {former}, differently: {theirs}"),
        example: format!("remove {former}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::tests::config;
    use super::super::properties::tests::defaults;
    use super::*;

    fn merged(theirs: &Value, ours: &[(&str, Value)]) -> (Map<String, Value>, Vec<Note>, Vec<String>) {
        let theirs: Predecessors = serde_json::from_value(theirs.clone()).unwrap();
        let mut properties = defaults();
        properties.extend(ours.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let mut faults = Vec::new();
        let notes = theirs.merge(&mut properties, &mut faults);
        (properties, notes, faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn nothing_set_changes_nothing() {
        let (properties, notes, faults) = merged(&json!({}), &[]);

        assert_eq!(properties, defaults());
        assert_eq!((notes, faults), (Vec::new(), Vec::new()));
    }

    /// What jfmyers9/etcd-release writes for its own defaults, all of it.
    #[test]
    fn a_former_spelling_counts_where_ours_is_at_its_default() {
        #[rustfmt::skip]
        let cases = [
            (json!({"debug": true}),                      "log_level",        json!("info"),   json!("debug")),
            (json!({"debug": false}),                     "log_level",        json!("info"),   json!("info")),
            (json!({"debug": true}),                      "log_level",        json!("debug"),  json!("debug")),
            (json!({"etcd.metrics_port": 2381}),          "metrics_port",     Value::Null,     json!(2381)),
            (json!({"etcd.metrics_port": 2381}),          "metrics_port",     json!(2381),     json!(2381)),
            (json!({"etcd.metrics_port": 2381}),          "metrics_listen_address", Value::Null, Value::Null),
            (json!({"etcd.metrics_port": 2381, "etcd.metrics_protocol": "https"}),
                                                          "metrics_listen_address", Value::Null, json!("0.0.0.0")),
            (json!({"etcd.metrics_protocol": "http"}),    "metrics_protocol", json!("https"),  json!("http")),
            (json!({"etcd.metrics_protocol": "https"}),   "metrics_protocol", json!("https"),  json!("https")),
            (json!({}),                                   "heartbeat_interval", json!(100),    json!("100ms")),
            (json!({}),                                   "election_timeout", json!(1000),     json!("1000ms")),
            (json!({}),                                   "election_timeout", json!("1s"),     json!("1s")),
            (json!({}),                                   "grpc_keepalive_interval", json!(0), json!("0s")),
            (json!({}),                                   "grpc_keepalive_timeout", json!("20s"), json!("20s")),
            (json!({}),                                   "cors",             json!(""),       Value::Null),
            (json!({}),                                   "wal_dir",          json!(""),       Value::Null),
            (json!({}),                                   "wal_dir",          json!("/x"),     json!("/x")),
        ];
        for (theirs, name, ours, expected) in cases {
            let (properties, _, faults) = merged(&theirs, &[(name, ours.clone())]);

            assert_eq!(properties[name], expected, "{theirs} and {name}: {ours}");
            assert_eq!(faults, [""; 0], "{theirs} and {name}: {ours}");
        }
    }

    #[test]
    fn two_spellings_that_say_different_things_are_a_fault() {
        let (.., faults) = merged(
            &json!({"debug": true, "etcd.metrics_port": 2381,
                    "two_values": [["tls.server.ca", "tls.etcd.ca"]]}),
            &[("log_level", json!("error")), ("metrics_port", json!(9379))],
        );

        assert_eq!(
            faults,
            [
                "log_level: \"error\" is also said by its former name debug, differently: \"debug\"; for example: remove debug",
                "metrics_port: 9379 is also said by its former name etcd.metrics_port, differently: 2381; for example: remove etcd.metrics_port",
                "tls.server.ca: (set) is also said by its former name tls.etcd.ca, differently: (set to something else); for example: remove tls.etcd.ca",
            ]
        );
    }

    #[test]
    fn what_is_not_done_any_more_is_told_and_no_password_with_it() {
        let (_, notes, faults) = merged(
            &json!({"users": ["root", "flanneld"], "log_package_levels": "etcdserver=DEBUG"}),
            &[("heartbeat_interval", json!(250))],
        );

        let told: Vec<String> = notes.iter().map(|note| format!("{}: {}", note.name, note.what)).collect();
        assert_eq!(faults, [""; 0]);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].starts_with("log_package_levels: has no effect"), "{told:?}");
        assert!(told[1].starts_with("heartbeat_interval: 250 is taken for 250ms"), "{told:?}");
        assert!(told[2].contains("(root, flanneld) is not applied"), "{told:?}");
    }

    #[test]
    fn values_of_the_wrong_kind_are_faults() {
        let (.., faults) = merged(&json!({"debug": "yes", "log_package_levels": 5}), &[]);

        assert_eq!(faults.len(), 2, "{faults:?}");
    }

    /// Certificates of cfcr-etcd-release with a suffix carry no other names, so nothing else can be dialled.
    #[test]
    fn members_below_a_suffix_are_named_by_group_and_index() {
        let job = config(|value| {
            value["predecessors"] = json!({"etcd.dns_suffix": "dummy.etcd.internal"});
            value["spec"]["name"] = json!("etcd_group");
            for (index, instance) in
                value["links"]["etcd_peers"]["instances"].as_array_mut().unwrap().iter_mut().enumerate()
            {
                instance["name"] = json!("etcd_group");
                instance["index"] = json!(2 - index);
            }
            value["spec"]["index"] = json!(1);
        })
        .unwrap();

        assert_eq!(job.spec.address, "etcd-group-1.dummy.etcd.internal");
        assert_eq!(job.own().peer_url.as_str(), "https://etcd-group-1.dummy.etcd.internal:2380");
        let others: Vec<&str> = job.others().map(|peer| peer.client_url.as_str()).collect();
        assert_eq!(
            others,
            [
                "https://etcd-group-0.dummy.etcd.internal:2379",
                "https://etcd-group-2.dummy.etcd.internal:2379"
            ]
        );
    }

    #[test]
    fn a_suffix_that_is_no_domain_is_a_fault() {
        for wrong in [json!("https://x"), json!(""), json!("a..b"), json!(5)] {
            let faults = config(|value| value["predecessors"] = json!({"etcd.dns_suffix": wrong.clone()}))
                .unwrap_err();

            assert_eq!(faults[0].name, "etcd.dns_suffix", "{wrong}");
        }
    }
}
