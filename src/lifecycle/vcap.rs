//! Handing what root wrote to user vcap, as whom the job's process runs.

use std::path::Path;

use anyhow::Context;
use nix::fcntl::AtFlags;
use nix::unistd::{User, fchownat};

/// Makes vcap the owner of one path; a symlink itself, never what it points to. Does nothing on a
/// machine without that user (unit tests).
pub fn own(path: &Path) -> anyhow::Result<()> {
    let Some(user) = User::from_name("vcap").context("look up user vcap")? else { return Ok(()) };
    fchownat(nix::fcntl::AT_FDCWD, path, Some(user.uid), Some(user.gid), AtFlags::AT_SYMLINK_NOFOLLOW)
        .with_context(|| format!("make vcap the owner of {}", path.display()))
}
