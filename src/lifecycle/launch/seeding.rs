//! The data of a first member, written before etcd runs (docs/contract.md#seeded).

use std::collections::BTreeSet;

use serde_json::json;

use super::act::Obstacle;
use super::decide::plan::Bootstrap;
use crate::datadir::membership::{Listed, Membership};
use crate::datadir::seed::{SeedError, Seeding, populate};
use crate::job::paths::Paths;
use crate::journal;

/// Writes the data that a plan of a first boot describes.
pub(super) fn seed(plan: &Bootstrap, paths: &Paths) -> anyhow::Result<Result<(), Obstacle>> {
    let membership = membership(plan)?;
    let data_dir = paths.data_dir();
    let seeding =
        Seeding { membership: &membership, data_dir: &data_dir, wal_dir: paths.wal_dir(), db: None };
    match populate(&seeding) {
        Ok(seeded) => {
            let fields = json!({"member_id": seeded.member_id, "cluster_id": seeded.cluster_id});
            journal::info("the data of a first member is written", &fields);
            Ok(Ok(()))
        }
        // Somebody was quicker: the next observation sees it.
        Err(SeedError::Occupied { .. } | SeedError::Busy { .. }) => Ok(Err(Obstacle::Stale)),
        Err(error) => Err(error.complaint().into()),
    }
}

/// The members of the plan, under the names that etcd would be told.
fn membership(plan: &Bootstrap) -> anyhow::Result<Membership> {
    let listed: Listed = plan
        .members
        .iter()
        .map(|(instance, url)| Ok((instance.0.parse()?, BTreeSet::from([url.clone()]))))
        .collect::<anyhow::Result<_>>()?;
    let own = plan.instance.0.parse()?;
    let advertised = listed.get(&own).cloned().unwrap_or_default();
    Ok(Membership::found(&listed, plan.token.as_str(), &own, &advertised)
        .map_err(|unfit| unfit.complaint())?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::datadir::{Found, classify};
    use crate::etcd::id::PeerUrl;
    use crate::job::properties::BootstrapMethod;
    use crate::lifecycle::launch::attestation::{ClusterToken, InstanceId, Nonce};
    use crate::lifecycle::launch::records::{BootPhase, BootstrapRecord, RECORD_VERSION};

    fn plan() -> Bootstrap {
        let names = ["a", "b", "c"];
        let nonces: BTreeMap<InstanceId, Nonce> = names
            .iter()
            .zip(1..)
            .map(|(name, number)| (InstanceId::from(*name), Nonce::of([number; 16])))
            .collect();
        let record = BootstrapRecord {
            version: RECORD_VERSION,
            token: ClusterToken::of("etcd", nonces.values()),
            nonces,
            members: names
                .iter()
                .map(|name| (InstanceId::from(*name), PeerUrl::https(&format!("{name}.etcd"), 2380)))
                .collect(),
            method: BootstrapMethod::Seeded,
            phase: BootPhase::Prepared,
        };
        Bootstrap::from_record(&InstanceId::from("b"), &record, None).unwrap()
    }

    /// What the other launchers computed is what stands on the disk.
    #[test]
    fn the_data_is_the_planned_members_and_is_written_once() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());
        std::fs::create_dir_all(paths.records()).unwrap();
        let plan = plan();

        assert!(seed(&plan, &paths).unwrap().is_ok());

        let Found::Data(identity) = classify(&paths.data_dir(), None).unwrap() else { panic!("no data") };
        assert_eq!((identity.member_id, identity.cluster_id), (plan.member_id, plan.cluster_id));
        assert_eq!(identity.voters.map(|voters| voters.len()), Some(3));
        assert!(matches!(seed(&plan, &paths).unwrap(), Err(Obstacle::Stale)), "data is never overwritten");
    }
}
