//! When the next full snapshot is due.

use croner::Cron;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// A set that says it was begun so far ahead of our clock was begun by another clock, which is not believed.
const AHEAD_MAX: SignedDuration = SignedDuration::from_mins(5);

/// `schedule`, `schedule_time_zone` and what was drawn of `schedule_jitter`.
#[derive(Debug, Clone)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
    delay: SignedDuration,
}

impl Schedule {
    /// Reads it; `share` (0 to 1) of the jitter is the delay, drawn once for a process, so that many deployments do not
    /// begin at the same second.
    pub(super) fn parse(cron: &str, zone: &str, jitter: SignedDuration, share: f64) -> Result<Self, String> {
        let cron = cron.parse().map_err(|error| {
            format!("schedule '{cron}' is no cron expression ({error}): 0 * * * * is each hour")
        })?;
        let zone = TimeZone::get(zone)
            .map_err(|_| format!("schedule_time_zone '{zone}' is unknown: UTC or Europe/Berlin"))?;
        Ok(Self { cron, zone, delay: jitter.mul_f64(share) })
    }

    /// When the next one is due if the last one was begun then. Never, if the expression has no further time: that is
    /// far away.
    pub(super) fn due_after(&self, begun: Timestamp, now: Timestamp) -> Timestamp {
        let begun = if begun.duration_since(now) > AHEAD_MAX { now } else { begun };
        // The delay of the last one must not make it the next one's time already.
        let begun = begun.checked_sub(self.delay).unwrap_or(begun);
        let next = self.cron.find_next_occurrence(&begun.to_zoned(self.zone.clone()), false);
        let next = next.map_or(Timestamp::MAX, |next| next.timestamp());
        next.checked_add(self.delay).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(cron: &str, zone: &str, begun: &str, now: &str) -> String {
        let schedule = Schedule::parse(cron, zone, SignedDuration::from_mins(2), 0.5).unwrap();
        schedule.due_after(begun.parse().unwrap(), now.parse().unwrap()).to_string()
    }

    #[test]
    fn the_next_time_is_behind_the_last_set_whatever_the_clock_says() {
        let now = "2026-11-26T18:00:00Z";
        for (cron, zone, begun, wanted) in [
            ("0 * * * *", "UTC", "2026-11-26T17:01:00Z", "2026-11-26T18:01:00Z"),
            ("0 * * * *", "UTC", "2026-11-26T17:45:00Z", "2026-11-26T18:01:00Z"),
            // Missed: due at once.
            ("0 * * * *", "UTC", "2026-11-20T17:45:00Z", "2026-11-20T18:01:00Z"),
            ("30 3 * * *", "Europe/Berlin", "2026-11-26T17:45:00Z", "2026-11-27T02:31:00Z"),
            // A set of the year 2030 does not keep the next one waiting until then.
            ("0 * * * *", "UTC", "2030-01-01T00:00:00Z", "2026-11-26T18:01:00Z"),
        ] {
            assert_eq!(due(cron, zone, begun, now), wanted, "{cron} {zone} {begun}");
        }
    }

    /// An hour that comes twice brings no set twice, and one that is left out brings one.
    #[test]
    fn a_change_of_the_clock_leaves_no_day_without_a_set() {
        let now = "2026-10-24T12:00:00Z";
        let first = due("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", now);
        assert_eq!(first, "2026-10-25T00:31:00Z");
        let now = "2026-03-28T12:00:00Z";
        let left_out = due("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", now);
        assert!(left_out.starts_with("2026-03-29T01:"), "{left_out}");
    }

    #[test]
    fn what_is_no_schedule_is_told() {
        let parse =
            |cron, zone| Schedule::parse(cron, zone, SignedDuration::ZERO, 0.0).map(|_| ()).unwrap_err();
        assert!(parse("hourly please", "UTC").contains("0 * * * *"));
        assert!(parse("0 * * * *", "Berlin").contains("Europe/Berlin"));
    }
}
