//! Arithmetic of voters, and what etcd's `strict-reconfig-check` allows. Learners never count.
//! Told in docs/contract.md#quorum.

use super::version::EtcdVersion;

/// How many of `voters` must agree.
pub const fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// Whether `alive` of `voters` can decide anything.
pub const fn has_quorum(alive: usize, voters: usize) -> bool {
    voters > 0 && alive >= quorum(voters)
}

/// Whether one voter may go, when `alive_others` of the others are alive: what stays must be able to
/// decide without it. The last voter never may.
pub const fn may_remove(voters: usize, alive_others: usize) -> bool {
    voters > 1 && has_quorum(alive_others, voters - 1)
}

/// Whether etcd of that version accepts a new member (learner or voter) while `connected` of its
/// `voters` are connected for at least five seconds, the answering one included. An unknown version is
/// taken for one that demands all.
pub fn may_add(voters: usize, connected: usize, version: Option<EtcdVersion>) -> bool {
    if voters <= 1 {
        return true;
    }
    if version.is_some_and(adds_with_a_quorum) {
        // It counts the newcomer as one more voter, even a learner.
        connected >= quorum(voters + 1)
    } else {
        connected >= voters
    }
}

/// Whether a voter whose process is dead may be removed and added again as a learner, when
/// `alive_others` of the others are alive: they must be able to decide on it, and both steps must
/// succeed, since half a replacement leaves a member less.
pub fn may_replace_voter(voters: usize, alive_others: usize, version: Option<EtcdVersion>) -> bool {
    has_quorum(alive_others, voters)
        && may_remove(voters, alive_others)
        && may_add(voters - 1, alive_others, version)
}

/// The same for a learner, which nobody misses: only adding it again can be refused.
pub fn may_replace_learner(voters: usize, alive: usize, version: Option<EtcdVersion>) -> bool {
    has_quorum(alive, voters) && may_add(voters, alive, version)
}

/// Earlier patches want *all* voters connected before they add anybody.
fn adds_with_a_quorum(version: EtcdVersion) -> bool {
    match version.line() {
        (3, 5) => version.patch >= 30,
        (3, 6) => version.patch >= 11,
        line => line >= (3, 7),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STRICT: Option<EtcdVersion> = Some(EtcdVersion::new(3, 4, 45));
    const RELAXED: Option<EtcdVersion> = Some(EtcdVersion::new(3, 6, 16));

    #[test]
    fn quorum_is_more_than_half() {
        let table = [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)];
        for (voters, expected) in table {
            assert_eq!(quorum(voters), expected, "{voters} voters");
        }
        assert!(!has_quorum(0, 0));
    }

    #[test]
    fn the_patches_that_add_with_a_quorum() {
        let table = [
            ("3.4.45", false),
            ("3.5.29", false),
            ("3.5.30", true),
            ("3.6.10", false),
            ("3.6.11", true),
            ("3.7.0", true),
            ("4.0.0", true),
        ];
        for (version, relaxed) in table {
            assert_eq!(adds_with_a_quorum(version.parse().unwrap()), relaxed, "{version}");
        }
    }

    /// Each line was seen on real members: see docs/contract.md#quorum.
    #[test]
    fn what_etcd_was_seen_to_accept() {
        //              voters  connected  version   accepted
        let adds = [
            (3, 2, RELAXED, false),
            (2, 2, RELAXED, true),
            (5, 3, RELAXED, false),
            (4, 3, RELAXED, true),
            (3, 2, STRICT, false),
            (3, 3, STRICT, true),
            (1, 1, STRICT, true),
            (4, 3, None, false),
        ];
        for (voters, connected, version, accepted) in adds {
            assert_eq!(may_add(voters, connected, version), accepted, "{connected} of {voters}, {version:?}");
        }
    }

    #[test]
    fn one_dead_of_three_can_be_replaced_and_two_dead_of_five_from_the_relaxed_patches_on() {
        assert!(may_replace_voter(3, 2, STRICT));
        assert!(!may_replace_voter(3, 1, RELAXED));
        assert!(may_replace_voter(5, 3, RELAXED));
        assert!(!may_replace_voter(5, 3, STRICT));
        assert!(!may_replace_voter(2, 1, STRICT));
        assert!(!may_replace_voter(1, 0, RELAXED));
        assert!(may_replace_learner(1, 1, STRICT));
        assert!(!may_replace_learner(3, 2, RELAXED));
    }

    proptest! {
        #[test]
        fn two_quorums_always_share_a_voter(voters in 1usize..100) {
            prop_assert!(quorum(voters) * 2 > voters);
            prop_assert!(quorum(voters) <= voters);
        }

        #[test]
        fn whoever_may_go_leaves_a_quorum_behind(voters in 0usize..20, alive in 0usize..20) {
            prop_assume!(alive < voters.max(1));
            if may_remove(voters, alive) {
                prop_assert!(has_quorum(alive, voters - 1));
            }
            if may_replace_voter(voters, alive, RELAXED) {
                // Not even promoting the newcomer before it has caught up would cost the quorum.
                prop_assert!(alive >= quorum(voters));
            }
        }

        #[test]
        fn more_alive_never_forbids(voters in 1usize..20, alive in 0usize..19) {
            for version in [None, STRICT, RELAXED] {
                prop_assert!(!may_add(voters, alive, version) || may_add(voters, alive + 1, version));
                prop_assert!(!may_replace_voter(voters, alive, version) || may_replace_voter(voters, alive + 1, version));
            }
            prop_assert!(!may_remove(voters, alive) || may_remove(voters, alive + 1));
        }

        #[test]
        fn an_unknown_version_is_the_strictest(voters in 1usize..20, alive in 0usize..20) {
            prop_assert!(!may_add(voters, alive, None) || may_add(voters, alive, RELAXED));
        }
    }
}
