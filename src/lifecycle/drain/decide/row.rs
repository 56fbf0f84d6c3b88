//! The rows of the stop table. Their story is told once, in docs/contract.md#stop; a test compares the
//! two.

use std::fmt;

use serde::{Serialize, Serializer};

/// Which row of the stop table applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Row {
    /// 0: drain is called again, because it asked for that.
    CheckStatus = 0,
    /// 1: the whole deployment goes.
    DeploymentGoes = 1,
    /// 2: the instance or its data goes, and it is the last voter.
    LastVoter = 2,
    /// 3: the instance or its data goes, and its vote never counted.
    NoVoter = 3,
    /// 4: the instance or its data goes, and the others can do without.
    LeaveSafe = 4,
    /// 5: the instance or its data goes, and the others cannot do without.
    LeaveUnsafe = 5,
    /// 6: the instance comes back with its data.
    InstanceStays = 6,
    /// 7: nothing was said, the disk seems to go, and there is one voter.
    NotToldOneVoter = 7,
    /// 8: nothing was said, the disk seems to go, and there are more voters.
    NotToldMoreVoters = 8,
    /// 9: nothing was said otherwise.
    NotToldOtherwise = 9,
}

impl Row {
    /// All rows, in order.
    pub const ALL: [Self; 10] = [
        Self::CheckStatus,
        Self::DeploymentGoes,
        Self::LastVoter,
        Self::NoVoter,
        Self::LeaveSafe,
        Self::LeaveUnsafe,
        Self::InstanceStays,
        Self::NotToldOneVoter,
        Self::NotToldMoreVoters,
        Self::NotToldOtherwise,
    ];

    /// Its number in docs/contract.md#stop.
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number())
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.number())
    }
}
