//! What BOSH says about the next state, read strictly: absent is one thing, malformed another.

use serde::Deserialize;

use super::observation::{Call, DiskNext};
use crate::lifecycle::intent::{Intent, Next};

/// Why BOSH's word cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A variable holds something else than it should.
    #[error("{name} is {value:?}, expected {expected}")]
    Variable {
        /// The variable.
        name: &'static str,
        /// What it holds.
        value: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// Some of the three next states are there and some are not.
    #[error(
        "of BOSH_VM_NEXT_STATE, BOSH_INSTANCE_NEXT_STATE and BOSH_DEPLOYMENT_NEXT_STATE only some are set"
    )]
    Incomplete,
    /// The first argument of drain is unknown.
    #[error("drain was called with {0:?}, expected job_shutdown, job_changed or job_check_status first")]
    Call(String),
}

/// The next states pre-stop gets; `None` where no Director says anything (create-env).
pub fn intent(variable: impl Fn(&'static str) -> Option<String>) -> Result<Option<Intent>, Malformed> {
    let next = |name| variable(name).map(|value| next(name, value)).transpose();
    let vm = next("BOSH_VM_NEXT_STATE")?;
    let instance = next("BOSH_INSTANCE_NEXT_STATE")?;
    let deployment = next("BOSH_DEPLOYMENT_NEXT_STATE")?;
    match (vm, instance, deployment) {
        (Some(vm), Some(instance), Some(deployment)) => Ok(Some(Intent { vm, instance, deployment })),
        (None, None, None) => Ok(None),
        _ => Err(Malformed::Incomplete),
    }
}

fn next(name: &'static str, value: String) -> Result<Next, Malformed> {
    match value.as_str() {
        "keep" => Ok(Next::Keep),
        "delete" => Ok(Next::Delete),
        _ => Err(Malformed::Variable { name, value, expected: "keep or delete" }),
    }
}

/// What drain was called for: its first argument. `job_new` exists in the agent and means an update.
pub fn call(first: Option<&str>) -> Result<Call, Malformed> {
    match first {
        Some("job_shutdown") => Ok(Call::Shutdown),
        Some("job_changed" | "job_new") => Ok(Call::Update),
        Some("job_check_status") => Ok(Call::CheckStatus),
        other => Err(Malformed::Call(other.unwrap_or_default().to_owned())),
    }
}

#[derive(Deserialize)]
struct JobState {
    persistent_disk: u64,
}

/// The disk now and next, in MiB, from `BOSH_JOB_STATE` and `BOSH_JOB_NEXT_STATE`.
pub fn disk(variable: impl Fn(&'static str) -> Option<String>) -> Result<DiskNext, Malformed> {
    let mib = |name| variable(name).map(|value| disk_mib(name, value)).transpose();
    Ok(DiskNext { now_mib: mib("BOSH_JOB_STATE")?, next_mib: mib("BOSH_JOB_NEXT_STATE")? })
}

fn disk_mib(name: &'static str, value: String) -> Result<u64, Malformed> {
    match serde_json::from_str::<JobState>(&value) {
        Ok(state) => Ok(state.persistent_disk),
        Err(_) => {
            Err(Malformed::Variable { name, value, expected: "JSON such as {\"persistent_disk\":10240}" })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn variables<'a>(set: &'a [(&'a str, &'a str)]) -> impl Fn(&'static str) -> Option<String> + 'a {
        move |name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn the_three_next_states_are_all_there_or_none_is() {
        let keep = [
            ("BOSH_VM_NEXT_STATE", "delete"),
            ("BOSH_INSTANCE_NEXT_STATE", "keep"),
            ("BOSH_DEPLOYMENT_NEXT_STATE", "keep"),
        ];
        assert_eq!(
            intent(variables(&keep)),
            Ok(Some(Intent { vm: Next::Delete, instance: Next::Keep, deployment: Next::Keep }))
        );
        assert_eq!(intent(variables(&[])), Ok(None));
        assert_eq!(intent(variables(&keep[..2])), Err(Malformed::Incomplete));
        for wrong in ["", "Keep", "stopped"] {
            assert!(intent(variables(&[("BOSH_VM_NEXT_STATE", wrong)])).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_absent_disk_is_not_a_malformed_one() {
        let set = [("BOSH_JOB_STATE", "{\"persistent_disk\":1024}")];
        assert_eq!(disk(variables(&set)), Ok(DiskNext { now_mib: Some(1024), next_mib: None }));
        for wrong in [
            "",
            "{}",
            "0",
            "{\"persistent_disk\":-1}",
            "{\"persistent_disk\":\"0\"}",
            "{\"persistent_disk\":0",
        ] {
            let error = disk(variables(&[("BOSH_JOB_NEXT_STATE", wrong)])).unwrap_err().to_string();
            assert!(error.starts_with("BOSH_JOB_NEXT_STATE is "), "{error}");
        }
    }

    #[test]
    fn drain_is_called_for_one_of_three_things() {
        assert_eq!(call(Some("job_shutdown")), Ok(Call::Shutdown));
        assert_eq!(call(Some("job_changed")), Ok(Call::Update));
        assert_eq!(call(Some("job_check_status")), Ok(Call::CheckStatus));
        assert!(call(None).is_err());
        assert!(call(Some("hash_changed")).is_err());
    }

    proptest! {
        #[test]
        fn no_word_of_bosh_makes_it_panic(text: String) {
            let _ = disk(|_| Some(text.clone()));
            let _ = intent(|_| Some(text.clone()));
            let _ = call(Some(&text));
        }
    }
}
