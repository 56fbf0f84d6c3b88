//! May BOSH go on to the next instance? Told in docs/contract.md#post-start.
//!
//! post-start waits for what this instance does itself. It passes when the cause lies elsewhere, because
//! the instance that repairs it may come later in this very deploy, and it fails at once when a person
//! must decide.

use std::time::Duration;

use crate::lifecycle::launch::decide::summary::{Stance, Summary, Told};

/// A member that was started without quorum gets this long: often it is the one that completes it.
pub const QUORUM_GRACE: Duration = Duration::from_secs(10);

/// What post-start saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What this instance's launcher says *now*: asked on its listener, since `status.json` may be of
    /// an earlier run.
    pub launcher: Launcher,
    /// How long post-start has been waiting.
    pub waited: Duration,
    /// How long it may (`ready_timeout`).
    pub ready_timeout: Duration,
}

/// What this instance's launcher says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Launcher {
    /// It does not answer.
    Silent {
        /// Why not.
        why: String,
    },
    /// It is looking around for the first time.
    Deciding,
    /// It has decided, and this member does not serve linearizable reads.
    NotReady(Summary),
    /// This member serves linearizable reads.
    Ready,
}

/// What post-start does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// End well.
    Pass {
        /// Why, for the log.
        because: String,
    },
    /// Look again in a moment.
    Wait {
        /// For what, for the log.
        because: String,
    },
    /// Fail the deploy here.
    Fail(Told),
}

/// May BOSH go on?
pub fn decide(seen: &Seen) -> Verdict {
    let timed_out = seen.waited >= seen.ready_timeout;
    match &seen.launcher {
        Launcher::Ready => Verdict::Pass { because: "this member serves linearizable reads".to_owned() },
        Launcher::Silent { .. } | Launcher::Deciding if !timed_out => {
            Verdict::Wait { because: "the launcher has not decided yet".to_owned() }
        }
        Launcher::Silent { why } => Verdict::Fail(silent(why, seen.ready_timeout)),
        Launcher::Deciding => Verdict::Fail(silent("it is still looking around", seen.ready_timeout)),
        Launcher::NotReady(summary) => not_ready(seen, summary, timed_out),
    }
}

fn not_ready(seen: &Seen, summary: &Summary, timed_out: bool) -> Verdict {
    let because = format!("{}: {}", summary.plan, summary.because);
    match summary.stance {
        Stance::Refused => Verdict::Fail(told(summary)),
        Stance::Own if timed_out => Verdict::Fail(timeout(summary, seen.ready_timeout)),
        Stance::Own => Verdict::Wait { because },
        Stance::Others if summary.plan == "start" && seen.waited < QUORUM_GRACE => Verdict::Wait { because },
        Stance::Others | Stance::Operator => Verdict::Pass { because },
    }
}

/// The launcher's own complaint, or one made of its reason.
pub(crate) fn told(summary: &Summary) -> Told {
    summary.complaint.clone().unwrap_or_else(|| Told {
        what: format!("this instance does not serve: {} ({})", summary.plan, summary.because),
        why: "a deploy that ends well promises a member that serves".to_owned(),
        next: "`etcd-status` shows all members; etcd's log is /var/vcap/sys/log/etcd/etcd.stderr.log"
            .to_owned(),
    })
}

/// What is said when patience ran out on something this instance does itself.
pub(crate) fn timeout(summary: &Summary, ready_timeout: Duration) -> Told {
    let inner = told(summary);
    Told { what: format!("not ready after {} s: {}", ready_timeout.as_secs(), inner.what), ..inner }
}

pub(crate) fn silent(why: &str, ready_timeout: Duration) -> Told {
    Told {
        what: format!("the launcher did not decide anything within {} s: {why}", ready_timeout.as_secs()),
        why: "nobody can tell what this member does".to_owned(),
        next: "look at /var/vcap/sys/log/etcd/etcd.stderr.log and /var/vcap/sys/log/etcd/bpm.log".to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn summary(plan: &str, stance: Stance) -> Summary {
        let complaint = match stance {
            Stance::Own => None,
            Stance::Others | Stance::Operator | Stance::Refused => {
                Some(Told { what: "what".to_owned(), why: "why".to_owned(), next: "next".to_owned() })
            }
        };
        Summary {
            row: 0,
            plan: plan.to_owned(),
            stance,
            because: "reason".to_owned(),
            complaint,
            notices: vec![],
        }
    }

    const PASS: &str = "pass";
    const WAIT: &str = "wait";
    const FAIL: &str = "fail";

    fn outcome(launcher: Launcher, waited: u64) -> &'static str {
        let seen =
            Seen { launcher, waited: Duration::from_secs(waited), ready_timeout: Duration::from_secs(600) };
        match decide(&seen) {
            Verdict::Pass { .. } => PASS,
            Verdict::Wait { .. } => WAIT,
            Verdict::Fail(_) => FAIL,
        }
    }

    #[test]
    fn the_table() {
        let not_ready = |plan, stance| Launcher::NotReady(summary(plan, stance));
        let silent = || Launcher::Silent { why: "connection refused".to_owned() };
        //    launcher                                    at once  after 10 s  after 600 s
        let table = [
            (Launcher::Ready, PASS, PASS, PASS),
            (silent(), WAIT, WAIT, FAIL),
            (Launcher::Deciding, WAIT, WAIT, FAIL),
            (not_ready("refuse", Stance::Refused), FAIL, FAIL, FAIL),
            (not_ready("start", Stance::Own), WAIT, WAIT, FAIL),
            (not_ready("bootstrap", Stance::Own), WAIT, WAIT, FAIL),
            (not_ready("wait", Stance::Own), WAIT, WAIT, FAIL),
            (not_ready("start", Stance::Others), WAIT, PASS, PASS),
            (not_ready("wait", Stance::Others), PASS, PASS, PASS),
            (not_ready("wait", Stance::Operator), PASS, PASS, PASS),
        ];
        for (launcher, at_once, later, at_last) in table {
            let got = [0, 10, 600].map(|waited| outcome(launcher.clone(), waited));
            assert_eq!(got, [at_once, later, at_last], "{launcher:?}");
        }
    }

    #[test]
    fn a_failure_carries_the_launchers_own_words() {
        let seen = |launcher| Seen {
            launcher,
            waited: Duration::from_secs(600),
            ready_timeout: Duration::from_secs(600),
        };

        let Verdict::Fail(refused) = decide(&seen(Launcher::NotReady(summary("refuse", Stance::Refused))))
        else {
            panic!("a refusal fails")
        };
        let Verdict::Fail(timeout) = decide(&seen(Launcher::NotReady(summary("start", Stance::Own)))) else {
            panic!("patience ends")
        };

        assert_eq!(refused.what, "what");
        assert_eq!(timeout.what, "not ready after 600 s: this instance does not serve: start (reason)");
    }
}
