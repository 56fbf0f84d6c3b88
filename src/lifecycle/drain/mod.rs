//! Stopping and leaving: what pre-stop intends and what drain does about it.
//!
//! pre-stop gets the next states of VM, instance and deployment, drain those of the disk; neither is
//! enough alone. Holding and refusing happen in pre-stop, while monit still watches; drain acts
//! (docs/contract.md#stop).

pub mod act;
pub mod decide;
pub mod doubt;
pub mod hold;
pub mod leave;
pub mod next_state;
pub mod observation;
pub mod observe;
pub mod step;
