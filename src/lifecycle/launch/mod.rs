//! The launcher: `observe → decide → act` until etcd runs, then stay as its parent.

pub mod listener;
pub mod readiness;
pub mod supervise;
