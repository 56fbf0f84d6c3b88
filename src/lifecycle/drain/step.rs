//! The single steps of drain. Each is safe to repeat and safe to die after; its name is the name of a fail
//! point (`drain:remove`) and never changes.

crate::steps! {
    /// One step of drain.
    pub enum Step of "drain" {
        /// Note on the disk that a drain has begun: from now on the launcher joins nothing.
        Begin = "begin",
        /// Move leadership to another voter.
        HandOver = "hand-over",
        /// Take the mutex that membership changes and stops share.
        TakeMutex = "take-mutex",
        /// Remove the own entry, by id.
        Remove = "remove",
        /// See on a survivor that it is gone, and give the mutex back.
        Confirm = "confirm",
        /// Note what was done, for a drain that is asked again.
        Done = "done",
    }
}
