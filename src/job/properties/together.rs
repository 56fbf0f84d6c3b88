//! Rules between properties.

use std::time::Duration;

use super::{Fault, Properties};
use crate::etcd::settings::TlsVersion;

/// Adds what is wrong with properties together.
pub(super) fn check(properties: &Properties, faults: &mut Vec<Fault>) {
    ports(properties, faults);
    timing(properties, faults);
    tls(properties, faults);
}

fn ports(properties: &Properties, faults: &mut Vec<Fault>) {
    let ports = [
        ("client_port", Some(properties.client_port)),
        ("peer_port", Some(properties.peer_port)),
        ("launcher_port", Some(properties.launcher_port)),
        ("metrics_port", properties.metrics_port),
    ];
    for (position, (name, port)) in ports.iter().enumerate() {
        for (other, taken) in &ports[..position] {
            if port.is_some() && port == taken {
                faults.push(Fault {
                    name: (*name).to_owned(),
                    value: port.unwrap_or_default().to_string(),
                    rule: format!("is also {other}; each listener needs its own port"),
                    example: "2379, 2380 and 2382".to_owned(),
                });
            }
        }
    }
}

fn timing(properties: &Properties, faults: &mut Vec<Fault>) {
    // etcd refuses to start outside these bounds (config validation, seen with 3.6.16).
    let heartbeat = properties.etcd.heartbeat_interval;
    let election = properties.etcd.election_timeout;
    if election < heartbeat * 5 {
        faults.push(Fault {
            name: "election_timeout".to_owned(),
            value: format!("{election:?}"),
            rule: format!("must be at least five times heartbeat_interval ({heartbeat:?})"),
            example: "1s with heartbeat_interval 100ms".to_owned(),
        });
    }
    if election > Duration::from_secs(50) {
        faults.push(Fault {
            name: "election_timeout".to_owned(),
            value: format!("{election:?}"),
            rule: "must be at most 50s".to_owned(),
            example: "1s".to_owned(),
        });
    }
    for (name, duration) in [("heartbeat_interval", heartbeat), ("election_timeout", election)] {
        if duration.subsec_nanos() % 1_000_000 != 0 {
            faults.push(Fault {
                name: name.to_owned(),
                value: format!("{duration:?}"),
                rule: "must be whole milliseconds".to_owned(),
                example: "100ms".to_owned(),
            });
        }
    }
    if properties.etcd.auth_token_ttl.subsec_nanos() != 0 {
        faults.push(Fault {
            name: "auth_token_ttl".to_owned(),
            value: format!("{:?}", properties.etcd.auth_token_ttl),
            rule: "must be whole seconds".to_owned(),
            example: "5m".to_owned(),
        });
    }
}

fn tls(properties: &Properties, faults: &mut Vec<Fault>) {
    let suites = &properties.etcd.cipher_suites;
    if suites.is_empty() {
        return;
    }
    // Seen with 3.6.16: it does not start with both, since the suites of TLS 1.3 cannot be chosen.
    if properties.etcd.tls_min_version == TlsVersion::V1_3 {
        faults.push(Fault {
            name: "cipher_suites".to_owned(),
            value: suites.join(", "),
            rule: "must be empty with tls_min_version TLS1.3, whose suites cannot be chosen".to_owned(),
            example: "[]".to_owned(),
        });
    }
    // HTTP/2 makes one of the two compulsory; Go's server does not start without.
    if !suites.iter().any(|suite| suite.ends_with("_WITH_AES_128_GCM_SHA256")) {
        faults.push(Fault {
            name: "cipher_suites".to_owned(),
            value: suites.join(", "),
            rule: "must contain a suite with AES_128_GCM_SHA256, which HTTP/2 demands".to_owned(),
            example: "[TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]"
                .to_owned(),
        });
    }
}
