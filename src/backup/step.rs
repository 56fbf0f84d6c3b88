//! The steps of taking backups and removing them. A process may die behind each of them and the next one goes on; the
//! name of a step is the name of a fail point (`backup:full-listed`) and never changes.

crate::steps! {
    /// What has just been done.
    pub enum Step of "backup" {
        /// The lease is granted: this instance takes the backups. It has not looked into the store yet.
        Elected = "elected",
        /// All of a full snapshot has come from etcd, and its hash fits. Some of it is on its way to the store, the rest waits
        /// to be.
        FullSent = "full-sent",
        /// The object of a full snapshot is in the store, its manifest is not.
        FullUploaded = "full-uploaded",
        /// The manifest of a full snapshot is in the store: the set counts. The one before it may not reach it yet.
        FullListed = "full-listed",
        /// The set before has been read up to where the new one begins. Its last delta may be in memory only.
        OldSetRead = "old-set-read",
        /// It is not followed any more, and what was read of it is in the store: no revision lies between the two sets, unless
        /// etcd or the store took too long.
        OldSetClosed = "old-set-closed",
        /// A delta is cut. Nothing of it is in the store.
        DeltaCut = "delta-cut",
        /// The object of a delta is in the store, its manifest is not.
        DeltaUploaded = "delta-uploaded",
        /// The manifest of a delta is in the store: the set reaches further.
        DeltaListed = "delta-listed",
        /// A set was read back or restored, and nothing is wrong with it. The store does not know that yet.
        SetProven = "set-proven",
        /// The note on that is in the store.
        ProofNoted = "proof-noted",
        /// The manifest of a set that goes is removed: it is none any more. Its objects are all there.
        SetUnlisted = "set-unlisted",
        /// An object of such a set is removed. There may be more.
        ObjectRemoved = "object-removed",
        /// An object of an upload that was interrupted long ago is removed. There may be more.
        UnfinishedRemoved = "unfinished-removed",
        /// Everything that went on has ended, in order. The lease is still ours.
        WorkEnded = "work-ended",
        /// The lease is given back.
        LeaseReturned = "lease-returned",
    }
}
