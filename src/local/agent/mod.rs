//! The agent of an instance: lays jobs and packages down, runs lifecycle scripts, starts and stops
//! processes through monit. docs/contract.md#scripts

pub mod drain;
pub mod script;
