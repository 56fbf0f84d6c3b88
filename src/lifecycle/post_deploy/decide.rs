//! Is the deploy a success on this instance? Told in docs/contract.md#post-deploy.
//!
//! Where post-start passes because others are to blame, this is where the deploy fails: everybody had
//! their turn.

use std::time::Duration;

use crate::lifecycle::launch::decide::summary::Stance;
use crate::lifecycle::launch::decide::summary::Told;
use crate::lifecycle::post_start::decide::{Launcher, Verdict, silent, timeout, told};

/// What post-deploy saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What this instance's launcher says now.
    pub launcher: Launcher,
    /// Whether the member's vote counts.
    pub role: Role,
    /// Whether somebody stopped this instance on purpose.
    pub stopped: Stopped,
    /// How long post-deploy has been waiting.
    pub waited: Duration,
    /// How long it may (`ready_timeout`).
    pub ready_timeout: Duration,
}

/// Whether a member's vote counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It does.
    Voter,
    /// It does not yet.
    Learner,
    /// Nobody knows.
    Unknown,
}

/// Whether somebody stopped this instance on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// No.
    No,
    /// Yes: it is not expected to serve.
    OnPurpose,
}

/// Is the deploy a success on this instance?
pub fn decide(seen: &Seen) -> Verdict {
    let timed_out = seen.waited >= seen.ready_timeout;
    let wait = |because: &str| Verdict::Wait { because: because.to_owned() };
    if seen.stopped == Stopped::OnPurpose {
        return Verdict::Pass { because: "this instance was stopped on purpose".to_owned() };
    }
    match (&seen.launcher, seen.role) {
        (Launcher::Ready, Role::Voter) => {
            Verdict::Pass { because: "this member serves linearizable reads as a voter".to_owned() }
        }
        (Launcher::Ready, Role::Learner | Role::Unknown) if timed_out => {
            Verdict::Fail(not_a_voter(seen.ready_timeout))
        }
        (Launcher::Ready, Role::Learner | Role::Unknown) => {
            wait("this member serves, but not as a voter yet")
        }
        (Launcher::NotReady(summary), _) => match summary.stance {
            // Everybody has been deployed: waiting longer brings nothing that only a deploy can bring.
            Stance::Refused | Stance::Operator => Verdict::Fail(told(summary)),
            Stance::Own | Stance::Others if timed_out => Verdict::Fail(timeout(summary, seen.ready_timeout)),
            Stance::Own | Stance::Others => wait(&summary.because),
        },
        (Launcher::Silent { why }, _) if timed_out => Verdict::Fail(silent(why, seen.ready_timeout)),
        (Launcher::Deciding, _) if timed_out => {
            Verdict::Fail(silent("it is still looking around", seen.ready_timeout))
        }
        (Launcher::Silent { .. } | Launcher::Deciding, _) => wait("the launcher has not decided yet"),
    }
}

fn not_a_voter(ready_timeout: Duration) -> Told {
    Told {
        what: format!("this member serves, but was no voter after {} s", ready_timeout.as_secs()),
        why: "a learner does not count: the cluster survives fewer failures than was deployed".to_owned(),
        next: "`etcd-status` shows how far it lags behind; the next deploy tries again; docs/contract.md#promote"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::post_start::decide::tests::summary;

    const PASS: &str = "pass";
    const WAIT: &str = "wait";
    const FAIL: &str = "fail";

    fn outcome(launcher: Launcher, role: Role, waited: u64) -> &'static str {
        let seen = Seen {
            launcher,
            role,
            stopped: Stopped::No,
            waited: Duration::from_secs(waited),
            ready_timeout: Duration::from_secs(600),
        };
        assert!(matches!(
            decide(&Seen { stopped: Stopped::OnPurpose, ..seen.clone() }),
            Verdict::Pass { .. }
        ));
        match decide(&seen) {
            Verdict::Pass { .. } => PASS,
            Verdict::Wait { .. } => WAIT,
            Verdict::Fail(_) => FAIL,
        }
    }

    #[test]
    fn the_table() {
        use Role::{Learner, Unknown, Voter};
        let not_ready = |plan, stance| Launcher::NotReady(summary(plan, stance));
        let silent = || Launcher::Silent { why: "connection refused".to_owned() };
        //    launcher                              role     at once  after 600 s
        let table = [
            (Launcher::Ready, Voter, PASS, PASS),
            (Launcher::Ready, Learner, WAIT, FAIL),
            (Launcher::Ready, Unknown, WAIT, FAIL),
            (silent(), Unknown, WAIT, FAIL),
            (Launcher::Deciding, Unknown, WAIT, FAIL),
            (not_ready("refuse", Stance::Refused), Unknown, FAIL, FAIL),
            (not_ready("wait", Stance::Operator), Unknown, FAIL, FAIL),
            (not_ready("wait", Stance::Others), Unknown, WAIT, FAIL),
            (not_ready("start", Stance::Others), Voter, WAIT, FAIL),
            (not_ready("start", Stance::Own), Voter, WAIT, FAIL),
        ];
        for (launcher, role, at_once, at_last) in table {
            let got = [0, 600].map(|waited| outcome(launcher.clone(), role, waited));
            assert_eq!(got, [at_once, at_last], "{launcher:?} {role:?}");
        }
    }
}
