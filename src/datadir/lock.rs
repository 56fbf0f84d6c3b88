//! Whether an etcd has the data open.

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
    let path = layout::db(data_dir);
    let file = match layout::open(&path) {
        Ok(Some(file)) => file,
        Ok(None) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        // Dropping the lock releases it.
        Ok(_released) => Ok(false),
        Err((_, Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, errno)) => Err(layout::about(&path, &errno.into())),
    }
}
