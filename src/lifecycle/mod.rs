//! Told in BOSH's words: one room per moment of an instance's life.

pub mod drain;
pub mod launch;
pub mod records;
