//! The launcher: `observe → decide → act` until etcd runs, then stay as its parent.

pub mod attestation;
pub mod decide;
pub mod observation;
pub mod records;
