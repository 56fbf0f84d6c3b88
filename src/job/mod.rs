//! What BOSH rendered, and only here: raw properties become one checked configuration, with all faults
//! told together; paths come from one root.

pub mod aliases;
pub mod beside;
pub mod certificate;
pub mod config;
pub mod honoured;
pub mod installed;
pub mod lifetime;
pub mod listener;
pub mod paths;
pub mod properties;
pub mod reach;
