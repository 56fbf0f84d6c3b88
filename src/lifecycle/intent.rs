//! What pre-stop was told about the next state, kept for drain, which is told something else.
//!
//! Lies in `sys/run` with the boot id, so that an intent never survives into another life of the VM
//! (docs/contract.md#bosh-scripts).

use std::io;

use serde::{Deserialize, Serialize};

use super::records::{read_versioned, write_versioned};
use crate::job::paths::Paths;

/// What becomes of a VM, instance or deployment, in BOSH's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    /// It stays.
    Keep,
    /// It goes.
    Delete,
}

/// The three next states pre-stop gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// `BOSH_VM_NEXT_STATE`.
    pub vm: Next,
    /// `BOSH_INSTANCE_NEXT_STATE`: the only reliable "leave the cluster".
    pub instance: Next,
    /// `BOSH_DEPLOYMENT_NEXT_STATE`: all members stop at the same time.
    pub deployment: Next,
}

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Stored {
    boot_id: String,
    intent: Intent,
}

/// Writes the intent for drain.
pub fn write(paths: &Paths, intent: Intent) -> io::Result<()> {
    std::fs::create_dir_all(paths.run())?;
    write_versioned(&paths.intent(), VERSION, &Stored { boot_id: boot_id()?, intent })
}

/// The intent of the stop that is under way; `None` if there is none of this boot.
pub fn read(paths: &Paths) -> io::Result<Option<Intent>> {
    let stored: Option<Stored> = read_versioned(&paths.intent(), VERSION)?;
    let boot_id = boot_id()?;
    Ok(stored.filter(|stored| stored.boot_id == boot_id).map(|stored| stored.intent))
}

/// Forgets the intent: a new start begins a new life.
pub fn clear(paths: &Paths) -> io::Result<()> {
    crate::atomic_file::remove(&paths.intent())
}

/// The kernel's id of this boot.
pub fn boot_id() -> io::Result<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAVE: Intent = Intent { vm: Next::Delete, instance: Next::Delete, deployment: Next::Keep };

    #[test]
    fn an_intent_is_read_back_until_it_is_cleared() {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths::below(directory.path());

        assert_eq!(read(&paths).unwrap(), None);
        write(&paths, LEAVE).unwrap();
        assert_eq!(read(&paths).unwrap(), Some(LEAVE));
        clear_twice(&paths);
        assert_eq!(read(&paths).unwrap(), None);
    }

    fn clear_twice(paths: &Paths) {
        clear(paths).unwrap();
        clear(paths).unwrap();
    }

    #[test]
    fn an_intent_of_another_boot_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths::below(directory.path());
        std::fs::create_dir_all(paths.run()).unwrap();

        write_versioned(&paths.intent(), VERSION, &Stored { boot_id: "another".to_owned(), intent: LEAVE })
            .unwrap();

        assert_eq!(read(&paths).unwrap(), None);
    }
}
