//! What BOSH says about the time after a stop. pre-stop and drain are told different halves, and
//! neither is enough alone (docs/contract.md#stop).
//!
//! Absent and malformed are two things: absent is an old Director or `bosh create-env`, which the table
//! has rows for; malformed is an error, since guessing here could remove a member.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What becomes of a VM, an instance or a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Next {
    /// It stays, or comes back as the same.
    Keep,
    /// It goes for good.
    Delete,
}

/// What pre-stop is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NextState {
    /// The virtual machine.
    pub vm: Next,
    /// The instance.
    pub instance: Next,
    /// The whole deployment.
    pub deployment: Next,
}

/// What drain is called with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrainCall {
    /// `job_shutdown`: the process will not come back by this task alone.
    Shutdown,
    /// `job_changed`: it comes back with another configuration or package.
    Update,
    /// `job_check_status`: an earlier call asked to be called again.
    CheckStatus,
}

/// The size of the persistent disk in MiB; 0 = none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiskMib(pub u64);

/// Why what BOSH said cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A variable with a value that BOSH does not have.
    #[error("{variable} is '{value}', not {expected}")]
    Value {
        /// The variable.
        variable: &'static str,
        /// Its value, at most 200 characters of it.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
    /// Some of pre-stop's three variables, but not all.
    #[error("{missing} is missing although {present} is set: BOSH sets all three or none")]
    Incomplete {
        /// One that is missing.
        missing: &'static str,
        /// One that is set.
        present: &'static str,
    },
    /// An argument that drain does not know.
    #[error("drain was called with '{0}', not job_shutdown, job_changed or job_check_status")]
    Call(String),
    /// No argument at all.
    #[error("drain was called without arguments: BOSH passes at least two")]
    NoCall,
}

/// More of a wrong value is not worth a log line.
const VALUE_CHARS_MAX: usize = 200;

impl NextState {
    /// The variables that pre-stop is given.
    pub const VARIABLES: [&'static str; 3] =
        ["BOSH_VM_NEXT_STATE", "BOSH_INSTANCE_NEXT_STATE", "BOSH_DEPLOYMENT_NEXT_STATE"];

    /// Reads them; `None` if none is set.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Malformed> {
        let [vm, instance, deployment] = Self::VARIABLES;
        let read = |name| variable(name).map(|value| next(name, &value)).transpose();
        let values = [(vm, read(vm)?), (instance, read(instance)?), (deployment, read(deployment)?)];
        match values {
            [(_, None), (_, None), (_, None)] => Ok(None),
            [(_, Some(vm)), (_, Some(instance)), (_, Some(deployment))] => {
                Ok(Some(Self { vm, instance, deployment }))
            }
            some => {
                let find = |set: bool| {
                    let name = some.iter().find(|(_, value)| value.is_some() == set).map(|(name, _)| *name);
                    name.expect("one arm above took all-set, the other none-set")
                };
                Err(Malformed::Incomplete { missing: find(false), present: find(true) })
            }
        }
    }
}

fn next(variable: &'static str, value: &str) -> Result<Next, Malformed> {
    match value {
        "keep" => Ok(Next::Keep),
        "delete" => Ok(Next::Delete),
        other => Err(wrong(variable, other, "keep or delete")),
    }
}

fn wrong(variable: &'static str, value: &str, expected: &'static str) -> Malformed {
    Malformed::Value { variable, value: value.chars().take(VALUE_CHARS_MAX).collect(), expected }
}

impl DrainCall {
    /// Reads drain's arguments. What follows the first one (configuration hash and packages) changes
    /// nothing here: a stop is a stop.
    pub fn read<S: AsRef<str>>(arguments: &[S]) -> Result<Self, Malformed> {
        match arguments.first().map(AsRef::as_ref) {
            Some("job_shutdown") => Ok(Self::Shutdown),
            // `job_new` exists in the agent for an instance that had no jobs.
            Some("job_changed" | "job_new") => Ok(Self::Update),
            Some("job_check_status") => Ok(Self::CheckStatus),
            Some(other) => Err(Malformed::Call(other.chars().take(VALUE_CHARS_MAX).collect())),
            None => Err(Malformed::NoCall),
        }
    }
}

impl DiskMib {
    /// The disk as it is.
    pub const NOW: &'static str = "BOSH_JOB_STATE";
    /// The disk as it will be.
    pub const NEXT: &'static str = "BOSH_JOB_NEXT_STATE";

    /// Reads `BOSH_JOB_STATE` or `BOSH_JOB_NEXT_STATE`: `{"persistent_disk":N}`. Further keys of a
    /// newer agent are let be. `None` if the variable is not set.
    pub fn read(variable: &'static str, value: Option<&str>) -> Result<Option<Self>, Malformed> {
        #[derive(Deserialize)]
        struct JobState {
            persistent_disk: u64,
        }
        let Some(value) = value else { return Ok(None) };
        serde_json::from_str(value)
            .map(|state: JobState| Some(Self(state.persistent_disk)))
            .map_err(|_| wrong(variable, value, r#"a JSON object like {"persistent_disk":10240}"#))
    }
}

impl fmt::Display for DiskMib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn read(variables: &[(&str, &str)]) -> Result<Option<NextState>, Malformed> {
        let map: BTreeMap<&str, &str> = variables.iter().copied().collect();
        NextState::read(|name| map.get(name).map(|value| (*value).to_owned()))
    }

    #[test]
    fn the_three_variables_are_read_together_or_not_at_all() {
        let [vm, instance, deployment] = NextState::VARIABLES;
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(
            read(&[(vm, "delete"), (instance, "keep"), (deployment, "keep")]),
            Ok(Some(NextState { vm: Next::Delete, instance: Next::Keep, deployment: Next::Keep }))
        );
        assert_eq!(
            read(&[(vm, "keep"), (deployment, "keep")]).unwrap_err().to_string(),
            "BOSH_INSTANCE_NEXT_STATE is missing although BOSH_VM_NEXT_STATE is set: BOSH sets all three or none"
        );
        for wrong in ["", "Keep", "keep ", "deleted"] {
            let error = read(&[(vm, "keep"), (instance, wrong), (deployment, "keep")]).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("BOSH_INSTANCE_NEXT_STATE is '{wrong}', not keep or delete")
            );
        }
    }

    #[test]
    fn drains_arguments() {
        assert_eq!(DrainCall::read(&["job_shutdown", "hash_unchanged"]), Ok(DrainCall::Shutdown));
        assert_eq!(DrainCall::read(&["job_changed", "hash_changed", "etcd"]), Ok(DrainCall::Update));
        assert_eq!(DrainCall::read(&["job_check_status", "hash_unchanged"]), Ok(DrainCall::CheckStatus));
        assert_eq!(DrainCall::read::<&str>(&[]), Err(Malformed::NoCall));
        assert!(DrainCall::read(&["shutdown"]).is_err());
    }

    #[test]
    fn the_job_state_is_json_and_nothing_like_it() {
        let read = |value| DiskMib::read(DiskMib::NEXT, value);
        assert_eq!(read(None), Ok(None));
        assert_eq!(read(Some(r#"{"persistent_disk":0}"#)), Ok(Some(DiskMib(0))));
        assert_eq!(read(Some(r#" { "persistent_disk" : 10240, "new": {} }"#)), Ok(Some(DiskMib(10240))));
        for wrong in [
            "",
            "{}",
            r#"{"persistent_disk":"0"}"#,
            r#"{"persistent_disk":-1}"#,
            "0",
            r#"{"persistent_disk":0"#,
        ] {
            assert!(read(Some(wrong)).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn reading_anything_never_panics(text in any::<String>()) {
            let _ = DiskMib::read(DiskMib::NOW, Some(&text));
            let _ = DrainCall::read(std::slice::from_ref(&text));
            let _ = NextState::read(|_| Some(text.clone()));
        }
    }
}
