//! The tool for data directories: looks into one, judges it, makes one, without any etcd.
//!
//! What it does is in [`crate::datadir`]; here are its flags, the sources of members that need more than a text, and
//! what people read.

pub mod cli;

mod endpoints;
pub(crate) mod progress;
pub(crate) mod source;
