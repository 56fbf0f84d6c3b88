//! The single steps of an eviction, each safe to die before; its name is the name of a fail point (`evict:remove`) and
//! never changes.

crate::steps! {
    /// One step of evicting an entry that no instance stands for.
    pub enum Step of "evict" {
        /// Take the mutex that membership changes and stops share.
        TakeMutex = "take-mutex",
        /// Remove the entry, by id.
        Remove = "remove",
        /// Give the mutex back.
        ReleaseMutex = "release-mutex",
    }
}
