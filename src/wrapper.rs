//! The etcdctl wrapper: finds the real tool, says who is asking and whom, and becomes it.
//!
//! It adds what an operator on a member would otherwise type each time: the administrator's certificate
//! and the addresses of all members. What the operator does type wins. Arguments are passed on
//! untouched, byte for byte, and nothing secret is ever an argument: certificates travel as paths in
//! the environment, and the process is *replaced* by the real tool, so that signals, exit code,
//! terminal and pipes are the tool's own.
//!
//! The job's `bin/etcdctl` and `bin/etcdutl` name this program as their interpreter. The kernel then
//! calls `etcdctl-wrapper TOOL SCRIPT ARGUMENT…`, and no shell has to start in between: that alone would
//! take longer than everything below (`ci/bench`).
//!
//! Why not clap: there is nothing to parse, only to look at (see [`command_line`]).

pub mod command_line;
pub mod credentials;
pub mod endpoints;
pub mod environment;
mod machine;
pub mod profile;
pub mod tool;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use self::environment::{Admin, Change, Variables};
use self::tool::Tool;
use crate::etcd::release_line::ReleaseLine;
use crate::job::paths::Paths;
use crate::report::{Complaint, Exit};

/// Becomes the real tool. `arguments` are this program's own, `variables` the environment. Returns
/// only if that failed.
pub fn run(arguments: impl IntoIterator<Item = OsString>, variables: &Variables<'_>) -> Complaint {
    let mut arguments = arguments.into_iter().skip(1);
    let tool = arguments.next().as_deref().and_then(Tool::named);
    let (Some(tool), Some(_script)) = (tool, arguments.next()) else {
        return usage();
    };
    let arguments: Vec<OsString> = arguments.collect();
    let paths = Paths::default();
    let job = endpoints::Job::load(&paths.job_json());
    let line = job.as_ref().map_or(ReleaseLine::V3_6, endpoints::Job::release_line);
    let binary = match tool::find(tool, line, &paths.etcd_package(line), variables("PATH").as_deref()) {
        Ok(binary) => binary,
        Err(complaint) => return complaint,
    };
    let mut command = Command::new(&binary);
    command.args(&arguments);
    if tool == Tool::Etcdctl {
        for change in connection(&paths, job.as_ref(), &arguments, variables) {
            match change {
                Change::Set(variable, value) => command.env(variable, value),
                Change::Remove(variable) => command.env_remove(variable),
            };
        }
    }
    // Also gives SIGPIPE and the signal mask, which Rust changed for itself, their usual meaning back.
    let error = command.exec();
    not_executed(&binary, &error)
}

/// What etcdctl needs to reach the cluster, beyond what the user said. Doubts are told, never fatal:
/// `etcdctl help` needs no certificate.
fn connection(
    paths: &Paths,
    job: Result<&endpoints::Job, &Complaint>,
    arguments: &[OsString],
    variables: &Variables<'_>,
) -> Vec<Change> {
    let said = environment::said(&command_line::flags(arguments), variables);
    let endpoints = if said.endpoints() {
        None
    } else {
        let local = endpoints::Scope::from_variable(variables("LOCAL").as_deref());
        job.map_err(warn).map(|job| job.endpoints(local)).ok()
    };
    let admin = Admin::below(&paths.config());
    let changes = environment::decide(said, &admin, endpoints);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    for doubt in credentials::doubts(&admin, &changes, now) {
        warn(&doubt);
    }
    changes
}

fn warn(doubt: &Complaint) {
    eprintln!("warning: {doubt}");
}

fn usage() -> Complaint {
    Complaint {
        exit: Exit::Usage,
        ..Complaint::failed(
            "etcdctl-wrapper is called without the name of a tool and of the script it interprets",
            "it is the interpreter of the job's bin/etcdctl and bin/etcdutl, not a command of its own",
            "call /var/vcap/jobs/etcd/bin/etcdctl; docs/etcdctl.md#how-it-works",
        )
    }
}

/// 126 is what shells say for "found, but cannot be executed".
fn not_executed(binary: &Path, error: &std::io::Error) -> Complaint {
    Complaint {
        exit: Exit::Code(126),
        ..Complaint::failed(
            format!("{} cannot be executed: {error}", binary.display()),
            "nothing was asked of the cluster",
            "deploy again, which installs the packages anew; docs/etcdctl.md#exit-codes",
        )
    }
}
