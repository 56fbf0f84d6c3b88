use proptest::prelude::*;

use super::*;

/// A set of a cluster, begun so many hours after Monday, 2026-11-02, 00:30.
fn known(cluster: u64, hours: i64) -> Known {
    let monday: Timestamp = "2026-11-02T00:30:00Z".parse().unwrap();
    let begun = monday + SignedDuration::from_hours(hours);
    Known {
        set: SetId::new(begun, [0, 0, 0, u8::try_from(cluster).unwrap()]),
        cluster: format!("{cluster:x}").parse().unwrap(),
        begun,
        last_revision: 1000 + hours,
        verified: None,
        broken: false,
    }
}

fn at(hours: i64) -> Timestamp {
    known(1, hours).begun
}

fn nothing() -> Policy {
    Policy { keep_last: 0, keep_hourly: 0, keep_daily: 0, keep_weekly: 0, keep_monthly: 0, max_age: None }
}

/// The hours of those that stay.
fn kept(sets: &[Known], policy: &Policy, now: Timestamp) -> Vec<i64> {
    let verdicts = judge(sets, policy, now);
    let stay = sets.iter().zip(&verdicts).filter(|(_, verdict)| !verdict.kept.is_empty());
    stay.map(|(known, _)| known.last_revision - 1000).collect()
}

#[test]
fn each_rule_keeps_the_newest_of_its_periods() {
    // Twice an hour is not needed: every 6 hours for five weeks.
    let sets: Vec<Known> = (0..140).map(|step| known(1, step * 6)).collect();
    let last = 139 * 6;
    for (what, policy, stay) in [
        ("last", Policy { keep_last: 3, ..nothing() }, vec![last - 12, last - 6, last]),
        ("hourly", Policy { keep_hourly: 2, ..nothing() }, vec![last - 6, last]),
        // Days end with the set of 18:30.
        ("daily", Policy { keep_daily: 3, ..nothing() }, vec![last - 48, last - 24, last]),
        // Weeks end on Sunday.
        ("weekly", Policy { keep_weekly: 2, ..nothing() }, vec![last - 168, last]),
        // November has ended on the 30th, at step 119 of this month.
        ("monthly", Policy { keep_monthly: 5, ..nothing() }, vec![29 * 24 - 6, last]),
        (
            "age",
            Policy { max_age: Some(SignedDuration::from_hours(12)), ..nothing() },
            vec![last - 12, last - 6, last],
        ),
        (
            "age goes before the others",
            Policy { keep_last: 9, max_age: Some(SignedDuration::from_hours(6)), ..nothing() },
            vec![last - 6, last],
        ),
    ] {
        assert_eq!(kept(&sets, &policy, at(last)), stay, "{what}");
    }
}

#[test]
fn a_policy_without_rules_keeps_everything() {
    let sets = [known(1, 0), known(1, 5)];

    assert_eq!(kept(&sets, &nothing(), at(100_000)), [0, 5]);
}

#[test]
fn of_each_cluster_the_newest_and_the_newest_verified_stay() {
    let mut sets = [known(1, 0), known(1, 1), known(1, 2), known(2, 3), known(2, 4)];
    sets[0].verified = Some(at(50));
    let policy = Policy { max_age: Some(SignedDuration::ZERO), ..nothing() };

    assert_eq!(kept(&sets, &policy, at(1000)), [0, 2, 4]);
}

#[test]
fn a_broken_set_protects_and_replaces_nobody() {
    let mut sets = [known(1, 0), known(1, 1), known(1, 2)];
    sets[2].broken = true;
    sets[2].verified = Some(at(2));

    assert_eq!(kept(&sets, &Policy { keep_last: 1, ..nothing() }, at(3)), [1]);
}

#[test]
fn a_clock_that_was_set_back_does_not_make_the_newest_old() {
    // The last set was taken with a clock of last year; it reaches further than all others.
    let mut sets = [known(1, 0), known(1, 1), known(1, -8000)];
    sets[2].last_revision = 5000;
    let policy = Policy { keep_last: 1, max_age: Some(SignedDuration::from_hours(1)), ..nothing() };

    assert_eq!(kept(&sets, &policy, at(1)), [1, 4000]);
}

#[test]
fn a_set_of_the_future_is_not_old() {
    let sets = [known(1, 0), known(1, 1), known(1, 99)];
    let policy = Policy { max_age: Some(SignedDuration::from_hours(2)), ..nothing() };

    assert_eq!(kept(&sets, &policy, at(2)), [0, 1, 99]);
}

#[test]
fn ages_are_hours_days_and_weeks() {
    for (text, hours) in [("36h", 36), ("90d", 90 * 24), ("12w", 12 * 7 * 24), ("1h30m", 1)] {
        assert_eq!(age(text).unwrap().as_hours(), hours, "{text}");
    }
    for text in ["", "90", "d", "-1d", "0d", "9999999999999999999d", "9999999999999999d", "1y"] {
        assert!(age(text).is_err(), "{text}");
    }
}

fn any_known() -> impl Strategy<Value = Known> {
    (0..3_u64, -9000..9000_i64, 1..500_i64, proptest::option::of(-9000..9000_i64), any::<bool>()).prop_map(
        |(cluster, hours, revision, verified, broken)| Known {
            last_revision: revision,
            verified: verified.map(at),
            broken,
            ..known(cluster, hours)
        },
    )
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let count = || prop_oneof![Just(0_u32), 0..5_u32];
    (count(), count(), count(), count(), count(), proptest::option::of(-5..5000_i64)).prop_map(
        |(keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, max_age)| Policy {
            keep_last,
            keep_hourly,
            keep_daily,
            keep_weekly,
            keep_monthly,
            max_age: max_age.map(SignedDuration::from_hours),
        },
    )
}

proptest! {
    /// The one promise that no policy and no clock may break.
    #[test]
    fn the_newest_verified_chain_survives_any_policy_and_any_clock(
        sets in proptest::collection::vec(any_known(), 1..40),
        policy in any_policy(),
        now in -20_000..20_000_i64,
    ) {
        let verdicts = judge(&sets, &policy, at(now));

        for cluster in sets.iter().map(|known| known.cluster) {
            let line = || sets.iter().zip(&verdicts).filter(|(known, _)| known.cluster == cluster && !known.broken);
            let stays = |wanted: &Known| line().any(|(known, verdict)| {
                (known.begun, known.last_revision, known.verified) == (wanted.begun, wanted.last_revision, wanted.verified)
                    && !verdict.kept.is_empty()
            });
            let verified = || line().map(|(known, _)| known).filter(|known| known.verified.is_some());
            if let Some(furthest) = verified().max_by_key(|known| (known.last_revision, known.begun)) {
                prop_assert!(line().any(|(known, verdict)| known.verified.is_some()
                    && known.last_revision == furthest.last_revision && !verdict.kept.is_empty()));
            }
            if let Some(last) = verified().max_by_key(|known| known.begun) {
                prop_assert!(line().any(|(known, verdict)| known.verified.is_some()
                    && known.begun == last.begun && !verdict.kept.is_empty()));
            }
            if let Some((newest, _)) = line().max_by_key(|(known, _)| (known.last_revision, known.begun)) {
                prop_assert!(stays(newest) || line().any(|(known, verdict)|
                    known.last_revision == newest.last_revision && !verdict.kept.is_empty()));
            }
        }
    }

    /// Verdicts depend on the sets, not on the order they are listed in.
    #[test]
    fn the_order_of_a_listing_decides_nothing(
        sets in proptest::collection::btree_map(-9000..9000_i64, any_known(), 1..20),
        policy in any_policy(),
        now in -20_000..20_000_i64,
    ) {
        // Different times, so that "newest" is never a matter of taste.
        let sets: Vec<Known> = sets
            .into_iter()
            .map(|(hours, one)| Known { begun: at(hours), set: known(1, hours).set, last_revision: hours + 10_000, ..one })
            .collect();
        let forwards = judge(&sets, &policy, at(now));
        let reversed: Vec<Known> = sets.iter().rev().cloned().collect();
        let mut backwards = judge(&reversed, &policy, at(now));
        backwards.reverse();

        prop_assert_eq!(forwards, backwards);
    }
}
