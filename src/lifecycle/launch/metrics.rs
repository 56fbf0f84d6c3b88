//! The launcher's own numbers, in Prometheus' text format.

use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::attestation::Progress;

/// What is counted.
pub struct Metrics {
    started: Instant,
    content: Mutex<Content>,
}

#[derive(Default)]
struct Content {
    row: Option<u8>,
    decisions: u64,
    success: bool,
    failed: bool,
    ready_after: Option<Duration>,
    validated: Option<(Duration, u64)>,
}

impl Metrics {
    /// Counting from this moment.
    pub fn new(started: Instant) -> Self {
        Self { started, content: Mutex::new(Content::default()) }
    }

    /// A decision was made.
    pub fn decided(&self, row: u8, progress: Progress) {
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        content.row = Some(row);
        content.decisions += 1;
        content.success = progress == Progress::Success;
        content.failed = progress == Progress::Failed;
    }

    /// How long the last validation of the data took, and how many bytes it read.
    pub fn validated(&self, cost: Option<(Duration, u64)>) {
        self.content.lock().unwrap_or_else(PoisonError::into_inner).validated = cost;
    }

    /// This member served its first linearizable read.
    pub fn ready_after(&self, elapsed: Duration) {
        self.content.lock().unwrap_or_else(PoisonError::into_inner).ready_after = Some(elapsed);
    }

    /// The page.
    pub fn page(&self) -> String {
        let content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        let mut page = String::new();
        let mut gauge = |name: &str, help: &str, value: f64| {
            write!(page, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n")
                .expect("writing to a String cannot fail");
        };
        gauge(
            "etcd_launcher_uptime_seconds",
            "Seconds since the launcher started.",
            self.started.elapsed().as_secs_f64(),
        );
        if let Some(row) = content.row {
            gauge("etcd_launcher_row", "Row of the launch table that applied last.", f64::from(row));
        }
        #[expect(clippy::cast_precision_loss, reason = "a launcher makes far fewer than 2^52 decisions")]
        gauge("etcd_launcher_decisions", "Decisions since the launcher started.", content.decisions as f64);
        gauge(
            "etcd_launcher_serving",
            "1 once this member has served a linearizable read.",
            f64::from(u8::from(content.success)),
        );
        gauge("etcd_launcher_refused", "1 while a person must decide.", f64::from(u8::from(content.failed)));
        if let Some((took, bytes)) = content.validated {
            gauge(
                "etcd_launcher_validation_seconds",
                "Seconds that the last check of the data took.",
                took.as_secs_f64(),
            );
            #[expect(clippy::cast_precision_loss, reason = "a gauge of bytes; no disk has 2^52")]
            gauge(
                "etcd_launcher_validation_bytes",
                "Bytes that the last check of the data read.",
                bytes as f64,
            );
        }
        if let Some(elapsed) = content.ready_after {
            gauge(
                "etcd_launcher_ready_seconds",
                "Seconds from start to the first linearizable read.",
                elapsed.as_secs_f64(),
            );
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_a_help_and_a_type_for_each_value() {
        let metrics = Metrics::new(Instant::now());
        metrics.decided(4, Progress::Success);
        metrics.ready_after(Duration::from_millis(500));

        let page = metrics.page();

        assert!(page.contains("\netcd_launcher_row 4\n"), "{page}");
        assert!(page.contains("\netcd_launcher_ready_seconds 0.5\n"), "{page}");
        assert_eq!(page.matches("# HELP").count(), page.matches("# TYPE").count());
    }
}
