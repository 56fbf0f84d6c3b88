//! post-deploy: is the deploy a success on this instance?

pub mod decide;
