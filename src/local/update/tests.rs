use proptest::prelude::*;

use super::*;
use crate::local::fixture::{group, identity, manifest};

/// An instance that differs from what was applied. `who` is `group/index/uuid/zone`, the zone may be left out.
fn changed(who: &str) -> Desired {
    Desired { identity: named(who), needs_vm: false, changed: true }
}

fn unchanged(who: &str) -> Desired {
    Desired { changed: false, ..changed(who) }
}

fn new(who: &str) -> Desired {
    Desired { needs_vm: true, ..changed(who) }
}

fn named(who: &str) -> Identity {
    let parts: Vec<_> = who.split('/').collect();
    let index = parts[1].parse().expect("an index");
    identity(parts[0], index, parts[2], parts.get(3).copied())
}

/// The plan as one line per wave: `delete! 32: a/…`, `create 32: …`, `etcd delete 1: …`, `etcd canary 1: …`.
/// Groups that are worked on at the same time stand behind `&`.
fn told(plan: &Plan) -> Vec<String> {
    let wave = |wave: &Wave| {
        let slugs: Vec<_> = wave.instances.iter().map(Identity::slug).collect();
        format!("{}: {}", wave.workers, slugs.join(" "))
    };
    let mut lines = Vec::new();
    for stage in &plan.stages {
        match stage {
            Stage::DeleteRemovedGroups(removed) => lines.push(format!("delete! {}", wave(removed))),
            Stage::CreateMissingVms(missing) => lines.push(format!("create {}", wave(missing))),
            Stage::Groups(groups) => {
                for (at, update) in groups.iter().enumerate() {
                    let mark = if at == 0 { "" } else { "& " };
                    let group = &update.group;
                    lines.extend(
                        update.deletions.iter().map(|one| format!("{mark}{group} delete {}", wave(one))),
                    );
                    lines.extend(update.updates.iter().map(|one| {
                        let kind = if one.canary { "canary" } else { "update" };
                        format!("{mark}{group} {kind} {}", wave(one))
                    }));
                }
            }
        }
    }
    lines
}

struct Case {
    row: &'static str,
    groups: String,
    desired: Vec<Desired>,
    obsolete: Vec<Identity>,
    circumstances: Circumstances,
    expected: &'static [&'static str],
}

fn case(
    row: &'static str,
    groups: impl Into<String>,
    desired: Vec<Desired>,
    obsolete: &[&str],
    expected: &'static [&'static str],
) -> Case {
    let obsolete = obsolete.iter().map(|who| named(who)).collect();
    Case { row, groups: groups.into(), desired, obsolete, circumstances: Circumstances::PLAIN, expected }
}

#[test]
#[rustfmt::skip]
fn a_deploy_works_in_the_directors_order() {
    let three = || group("a", "instances: 3");
    let zoned = || group("a", "instances: 4\n  azs: [z1, z2]");
    let update = |keys: &str| group("a", &format!("update: {{{keys}}}"));
    let cases = [
        case("nothing changed, nothing to do", three(),
            vec![unchanged("a/0/u0"), unchanged("a/1/u1")], &[], &[]),
        case("the bootstrap instance is first, then group/uuid, never the index", three(),
            vec![changed("a/1/u9"), changed("a/2/u1"), changed("a/0/u5")], &[],
            &["a canary 1: a/u5", "a update 1: a/u1 a/u9"]),
        case("unchanged instances are skipped, the next one is the canary", three(),
            vec![unchanged("a/0/u0"), changed("a/1/u1"), changed("a/2/u2")], &[],
            &["a canary 1: a/u1", "a update 1: a/u2"]),
        case("virtual machines are made early and together; new and old instances are mixed", three(),
            vec![changed("a/0/u5"), new("a/1/u1"), changed("a/2/u2"), new("a/3/u3")], &[],
            &["create 2: a/u1 a/u3", "a canary 1: a/u5", "a update 1: a/u1 a/u2 a/u3"]),
        case("obsolete instances go before anything is updated", three(),
            vec![changed("a/0/u0")], &["a/3/u3", "a/4/u4"],
            &["a delete 1: a/u3 a/u4", "a canary 1: a/u0"]),
        case("removed groups go before all, in parallel", three(),
            vec![changed("a/0/u0"), new("a/1/u1")], &["gone/0/g0", "gone/1/g1"],
            &["delete! 2: gone/g0 gone/g1", "create 1: a/u1", "a canary 1: a/u0", "a update 1: a/u1"]),
        case("an obsolete instance under a former name goes with the group that takes it over",
            group("a", "migrated_from: [{name: old}]"), vec![], &["old/1/u1"],
            &["a delete 1: old/u1"]),
        case("zone after zone, the bootstrap instance's first; canaries only in the first", zoned(),
            vec![changed("a/0/u9/z2"), changed("a/1/u2/z1"), changed("a/2/u1/z2"), changed("a/3/u3/z1")], &[],
            &["a canary 1: a/u9", "a update 1: a/u1", "a update 1: a/u2 a/u3"]),
        case("the bootstrap instance's zone is first even when it is unchanged itself", zoned(),
            vec![unchanged("a/0/u9/z2"), changed("a/1/u2/z1"), changed("a/2/u1/z2")], &[],
            &["a canary 1: a/u1", "a update 1: a/u2"]),
        case("instances without a zone come before other zones than the bootstrap instance's", zoned(),
            vec![changed("a/0/u9/z2"), changed("a/1/u2/z1"), changed("a/2/u7")], &[],
            &["a canary 1: a/u9", "a update 1: a/u7", "a update 1: a/u2"]),
        case("max_in_flight workers, canaries too", update("canaries: 2, max_in_flight: 2"),
            vec![changed("a/0/u0"), changed("a/1/u1"), changed("a/2/u2"), changed("a/3/u3")], &[],
            &["a canary 2: a/u0 a/u1", "a update 2: a/u2 a/u3"]),
        case("percentages are of the instances to update, rounded down", update("canaries: 25%, max_in_flight: 50%"),
            vec![changed("a/0/u0"), changed("a/1/u1"), changed("a/2/u2"), changed("a/3/u3"), unchanged("a/4/u4")], &[],
            &["a canary 1: a/u0", "a update 2: a/u1 a/u2 a/u3"]),
        case("max_in_flight is at least one", update("canaries: 0, max_in_flight: 10%"),
            vec![changed("a/0/u0"), changed("a/1/u1")], &[],
            &["a update 1: a/u0 a/u1"]),
        case("max_in_flight of deletions is computed on their number, without canaries", update("max_in_flight: 50%"),
            vec![], &["a/1/u1", "a/2/u2", "a/3/u3", "a/4/u4"],
            &["a delete 2: a/u1 a/u2 a/u3 a/u4"]),
        case("more canaries than instances", update("canaries: 5, max_in_flight: 3"),
            vec![changed("a/0/u0"), changed("a/1/u1")], &[],
            &["a canary 2: a/u0 a/u1"]),
        case("serial groups follow each other in the manifest's order",
            group("b", "") + &group("a", ""), vec![changed("a/0/u0"), changed("b/0/v0")], &[],
            &["b canary 1: b/v0", "a canary 1: a/u0"]),
        case("neighbours that are not serial are worked on together",
            group("c", "") + &group("a", "update: {serial: false}") + &group("b", "update: {serial: false}"),
            vec![changed("a/0/u0"), changed("b/0/v0"), changed("c/0/w0")], &["b/1/v1"],
            &["c canary 1: c/w0", "a canary 1: a/u0", "& b delete 1: b/v1", "& b canary 1: b/v0"]),
        case("an errand's instances are not made by a deploy", group("a", "lifecycle: errand"),
            vec![new("a/0/u0")], &[], &[]),
        case("an errand's instance that was kept alive is updated", group("a", "lifecycle: errand"),
            vec![unchanged("a/0/u0")], &[], &["a canary 1: a/u0"]),
        Case { circumstances: Circumstances { first_deploy: true, ..Circumstances::PLAIN },
            ..case("all zones at once on a first deploy, if the manifest says so",
                zoned() + "  update: {initial_deploy_az_update_strategy: parallel, max_in_flight: 3}\n",
                vec![new("a/0/u0/z1"), new("a/1/u1/z2")], &[],
                &["create 2: a/u0 a/u1", "a canary 1: a/u0", "a update 1: a/u1"]) },
        Case { circumstances: Circumstances {
            pace: Pace { canaries: Some(Amount::Instances(0)), max_in_flight: Some(Amount::Percent(100)) }, ..Circumstances::PLAIN },
            ..case("the command line overrides the manifest", three(),
                vec![changed("a/0/u0"), changed("a/1/u1")], &[], &["a update 2: a/u0 a/u1"]) },
    ];
    for Case { row, groups, desired, obsolete, circumstances, expected } in cases {
        let plan = plan(&manifest(&groups), &desired, &obsolete, circumstances);

        assert_eq!(told(&plan), expected, "{row}");
    }
}

proptest! {
    /// Whatever has to be done is done once: each changed instance updated, each obsolete one deleted,
    /// everything that needs a machine gets one first, and never more workers than instances.
    #[test]
    fn everything_due_is_in_the_plan_once(
        instances in proptest::collection::vec((0_usize..3, any::<bool>(), any::<bool>(), 0_usize..3), 0..9),
        canaries in 0_u32..4,
        workers in 0_u32..200,
        serial: bool,
    ) {
        let zones = [None, Some("z1"), Some("z2")];
        let keys = |serial| format!("update: {{canaries: {canaries}, max_in_flight: {workers}%, serial: {serial}}}");
        let manifest = manifest(&(group("a", &keys(true)) + &group("b", &keys(serial))));
        let mut desired = Vec::new();
        let mut obsolete = Vec::new();
        for (at, (name, changed, needs_vm, zone)) in instances.into_iter().enumerate() {
            let index = u32::try_from(at).expect("few");
            let identity = identity(["a", "b", "gone"][name], index, &format!("u{at}"), zones[zone]);
            match name {
                2 => obsolete.push(identity),
                _ => desired.push(Desired { identity, needs_vm, changed: changed || needs_vm }),
            }
        }

        let plan = plan(&manifest, &desired, &obsolete, Circumstances::PLAIN);

        let (mut deleted, mut made, mut updated) = (Vec::new(), Vec::new(), Vec::new());
        for stage in &plan.stages {
            match stage {
                Stage::DeleteRemovedGroups(wave) => deleted.push(wave),
                Stage::CreateMissingVms(wave) => made.push(wave),
                Stage::Groups(groups) => {
                    for update in groups {
                        deleted.extend(&update.deletions);
                        updated.extend(&update.updates);
                    }
                }
            }
        }
        let waves = deleted.iter().chain(&made).chain(&updated);
        prop_assert!(waves.clone().all(|wave| (1..=wave.instances.len()).contains(&wave.workers)));
        let ids = |waves: &[&Wave]| {
            let mut ids: Vec<_> = waves.iter().flat_map(|wave| &wave.instances).map(|one| one.id.clone()).collect();
            ids.sort();
            ids
        };
        let due = |wanted: fn(&Desired) -> bool| {
            let mut ids: Vec<_> =
                desired.iter().filter(|one| wanted(one)).map(|one| one.identity.id.clone()).collect();
            ids.sort();
            ids
        };
        prop_assert_eq!(ids(&deleted), obsolete.iter().map(|one| one.id.clone()).collect::<Vec<_>>());
        prop_assert_eq!(ids(&made), due(|one| one.needs_vm));
        prop_assert_eq!(ids(&updated), due(|one| one.changed));
    }
}
