//! `start`, `stop`, `restart`, `recreate`.

use anyhow::Result;

use super::{Scripts, Session, identities};
use crate::local::agent::drain::Cause;
use crate::local::change::{Asked, DiskFate};
use crate::local::director::{Director, is_service};
use crate::local::model::Identity;
use crate::local::slug::Slug;
use crate::local::state::{Deployment, Desired};
use crate::local::update::Pace;
use crate::report::Complaint;

/// Which of the four.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Start what is stopped or detached.
    Start,
    /// Stop; the machine stays.
    Stop,
    /// Stop; the machine goes, the disk stays.
    StopHard,
    /// Stop and start.
    Restart,
    /// Make the machine anew; the disk stays.
    Recreate,
}

/// What a person typed.
#[derive(Debug, Clone)]
pub struct Power {
    /// Which of the four.
    pub verb: Verb,
    /// Which instances; all if not given.
    pub slug: Option<Slug>,
    /// Leave pre-stop and drain out.
    pub skip_drain: bool,
    /// Work on this one instance only, whatever the others need.
    pub no_converge: bool,
    /// What becomes of disks when machines are made anew.
    pub disk: DiskFate,
    /// How many at a time.
    pub pace: Pace,
}

/// Carries it out.
pub fn run(session: &Session, typed: &Power) -> Result<()> {
    let deployment = session.open()?;
    let chosen: Vec<Identity> =
        Slug::choose(typed.slug.as_ref(), &identities(&deployment))?.into_iter().cloned().collect();
    if typed.no_converge && !typed.slug.as_ref().is_some_and(Slug::is_single) {
        return Err(Complaint::failed(
            "--no-converge works on a single instance",
            "without convergence the order of a deploy is not kept",
            "name one as GROUP/ID or GROUP/INDEX",
        )
        .into());
    }
    if typed.slug.as_ref().is_some_and(Slug::is_single) {
        chosen.iter().try_for_each(|identity| refuse_ignored(&deployment, identity))?;
    }
    session.console.line(&format!("Using deployment '{}'\n", deployment.record().name))?;
    session.console.confirm()?;
    let _lock = session.lock(typed.verb.word())?;
    session.choose_cycle(&deployment)?;
    session.choose_runner(&deployment)?;
    let scripts = Scripts { skip_drain: typed.skip_drain, force: false };
    if typed.no_converge {
        note_desired(&deployment, typed.verb, &chosen)?;
        return session.task(typed.verb.purpose(), &deployment, scripts, |director| {
            chosen.iter().try_for_each(|identity| alone(director, typed, identity))
        });
    }
    let (prepared, yaml) = session.prepare_last(&deployment)?;
    let chosen: Vec<Identity> =
        chosen.into_iter().filter(|identity| is_service(&prepared, &identity.group)).collect();
    note_desired(&deployment, typed.verb, &chosen)?;
    session.task(typed.verb.purpose(), &deployment, scripts, |director| {
        let asked = |identity: &Identity| {
            let asked = chosen.iter().any(|one| one.id == identity.id);
            if asked { typed.asked() } else { Asked::default() }
        };
        director.converge(&prepared, &asked, typed.pace)?;
        director.record_success(&prepared, &yaml)
    })
}

/// Of a group or of all, ignored instances are left out; one that is named is a mistake.
fn refuse_ignored(deployment: &Deployment, identity: &Identity) -> Result<()> {
    if !deployment.instance(&identity.id).is_some_and(|known| known.ignored) {
        return Ok(());
    }
    let slug = identity.slug();
    Err(Complaint::refused(
        format!("You are trying to change the state of the ignored instance '{slug}'"),
        "an operator wants it left alone",
        format!("`etcd-local unignore {slug}` ends that"),
    )
    .into())
}

/// How operators want instances outlives the command, also one that is killed.
fn note_desired(deployment: &Deployment, verb: Verb, chosen: &[Identity]) -> Result<()> {
    deployment.change(|record| {
        for instance in &mut record.instances {
            if instance.ignored || !chosen.iter().any(|identity| identity.id == instance.identity.id) {
                continue;
            }
            instance.desired = match (verb, instance.desired) {
                // Made anew as it was: a stopped one stays stopped, a detached one comes back.
                (Verb::Stop, _) | (Verb::Recreate, Desired::Stopped) => Desired::Stopped,
                (Verb::StopHard, _) => Desired::Detached,
                (Verb::Start | Verb::Restart, _) | (Verb::Recreate, Desired::Started | Desired::Detached) => {
                    Desired::Started
                }
            };
        }
    })
}

fn alone(director: &Director<'_>, typed: &Power, identity: &Identity) -> Result<()> {
    let cause = match typed.verb {
        Verb::Start => None,
        // A restart without convergence is a stop and a start.
        Verb::Stop | Verb::Restart => Some(Cause::Stop),
        Verb::StopHard => Some(Cause::HardStop),
        Verb::Recreate => Some(Cause::Recreate),
    };
    director.without_convergence(identity, cause.as_ref(), typed.asked())
}

impl Power {
    /// What it asks of each chosen instance.
    fn asked(&self) -> Asked {
        Asked { restart: self.verb == Verb::Restart, recreate: self.verb == Verb::Recreate, disk: self.disk }
    }
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::StopHard => "stop --hard",
            Self::Restart => "restart",
            Self::Recreate => "recreate",
        }
    }

    fn purpose(self) -> &'static str {
        match self {
            Self::Start => "Starting instances",
            Self::Stop | Self::StopHard => "Stopping instances",
            Self::Restart => "Restarting instances",
            Self::Recreate => "Recreating instances",
        }
    }
}
