//! One room per command of `etcd-backup`: its flags, and what it prints.

pub(super) mod bbr;
mod common;
pub(super) mod copy;
pub(super) mod errand;
pub(super) mod export;
pub(super) mod import;
pub(super) mod list;
pub(super) mod prune;
pub(super) mod restore;
pub(super) mod run;
pub(super) mod save;
pub(super) mod show;
pub(super) mod verify;
