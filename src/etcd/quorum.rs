//! Arithmetic of voters. Learners never count. Told in docs/contract.md#quorum.

/// How many of `voters` must agree.
pub const fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}
