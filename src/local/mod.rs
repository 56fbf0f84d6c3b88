//! The director for one machine. Production runs on the BOSH Director; this deploys the same manifest,
//! ops files, job templates and lifecycle scripts on loopback, to try, to develop and to test.

pub mod model;
