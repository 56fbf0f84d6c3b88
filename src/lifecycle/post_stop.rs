//! post-stop: the job has stopped; says how etcd ended.

use serde_json::json;

use super::launch::records::ExitRecord;
use super::records;
use crate::job::paths::Paths;
use crate::journal;

/// Tells how etcd ended; never fails a stop that is already done.
pub fn run(paths: &Paths) -> anyhow::Result<()> {
    match records::read::<ExitRecord>(paths)? {
        Some(record) => {
            journal::info("the job has stopped", &json!({"how": record.how, "member_id": record.member_id}));
        }
        None => journal::warn(
            "the job has stopped without an exit record",
            &json!({"why": "etcd never ran, or launcher and etcd were killed", "next": "the next start validates the data"}),
        ),
    }
    Ok(())
}
