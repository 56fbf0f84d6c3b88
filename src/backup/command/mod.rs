//! One room per command of `etcd-backup`: its flags, and what it prints.

pub(super) mod bbr;
pub(super) mod check;
mod common;
pub(super) mod copy;
pub(super) mod export;
pub(super) mod import;
mod interruption;
pub(super) mod list;
pub(super) mod prune;
pub(super) mod restore;
pub(super) mod restore_cluster;
pub(super) mod run;
pub(super) mod save;
mod scratch;
pub(super) mod show;
pub(super) mod verify;
