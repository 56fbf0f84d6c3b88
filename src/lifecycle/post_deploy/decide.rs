//! Is the deploy a success on this instance? (docs/contract.md#post-deploy)

use crate::lifecycle::launch::decide::waiting::Until;
use crate::lifecycle::own_launcher::Launcher;

/// Whether this member votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    /// It does.
    Voter,
    /// It is a learner.
    Learner,
    /// Its etcd does not say.
    Unknown,
}

/// What post-deploy sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Whether this member serves linearizable reads.
    pub ready: bool,
    /// Whether it votes.
    pub membership: Membership,
    /// What the own launcher says.
    pub launcher: Launcher,
    /// Whether `ready_timeout` has passed.
    pub time_is_up: bool,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A success.
    Pass,
    /// Look again.
    Wait,
    /// The deploy fails.
    Fail {
        /// What happened.
        what: String,
        /// Why it matters.
        why: String,
        /// What to do next.
        next: String,
    },
}

/// A success is a voter that serves; anything else fails with the launcher's reason, at once when a
/// person must decide or only another deploy can bring what is missing, and otherwise when the time is up.
pub fn decide(seen: &Seen) -> Verdict {
    if seen.ready && seen.membership == Membership::Voter {
        return Verdict::Pass;
    }
    if !is_final(&seen.launcher) && !seen.time_is_up {
        return Verdict::Wait;
    }
    match &seen.launcher {
        Launcher::Silent { why } => Verdict::Fail {
            what: format!("the launcher of this instance does not answer: {why}"),
            why: "nobody can say what this member is doing".to_owned(),
            next: "read /var/vcap/sys/log/etcd/etcd.stderr.log on this instance".to_owned(),
        },
        Launcher::Decided { because, why, next, .. } if !next.is_empty() => {
            Verdict::Fail { what: because.clone(), why: why.clone(), next: next.clone() }
        }
        Launcher::Decided { plan, because, .. } => {
            let what = match seen.membership {
                Membership::Learner => "this member is still a learner",
                Membership::Voter | Membership::Unknown => "this member does not serve linearizable reads",
            };
            Verdict::Fail {
                what: format!("{what} within ready_timeout (plan {plan}: {because})"),
                why: "a cluster with a silent member is one failure away from losing its quorum".to_owned(),
                next: "`etcd-status` shows what each instance is doing; raise ready_timeout if it only needs longer".to_owned(),
            }
        }
    }
}

/// Whether waiting longer changes nothing: everybody has been deployed by now.
fn is_final(launcher: &Launcher) -> bool {
    match launcher {
        Launcher::Silent { .. } => false,
        Launcher::Decided { plan, until, .. } => plan == "refuse" || *until == Some(Until::Operator),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(plan: &str, next: &str) -> Launcher {
        Launcher::Decided {
            plan: plan.to_owned(),
            because: "reason".to_owned(),
            why: "why".to_owned(),
            next: next.to_owned(),
            until: (plan == "wait").then_some(Until::Others),
        }
    }

    #[test]
    fn only_a_voter_that_serves_is_a_success() {
        use Membership::{Learner, Unknown, Voter};
        let of = |ready, membership, launcher: &Launcher, time_is_up| match decide(&Seen {
            ready,
            membership,
            launcher: launcher.clone(),
            time_is_up,
        }) {
            Verdict::Pass => "pass",
            Verdict::Wait => "wait",
            Verdict::Fail { .. } => "fail",
        };
        let silent = Launcher::Silent { why: "refused".to_owned() };
        for launcher in [&silent, &decided("start", ""), &decided("wait", "deploy with bootstrap.yml")] {
            assert_eq!(of(true, Voter, launcher, true), "pass");
            for membership in [Voter, Learner, Unknown] {
                assert_eq!(of(false, membership, launcher, false), "wait");
                assert_eq!(of(false, membership, launcher, true), "fail");
            }
            assert_eq!(of(true, Learner, launcher, true), "fail");
        }
        assert_eq!(of(false, Unknown, &decided("refuse", "next"), false), "fail");
    }

    /// A first deploy without bootstrap.yml: waiting would only delay the message.
    #[test]
    fn what_only_another_deploy_can_bring_is_not_waited_for() {
        let Launcher::Decided { plan, because, why, next, .. } = decided("wait", "next") else {
            unreachable!()
        };
        let launcher = Launcher::Decided { plan, because, why, next, until: Some(Until::Operator) };
        let seen = Seen { ready: false, membership: Membership::Unknown, launcher, time_is_up: false };

        assert!(matches!(decide(&seen), Verdict::Fail { .. }));
    }

    #[test]
    fn a_failure_tells_the_launchers_own_reason() {
        let launcher = decided("wait", "deploy with bootstrap.yml");
        let seen = Seen { ready: false, membership: Membership::Unknown, launcher, time_is_up: true };

        let Verdict::Fail { what, next, .. } = decide(&seen) else { panic!("it cannot pass") };

        assert_eq!((what.as_str(), next.as_str()), ("reason", "deploy with bootstrap.yml"));
    }
}
