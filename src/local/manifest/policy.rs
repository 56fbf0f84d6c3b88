//! How instances are updated: the `update` block of a deployment, and a group's own over it.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::beyond_one_machine;
use crate::local::section::{Section, mistake};

/// How instances of a group are updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpdatePolicy {
    /// How many instances are tried first.
    pub canaries: Amount,
    /// How many instances are worked on at the same time.
    pub max_in_flight: Amount,
    /// How long a canary is watched.
    pub canary_watch: WatchTime,
    /// How long every other instance is watched.
    pub update_watch: WatchTime,
    /// Whether this group waits for the one before it.
    pub serial: bool,
    /// Whether a first deploy updates all availability zones at once.
    pub parallel_azs_on_first_deploy: bool,
}

/// A number of instances, absolute or in per cent of those to be worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// That many.
    Instances(u32),
    /// That share, rounded down.
    Percent(u32),
}

impl Amount {
    /// The number for a set of `size` instances.
    pub fn of(self, size: usize) -> usize {
        match self {
            Self::Instances(count) => count as usize,
            Self::Percent(percent) => (percent as usize * size / 100).min(size),
        }
    }
}

impl std::str::FromStr for Amount {
    type Err = String;

    /// Reads `2` or `50%`.
    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = match text.strip_suffix('%') {
            Some(percent) => percent.parse().map(Self::Percent),
            None => text.parse().map(Self::Instances),
        };
        parsed.map_err(|_| format!("should be a number or a percentage, but is '{text}'"))
    }
}

/// How long an instance is watched after its jobs were started: the Director sleeps `min_ms`, then polls
/// until `max_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchTime {
    /// Milliseconds before the first look.
    pub min_ms: u64,
    /// Milliseconds after which an instance that does not run has failed.
    pub max_ms: u64,
}

impl UpdatePolicy {
    pub(super) fn of_deployment(top: &Section<'_>) -> Result<Self> {
        top.require("update")?;
        let section = top.optional_section("update")?.expect("required on the line above");
        for key in ["canaries", "max_in_flight", "canary_watch_time", "update_watch_time"] {
            section.require(key)?;
        }
        let unset = WatchTime { min_ms: 0, max_ms: 0 };
        let base = Self {
            canaries: Amount::Instances(0),
            max_in_flight: Amount::Instances(1),
            canary_watch: unset,
            update_watch: unset,
            serial: true,
            parallel_azs_on_first_deploy: false,
        };
        base.overridden(&section)
    }

    /// This policy with the keys that `section` sets.
    pub(super) fn overridden(self, section: &Section<'_>) -> Result<Self> {
        if section.optional_text("vm_strategy")?.is_some_and(|strategy| strategy != "delete-create") {
            return Err(beyond_one_machine(
                format!("{} asks for another vm_strategy than delete-create", section.place()),
                "an instance here has one directory, so the new one cannot exist beside the old one",
                "remove 'vm_strategy' with an ops file and deploy again".to_owned(),
            ));
        }
        let strategy = section.optional_text("initial_deploy_az_update_strategy")?;
        let parallel = match strategy.as_deref() {
            None => self.parallel_azs_on_first_deploy,
            Some("parallel") => true,
            Some("serial") => false,
            Some(other) => {
                return Err(mistake(format!(
                    "Invalid initial_deploy_az_update_strategy '{other}', valid strategies are: 'parallel, serial'"
                )));
            }
        };
        Ok(Self {
            canaries: amount(section, "canaries")?.unwrap_or(self.canaries),
            max_in_flight: amount(section, "max_in_flight")?.unwrap_or(self.max_in_flight),
            canary_watch: watch_time(section, "canary_watch_time")?.unwrap_or(self.canary_watch),
            update_watch: watch_time(section, "update_watch_time")?.unwrap_or(self.update_watch),
            serial: section.optional_flag("serial")?.unwrap_or(self.serial),
            parallel_azs_on_first_deploy: parallel,
        })
    }
}

fn amount(section: &Section<'_>, key: &str) -> Result<Option<Amount>> {
    let Some(text) = section.optional_text(key)? else { return Ok(None) };
    let parsed = text.parse::<Amount>();
    parsed.map(Some).map_err(|fault| mistake(format!("{}: '{key}' {fault}", section.place())))
}

fn watch_time(section: &Section<'_>, key: &str) -> Result<Option<WatchTime>> {
    let Some(text) = section.optional_text(key)? else { return Ok(None) };
    let place = section.place();
    let milliseconds = |part: &str| {
        part.trim().parse::<u64>().map_err(|_| {
            mistake(format!("{place}: '{key}': Watch time should be an integer or a range of two integers"))
        })
    };
    let (min_ms, max_ms) = match text.split_once('-') {
        Some((min, max)) => (milliseconds(min)?, milliseconds(max)?),
        None => (milliseconds(&text)?, milliseconds(&text)?),
    };
    if min_ms > max_ms {
        return Err(mistake(format!(
            "{place}: '{key}': Min watch time cannot be greater than max watch time"
        )));
    }
    Ok(Some(WatchTime { min_ms, max_ms }))
}
