//! What the log is told of decisions: the same words once, and then once a minute.

use std::time::Duration;

use serde_json::json;

use super::decide::Decision;
use super::decide::plan::Plan;
use crate::journal;

/// The same message is logged again after this long.
const REPEAT_AFTER: Duration = Duration::from_mins(1);

/// What a person should know besides, each in a sentence.
pub(super) fn notices(decision: &Decision) -> Vec<String> {
    decision.notices.iter().map(ToString::to_string).collect()
}

/// The same message is logged once and then once a minute.
#[derive(Default)]
pub(super) struct Told {
    last: Option<(Vec<String>, Duration)>,
}

impl Told {
    /// Logs a decision, if these words were not logged just now.
    pub(super) fn tell(&mut self, decision: &Decision, now: Duration) {
        if !self.is_due(decision, now) {
            return;
        }
        let mut fields = json!({"row": decision.row.number(), "plan": decision.plan.name(), "because": decision.because.sentence()});
        if let Some(complaint) = decision.because.complaint() {
            fields["why"] = complaint.why.into();
            fields["next"] = complaint.next.into();
        }
        match decision.plan {
            Plan::Refuse => journal::error("launch refused", &fields),
            Plan::Wait(_) => journal::warn("launch waits", &fields),
            _ => journal::info("launch decided", &fields),
        }
        for notice in notices(decision) {
            journal::warn("launch noticed something that changes nothing", &json!({"notice": notice}));
        }
    }

    fn is_due(&mut self, decision: &Decision, now: Duration) -> bool {
        let mut words = notices(decision);
        words.push(decision.because.sentence());
        let repeated = self
            .last
            .as_ref()
            .is_some_and(|(last, at)| *last == words && now.saturating_sub(*at) < REPEAT_AFTER);
        if !repeated {
            self.last = Some((words, now));
        }
        !repeated
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::launch::decide::Notice;
    use crate::lifecycle::launch::decide::plan::{NonceDuty, Wait};
    use crate::lifecycle::launch::decide::reason::Reason;
    use crate::lifecycle::launch::decide::row::Row;
    use crate::lifecycle::launch::decide::waiting::Waiting;

    fn waiting(notices: Vec<Notice>) -> Decision {
        Decision {
            row: Row::NothingToGoBy,
            plan: Plan::Wait(Wait { nonce: NonceDuty::Keep }),
            because: Reason::Waiting(Waiting::OwnNonce),
            rests_on: None,
            notices,
        }
    }

    #[test]
    fn the_same_words_are_due_once_a_minute_and_a_new_notice_at_once() {
        let mut told = Told::default();
        let ignored =
            || vec![Notice::RequestIgnored { request: uuid::Uuid::nil(), why: "it has expired".to_owned() }];
        let at = Duration::from_secs;

        let steps = [
            (0, vec![], true),
            (59, vec![], false),
            (60, vec![], true),
            (61, ignored(), true),
            (62, ignored(), false),
            (63, vec![], true),
        ];
        for (second, notices, due) in steps {
            assert_eq!(told.is_due(&waiting(notices), at(second)), due, "at second {second}");
        }
    }
}
