//! What clients notice of another number of instances.
//!
//! The writer knows the members there are before the deploy. BOSH restarts every member whose link changes: with
//! one member before, nobody the writer knows serves meanwhile.

use std::path::Path;

use anyhow::Result;

use crate::figure::Figure;
use crate::support::fleet::{Fleet, all_ready, voters};
use crate::support::load::Report;
use crate::writer::{at_rest, failed, longest, under_load};

/// How often each change is made.
const ROUNDS: usize = 3;

/// Failed writes and the longest time between two acknowledged ones, for each change and at rest.
pub fn measure(packages: &Path) -> Result<Vec<Figure>> {
    let fleet = Fleet::new(&["bootstrap.yml", "scale.yml"]);
    deploy(&fleet, packages, 1);
    let (mut to_3, mut to_5, mut back, mut rest) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        to_3.push(scaled(&fleet, packages, 3)?);
        rest.push(at_rest(&fleet)?);
        to_5.push(scaled(&fleet, packages, 5)?);
        back.push(scaled(&fleet, packages, 3)?);
        deploy(&fleet, packages, 1);
    }
    fleet.delete();
    Ok(vec![
        longest("scaling_1_to_3_longest_gap", &to_3),
        failed("scaling_3_to_5_failed_writes", &to_5).goal(0.0),
        longest("scaling_3_to_5_longest_gap", &to_5).goal(1000.0),
        failed("scaling_5_to_3_failed_writes", &back).goal(0.0),
        longest("scaling_5_to_3_longest_gap", &back).goal(1000.0),
        longest("scaling_at_rest_longest_gap", &rest),
    ])
}

fn scaled(fleet: &Fleet, packages: &Path, members: usize) -> Result<Report> {
    under_load(fleet, || {
        deploy(fleet, packages, members);
        Ok(())
    })
}

/// Ends when exactly so many members serve.
fn deploy(fleet: &Fleet, packages: &Path, members: usize) {
    let packages = packages.to_str().expect("the path of the packages is UTF-8");
    let instances = format!("etcd_instances={members}");
    fleet.deploy_with(&["--packages", packages, "-v", &instances]).succeeded();
    fleet.eventually(&format!("{members} voters, all ready"), |seen| {
        voters(seen) == members && all_ready(seen)
    });
}
