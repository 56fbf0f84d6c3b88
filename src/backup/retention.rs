//! Which sets are kept. Pure: what is known of the sets, a policy and a clock in, a verdict per set out.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::Deserialize;

use super::catalog::Entry;
use super::layout::SetId;
use crate::etcd::id::ClusterId;

/// The properties `retention.*`. A set that any rule keeps is kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// The newest ones.
    pub keep_last: u32,
    /// The newest one of each hour, of so many hours that have one.
    pub keep_hourly: u32,
    /// The same of days (UTC).
    pub keep_daily: u32,
    /// The same of weeks, which begin on Monday.
    pub keep_weekly: u32,
    /// The same of months.
    pub keep_monthly: u32,
    /// What is older goes, whatever the other rules say.
    #[serde(deserialize_with = "age_or_none")]
    pub max_age: Option<SignedDuration>,
}

/// Reads an age as it is written in a manifest or on a command line: `36h`, `90d` or `12w`. Days have 24 hours.
pub fn age(text: &str) -> Result<SignedDuration, String> {
    let days = |digits: &str, each: i64| digits.parse::<i64>().ok()?.checked_mul(each * 24);
    let age = match (text.strip_suffix('d'), text.strip_suffix('w')) {
        (Some(digits), _) => days(digits, 1).and_then(SignedDuration::try_from_hours),
        (_, Some(digits)) => days(digits, 7).and_then(SignedDuration::try_from_hours),
        _ => text.parse().ok(),
    };
    age.filter(SignedDuration::is_positive).ok_or_else(|| format!("'{text}' is no age: 36h, 90d and 12w are"))
}

fn age_or_none<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<SignedDuration>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    text.map(|text| age(&text)).transpose().map_err(serde::de::Error::custom)
}

/// The defaults of the job.
impl Default for Policy {
    fn default() -> Self {
        Self { keep_last: 2, keep_hourly: 24, keep_daily: 7, keep_weekly: 4, keep_monthly: 12, max_age: None }
    }
}

/// What retention has to know of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub set: SetId,
    /// The cluster it is of: a restored one begins a line of its own.
    pub cluster: ClusterId,
    /// When it was begun, by the clock of whoever took it.
    pub begun: Timestamp,
    /// How far it reaches.
    pub last_revision: i64,
    /// When it was last proven whole.
    pub verified: Option<Timestamp>,
    /// Whether it is known to be broken.
    pub broken: bool,
}

impl From<&Entry> for Known {
    fn from(entry: &Entry) -> Self {
        Self {
            set: entry.set().clone(),
            cluster: entry.full.cluster.id,
            begun: entry.full.begun,
            last_revision: entry.last_revision(),
            verified: entry.verified.last().copied(),
            broken: entry.broken.is_some(),
        }
    }
}

/// Why a set stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It is the newest of its cluster, by its clock or by its revisions.
    Newest,
    /// Of what was verified it is the newest of its cluster, by its clock, by its revisions or by the verification.
    NewestVerified,
    /// `keep_last`.
    Last,
    /// `keep_hourly`.
    Hourly,
    /// `keep_daily`.
    Daily,
    /// `keep_weekly`.
    Weekly,
    /// `keep_monthly`.
    Monthly,
    /// No rule but `max_age`, and it is not that old.
    Young,
}

impl Reason {
    /// In a word or two.
    pub fn text(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::NewestVerified => "newest verified",
            Self::Last => "last",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Young => "younger than max_age",
        }
    }
}

/// A set and the reasons for which it is kept; none = it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Its name.
    pub set: SetId,
    /// Why it stays.
    pub kept: BTreeSet<Reason>,
}

/// Judges sets, in the order they are given.
///
/// Whatever the policy and the clocks say, what one would restore from stays, cluster by cluster: the newest set and
/// the newest verified one. Clocks may have been wrong when sets were taken, and may be now; so "newest" is believed of
/// everything that could mean it.
pub fn judge(sets: &[Known], policy: &Policy, now: Timestamp) -> Vec<Verdict> {
    let mut verdicts: Vec<Verdict> =
        sets.iter().map(|known| Verdict { set: known.set.clone(), kept: BTreeSet::new() }).collect();
    let clusters: BTreeSet<ClusterId> = sets.iter().map(|known| known.cluster).collect();
    for cluster in clusters {
        // The newest first; of those of a second the one that reaches further.
        let mut line: Vec<usize> = (0..sets.len()).filter(|&place| sets[place].cluster == cluster).collect();
        line.sort_by_key(|&place| {
            let known = &sets[place];
            std::cmp::Reverse((known.begun, known.last_revision, known.set.clone()))
        });
        protect(sets, &line, &mut verdicts);
        keep(sets, &line, policy, now, &mut verdicts);
    }
    verdicts
}

/// What no rule can take away.
fn protect(sets: &[Known], line: &[usize], verdicts: &mut [Verdict]) {
    let whole: Vec<usize> = line.iter().copied().filter(|&place| !sets[place].broken).collect();
    let verified: Vec<usize> =
        whole.iter().copied().filter(|&place| sets[place].verified.is_some()).collect();
    for (candidates, reason) in [(&whole, Reason::Newest), (&verified, Reason::NewestVerified)] {
        let newest = [
            candidates.iter().max_by_key(|&&place| sets[place].begun),
            candidates.iter().max_by_key(|&&place| (sets[place].last_revision, sets[place].begun)),
            candidates.iter().max_by_key(|&&place| (sets[place].verified, sets[place].begun)),
        ];
        for place in newest.into_iter().flatten() {
            verdicts[*place].kept.insert(reason);
        }
    }
}

fn keep(sets: &[Known], line: &[usize], policy: &Policy, now: Timestamp, verdicts: &mut [Verdict]) {
    let young = |place: usize| {
        // A set of the future is not old.
        policy.max_age.is_none_or(|max_age| now.duration_since(sets[place].begun) <= max_age)
    };
    // A broken one takes nobody's place.
    let candidates: Vec<usize> =
        line.iter().copied().filter(|&place| young(place) && !sets[place].broken).collect();
    let rules = [
        (policy.keep_last, Reason::Last),
        (policy.keep_hourly, Reason::Hourly),
        (policy.keep_daily, Reason::Daily),
        (policy.keep_weekly, Reason::Weekly),
        (policy.keep_monthly, Reason::Monthly),
    ];
    if rules.iter().all(|(count, _)| *count == 0) {
        for place in candidates {
            verdicts[place].kept.insert(Reason::Young);
        }
        return;
    }
    for (count, reason) in rules {
        let mut periods = BTreeSet::new();
        for &place in &candidates {
            if periods.len() >= count as usize {
                break;
            }
            if periods.insert(period(reason, &sets[place])) {
                verdicts[place].kept.insert(reason);
            }
        }
    }
}

/// What sets of the same period have in common.
fn period(reason: Reason, known: &Known) -> String {
    let begun = known.begun.to_zoned(TimeZone::UTC);
    let shape = match reason {
        Reason::Hourly => "%Y-%m-%d %H",
        Reason::Daily => "%Y-%m-%d",
        Reason::Weekly => "%G-%V",
        Reason::Monthly => "%Y-%m",
        _ => return known.set.to_string(),
    };
    begun.strftime(shape).to_string()
}

#[cfg(test)]
mod tests;
