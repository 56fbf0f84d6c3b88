//! Whether an etcd has the data open.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::layout;

/// Whether another process holds the backend: etcd keeps an exclusive `flock` on it while it runs.
///
/// Takes a shared lock for a moment, never waits and creates nothing. An etcd that starts in this
/// moment waits for it, and two that ask at once do not see each other. A `db` that is no plain file
/// is not asked: [`super::classify`] calls it foreign.
pub fn in_use(data_dir: &Path) -> io::Result<bool> {
    // Dropping the lock releases it.
    hold(data_dir).map(|held| matches!(held, Held::ByAnother))
}

/// Who may read the backend.
#[derive(Debug)]
pub(super) enum Held {
    /// We, as long as this lives: an etcd that starts meanwhile waits. `None` if there is no backend.
    ByUs(#[expect(dead_code, reason = "it is held, not read")] Option<Flock<File>>),
    /// An etcd that runs.
    ByAnother,
}

/// Keeps every etcd from opening the backend.
pub(super) fn hold(data_dir: &Path) -> io::Result<Held> {
    let path = layout::db(data_dir);
    let file = match layout::open(&path) {
        Ok(Some(file)) => file,
        Ok(None) => return Ok(Held::ByUs(None)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Held::ByUs(None)),
        Err(error) => return Err(error),
    };
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(lock) => Ok(Held::ByUs(Some(lock))),
        Err((_, Errno::EWOULDBLOCK)) => Ok(Held::ByAnother),
        Err((_, errno)) => Err(layout::about(&path, &errno.into())),
    }
}
