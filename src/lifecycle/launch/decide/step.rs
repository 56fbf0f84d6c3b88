//! The single steps that plans are made of. Each is safe to repeat and safe to die after; its name is
//! the name of a fail point (`launch:write-nonce`) and never changes.

use std::fmt;

use serde::{Serialize, Serializer};

/// One step of acting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Write a random nonce to a disk that never had a member.
    WriteNonce,
    /// Take the mutex that membership changes and stops share.
    TakeMutex,
    /// Check from both sides that the cluster and this instance reach each other.
    ProbePeers,
    /// Move the data directory's content aside.
    MoveAside,
    /// Put nonce, join, bootstrap and exit record beside the data they belonged to.
    RetireRecords,
    /// Note which first boot this disk takes part in.
    WriteBootstrapRecord,
    /// Write the data of a first member.
    SeedData,
    /// Note which cluster this disk is about to join.
    WriteJoinIntent,
    /// Remove a dead entry of this instance from the member list, by id.
    MemberRemove,
    /// Add this instance as a learner.
    MemberAdd,
    /// Note the id that the cluster answered.
    WriteJoinAnswer,
    /// Make data of the newest backup, beside what is there.
    BringBackup,
    /// Ask for that data to be put in place.
    WriteRestoreRequest,
    /// Put restored data in its place.
    RestoreData,
    /// Note which restore made this disk's cluster.
    WriteRestoreRecord,
    /// Check the data that etcd is to be started on.
    Validate,
    /// Write etcd's configuration file.
    WriteConfiguration,
    /// Remove the note on how etcd last ended: the next one is written after it ended again.
    RemoveExitRecord,
    /// Start etcd.
    Spawn,
    /// Note on the VM that this instance has data.
    WriteInitialisedMark,
    /// Note on the disk that the first boot got a log.
    CompleteBootstrapRecord,
    /// Note on the disk that the joined member was started.
    WriteJoinStarted,
    /// Make the learner a voter.
    Promote,
    /// Note on the disk that it is one.
    WriteJoinPromoted,
    /// Release the mutex.
    ReleaseMutex,
    /// Tell the cluster where peers reach this member now, if it lists another URL.
    AnnouncePeerUrl,
}

impl Step {
    /// All steps.
    pub const ALL: [Self; 26] = [
        Self::WriteNonce,
        Self::TakeMutex,
        Self::ProbePeers,
        Self::MoveAside,
        Self::RetireRecords,
        Self::WriteBootstrapRecord,
        Self::SeedData,
        Self::WriteJoinIntent,
        Self::MemberRemove,
        Self::MemberAdd,
        Self::WriteJoinAnswer,
        Self::BringBackup,
        Self::WriteRestoreRequest,
        Self::RestoreData,
        Self::WriteRestoreRecord,
        Self::Validate,
        Self::WriteConfiguration,
        Self::RemoveExitRecord,
        Self::Spawn,
        Self::WriteInitialisedMark,
        Self::CompleteBootstrapRecord,
        Self::WriteJoinStarted,
        Self::Promote,
        Self::WriteJoinPromoted,
        Self::ReleaseMutex,
        Self::AnnouncePeerUrl,
    ];

    /// Its stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WriteNonce => "write-nonce",
            Self::TakeMutex => "take-mutex",
            Self::ProbePeers => "probe-peers",
            Self::MoveAside => "move-aside",
            Self::RetireRecords => "retire-records",
            Self::WriteBootstrapRecord => "write-bootstrap-record",
            Self::SeedData => "seed-data",
            Self::WriteJoinIntent => "write-join-intent",
            Self::MemberRemove => "member-remove",
            Self::MemberAdd => "member-add",
            Self::WriteJoinAnswer => "write-join-answer",
            Self::BringBackup => "bring-backup",
            Self::WriteRestoreRequest => "write-restore-request",
            Self::RestoreData => "restore-data",
            Self::WriteRestoreRecord => "write-restore-record",
            Self::Validate => "validate",
            Self::WriteConfiguration => "write-configuration",
            Self::RemoveExitRecord => "remove-exit-record",
            Self::Spawn => "spawn",
            Self::WriteInitialisedMark => "write-initialised-mark",
            Self::CompleteBootstrapRecord => "complete-bootstrap-record",
            Self::WriteJoinStarted => "write-join-started",
            Self::Promote => "promote",
            Self::WriteJoinPromoted => "write-join-promoted",
            Self::ReleaseMutex => "release-mutex",
            Self::AnnouncePeerUrl => "announce-peer-url",
        }
    }

    /// The fail point that a test names to make the launcher die just before this step.
    pub fn fail_point(self) -> String {
        format!("launch:{}", self.name())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_step_has_its_own_name_in_kebab_case() {
        let names: BTreeSet<&str> = Step::ALL.iter().map(|step| step.name()).collect();

        assert_eq!(names.len(), Step::ALL.len());
        assert!(names.iter().all(|name| name.bytes().all(|byte| byte == b'-' || byte.is_ascii_lowercase())));
        assert_eq!(Step::WriteNonce.fail_point(), "launch:write-nonce");
    }
}
