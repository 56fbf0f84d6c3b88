//! Backups: sets of one full snapshot and the deltas behind it, in a store that is named by a URL.
//!
//! ```text
//! etcd ──snapshot──▶ full ─┐                      ┌─▶ list, show, prune, copy     (catalog, chain)
//!                          ├─▶ codec ─▶ store ────┤
//! etcd ──watch─────▶ delta ┘                      └─▶ verify, restore             (fetch, replay)
//! ```
//!
//! What lies where, and what each file says, is in docs/backup-format.md. Objects are written once and never changed;
//! a manifest comes last, and what has none is no backup.

pub mod catalog;
pub mod chain;
pub mod cli;
pub mod cluster;
pub mod codec;
mod command;
pub mod config;
pub mod copy;
pub mod daemon;
pub mod delta;
pub mod deltas;
pub mod export;
pub mod fetch;
#[cfg(test)]
mod fixture;
pub mod full;
pub mod import;
pub mod layout;
pub mod manifest;
pub mod memory;
pub mod prune;
pub mod recovery;
pub mod replay;
pub mod retention;
pub mod seal;
pub mod step;
pub mod store;
pub mod verify;
