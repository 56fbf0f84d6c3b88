//! monit as this director plays it: one supervisor per instance looks every cycle whether the pid in
//! each pidfile is alive and starts what is not. docs/contract.md#monit
//!
//! The supervisor is a process of its own, outlives the command that started it and holds nothing
//! that its successor could not read again: killed, it is started by the next command and adopts what
//! runs.

pub mod client;
pub mod config;
pub mod supervisor;

use serde::{Deserialize, Serialize};

/// The hidden subcommand of the supervisor.
pub const SUPERVISE: &str = "internal-supervise";
/// The hidden subcommand behind the `monit` shim.
pub const MONIT: &str = "internal-monit";

/// What the supervisor is asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Only tell.
    Summary,
    /// Read the monit files again.
    Reload,
    /// Monitor and start.
    Start(Which),
    /// Stop monitoring and stop.
    Stop(Which),
    /// Stop, then start.
    Restart(Which),
    /// Monitor.
    Monitor(Which),
    /// Stop monitoring, leave the process alone.
    Unmonitor(Which),
    /// End the supervisor, leave the processes alone.
    Quit,
}

/// Which services a request is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// Those of group `vcap`: what the agent sees.
    Vcap,
    /// All.
    All,
    /// The one of that name.
    Service(String),
}

/// What the supervisor answers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Answer {
    /// Which build of etcd-local answers; another one is replaced by the command that asks.
    pub build: String,
    /// How often it looks, in milliseconds.
    pub cycle_ms: u64,
    /// All services, in the order of the files.
    pub services: Vec<ServiceState>,
    /// What start programs warned of, and statements of monit files that are read over.
    pub warnings: Vec<String>,
    /// Why the request was not carried out.
    pub error: Option<String>,
}

/// One service as the supervisor sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceState {
    /// Its name.
    pub name: String,
    /// Its group.
    pub group: Option<String>,
    /// How it is.
    pub status: Status,
    /// Its pid, while alive.
    pub pid: Option<i32>,
}

/// How a service is, in the words of `bosh instances --ps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Not monitored.
    Unknown,
    /// Monitored, not looked at yet.
    Starting,
    /// Alive when last looked at.
    Running,
    /// The last look or start failed.
    Failing,
}

impl Status {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Failing => "failing",
        }
    }

    /// The words of `monit summary`.
    pub fn monit_word(self) -> &'static str {
        match self {
            Self::Unknown => "not monitored",
            Self::Starting => "initializing",
            Self::Running => "running",
            Self::Failing => "not running",
        }
    }
}

/// The state of a whole instance, as the agent computes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// Everything runs, or there is nothing to run.
    Running,
    /// Something is not looked at yet.
    Starting,
    /// Something is unmonitored or fails.
    Failing,
    /// Stopped on purpose.
    Stopped,
    /// The supervisor does not answer.
    Unresponsive,
}

impl JobState {
    /// As `bosh instances` prints it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Starting => "starting",
            Self::Failing => "failing",
            Self::Stopped => "stopped",
            Self::Unresponsive => "unresponsive agent",
        }
    }

    /// The rule of the agent: only services of group `vcap` count. docs/contract.md#monit
    pub fn of(stopped: bool, services: &[ServiceState]) -> Self {
        let mut seen = services.iter().filter(|service| service.group.as_deref() == Some("vcap"));
        if stopped {
            return Self::Stopped;
        }
        if seen.clone().any(|service| service.status == Status::Starting) {
            return Self::Starting;
        }
        if seen.all(|service| service.status == Status::Running) { Self::Running } else { Self::Failing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_an_instance_is_that_of_its_services() {
        let service = |status, group: &str| ServiceState {
            name: "x".to_owned(),
            group: Some(group.to_owned()),
            status,
            pid: None,
        };
        use JobState as J;
        use Status as S;
        let cases = [
            (false, vec![], J::Running),
            (false, vec![service(S::Running, "vcap")], J::Running),
            (false, vec![service(S::Running, "vcap"), service(S::Failing, "vcap")], J::Failing),
            (false, vec![service(S::Running, "vcap"), service(S::Failing, "other")], J::Running),
            (false, vec![service(S::Unknown, "vcap")], J::Failing),
            (false, vec![service(S::Starting, "vcap"), service(S::Failing, "vcap")], J::Starting),
            (true, vec![service(S::Unknown, "vcap")], J::Stopped),
        ];
        for (row, (stopped, services, state)) in cases.into_iter().enumerate() {
            assert_eq!(JobState::of(stopped, &services), state, "row {row}");
        }
    }
}
