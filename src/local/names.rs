//! The names that machines of a deployment know each other by, published to all of them at once. There is
//! no DNS server: each machine has a hosts file. docs/local-director.md#dns-names

use anyhow::Result;

use super::dns;
use super::instance;
use super::model::Identity;
use super::state::{Deployment, Record};

/// The hosts file: each instance under the names of what it is known as, which is its former group until
/// that very instance is updated.
pub fn hosts(record: &Record) -> String {
    let identities: Vec<Identity> = record.instances.iter().map(|known| known.known_as().clone()).collect();
    dns::hosts(&identities, &[])
}

/// Tells all machines the names of all instances.
pub fn publish(deployment: &Deployment) -> Result<()> {
    let _turn = deployment.publishing();
    let record = deployment.record();
    let text = hosts(&record);
    for known in record.instances.iter().filter(|known| known.has_vm) {
        let directory = deployment.instance_directory(&known.identity);
        if instance::exists(&directory) {
            instance::write_hosts(&directory, &text)?;
        }
    }
    Ok(())
}
