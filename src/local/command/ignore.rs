//! `ignore`, `unignore`.

use anyhow::Result;

use super::{Session, identities, single};
use crate::local::slug::Slug;

/// Leaves an instance alone from now on (`ignored`), or no longer: deploys neither update nor delete it.
pub fn run(session: &Session, slug: &Slug, ignored: bool) -> Result<()> {
    let deployment = session.open()?;
    let all = identities(&deployment);
    let one = single(slug, &all)?;
    session.console.line(&format!("Using deployment '{}'\n", deployment.record().name))?;
    let _lock = session.lock(if ignored { "ignore" } else { "unignore" })?;
    deployment.change_instance(&one.id, |instance| instance.ignored = ignored)
}
