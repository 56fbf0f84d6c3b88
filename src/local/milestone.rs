//! The places between which a command of `etcd-local` changes something on disk. It may die at each of them, and the next
//! command goes on; the name is that of a fail point (`local:placed`) and never changes.

crate::steps! {
    /// What has just been done.
    pub enum Milestone of "local" {
        /// It is on record which instances there shall be.
        Placed = "placed",
        /// An instance has its directories, and no disk yet.
        CreatedRoot = "created-root",
        /// It is on record which disk it gets. The disk may not be there.
        DiskRecorded = "disk-recorded",
        /// What an instance shall run is on record; it runs what it ran.
        Configured = "configured",
        /// Its jobs are started, and nobody has looked whether they run.
        Started = "started",
        /// Its drain scripts have ended; its jobs run.
        Drained = "drained",
        /// Its jobs have ended, if they were to.
        Stopped = "stopped",
        /// It goes by its new name; the others do not know.
        Renamed = "renamed",
        /// It is on record which disk takes the place of its disk, which is still the one that counts.
        DiskToCome = "disk-to-come",
        /// All of the old disk is on the new one.
        DiskCopied = "disk-copied",
        /// The new disk counts; the old one is attached.
        DiskReplaced = "disk-replaced",
        /// Nothing of an instance runs any more.
        DeletedVm = "deleted-vm",
        /// Its disk is kept under the orphans.
        Orphaned = "orphaned",
        /// Its directory is gone; it is still on record.
        Forgotten = "forgotten",
    }
}
