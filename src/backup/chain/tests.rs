use super::*;
use crate::backup::fixture::{delta, full, minute, set};

/// A set of the full snapshot at revision 10 and these deltas: first, last and the minute in which each ended.
fn with(deltas: &[(i64, i64, i64)]) -> BackupSet {
    let deltas = deltas.iter().map(|&(first, last, ended)| delta(0, first, last, ended)).collect();
    BackupSet { full: full(0, 10), deltas, verifications: vec![] }
}

fn entry(minutes: i64, last: i64, deltas: &[(i64, i64)]) -> Entry {
    let stem = |&(first, last): &(i64, i64)| DeltaStem { first, last, stem: format!("{first}-{last}") };
    Entry {
        full: full(minutes, last),
        deltas: deltas.iter().map(stem).collect(),
        verified: vec![],
        bytes: 0,
        broken: None,
        names: vec![],
    }
}

fn all(sets: &[Entry]) -> Catalog {
    Catalog { sets: sets.to_vec(), ..Catalog::default() }
}

#[test]
fn deltas_are_taken_as_far_as_they_follow_each_other() {
    let all = [(11, 15, 2), (16, 20, 3), (21, 30, 4)];
    for (what, deltas, point, taken, last) in [
        ("no delta", &all[..0], Point::Latest, vec![], 10),
        ("all", &all, Point::Latest, vec![(11, 15), (16, 20), (21, 30)], 30),
        ("up to a revision within one", &all, Point::Revision(17), vec![(11, 15), (16, 20)], 20),
        ("up to the end of one", &all, Point::Revision(15), vec![(11, 15)], 15),
        ("only the full", &all, Point::Revision(10), vec![], 10),
        ("up to a time within one", &all, Point::Time(minute(3)), vec![(11, 15), (16, 20), (21, 30)], 30),
        ("up to a time before one", &all, Point::Time(minute(1)), vec![(11, 15)], 15),
        ("a gap", &[(11, 15, 2), (17, 20, 3)], Point::Latest, vec![(11, 15)], 15),
        ("a gap at once", &[(12, 15, 2)], Point::Latest, vec![], 10),
        (
            "the same twice",
            &[(11, 15, 2), (11, 15, 3), (16, 17, 4)],
            Point::Latest,
            vec![(11, 15), (16, 17)],
            17,
        ),
        ("an overlap", &[(11, 15, 2), (13, 18, 3)], Point::Latest, vec![(11, 15), (13, 18)], 18),
        (
            "one within another",
            &[(11, 20, 2), (12, 15, 3), (21, 22, 4)],
            Point::Latest,
            vec![(11, 20), (21, 22)],
            22,
        ),
        ("older than the full", &[(5, 9, 0), (11, 12, 2)], Point::Latest, vec![(11, 12)], 12),
        ("across the end of the full", &[(5, 14, 2)], Point::Latest, vec![(5, 14)], 14),
    ] {
        let chain = chain(&with(deltas), point);

        let got: Vec<_> = chain.deltas.iter().map(|delta| (delta.first, delta.last)).collect();
        assert_eq!((got, chain.last), (taken, last), "{what}");
        assert_eq!(chain.deltas.len() + chain.ignored.len(), deltas.len(), "{what}");
    }
}

#[test]
fn what_is_not_used_is_told_with_its_reason() {
    let mut all = with(&[(11, 15, 2), (12, 14, 3), (17, 20, 4)]);
    let mut strange = delta(0, 16, 18, 5);
    strange.1.cluster_id = "1".parse().unwrap();
    all.deltas.push(strange);
    let mut renamed = delta(0, 16, 19, 6);
    renamed.1.last = 21;
    all.deltas.push(renamed);

    let ignored: Vec<(String, Why)> = chain(&all, Point::Latest)
        .ignored
        .into_iter()
        .map(|one| (one.name[40..54].to_owned(), one.why))
        .collect();

    assert_eq!(
        ignored.iter().map(|(_, why)| *why).collect::<Vec<_>>(),
        [Why::Repeated, Why::Strange, Why::Strange, Why::Gap(16)]
    );
}

#[test]
fn the_newest_set_that_reaches_a_point_is_chosen() {
    let sets = [entry(120, 50, &[(51, 60)]), entry(60, 30, &[(31, 52)]), entry(0, 10, &[(11, 20), (25, 30)])];
    let broken = {
        let mut sets = sets.to_vec();
        sets[0].broken = Some("gone".to_owned());
        sets
    };
    for (what, sets, point, chosen) in [
        ("the newest", &sets[..], Point::Latest, Ok(set(120))),
        ("the newest that is whole", &broken, Point::Latest, Ok(set(60))),
        ("in two sets", &sets, Point::Revision(51), Ok(set(120))),
        ("in an older one", &sets, Point::Revision(49), Ok(set(60))),
        ("exactly a full", &sets, Point::Revision(10), Ok(set(0))),
        ("full by time", &sets, Point::Time(minute(61)), Ok(set(60))),
        ("while the newest was being written", &sets, Point::Time(minute(120)), Ok(set(60))),
        ("later than everything", &sets, Point::Time(minute(10_000)), Ok(set(120))),
        (
            "behind a gap",
            &sets,
            Point::Revision(26),
            Err("no set reaches revision 26; there are 50 to 60, 30 to 52, 10 to 20"),
        ),
        ("too high", &sets[2..], Point::Revision(99), Err("no set reaches revision 99; there are 10 to 20")),
        (
            "too early",
            &sets,
            Point::Time(minute(0)),
            Err(
                "no backup is as old as 2026-11-26T10:00:00Z: the first one was complete at 2026-11-26T10:01:00Z",
            ),
        ),
        ("nothing", &[], Point::Latest, Err("there is no backup in the store")),
        (
            "only what is broken",
            &broken[..1],
            Point::Latest,
            Err("set 20261126T120000Z-00000001 cannot be restored: gone"),
        ),
    ] {
        let got = choose(&all(sets), None, point)
            .map(|entry| entry.set().clone())
            .map_err(|error| error.to_string());

        assert_eq!(got, chosen.map_err(str::to_owned), "{what}");
    }
}

#[test]
fn a_set_that_is_asked_for_by_name_is_not_replaced_by_another() {
    let mut sets = [entry(60, 30, &[]), entry(0, 10, &[])];
    sets[0].broken = Some("gone".to_owned());

    let catalog = Catalog { unreadable: vec![(set(90), "no JSON".to_owned())], ..all(&sets) };

    assert_eq!(choose(&catalog, Some(&set(0)), Point::Latest).unwrap().set(), &set(0));
    for unusable in [set(60), set(90)] {
        assert!(matches!(choose(&catalog, Some(&unusable), Point::Latest), Err(NoChain::Broken { .. })));
    }
    assert!(matches!(choose(&catalog, Some(&set(5)), Point::Latest), Err(NoChain::NoSet(_))));
    let missed = choose(&catalog, Some(&set(0)), Point::Revision(30));
    assert!(matches!(missed, Err(NoChain::NoRevision { unusable, .. }) if unusable.is_empty()));
}

#[test]
fn points_are_read_as_they_are_written() {
    for text in ["latest", "4711", "2026-11-26T11:38:00Z"] {
        assert_eq!(text.parse::<Point>().unwrap().to_string(), text);
    }
    for text in ["", "0", "-1", "newest", "2026-11-26", "2026-11-26 11:38"] {
        assert!(text.parse::<Point>().is_err(), "{text}");
    }
}

#[test]
fn a_newer_set_that_cannot_be_used_is_never_passed_over_in_silence() {
    let broken = |minutes| Entry { broken: Some("it is not whole".to_owned()), ..entry(minutes, 30, &[]) };
    let catalog = |sets: Vec<Entry>, unreadable: &[i64]| Catalog {
        sets,
        unreadable: unreadable.iter().map(|at| (set(*at), "no JSON".to_owned())).collect(),
        unfinished: vec![],
    };
    let (old, named) = (entry(0, 10, &[]), set(0));
    for (what, catalog, asked, point, refused) in [
        ("nothing is newer", catalog(vec![old.clone()], &[]), None, Point::Latest, 0),
        ("what is older is broken", catalog(vec![old.clone(), broken(-60)], &[-30]), None, Point::Latest, 0),
        ("the newest is broken", catalog(vec![broken(60), old.clone()], &[]), None, Point::Latest, 1),
        ("and another cannot be read", catalog(vec![broken(60), old.clone()], &[90]), None, Point::Latest, 2),
        ("named", catalog(vec![broken(60), old.clone()], &[90]), Some(&named), Point::Latest, 0),
        ("after the time", catalog(vec![broken(60), old.clone()], &[90]), None, Point::Time(minute(30)), 0),
        ("before the time", catalog(vec![broken(60), old.clone()], &[90]), None, Point::Time(minute(95)), 2),
        ("a revision", catalog(vec![broken(60), old.clone()], &[]), None, Point::Revision(10), 0),
    ] {
        let chosen = choose(&catalog, asked, point).unwrap();
        assert_eq!(chosen.set(), &named, "{what}");
        match newest_or_named(&catalog, chosen, asked, point) {
            Ok(()) => assert_eq!(refused, 0, "{what}"),
            Err(error) => {
                let told = error.complaint().to_string();
                assert_eq!(told.matches(" (").count(), refused, "{what}: {told}");
                assert!(told.contains(&format!("--set {named}")), "{told}");
            }
        }
    }
}

#[test]
fn a_revision_of_a_cluster_that_came_before_is_meant_only_by_name() {
    let mut newer = entry(60, 30, &[]);
    newer.full.cluster.id = "1234".parse().unwrap();
    let catalog = Catalog { sets: vec![newer, entry(0, 10, &[])], unreadable: vec![], unfinished: vec![] };
    let chosen = choose(&catalog, None, Point::Revision(10)).unwrap();

    let refused = newest_or_named(&catalog, chosen, None, Point::Revision(10)).unwrap_err();
    assert!(refused.complaint().to_string().contains(&format!("--set {}", set(0))), "{refused}");
    assert_eq!(newest_or_named(&catalog, chosen, Some(&set(0)), Point::Revision(10)), Ok(()));
    let own = choose(&catalog, None, Point::Revision(30)).unwrap();
    assert_eq!(newest_or_named(&catalog, own, None, Point::Revision(30)), Ok(()));
}

/// Whoever asks for a point that is gone has to know where it may be.
#[test]
fn a_set_that_may_have_had_the_point_is_named_with_its_reason() {
    let broken = |minutes, last| Entry { broken: Some("gone".to_owned()), ..entry(minutes, last, &[]) };
    let catalog = |sets: Vec<Entry>, unreadable: &[i64]| Catalog {
        unreadable: unreadable.iter().map(|at| (set(*at), "no JSON".to_owned())).collect(),
        ..all(&sets)
    };
    let whole = entry(60, 30, &[]);
    for (what, catalog, point, named) in [
        ("nothing else", catalog(vec![whole.clone()], &[]), Point::Revision(20), vec![]),
        (
            "a broken one had it",
            catalog(vec![whole.clone(), broken(0, 20)], &[]),
            Point::Revision(20),
            vec![set(0)],
        ),
        (
            "a broken one had another",
            catalog(vec![whole.clone(), broken(0, 19)], &[]),
            Point::Revision(20),
            vec![],
        ),
        (
            "nobody knows of an unreadable one",
            catalog(vec![whole.clone(), broken(0, 20)], &[-60, 90]),
            Point::Revision(20),
            vec![set(-60), set(0), set(90)],
        ),
        (
            "by time only an earlier one",
            catalog(vec![whole.clone(), broken(0, 20)], &[-60, 90]),
            Point::Time(minute(30)),
            vec![set(-60), set(0)],
        ),
        ("only unreadable ones", catalog(vec![], &[90]), Point::Latest, vec![set(90)]),
    ] {
        let told = choose(&catalog, None, point).unwrap_err();

        for (unusable, why) in [(0, "gone"), (-60, "no JSON"), (90, "no JSON")] {
            let wanted = named.contains(&set(unusable));
            let found = told.to_string().contains(&format!("{} ({why})", set(unusable)));
            assert_eq!(found, wanted, "{what}: {told}");
        }
        assert_eq!(told.complaint().next.contains("a copy in another store"), !named.is_empty(), "{what}");
    }
}
