//! post-stop: the job has stopped; says how etcd ended.

use serde_json::json;

use super::records::{self, ExitRecord};
use crate::job::paths::Paths;
use crate::journal;

/// Tells how etcd ended; never fails a stop that is already done.
pub fn run(paths: &Paths) -> anyhow::Result<()> {
    match records::read::<ExitRecord>(paths)? {
        Some(record) => journal::info(
            "the job has stopped",
            &json!({"exit_code": record.ended.exit_code(), "graceful": record.is_graceful(), "at": record.at}),
        ),
        None => journal::warn(
            "the job has stopped without an exit record",
            &json!({"why": "etcd never ran, or launcher and etcd were killed", "next": "the next start validates the data"}),
        ),
    }
    Ok(())
}
