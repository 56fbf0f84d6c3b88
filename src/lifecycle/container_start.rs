//! bpm's `hooks.pre_start`: runs on the host as root before every start of the container.
//!
//! Only here can be seen whether the persistent disk is mounted: inside bpm every volume is a mount. The
//! answer goes into a file the launcher reads; it refuses to start on a missing disk, and says so to
//! whoever asks, which a failing hook could not.

use std::io;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::intent::boot_id;
use super::{pre_start, records, vcap};
use crate::etcd::binary;
use crate::job::config::JobConfig;
use crate::job::paths::Paths;

const VERSION: u32 = 1;

/// What the hook saw of the persistent disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreSeen {
    /// Whether `/var/vcap/store` is a mount point, or no disk is due.
    pub mounted: bool,
    /// The boot this was seen in.
    pub boot_id: String,
}

/// Looks at the disk and leaves what it saw for the launcher.
pub fn run(paths: &Paths) -> anyhow::Result<()> {
    let job = JobConfig::load(&paths.job_json())?;
    let mounted =
        job.spec.persistent_disk == 0 || is_mount_point(&paths.store()).context("read the mount table")?;
    if mounted {
        pre_start::prepare_store(paths)?;
    }
    std::fs::create_dir_all(paths.ephemeral()).context("make the job's ephemeral directory")?;
    vcap::own(&paths.ephemeral())?;
    let seen = StoreSeen { mounted, boot_id: boot_id()? };
    let path = paths.store_seen();
    records::write_versioned(&path, VERSION, &seen).context("tell the launcher about the disk")?;
    vcap::own(&path)?;
    // Asked here, where it delays nobody: the launcher then finds it noted.
    binary::version(paths, job.properties.etcd_version)?;
    vcap::own(&paths.etcd_version())
}

/// Whether the launcher may trust the store. Without a word of this boot it may not.
pub fn store_is_mounted(paths: &Paths) -> io::Result<bool> {
    let seen: Option<StoreSeen> = records::read_versioned(&paths.store_seen(), VERSION)?;
    let boot_id = boot_id()?;
    Ok(seen.is_some_and(|seen| seen.mounted && seen.boot_id == boot_id))
}

/// Whether something is mounted exactly at `path`, bind mounts included (a comparison of device numbers
/// would miss those).
fn is_mount_point(path: &Path) -> io::Result<bool> {
    let path = path.canonicalize()?;
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    Ok(mount_points(&table).any(|point| Path::new(&point) == path))
}

/// The fifth field of each line, with the kernel's octal escapes undone.
fn mount_points(table: &str) -> impl Iterator<Item = String> {
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(|field| {
        field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_the_fifth_field_unescaped() {
        let table = "22 1 8:1 / / rw - ext4 /dev/a rw\n31 22 0:5 /x /var/vcap/my\\040store rw,nosuid shared:1 - ext4 /dev/b rw\n";

        assert_eq!(mount_points(table).collect::<Vec<_>>(), ["/", "/var/vcap/my store"]);
    }

    #[test]
    fn the_root_is_a_mount_point_and_a_new_directory_is_none() {
        let directory = tempfile::tempdir().unwrap();

        assert!(is_mount_point(Path::new("/")).unwrap());
        assert!(!is_mount_point(directory.path()).unwrap());
    }

    #[test]
    fn without_a_word_of_this_boot_the_store_is_not_trusted() {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths::below(directory.path());
        std::fs::create_dir_all(paths.ephemeral()).unwrap();
        let write = |seen: StoreSeen| records::write_versioned(&paths.store_seen(), VERSION, &seen).unwrap();

        assert!(!store_is_mounted(&paths).unwrap());
        write(StoreSeen { mounted: true, boot_id: "another".to_owned() });
        assert!(!store_is_mounted(&paths).unwrap());
        write(StoreSeen { mounted: false, boot_id: boot_id().unwrap() });
        assert!(!store_is_mounted(&paths).unwrap());
        write(StoreSeen { mounted: true, boot_id: boot_id().unwrap() });
        assert!(store_is_mounted(&paths).unwrap());
    }
}
