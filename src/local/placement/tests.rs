use proptest::prelude::*;

use super::*;
use crate::local::fixture::{group, identity, manifest};

/// Hands out `new1`, `new2` … and 127.0.9.101, .102 …
#[derive(Default)]
struct Counter {
    ids: u8,
    addresses: u8,
}

impl Registry for Counter {
    fn new_id(&mut self) -> String {
        self.ids += 1;
        format!("new{}", self.ids)
    }

    fn new_address(&mut self, _group: &str) -> Result<Ipv4Addr> {
        self.addresses += 1;
        Ok(Ipv4Addr::new(127, 0, 9, 100 + self.addresses))
    }
}

/// Instances with disks, written `group/index/uuid/zone` (the zone may be left out); `~` before it: without
/// a disk, `=` before it: ignored.
fn existing(who: &[&str]) -> Vec<Existing> {
    let one = |who: &&str| {
        let parts: Vec<_> = who.trim_start_matches(['~', '=']).split('/').collect();
        let index = parts[1].parse().expect("an index");
        Existing {
            identity: identity(parts[0], index, parts[2], parts.get(3).copied()),
            has_disk: !who.starts_with('~'),
            ignored: who.starts_with('='),
        }
    };
    who.iter().map(one).collect()
}

/// The outcome as text: kept and new instances as `index/uuid/zone` with `*` for bootstrap, then `- uuid`s.
fn told(placement: &Placement) -> String {
    let mut words: Vec<String> = placement
        .desired()
        .iter()
        .map(|one| {
            let zone = one.az.as_ref().map(|az| format!("/{az}")).unwrap_or_default();
            format!("{}/{}{zone}{}", one.index, one.id, if one.bootstrap { "*" } else { "" })
        })
        .collect();
    words.extend(placement.obsolete.iter().map(|gone| format!("-{}", gone.id)));
    words.join(" ")
}

fn placed(groups: &str, who: &[&str]) -> Result<Placement> {
    place(&manifest(groups), &existing(who), &mut Counter::default())
}

#[test]
#[rustfmt::skip]
fn instances_are_placed_by_the_directors_rules() {
    let zoned = |count: u8, zones: &str| group("a", &format!("instances: {count}\n  azs: [{zones}]"));
    let plain = |count: u8| group("a", &format!("instances: {count}"));
    let cases: &[(&str, String, &[&str], &str)] = &[
        ("a first deploy: indexes from 0, bootstrap is the lowest", plain(3), &[], "0/new1* 1/new2 2/new3"),
        ("a first deploy is balanced over zones by name", zoned(4, "z2, z1, z3"), &[], "0/new1/z1* 1/new2/z2 2/new3/z3 3/new4/z1"),
        ("nothing changes when nothing changed", plain(2), &["a/0/u0", "a/1/u1"], "0/u0* 1/u1"),
        ("more instances take the lowest free indexes", plain(4), &["a/0/u0", "a/3/u3"], "0/u0* 3/u3 1/new1 2/new2"),
        ("without zones the lowest indexes stay", plain(1), &["a/0/u0", "a/1/u1", "a/2/u2"], "0/u0* -u1 -u2"),
        ("with disks the lowest indexes stay, whatever their zones", zoned(2, "z1, z2"),
            &["a/0/u0/z1", "a/1/u1/z1", "a/2/u2/z2"], "0/u0/z1* 1/u1/z1 -u2"),
        ("without disks the zones are balanced, the lowest index of each stays", zoned(2, "z1, z2"),
            &["~a/0/u0/z1", "~a/1/u1/z1", "~a/2/u2/z2"], "0/u0/z1* 2/u2/z2 -u1"),
        ("among equal zones one that has an instance is taken", zoned(1, "z1, z2"), &["~a/0/u0/z2"], "0/u0/z2*"),
        ("and of those the one that has most", zoned(1, "z1, z2"), &["~a/0/u0/z1", "~a/1/u1/z2", "~a/2/u2/z2"], "1/u1/z2* -u0 -u2"),
        ("an instance whose zone is gone is replaced; its index stays taken meanwhile", zoned(2, "z2, z3"),
            &["a/0/u0/z1", "a/1/u1/z2"], "1/u1/z2* 2/new1/z3 -u0"),
        ("zones for a group that had none: all are replaced", zoned(2, "z1, z2"),
            &["a/0/u0", "a/1/u1"], "2/new1/z1* 3/new2/z2 -u0 -u1"),
        ("no zones any more: all are replaced", plain(1), &["a/0/u0/z1"], "1/new1* -u0"),
        ("a group that left the manifest goes", plain(1), &["a/0/u0", "b/0/v0", "b/1/v1"], "0/u0* -v0 -v1"),
        ("a group without instances", plain(0), &["a/0/u0"], "-u0"),
        ("ignored instances stay before all others", plain(1), &["a/0/u0", "=a/1/u1"], "1/u1* -u0"),
        ("a group under a new name takes instances over, with new indexes and the same ids",
            group("new", "instances: 3\n  migrated_from: [{name: old}]"), &["old/1/u1", "old/4/u4"], "0/u1* 1/u4 2/new1"),
        ("instances that are taken over get their indexes before new ones do",
            group("new", "instances: 3\n  azs: [z1, z2]\n  migrated_from: [{name: old}]"),
            &["~old/0/u0/z2", "~old/1/u1/z2"], "0/u0/z2* 1/u1/z2 2/new1/z1"),
        ("a zone can be told for instances that had none",
            group("new", "instances: 1\n  azs: [z1]\n  migrated_from: [{name: old, az: z1}]"), &["old/0/u0"], "0/u0/z1*"),
        ("what is too much of a former group goes",
            group("new", "instances: 1\n  migrated_from: [{name: old}]"), &["old/0/u0", "old/1/u1"], "0/u0* -u1"),
    ];
    for (row, groups, who, expected) in cases {
        let placement = placed(groups, who).expect(row);

        assert_eq!(told(&placement), *expected, "{row}");
    }
}

#[test]
fn the_bootstrap_flag_stays_on_the_one_that_has_it() {
    let mut instances = existing(&["a/0/u0", "a/1/u1", "a/2/u2"]);
    instances[0].identity.bootstrap = false;
    instances[2].identity.bootstrap = true;

    let placement = place(&manifest(&group("a", "instances: 3")), &instances, &mut Counter::default());

    assert_eq!(told(&placement.expect("plain")), "0/u0 1/u1 2/u2*");
}

#[test]
fn the_bootstrap_flag_on_two_of_them_goes_to_the_lowest_index() {
    let mut instances = existing(&["a/1/u1", "a/2/u2", "a/3/u3"]);
    instances[1].identity.bootstrap = true;
    instances[2].identity.bootstrap = true;

    let placement = place(&manifest(&group("a", "instances: 3")), &instances, &mut Counter::default());

    assert_eq!(told(&placement.expect("plain")), "1/u1* 2/u2 3/u3");
}

#[test]
fn an_instance_keeps_its_address_and_new_ones_get_fresh_ones() {
    let placement = placed(&group("a", "instances: 2"), &["a/0/u0"]).expect("plain");

    let addresses: Vec<_> = placement.desired().iter().map(|one| one.ip.to_string()).collect();
    assert_eq!(addresses, ["127.0.9.1", "127.0.9.101"]);
}

#[test]
#[rustfmt::skip]
fn static_addresses_decide_who_stays() {
    let listed = |addresses: &str| {
        let count = addresses.split(',').count();
        group("a", &format!("instances: {count}\n  networks: [{{name: net, static_ips: [{addresses}]}}]"))
    };
    let cases: &[(&str, &str, &[&str], &str)] = &[
        ("a first deploy", "127.0.9.1, 127.0.9.2", &[], "0@1 1@2"),
        ("whoever has a listed address stays", "127.0.9.2", &["a/0/u0", "a/1/u1"], "1@2 -u0"),
        ("an address that left the list moves the instance to a new one", "127.0.9.1, 127.0.9.9",
            &["a/0/u0", "a/1/u1"], "0@1 1@9"),
        ("one more address, one more instance", "127.0.9.1, 127.0.9.7", &["a/0/u0"], "0@1 1@7"),
    ];
    for (row, addresses, who, expected) in cases {
        let placement = placed(&listed(addresses), who).expect(row);

        let mut words: Vec<_> =
            placement.desired().iter().map(|one| format!("{}@{}", one.index, one.ip.octets()[3])).collect();
        words.extend(placement.obsolete.iter().map(|gone| format!("-{}", gone.id)));
        assert_eq!(words.join(" "), *expected, "{row}");
    }
}

#[test]
fn what_would_touch_an_ignored_instance_is_refused() {
    let cases = [
        ("its group is gone", group("a", ""), "=b/0/v0"),
        ("there is no room", group("a", "instances: 0"), "=a/0/u0"),
        ("its zone is gone", group("a", "azs: [z2]"), "=a/0/u0/z1"),
        ("its address is gone", group("a", "networks: [{name: net, static_ips: [127.0.9.9]}]"), "=a/0/u0"),
    ];
    for (row, groups, who) in cases {
        let error = placed(&groups, &[who]).expect_err(row).to_string();

        assert!(error.contains("which is ignored"), "{row}: {error}");
    }
}

#[test]
fn migrations_that_make_no_sense_are_refused() {
    let from = |name: &str| group(name, "migrated_from: [{name: old}]");
    let cases = [
        (from("a") + &group("old", ""), "A deployment can not migrate an instance group and also specify it"),
        (from("a") + &from("b"), "may be migrated to only one instance group"),
        (
            group("a", "azs: [z1]\n  migrated_from: [{name: old}]"),
            "availability zone of 'old' is not specified",
        ),
    ];
    for (groups, expected) in cases {
        let error = placed(&groups, &["old/0/u0"]).expect_err(expected).to_string();

        assert!(error.contains(expected), "{error}");
    }
}

/// Deploys again from what a deploy left behind.
fn after(placement: &Placement, disks: bool) -> Vec<Existing> {
    let desired = placement.desired().into_iter();
    desired.map(|identity| Existing { identity, has_disk: disks, ignored: false }).collect()
}

proptest! {
    /// Whatever a group went through, it ends with the instances it asks for, each index and id once, one
    /// bootstrap flag, nobody lost without being named; and the same manifest again changes nothing.
    #[test]
    fn any_change_of_size_and_zones_settles_at_once(
        steps in proptest::collection::vec((0_u32..6, 0_usize..4), 1..6),
        disks: bool,
    ) {
        let zones = ["", "azs: [z1]", "azs: [z1, z2]", "azs: [z3, z2, z1]"];
        let mut registry = Counter::default();
        let mut existing: Vec<Existing> = Vec::new();
        for (count, zone) in steps {
            let manifest = manifest(&group("a", &format!("instances: {count}\n  {}", zones[zone])));

            let placement = place(&manifest, &existing, &mut registry).expect("nothing is ignored");

            let desired = placement.desired();
            prop_assert_eq!(desired.len(), count as usize);
            let ids: BTreeSet<_> = desired.iter().chain(&placement.obsolete).map(|one| &one.id).collect();
            prop_assert_eq!(ids.len(), desired.len() + placement.obsolete.len());
            prop_assert!(existing.iter().all(|one| ids.contains(&one.identity.id)));
            let indexes: BTreeSet<_> = desired.iter().chain(&placement.obsolete).map(|one| one.index).collect();
            prop_assert_eq!(indexes.len(), ids.len());
            prop_assert_eq!(desired.iter().filter(|one| one.bootstrap).count(), usize::from(count > 0));
            let settled = after(&placement, disks);
            let again = place(&manifest, &settled, &mut registry).expect("nothing is ignored");
            prop_assert!(again.new.is_empty() && again.obsolete.is_empty());
            prop_assert!(again.kept.iter().all(|kept| kept.before == kept.after));
            existing = settled;
        }
    }
}
