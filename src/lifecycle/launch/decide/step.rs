//! The single steps that plans are made of. Each is safe to repeat and safe to die after; its name is
//! the name of a fail point (`launch:write-nonce`) and never changes.

use serde::{Serialize, Serializer};

crate::steps! {
    /// One step of acting.
    pub enum Step of "launch" {
        /// Write a random nonce to a disk that never had a member.
        WriteNonce = "write-nonce",
        /// Take the mutex that membership changes and stops share.
        TakeMutex = "take-mutex",
        /// Check from both sides that the cluster and this instance reach each other.
        ProbePeers = "probe-peers",
        /// Move the data directory's content aside.
        MoveAside = "move-aside",
        /// Put nonce, join, bootstrap and exit record beside the data they belonged to.
        RetireRecords = "retire-records",
        /// Note which first boot this disk takes part in.
        WriteBootstrapRecord = "write-bootstrap-record",
        /// Write the data of a first member.
        SeedData = "seed-data",
        /// Note which cluster this disk is about to join.
        WriteJoinIntent = "write-join-intent",
        /// Remove a dead entry of this instance from the member list, by id.
        MemberRemove = "member-remove",
        /// Add this instance as a learner.
        MemberAdd = "member-add",
        /// Note the id that the cluster answered.
        WriteJoinAnswer = "write-join-answer",
        /// Make data of the newest backup, beside what is there.
        BringBackup = "bring-backup",
        /// Ask for that data to be put in place.
        WriteRestoreRequest = "write-restore-request",
        /// Put restored data in its place.
        RestoreData = "restore-data",
        /// Note which restore made this disk's cluster.
        WriteRestoreRecord = "write-restore-record",
        /// Check the data that etcd is to be started on.
        Validate = "validate",
        /// Write etcd's configuration file.
        WriteConfiguration = "write-configuration",
        /// Remove the note on how etcd last ended: the next one is written after it ended again.
        RemoveExitRecord = "remove-exit-record",
        /// Start etcd.
        Spawn = "spawn",
        /// Note on the VM that this instance has data.
        WriteInitialisedMark = "write-initialised-mark",
        /// Note on the disk that the first boot got a log.
        CompleteBootstrapRecord = "complete-bootstrap-record",
        /// Note on the disk that the joined member was started.
        WriteJoinStarted = "write-join-started",
        /// Make the learner a voter.
        Promote = "promote",
        /// Note on the disk that it is one.
        WriteJoinPromoted = "write-join-promoted",
        /// Release the mutex.
        ReleaseMutex = "release-mutex",
        /// Tell the cluster where peers reach this member now, if it lists another URL.
        AnnouncePeerUrl = "announce-peer-url",
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
