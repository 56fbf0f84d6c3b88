//! Keys that move to another cluster, of whichever version: exported from real etcd at one revision, imported into
//! another, and compared with what the first one answers.

#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]
#![allow(dead_code, reason = "several specs share the support")]
#![allow(clippy::disallowed_methods, reason = "files of a test need no durability")]

#[path = "exporting/authentication.rs"]
mod authentication;
#[path = "exporting/content.rs"]
mod content;
#[path = "support/etcd.rs"]
mod etcd;
#[path = "exporting/interrupted.rs"]
mod interrupted;
#[path = "exporting/moving.rs"]
mod moving;
#[path = "exporting/refused.rs"]
mod refused;
#[path = "exporting/scene.rs"]
mod scene;
