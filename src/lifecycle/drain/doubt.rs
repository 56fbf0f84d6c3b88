//! A refusal is believed only after it was seen for a while: an election, or a voter that is back in a
//! moment, must not fail a deploy (docs/contract.md#stop).

use std::time::{Duration, Instant};

use super::decide::Plan;

/// Longer than an election, and etcd's own health interval.
const BELIEVED_AFTER: Duration = Duration::from_secs(5);

/// Since when a stop has been refused, over several looks.
#[derive(Debug, Default)]
pub struct Doubt {
    since: Option<Instant>,
}

impl Doubt {
    /// Whether this plan, seen at `now`, is to be looked at again before anybody acts on it.
    pub fn about(&mut self, plan: &Plan, now: Instant) -> bool {
        match plan {
            Plan::Refuse(refusal) if refusal.may_pass() => {
                now < *self.since.get_or_insert(now) + BELIEVED_AFTER
            }
            _ => {
                self.since = None;
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::drain::decide::Refusal;

    #[test]
    fn only_what_may_pass_is_doubted_and_not_for_ever() {
        let now = Instant::now();
        let passing = Plan::Refuse(Refusal::NobodyAnswers { why: "no leader".to_owned() });
        let mut doubt = Doubt::default();

        assert!(!doubt.about(&Plan::Refuse(Refusal::LastVoter), now));
        assert!(!doubt.about(&Plan::HandOver, now));
        assert!(doubt.about(&passing, now));
        assert!(doubt.about(&passing, now + BELIEVED_AFTER / 2));
        assert!(!doubt.about(&passing, now + BELIEVED_AFTER));
        // Seen otherwise in between, it begins anew.
        assert!(!doubt.about(&Plan::HandOver, now + BELIEVED_AFTER));
        assert!(doubt.about(&passing, now + BELIEVED_AFTER));
    }
}
