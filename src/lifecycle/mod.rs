//! Told in BOSH's words: one room per moment of an instance's life.

pub mod drain;
pub mod evict;
pub mod launch;
pub mod post_deploy;
pub mod post_start;
