//! The launcher: `observe → decide → act` until etcd runs, then stay as its parent.

pub mod act;
pub mod aside;
pub mod attestation;
pub mod bring;
pub mod configuration;
pub mod decide;
pub mod links;
pub mod listener;
pub mod membership;
pub mod metrics;
pub mod observation;
pub mod observe;
pub mod probe;
pub mod readiness;
pub mod record_files;
pub mod records;
pub mod restoring;
pub mod run;
mod seeding;
pub mod standing;
pub mod supervise;
mod telling;
pub mod turn;
pub mod validation;
