//! The single steps of drain. Each is safe to repeat and safe to die after; its name is the name of a fail
//! point (`drain:remove`) and never changes.

use std::fmt;

use crate::fail_point;

/// One step of drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Note on the disk that a drain has begun: from now on the launcher joins nothing.
    Begin,
    /// Move leadership to another voter.
    HandOver,
    /// Take the mutex that membership changes and stops share.
    TakeMutex,
    /// Remove the own entry, by id.
    Remove,
    /// See on a survivor that it is gone, and give the mutex back.
    Confirm,
    /// Note what was done, for a drain that is asked again.
    Done,
}

impl Step {
    /// All steps, in order.
    pub const ALL: [Self; 6] =
        [Self::Begin, Self::HandOver, Self::TakeMutex, Self::Remove, Self::Confirm, Self::Done];

    /// Its stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::HandOver => "hand-over",
            Self::TakeMutex => "take-mutex",
            Self::Remove => "remove",
            Self::Confirm => "confirm",
            Self::Done => "done",
        }
    }

    /// The fail point that a test names to make drain die just before this step.
    pub fn fail_point(self) -> String {
        format!("drain:{}", self.name())
    }

    /// Begins the step: here drain dies if a test asked for it.
    pub fn begin(self) {
        fail_point::reach(&self.fail_point());
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
