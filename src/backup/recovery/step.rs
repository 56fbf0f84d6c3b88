//! The single steps of restoring a whole cluster, as far as the command takes them: the launchers take the rest. A command
//! may die before each of them and another one goes on or begins anew; the name of a step is the name of a fail point
//! (`restore:make-data`) and never changes.

crate::steps! {
    /// One step of the instance that makes the new cluster, or of one that follows it.
    pub enum Step of "restore" {
        /// Tell the others which request is worked on.
        Announce = "announce",
        /// Make the room on the disk that the new data gets.
        MakeRoom = "make-room",
        /// Stop the own etcd, whose data is to be copied.
        Hold = "hold",
        /// Copy that data.
        CopyDisk = "copy-disk",
        /// Let etcd apply the whole log of the copy.
        ApplyLog = "apply-log",
        /// Make the new data of the backup, the snapshot or the copy.
        MakeData = "make-data",
        /// Remove the copy.
        RemoveCopy = "remove-copy",
        /// Judge what was made.
        Judge = "judge",
        /// Leave the request, which this launcher carries out and the others follow.
        LeaveRequest = "leave-request",
        /// Make the own launcher look at the request.
        WakeLauncher = "wake-launcher",
        /// Say that it is done.
        Finish = "finish",
    }
}
