//! The steps of taking backups and removing them. A process may die behind each of them and the next one goes on; the
//! name of a step is the name of a fail point (`backup:full-listed`) and never changes.

use std::fmt;

use crate::fail_point;

/// What has just been done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// The lease is granted: this instance takes the backups. It has not looked into the store yet.
    Elected,
    /// All of a full snapshot has come from etcd, and its hash fits. Some of it is on its way to the store, the rest waits
    /// to be.
    FullSent,
    /// The object of a full snapshot is in the store, its manifest is not.
    FullUploaded,
    /// The manifest of a full snapshot is in the store: the set counts. The one before it may not reach it yet.
    FullListed,
    /// The set before has been read up to where the new one begins. Its last delta may be in memory only.
    OldSetRead,
    /// It is not followed any more, and what was read of it is in the store: no revision lies between the two sets, unless
    /// etcd or the store took too long.
    OldSetClosed,
    /// A delta is cut. Nothing of it is in the store.
    DeltaCut,
    /// The object of a delta is in the store, its manifest is not.
    DeltaUploaded,
    /// The manifest of a delta is in the store: the set reaches further.
    DeltaListed,
    /// A set was read back or restored, and nothing is wrong with it. The store does not know that yet.
    SetProven,
    /// The note on that is in the store.
    ProofNoted,
    /// The manifest of a set that goes is removed: it is none any more. Its objects are all there.
    SetUnlisted,
    /// An object of such a set is removed. There may be more.
    ObjectRemoved,
    /// An object of an upload that was interrupted long ago is removed. There may be more.
    UnfinishedRemoved,
    /// Everything that went on has ended, in order. The lease is still ours.
    WorkEnded,
    /// The lease is given back.
    LeaseReturned,
}

impl Step {
    /// All steps.
    pub const ALL: [Self; 16] = [
        Self::Elected,
        Self::FullSent,
        Self::FullUploaded,
        Self::FullListed,
        Self::OldSetRead,
        Self::OldSetClosed,
        Self::DeltaCut,
        Self::DeltaUploaded,
        Self::DeltaListed,
        Self::SetProven,
        Self::ProofNoted,
        Self::SetUnlisted,
        Self::ObjectRemoved,
        Self::UnfinishedRemoved,
        Self::WorkEnded,
        Self::LeaseReturned,
    ];

    /// Its stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Elected => "elected",
            Self::FullSent => "full-sent",
            Self::FullUploaded => "full-uploaded",
            Self::FullListed => "full-listed",
            Self::OldSetRead => "old-set-read",
            Self::OldSetClosed => "old-set-closed",
            Self::DeltaCut => "delta-cut",
            Self::DeltaUploaded => "delta-uploaded",
            Self::DeltaListed => "delta-listed",
            Self::SetProven => "set-proven",
            Self::ProofNoted => "proof-noted",
            Self::SetUnlisted => "set-unlisted",
            Self::ObjectRemoved => "object-removed",
            Self::UnfinishedRemoved => "unfinished-removed",
            Self::WorkEnded => "work-ended",
            Self::LeaseReturned => "lease-returned",
        }
    }

    /// The fail point that a test names to make a process die just behind this step.
    pub fn fail_point(self) -> String {
        format!("backup:{}", self.name())
    }

    /// Says that the step is done: here a process dies if a test asked for it.
    pub(super) fn done(self) {
        fail_point::reach(&self.fail_point());
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
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
        assert_eq!(Step::FullListed.fail_point(), "backup:full-listed");
    }
}
