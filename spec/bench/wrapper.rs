//! What the job's `etcdctl` adds to etcdctl, next to a bash script that does the same.
//!
//! The tool behind all three ways is a small program in etcdctl's place: what is in front of it cannot tell,
//! and the start of a Go program varies by more than what is measured.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use etcd_release::atomic_file;
use etcd_release::job::config::JobConfig;
use etcd_release::local::sandbox;

use crate::figure::Figure;
use crate::place::Place;
use crate::samples::Samples;
use crate::support::fleet::Fleet;

/// How many times the ways are compared.
const ROUNDS: usize = 60;
/// How often each way is taken in a round; the fastest counts. What is measured is a tenth of what any other
/// process of the machine takes away in passing.
const TRIES: usize = 5;
/// Takes etcdctl's place.
const STAND_IN: &str = "/bin/true";
const BARE: &str = "/var/vcap/packages/etcd/bin/etcdctl";
const WRAPPED: &str = "/var/vcap/jobs/etcd/bin/etcdctl";

/// `wrapper_added` and `wrapper_bash_added`: milliseconds beyond those of bare etcdctl.
pub fn measure(fleet: &Fleet) -> Result<Vec<Figure>> {
    let places = Place::all(fleet);
    let place = places.first().context("there is no instance")?;
    let directory = tempfile::tempdir().context("make a temporary directory")?;
    let bash = directory.path().join("etcdctl");
    atomic_file::write(&bash, bash_script(&endpoints(place)?).as_bytes(), 0o755)
        .context("write the bash script")?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).context("open the directory")?;

    let ways = [Path::new(BARE), Path::new(WRAPPED), &bash];
    let rounds = place.inside(|| {
        sandbox::bind(Path::new(STAND_IN), Path::new(BARE))?;
        (0..ROUNDS).map(|_| one_round(&ways)).collect::<Result<Vec<_>>>()
    })?;

    let added = |way: usize| {
        Samples::differences(&rounds.iter().map(|took| (took[0], took[way])).collect::<Vec<_>>())
    };
    Ok(vec![
        Figure::median("wrapper_added", &added(1), "ms").goal(0.5),
        Figure::median("wrapper_bash_added", &added(2), "ms"),
    ])
}

/// The fastest of several tries of every way. Each try begins with another way, so that none always finds the
/// machine as the same other one left it.
fn one_round(ways: &[&Path; 3]) -> Result<[f64; 3]> {
    let mut took = [f64::INFINITY; 3];
    for number in 0..TRIES {
        for turn in 0..ways.len() {
            let way = (number + turn) % ways.len();
            took[way] = took[way].min(milliseconds(ways[way])?);
        }
    }
    Ok(took)
}

fn milliseconds(program: &Path) -> Result<f64> {
    let mut command = Command::new(program);
    command.arg("version").env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let status = command.status().with_context(|| format!("run {}", program.display()))?;
    let took = start.elapsed();
    if !status.success() {
        bail!("{} version: {status}", program.display());
    }
    Ok(took.as_secs_f64() * 1e3)
}

fn endpoints(place: &Place) -> Result<String> {
    let job = JobConfig::load(&place.paths().job_json())?;
    Ok(job.instances.iter().map(|peer| peer.client_url.to_string()).collect::<Vec<_>>().join(","))
}

/// What a template would render: the endpoints are constants, flags and variables of the user win. It only
/// starts bash and etcdctl, and leaves out the wrapper's look at the certificates' dates, which bash could
/// not take without starting openssl.
fn bash_script(endpoints: &str) -> String {
    format!(
        r#"#!/bin/bash
set -eu
certificate= endpoints=
for argument; do
  case $argument in
    --) break ;;
    --cacert | --cacert=* | --cert | --cert=* | --key | --key=*) certificate=given ;;
    --endpoints | --endpoints=*) endpoints=given ;;
  esac
done
if [[ -z $certificate ]]; then
  export ETCDCTL_CACERT=${{ETCDCTL_CACERT:-/var/vcap/jobs/etcd/config/admin-ca.crt}}
  export ETCDCTL_CERT=${{ETCDCTL_CERT:-/var/vcap/jobs/etcd/config/admin.crt}}
  export ETCDCTL_KEY=${{ETCDCTL_KEY:-/var/vcap/jobs/etcd/config/admin.key}}
fi
if [[ -z $endpoints ]]; then
  export ETCDCTL_ENDPOINTS=${{ETCDCTL_ENDPOINTS:-{endpoints}}}
fi
exec {BARE} "$@"
"#
    )
}
