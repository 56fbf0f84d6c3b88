//! Named places where a test makes this process die as if by `kill -9`.
//!
//! Compiled to nothing unless the feature `fail-points` is on, which no shipped binary has. A test
//! names the place in the environment variable `ETCD_TOOLS_FAIL_POINT` (`act:write-token`), or in a
//! file `fail-point` in the launcher's record directory when the process is started by monit with a
//! purged environment. The file is removed before dying, so that the next start passes.
//!
//! Why not the `fail` crate: it brings scripting, a registry and three dependencies for what is
//! one comparison here.

/// Dies here if the test asked for `name`. Does nothing in shipped binaries.
pub fn reach(name: &str) {
    #[cfg(feature = "fail-points")]
    armed::reach(name);
    #[cfg(not(feature = "fail-points"))]
    let _ = name;
}

/// Whether a test wants this place to last: it names it in a file `hold-point` beside `fail-point`, and
/// removes that file when it has seen enough.
#[cfg(feature = "fail-points")]
pub fn is_held(name: &str) -> bool {
    std::fs::read_to_string("/var/vcap/store/etcd/.launcher/hold-point")
        .is_ok_and(|wanted| wanted.trim() == name)
}

#[cfg(feature = "fail-points")]
mod armed {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    /// Where a test leaves the name for processes whose environment it cannot set.
    const FILE: &str = "/var/vcap/store/etcd/.launcher/fail-point";

    pub(super) fn reach(name: &str) {
        #[expect(clippy::disallowed_methods, reason = "test builds only")]
        let by_environment = std::env::var("ETCD_TOOLS_FAIL_POINT").is_ok_and(|wanted| wanted == name);
        let by_file = std::fs::read_to_string(FILE).is_ok_and(|wanted| wanted.trim() == name);
        if by_file {
            // Ignored: if the file stays, the next start dies here again and the test says so.
            let _ = std::fs::remove_file(FILE);
        }
        if by_environment || by_file {
            let _ = kill(Pid::this(), Signal::SIGKILL);
        }
    }
}
