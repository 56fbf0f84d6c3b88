//! Stopping and leaving: what pre-stop intends and what drain does about it.

pub mod decide;
pub mod hold;
pub mod next_state;
pub mod observation;
