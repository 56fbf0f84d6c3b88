//! Named places where a test makes this process die as if by `kill -9`.
//!
//! Compiled to nothing unless the feature `fail-points` is on, which no shipped binary has. A test
//! names the place in the environment variable `ETCD_TOOLS_FAIL_POINT` (`act:write-token`), or in a
//! file `fail-point` in the launcher's record directory when the process is started by monit with a
//! purged environment. Before dying the name is taken out of the file, so that the next start passes; the file may
//! name several places, one a line, to die at one after the other, and is gone after the last.
//!
//! Why not the `fail` crate: it brings scripting, a registry and three dependencies for what is
//! one comparison here.

/// Declares the steps of one act, each a place where a test makes the process die. A step's name never changes.
///
/// Gives the enum `ALL`, `name`, `fail_point` (`ACT:NAME`), `reach`, which is where the process dies, and `Display`.
#[macro_export]
macro_rules! steps {
    (
        $(#[$meta:meta])*
        $visibility:vis enum $enum:ident of $act:literal {
            $($(#[$doc:meta])* $step:ident = $name:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $visibility enum $enum {
            $($(#[$doc])* $step,)+
        }

        impl $enum {
            /// All steps.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$step),+];

            /// Its stable name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$step => $name,)+
                }
            }

            /// The fail point that a test names to make the process die here.
            pub fn fail_point(self) -> String {
                format!(concat!($act, ":{}"), self.name())
            }

            /// Here the process dies if a test asked for it.
            pub fn reach(self) {
                $crate::fail_point::reach(&self.fail_point());
            }
        }

        impl std::fmt::Display for $enum {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        #[cfg(test)]
        #[test]
        fn each_step_has_its_own_name_in_kebab_case() {
            let names: std::collections::BTreeSet<&str> = $enum::ALL.iter().map(|step| step.name()).collect();

            assert_eq!(names.len(), $enum::ALL.len());
            let is_kebab = |name: &&str| name.bytes().all(|byte| byte == b'-' || byte.is_ascii_lowercase());
            assert!(names.iter().all(is_kebab), "{names:?}");
        }
    };
}

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
        let by_file = take(name);
        if by_environment || by_file {
            let _ = kill(Pid::this(), Signal::SIGKILL);
        }
    }

    /// Whether the file names this place next; then it does not any longer.
    #[expect(clippy::disallowed_methods, reason = "test builds only")]
    fn take(name: &str) -> bool {
        let Ok(wanted) = std::fs::read_to_string(FILE) else { return false };
        let mut places = wanted.lines().map(str::trim).filter(|place| !place.is_empty());
        if places.next() != Some(name) {
            return false;
        }
        let rest: Vec<&str> = places.collect();
        // Removed and written anew, as it may be another user's. Ignored: if the file stays, the next start dies here
        // again and the test says so.
        let _ = std::fs::remove_file(FILE);
        if !rest.is_empty() {
            let _ = std::fs::write(FILE, rest.join("\n"));
        }
        true
    }
}
