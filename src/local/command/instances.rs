//! `instances`.

use std::time::Duration;

use anyhow::Result;

use super::{Session, identities, single};
use crate::local::monit::{JobState, Request, ServiceState, client};
use crate::local::slug::Slug;
use crate::local::state::{Deployment, Instance};
use crate::local::{instance, worker};
use crate::table::Table;

/// Shows all instances; `ps` adds their processes, `details` what the director knows.
pub fn run(session: &Session, ps: bool, details: bool) -> Result<()> {
    let deployment = session.open()?;
    let record = deployment.record();
    let mut header = vec!["Instance", "Process State", "AZ", "IPs", "Deployment"];
    if ps {
        header.insert(1, "Process");
    }
    if details {
        header.extend(["State", "VM CID", "Disk CIDs", "Index", "Bootstrap", "Ignore"]);
    }
    let mut known = record.instances.clone();
    known.sort_by(|a, b| (&a.identity.group, a.identity.index).cmp(&(&b.identity.group, b.identity.index)));
    let mut rows = Vec::new();
    for one in &known {
        let (state, services) = look(&deployment, one, Duration::from_millis(record.monit_cycle_ms));
        // A dash where there is nothing that could have a state.
        let word = state.map_or("-", |state| if services.is_empty() { "-" } else { state.word() });
        rows.push(row(one, None, word, ps, details));
        if ps {
            let of_service =
                |service: &ServiceState| row(one, Some(&service.name), service.status.word(), ps, details);
            rows.extend(services.iter().map(of_service));
        }
    }
    session.console.table(&Table {
        title: format!("Deployment '{}'", record.name),
        content: "instances",
        header,
        rows,
        count: Some(known.len()),
    })
}

/// Prints the directory that an instance sees as `/var/vcap`, for scripts and tests.
pub fn directory(session: &Session, slug: &Slug) -> Result<()> {
    let deployment = session.open()?;
    let all = identities(&deployment);
    let one = single(slug, &all)?;
    session.console.answer(&deployment.instance_directory(one).root().display().to_string())
}

fn row(known: &Instance, process: Option<&str>, state: &str, ps: bool, details: bool) -> Vec<String> {
    let identity = &known.identity;
    let of_instance = |value: String| if process.is_some() { "-".to_owned() } else { value };
    let mut row = vec![identity.slug()];
    if ps {
        row.push(process.unwrap_or("-").to_owned());
    }
    row.push(state.to_owned());
    row.push(of_instance(identity.az.clone().unwrap_or_else(|| "-".to_owned())));
    row.push(of_instance(identity.ip.to_string()));
    row.push(of_instance(identity.deployment.clone()));
    if details {
        let disk = known.disk.as_ref().map_or("-", |disk| disk.id.as_str());
        row.extend(
            [
                known.desired.word().to_owned(),
                if known.has_vm { identity.id.clone() } else { "-".to_owned() },
                disk.to_owned(),
                identity.index.to_string(),
                identity.bootstrap.to_string(),
                known.ignored.to_string(),
            ]
            .map(of_instance),
        );
    }
    row
}

/// What the agent of an instance says. Its supervisor is started again if it died.
fn look(deployment: &Deployment, known: &Instance, cycle: Duration) -> (Option<JobState>, Vec<ServiceState>) {
    let directory = deployment.instance_directory(&known.identity);
    if !known.has_vm || !instance::exists(&directory) {
        return (None, Vec::new());
    }
    match client::ask(&directory, cycle, &Request::Summary) {
        Ok(answer) => {
            let state = JobState::of(worker::is_marked_stopped(&directory), &answer.services);
            (Some(state), answer.services)
        }
        Err(_) => (Some(JobState::Unresponsive), Vec::new()),
    }
}
