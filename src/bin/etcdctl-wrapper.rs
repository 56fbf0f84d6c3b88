//! The interpreter of the job's `bin/etcdctl` and `bin/etcdutl`; see the library's module `wrapper`.

use std::process::ExitCode;

use etcd_release::{report, wrapper};

fn main() -> ExitCode {
    #[expect(clippy::disallowed_methods, reason = "what the user set for etcdctl wins")]
    let failed = wrapper::run(std::env::args_os(), &|name| std::env::var_os(name));
    report::exit(Err(failed.into()))
}
