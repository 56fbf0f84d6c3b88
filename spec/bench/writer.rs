//! A writer every 20 ms, and what it noticed of what happened meanwhile.

use std::time::Duration;

use anyhow::Result;

use crate::figure::Figure;
use crate::samples::Samples;
use crate::support::fleet::Fleet;
use crate::support::load::{Load, Report, assert_nothing_lost};

/// For how long it runs while nothing happens.
const AT_REST: Duration = Duration::from_secs(10);

/// What it notices of what `happens`. It knows the members there are before.
pub fn under_load(fleet: &Fleet, happens: impl FnOnce() -> Result<()>) -> Result<Report> {
    let load = Load::start(fleet);
    happens()?;
    let report = load.finish();
    assert_nothing_lost(fleet, &report);
    Ok(report)
}

/// What it notices of nothing.
pub fn at_rest(fleet: &Fleet) -> Result<Report> {
    under_load(fleet, || {
        #[expect(clippy::disallowed_methods, reason = "the span is what is measured; nothing is waited for")]
        std::thread::sleep(AT_REST);
        Ok(())
    })
}

/// The sum of all rounds: a median would hide one that failed.
pub fn failed(name: &str, reports: &[Report]) -> Figure {
    let sum: usize = reports.iter().map(|report| report.failed_writes).sum();
    Figure::exact(name, f64::from(u32::try_from(sum).unwrap_or(u32::MAX)), "writes")
}

/// The longest time between two acknowledged writes, of each round.
pub fn longest(name: &str, reports: &[Report]) -> Figure {
    let gaps = reports.iter().map(|report| report.longest_gap.as_secs_f64() * 1e3);
    Figure::median(name, &Samples::of(gaps), "ms")
}
