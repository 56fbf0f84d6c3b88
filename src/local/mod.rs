//! The director for one machine. Production runs on the BOSH Director; this deploys the same manifest,
//! ops files, job templates and lifecycle scripts on loopback, to try, to develop and to test.
//!
//! The pure half, in the order a deploy uses it: [`interpolation`] asks the real `bosh` for the final
//! manifest, [`manifest`] gives it types, [`release`] reads the jobs, [`placement`] says which
//! instances exist, [`link`] wires them, [`render`] fills the templates, [`update`] orders the work.

pub mod dns;
#[cfg(test)]
mod fixture;
pub mod interpolation;
pub mod link;
pub mod manifest;
pub mod model;
pub mod placement;
pub mod release;
pub mod render;
mod section;
pub mod update;

// The effectful half: what is on this machine, and what acts on it.
pub mod address;
pub mod agent;
pub mod bpm;
pub mod change;
pub mod cli;
pub mod command;
pub mod console;
pub mod director;
pub mod instance;
pub mod layout;
pub mod milestone;
pub mod monit;
pub mod names;
pub mod network;
pub mod package;
pub mod preparation;
pub mod process;
pub mod sandbox;
pub mod slug;
pub mod spec;
pub mod state;
pub mod task;
pub mod waves;
pub mod worker;
