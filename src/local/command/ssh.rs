//! `ssh`.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Session, identities, needs_root, single};
use crate::local::slug::Slug;
use crate::local::{instance, sandbox};
use crate::report::Complaint;

/// Becomes a login shell of root inside an instance, running `command` if there is one; returns only to
/// tell why that failed.
pub fn run(session: &Session, slug: &Slug, command: Option<&str>) -> Result<()> {
    needs_root()?;
    let deployment = session.open()?;
    let all = identities(&deployment);
    let one = single(slug, &all)?;
    let directory = deployment.instance_directory(one);
    if !instance::exists(&directory) {
        return Err(Complaint::failed(
            format!("{one} has no machine"),
            "it was stopped with --hard, or its creation failed",
            format!("`etcd-local start {}` makes it again", one.slug()),
        )
        .into());
    }
    instance::switch_on(&directory)?;
    sandbox::enter(&directory)?;
    let mut shell = Command::new("bash");
    // As `bosh ssh` makes a home: this machine's root may have anything in its profile.
    let home = "/var/vcap/bosh_ssh";
    fs::DirBuilder::new().recursive(true).mode(0o700).create(home).with_context(|| format!("make {home}"))?;
    shell.arg("-l").current_dir(home);
    // A login begins with nothing of the caller's environment but the terminal.
    let terminal = terminal();
    shell.env_clear().envs([("HOME", home), ("USER", "root"), ("LOGNAME", "root"), ("SHELL", "/bin/bash")]);
    shell.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    shell.envs(terminal.map(|terminal| ("TERM", terminal)));
    if let Some(command) = command {
        shell.arg("-c").arg(command);
    }
    Err(shell.exec()).context("run bash")
}

#[expect(clippy::disallowed_methods, reason = "a login shell is told its terminal, as sshd does")]
fn terminal() -> Option<std::ffi::OsString> {
    std::env::var_os("TERM")
}
