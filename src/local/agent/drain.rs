//! What lifecycle scripts are told when an instance stops, and how drain answers. Pure; the tests are
//! the Director's table row by row. docs/contract.md#drain-arguments

/// Why the stop sequence of an instance runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Configuration or packages changed, or a restart: the virtual machine stays.
    Update {
        /// Whether anything rendered changed.
        hash_changed: bool,
        /// New and changed packages.
        packages: Vec<String>,
    },
    /// The virtual machine is made anew.
    Recreate,
    /// The persistent disk changes its size, comes or goes.
    DiskChange,
    /// `bosh stop`, or a restart without convergence.
    Stop,
    /// `bosh stop --hard`.
    HardStop,
    /// The instance is no longer wanted.
    Obsolete,
    /// The whole deployment goes.
    DeleteDeployment,
}

/// What becomes of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextState {
    /// It stays.
    Keep,
    /// It goes.
    Delete,
}

impl NextState {
    fn word(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Delete => "delete",
        }
    }

    fn delete_if(goes: bool) -> Self {
        if goes { Self::Delete } else { Self::Keep }
    }
}

impl Cause {
    /// What becomes of virtual machine, instance and deployment.
    pub fn next_states(&self) -> [NextState; 3] {
        let deployment = matches!(self, Self::DeleteDeployment);
        let instance = deployment || matches!(self, Self::Obsolete);
        let machine = instance || matches!(self, Self::Recreate | Self::HardStop);
        [machine, instance, deployment].map(NextState::delete_if)
    }

    /// The environment of pre-stop, besides `PATH`.
    pub fn pre_stop_environment(&self) -> Vec<(String, String)> {
        ["BOSH_VM_NEXT_STATE", "BOSH_INSTANCE_NEXT_STATE", "BOSH_DEPLOYMENT_NEXT_STATE"]
            .into_iter()
            .zip(self.next_states())
            .map(|(name, next)| (name.to_owned(), next.word().to_owned()))
            .collect()
    }

    /// The first call of drain, with the size of the persistent disk now and as wanted.
    pub fn drain(&self, disk_mib: u32, wanted_disk_mib: u32) -> DrainCall {
        let args = match self {
            Self::Update { hash_changed, packages } => {
                let mut sorted = packages.clone();
                sorted.sort();
                let hash = if *hash_changed { "hash_changed" } else { "hash_unchanged" };
                ["job_changed", hash].into_iter().map(str::to_owned).chain(sorted).collect()
            }
            Self::Recreate
            | Self::DiskChange
            | Self::Stop
            | Self::HardStop
            | Self::Obsolete
            | Self::DeleteDeployment => vec!["job_shutdown".to_owned(), "hash_unchanged".to_owned()],
        };
        // An instance that goes has an empty specification, which has no disk.
        let next = match self {
            Self::Obsolete | Self::DeleteDeployment => 0,
            // The disk is another matter than these: it stays as it is.
            Self::Stop | Self::HardStop => disk_mib,
            Self::Update { .. } | Self::Recreate | Self::DiskChange => wanted_disk_mib,
        };
        let environment = vec![
            ("BOSH_JOB_STATE".to_owned(), disk_state(disk_mib)),
            ("BOSH_JOB_NEXT_STATE".to_owned(), disk_state(next)),
        ];
        DrainCall { args, environment }
    }
}

fn disk_state(mib: u32) -> String {
    format!("{{\"persistent_disk\":{mib}}}")
}

/// Arguments and environment of one call of drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainCall {
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment, besides `PATH`.
    pub environment: Vec<(String, String)>,
}

impl DrainCall {
    /// Every further call of a dynamic drain.
    pub fn check_status(disk_mib: u32) -> Self {
        Self {
            args: vec!["job_check_status".to_owned(), "hash_unchanged".to_owned()],
            environment: vec![("BOSH_JOB_STATE".to_owned(), disk_state(disk_mib))],
        }
    }
}

/// What drain's stdout asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Wait that many seconds, then the job is drained.
    DoneAfter(u64),
    /// Wait that many seconds, then call it again.
    AskAgainAfter(u64),
}

/// Reads drain's whole stdout: one integer, blanks around it allowed.
pub fn verdict(stdout: &str) -> Result<Verdict, String> {
    let text = stdout.trim();
    let number: i64 =
        text.parse().map_err(|_| format!("Script did not return a signed integer: '{text}'"))?;
    Ok(if number < 0 {
        Verdict::AskAgainAfter(number.unsigned_abs())
    } else {
        Verdict::DoneAfter(number.unsigned_abs())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_tells_its_scripts_what_the_director_tells() {
        let update = |hash_changed, packages: &[&str]| Cause::Update {
            hash_changed,
            packages: packages.iter().map(|name| (*name).to_owned()).collect(),
        };
        // (row, cause, VM/instance/deployment, arguments, disk now, wanted, told next)
        let rows = [
            (
                "config changed",
                update(true, &["etcd"]),
                "keep keep keep",
                "job_changed hash_changed etcd",
                1024,
                1024,
                1024,
            ),
            (
                "packages changed",
                update(false, &["b", "a"]),
                "keep keep keep",
                "job_changed hash_unchanged a b",
                1024,
                1024,
                1024,
            ),
            ("restart", update(false, &[]), "keep keep keep", "job_changed hash_unchanged", 1024, 1024, 1024),
            (
                "restart --no-converge",
                Cause::Stop,
                "keep keep keep",
                "job_shutdown hash_unchanged",
                1024,
                1024,
                1024,
            ),
            (
                "recreate",
                Cause::Recreate,
                "delete keep keep",
                "job_shutdown hash_unchanged",
                1024,
                1024,
                1024,
            ),
            (
                "VM and disk change",
                Cause::Recreate,
                "delete keep keep",
                "job_shutdown hash_unchanged",
                1024,
                2048,
                2048,
            ),
            (
                "disk resized",
                Cause::DiskChange,
                "keep keep keep",
                "job_shutdown hash_unchanged",
                1024,
                2048,
                2048,
            ),
            ("disk removed", Cause::DiskChange, "keep keep keep", "job_shutdown hash_unchanged", 1024, 0, 0),
            (
                "scale down",
                Cause::Obsolete,
                "delete delete keep",
                "job_shutdown hash_unchanged",
                1024,
                1024,
                0,
            ),
            (
                "delete-deployment",
                Cause::DeleteDeployment,
                "delete delete delete",
                "job_shutdown hash_unchanged",
                1024,
                1024,
                0,
            ),
            ("stop", Cause::Stop, "keep keep keep", "job_shutdown hash_unchanged", 1024, 1024, 1024),
            (
                "stop --hard",
                Cause::HardStop,
                "delete keep keep",
                "job_shutdown hash_unchanged",
                1024,
                1024,
                1024,
            ),
            ("no disk", Cause::Stop, "keep keep keep", "job_shutdown hash_unchanged", 0, 0, 0),
        ];
        for (row, cause, states, args, now, wanted, next) in rows {
            let pre_stop: Vec<String> =
                cause.pre_stop_environment().into_iter().map(|(_, value)| value).collect();
            assert_eq!(pre_stop.join(" "), states, "{row}");
            let call = cause.drain(now, wanted);
            assert_eq!(call.args.join(" "), args, "{row}");
            assert_eq!(
                call.environment,
                [
                    ("BOSH_JOB_STATE".to_owned(), format!("{{\"persistent_disk\":{now}}}")),
                    ("BOSH_JOB_NEXT_STATE".to_owned(), format!("{{\"persistent_disk\":{next}}}")),
                ],
                "{row}"
            );
        }
    }

    #[test]
    fn a_dynamic_drain_is_asked_again_without_a_next_state() {
        let call = DrainCall::check_status(1024);

        assert_eq!(call.args, ["job_check_status", "hash_unchanged"]);
        assert_eq!(
            call.environment,
            [("BOSH_JOB_STATE".to_owned(), "{\"persistent_disk\":1024}".to_owned())]
        );
    }

    #[test]
    fn stdout_is_one_signed_integer() {
        assert_eq!(verdict("0\n"), Ok(Verdict::DoneAfter(0)));
        assert_eq!(verdict(" 10 "), Ok(Verdict::DoneAfter(10)));
        assert_eq!(verdict("-5"), Ok(Verdict::AskAgainAfter(5)));
        for wrong in ["", "0 leaving", "10s", "1.5", "0\n0"] {
            let told = verdict(wrong).unwrap_err();
            assert!(told.starts_with("Script did not return a signed integer: "), "{wrong}");
        }
    }
}
