//! Which member is defragmented next, if any. Pure: what was seen in, one step out; it is asked again after each step.

use std::collections::BTreeSet;
use std::fmt;

use crate::etcd::handover::{Candidate, most_caught_up};
use crate::etcd::id::MemberId;
use crate::etcd::quorum::has_quorum;

/// When it is worth it: both must be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinGain {
    /// So much of the database, in percent.
    pub percent: u8,
    /// And so many bytes.
    pub bytes: u64,
}

/// How large a member's database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) bytes: u64,
    pub(super) in_use_bytes: u64,
}

impl Size {
    fn is_worth(self, least: MinGain) -> bool {
        let gain = self.bytes.saturating_sub(self.in_use_bytes);
        gain >= least.bytes.max(1)
            && u128::from(gain) * 100 >= u128::from(self.bytes) * u128::from(least.percent)
    }
}

/// A voter. Learners are not among them: nobody misses one, and it is filled anew soon enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Voter {
    pub(super) id: MemberId,
    /// As people call it.
    pub(super) name: String,
    /// `None`: it does not answer a linearizable read.
    pub(super) serves: Option<Serving>,
}

/// What a voter says that serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Serving {
    pub(super) size: Size,
    pub(super) raft_applied_index: u64,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) voters: Vec<Voter>,
    pub(super) leader: Option<MemberId>,
    /// Defragmented in this run.
    pub(super) done: BTreeSet<MemberId>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing more is worth it.
    Done,
    /// This member.
    Defragment(MemberId),
    /// It leads, and is the last one.
    MoveLeader { from: MemberId, to: MemberId },
    /// Not now.
    PutOff(Why),
}

/// Why not now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// These voters do not serve.
    Silent(Vec<String>),
    /// Nobody leads, or nobody that votes.
    NoLeader,
    /// The others could not decide anything meanwhile.
    NoQuorumToSpare { voters: usize },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(names) => {
                write!(
                    f,
                    "a member that is defragmented does not serve, and {} does not either",
                    names.join(", ")
                )
            }
            Self::NoLeader => f.write_str("nobody leads the cluster"),
            Self::NoQuorumToSpare { voters } => {
                write!(f, "{voters} voters have no quorum without the one that is defragmented")
            }
        }
    }
}

/// Decides.
pub(super) fn next(seen: &Seen, least: MinGain) -> Step {
    let silent: Vec<String> =
        seen.voters.iter().filter(|voter| voter.serves.is_none()).map(|voter| voter.name.clone()).collect();
    let worth_it = |voter: &&Voter| {
        !seen.done.contains(&voter.id) && voter.serves.is_some_and(|serving| serving.size.is_worth(least))
    };
    let mut candidates: Vec<MemberId> = seen.voters.iter().filter(worth_it).map(|voter| voter.id).collect();
    candidates.sort();
    // Of a voter that is silent nobody knows whether it would be worth it.
    if candidates.is_empty() && silent.is_empty() {
        return Step::Done;
    }
    if !silent.is_empty() {
        return Step::PutOff(Why::Silent(silent));
    }
    let voters = seen.voters.len();
    let Some(leader) = seen.leader.filter(|leader| seen.voters.iter().any(|voter| voter.id == *leader))
    else {
        return Step::PutOff(Why::NoLeader);
    };
    if voters > 1 && !has_quorum(voters - 1, voters) {
        return Step::PutOff(Why::NoQuorumToSpare { voters });
    }
    if let Some(follower) = candidates.iter().find(|id| **id != leader) {
        return Step::Defragment(*follower);
    }
    let others: Vec<Candidate> = seen
        .voters
        .iter()
        .filter(|voter| voter.id != leader)
        .filter_map(|voter| {
            let raft_applied_index = voter.serves?.raft_applied_index;
            Some(Candidate { id: voter.id, raft_applied_index })
        })
        .collect();
    match most_caught_up(&others) {
        Some(to) => Step::MoveLeader { from: leader, to },
        // It is the only voter.
        None => Step::Defragment(leader),
    }
}

/// Whether an alarm for lack of space may go: every member is a tenth below the quota, so that it does not come back with
/// the next write. An error says why not.
pub(super) fn may_disarm(sizes: &[(String, Option<u64>)], quota: Option<u64>) -> Result<(), String> {
    let quota = quota.ok_or("the quota is not known")?;
    let most = quota - quota / 10;
    for (name, bytes) in sizes {
        match bytes {
            None => return Err(format!("{name} does not say how large its database is")),
            Some(bytes) if *bytes >= most => {
                return Err(format!("{name} has {bytes} bytes, and less than {most} of {quota} are wanted"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const LEAST: MinGain = MinGain { percent: 45, bytes: 100 * MIB };

    /// Members are numbered from 1: MiB in the file and MiB in use, or silent.
    fn seen(members: &[Option<(u64, u64)>], leader: u64, done: &[u64]) -> Seen {
        let voters = members.iter().zip(1..).map(|(size, id)| Voter {
            id: MemberId(id),
            name: format!("m{id}"),
            serves: size.map(|(bytes, in_use)| Serving {
                size: Size { bytes: bytes * MIB, in_use_bytes: in_use * MIB },
                raft_applied_index: 100 + id,
            }),
        });
        let leader = Some(MemberId(leader)).filter(|leader| leader.0 != 0);
        Seen { voters: voters.collect(), leader, done: done.iter().copied().map(MemberId).collect() }
    }

    fn silent(name: &str) -> Step {
        Step::PutOff(Why::Silent(vec![name.to_owned()]))
    }

    #[test]
    fn the_plan() {
        use Step::{Defragment, Done, MoveLeader, PutOff};
        let (large, small) = (Some((1_000, 100)), Some((100, 90)));
        let id = MemberId;
        //   row  members                        leader  done        step
        for (row, members, leader, done, wanted) in [
            (1, vec![small; 3], 1, vec![], Done),
            (2, vec![large; 3], 1, vec![], Defragment(id(2))),
            (3, vec![large, small, large], 1, vec![2], Defragment(id(3))),
            (4, vec![large, small, small], 1, vec![2, 3], MoveLeader { from: id(1), to: id(3) }),
            (5, vec![large, small, small], 3, vec![2, 3], Defragment(id(1))),
            (6, vec![small; 3], 3, vec![1, 2, 3], Done),
            // Still as large as before: once is enough.
            (7, vec![large; 3], 3, vec![1, 2, 3], Done),
            (8, vec![large, large, None], 1, vec![], silent("m3")),
            (9, vec![small, small, None], 1, vec![], silent("m3")),
            (10, vec![large; 3], 0, vec![], PutOff(Why::NoLeader)),
            (11, vec![large; 3], 9, vec![], PutOff(Why::NoLeader)),
            (12, vec![large; 2], 1, vec![], PutOff(Why::NoQuorumToSpare { voters: 2 })),
            (13, vec![small; 2], 1, vec![], Done),
            (14, vec![large], 1, vec![], Defragment(id(1))),
            (15, vec![large], 1, vec![1], Done),
            (16, vec![None], 0, vec![], silent("m1")),
            (17, vec![large; 5], 2, vec![1, 3, 4, 5], MoveLeader { from: id(2), to: id(5) }),
        ] {
            assert_eq!(next(&seen(&members, leader, &done), LEAST), wanted, "row {row}");
        }
    }

    #[test]
    fn both_a_share_and_a_size_must_be_gained() {
        for (bytes, in_use, worth) in [
            (1_000, 550, true),
            (1_000, 551, false),
            (200, 101, false),
            (200, 100, true),
            (0, 0, false),
            // What is in use may be told before the file has grown.
            (10, 20, false),
        ] {
            let size = Size { bytes: bytes * MIB, in_use_bytes: in_use * MIB };
            assert_eq!(size.is_worth(LEAST), worth, "{bytes} {in_use}");
        }
        assert!(!Size { bytes: 5, in_use_bytes: 5 }.is_worth(MinGain { percent: 0, bytes: 0 }));
    }

    /// Whoever follows the plan never touches a member while another is away, ends, and comes to the leader last.
    #[test]
    fn who_follows_the_plan_ends_with_the_member_that_led() {
        for (voters, leader) in [(1, 1), (3, 1), (3, 2), (5, 4), (7, 7)] {
            let mut seen = seen(&vec![Some((1_000, 100)); voters], leader, &[]);
            let mut order = Vec::new();
            for _ in 0..20 {
                match next(&seen, LEAST) {
                    Step::Defragment(id) => {
                        assert!(voters == 1 || seen.leader != Some(id), "the leader is not defragmented");
                        order.push(id);
                        seen.done.insert(id);
                    }
                    Step::MoveLeader { from, to } => {
                        assert_eq!(order.len(), voters - 1);
                        assert_eq!(seen.leader.replace(to), Some(from));
                    }
                    Step::Done => break,
                    Step::PutOff(why) => panic!("{why}"),
                }
            }
            assert_eq!(order.len(), voters);
            assert_eq!(order.last(), Some(&MemberId(leader)));
        }
    }

    #[test]
    fn an_alarm_goes_only_when_every_member_has_room() {
        let sizes = |all: &[Option<u64>]| -> Vec<(String, Option<u64>)> {
            all.iter().zip(1..).map(|(bytes, id)| (format!("m{id}"), *bytes)).collect()
        };
        assert_eq!(may_disarm(&sizes(&[Some(89), Some(10)]), Some(100)), Ok(()));
        for (all, quota, told) in [
            (vec![Some(89), Some(90)], Some(100), "m2 has 90 bytes"),
            (vec![Some(1), None], Some(100), "m2 does not say"),
            (vec![Some(1)], None, "quota is not known"),
        ] {
            let why = may_disarm(&sizes(&all), quota).unwrap_err();
            assert!(why.contains(told), "{why}");
        }
    }
}
