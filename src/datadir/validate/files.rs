//! Owners and permissions: what etcd would not be allowed to open, and what others may read.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::findings::{Details, Effect};
use crate::datadir::layout;
use crate::datadir::verdict::Finding;

/// What others have no business with.
const OTHERS: u32 = 0o077;

/// The files and directories that etcd has to open. The owner of the data directory is taken for etcd's user.
pub(super) fn check(data_dir: &Path, wal_dir: &Path) -> io::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let owner = match fs::symlink_metadata(data_dir) {
        Ok(metadata) => metadata.uid(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(findings),
        Err(error) => return Err(layout::about(data_dir, &error)),
    };
    let member = data_dir.join("member");
    for directory in [data_dir, &member, &member.join("snap"), wal_dir] {
        look(data_dir, directory, owner, &mut findings)?;
    }
    look(data_dir, &layout::db(data_dir), owner, &mut findings)?;
    for (directory, kinds) in [(member.join("snap"), &["snap", "db"][..]), (wal_dir.to_path_buf(), &["wal"])]
    {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries {
            let path = entry.map_err(|error| layout::about(&directory, &error))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name != "db" && layout::extension(name).is_some_and(|extension| kinds.contains(&extension)) {
                look(data_dir, &path, owner, &mut findings)?;
            }
        }
    }
    Ok(findings)
}

fn look(data_dir: &Path, path: &Path, owner: u32, findings: &mut Vec<Finding>) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(layout::about(path, &error)),
    };
    let shown = layout::shown(path, data_dir);
    let mode = metadata.permissions().mode() & 0o7777;
    let due = if metadata.is_dir() { 0o700 } else { 0o600 };
    if metadata.uid() != owner {
        let what = format!("it belongs to user {}, the data directory to user {owner}", metadata.uid());
        let why = "etcd runs as the owner of the data directory, and cannot open it unless that is root";
        let next = "give it to the owner of the data directory with chown";
        findings.push(Effect::Runs.finding(&shown, what).matters(why).next(next));
    }
    if mode & due != due {
        let what = format!("its mode is {mode:04o}: its own owner may not read and write it");
        let why = "etcd cannot open it unless it runs as root";
        findings
            .push(Effect::Runs.finding(&shown, what).matters(why).next("chmod it to the mode etcd gives it"));
    } else if mode & OTHERS != 0 && (metadata.is_dir() || layout::extension(&shown) != Some("snap")) {
        // etcd leaves `.snap` files to the umask; the directory keeps others out.
        let what = format!("its mode is {mode:04o}, etcd's own is {due:04o}");
        let why = "etcd only warns about it, but others on this machine may read all data";
        findings
            .push(Effect::Runs.finding(&shown, what).matters(why).next("chmod it to the mode etcd gives it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
