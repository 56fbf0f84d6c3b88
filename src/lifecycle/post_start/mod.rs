//! post-start: may BOSH go on to the next instance?

pub mod decide;
