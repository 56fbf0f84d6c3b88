//! May the deploy go on after this instance was started? First match wins (docs/contract.md#post-start).

use crate::lifecycle::launch::decide::waiting::Until;
use crate::lifecycle::own_launcher::Launcher;

/// What the rest of the link does without this instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elsewhere {
    /// There is no rest.
    Nobody,
    /// It serves.
    Serves,
    /// It does not serve, or not yet.
    Silent,
}

/// What post-start sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Whether this member serves linearizable reads.
    pub ready: bool,
    /// What the own launcher says.
    pub launcher: Launcher,
    /// The rest of the link.
    pub elsewhere: Elsewhere,
    /// Whether `ready_timeout` has passed.
    pub time_is_up: bool,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Pass {
        /// Why.
        because: String,
    },
    /// Look again.
    Wait,
    /// The deploy fails here.
    Fail {
        /// What happened.
        what: String,
        /// Why it matters.
        why: String,
        /// What to do next.
        next: String,
    },
}

/// Applies the rule.
pub fn decide(seen: &Seen) -> Verdict {
    if seen.ready {
        return Verdict::Pass { because: "this member serves linearizable reads".to_owned() };
    }
    match &seen.launcher {
        Launcher::Decided { plan, because, why, next, .. } if plan == "refuse" => {
            Verdict::Fail { what: because.clone(), why: why.clone(), next: next.clone() }
        }
        // A second look, the next one at once, or a check of its data: its own progress.
        Launcher::Decided { until: Some(Until::OwnProgress), .. } if !seen.time_is_up => Verdict::Wait,
        // The cause lies outside this instance, and the one that mends it may come later in this deploy.
        Launcher::Decided { plan, because, .. } if plan == "wait" => Verdict::Pass { because: because.clone() },
        Launcher::Decided { plan, because, .. } if seen.elsewhere == Elsewhere::Silent && plan != "validate" => Verdict::Pass {
            because: format!("etcd runs ({because}) and waits for members that this deploy may start later"),
        },
        Launcher::Silent { .. } | Launcher::Decided { .. } if !seen.time_is_up => Verdict::Wait,
        Launcher::Silent { why } => Verdict::Fail {
            what: format!("the launcher of this instance does not answer: {why}"),
            why: "nobody can say what this member is doing".to_owned(),
            next: "read /var/vcap/sys/log/etcd/etcd.stderr.log on this instance".to_owned(),
        },
        Launcher::Decided { plan, because, .. } => Verdict::Fail {
            what: format!("this member does not serve linearizable reads within ready_timeout (plan {plan}: {because})"),
            why: "the next instance would be restarted while this one takes no part".to_owned(),
            next: "read /var/vcap/sys/log/etcd/etcd.stderr.log on this instance; raise ready_timeout if it only needs longer".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(plan: &str) -> Launcher {
        Launcher::Decided {
            plan: plan.to_owned(),
            because: "reason".to_owned(),
            why: "why".to_owned(),
            next: "next".to_owned(),
            until: (plan == "wait").then_some(Until::Others),
        }
    }

    fn own_progress(plan: &str) -> Launcher {
        Launcher::Decided {
            plan: plan.to_owned(),
            because: "reason".to_owned(),
            why: "why".to_owned(),
            next: "next".to_owned(),
            until: Some(Until::OwnProgress),
        }
    }

    #[test]
    fn first_match_wins() {
        let silent = Launcher::Silent { why: "connection refused".to_owned() };
        let seen = Seen { ready: false, launcher: silent, elsewhere: Elsewhere::Silent, time_is_up: false };
        let of = |change: &dyn Fn(&mut Seen)| {
            let mut seen = seen.clone();
            change(&mut seen);
            match decide(&seen) {
                Verdict::Pass { .. } => "pass",
                Verdict::Wait => "wait",
                Verdict::Fail { .. } => "fail",
            }
        };
        assert_eq!(of(&|seen| seen.ready = true), "pass");
        assert_eq!(of(&|seen| seen.launcher = decided("refuse")), "fail");
        assert_eq!(of(&|seen| seen.launcher = decided("wait")), "pass");
        assert_eq!(of(&|seen| seen.launcher = own_progress("wait")), "wait");
        // etcd does not run yet, whoever else is silent.
        assert_eq!(of(&|seen| seen.launcher = own_progress("validate")), "wait");
        assert_eq!(of(&|seen| (seen.launcher, seen.time_is_up) = (own_progress("validate"), true)), "fail");
        assert_eq!(of(&|_| {}), "wait");
        assert_eq!(of(&|seen| seen.time_is_up = true), "fail");
        // etcd was started: a first boot waits for the other instances, a catch-up does not.
        assert_eq!(of(&|seen| seen.launcher = decided("bootstrap")), "pass");
        for plan in ["bootstrap", "start"] {
            assert_eq!(
                of(&|seen| (seen.launcher, seen.elsewhere) = (decided(plan), Elsewhere::Serves)),
                "wait"
            );
            assert_eq!(
                of(&|seen| (seen.launcher, seen.elsewhere) = (decided(plan), Elsewhere::Nobody)),
                "wait"
            );
            assert_eq!(
                of(&|seen| (seen.launcher, seen.elsewhere, seen.time_is_up) =
                    (decided(plan), Elsewhere::Serves, true)),
                "fail"
            );
        }
    }
}
