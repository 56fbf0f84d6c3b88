//! What specs share. No assertion of its own beyond "the tool did what it says".

#![allow(dead_code, missing_docs, clippy::missing_panics_doc, reason = "each spec uses a part of it")]

pub mod fleet;
pub mod load;
