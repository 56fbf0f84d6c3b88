//! What specs share. No assertion of its own beyond "the tool did what it says".

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::missing_panics_doc,
    reason = "each spec uses a part of it"
)]
#![allow(clippy::disallowed_methods, reason = "fixtures need no durability")]

pub mod damage;
pub mod fleet;
pub mod load;
pub mod machine;
pub mod trouble;
