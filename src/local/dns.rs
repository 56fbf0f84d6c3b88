//! The BOSH DNS names of a machine's instances, as the text of a hosts file: there is no DNS server here,
//! so each instance gets every name of every instance, and group names answer with all addresses.
//!
//! Only what a hosts file can say: no health, hence the smart query (`s0`) answers like "all" (`s4`), as
//! it does on a Director when nobody is known to be healthy. docs/local-director.md#dns-names

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::Ipv4Addr;

use super::model::Identity;

/// The domain below which all names lie.
pub const DOMAIN: &str = "bosh";

/// Queries for a group that a hosts file can answer: smart, and all.
const GROUP_QUERIES: [&str; 2] = ["q-s0", "q-s4"];

/// The name of a whole group, as `link.address` gives it, for an instance of that group.
pub fn group_name(member: &Identity) -> String {
    format!("q-s0.{}", member.group_domain())
}

/// The hosts file for machines that should reach `instances`, with more names for addresses in `aliases`.
///
/// The order is that of the names, so the text changes only when an instance comes, goes or moves.
pub fn hosts(instances: &[Identity], aliases: &[(String, Ipv4Addr)]) -> String {
    let mut names: BTreeSet<(String, Ipv4Addr)> = BTreeSet::new();
    for instance in instances {
        names.insert((instance.dns_name(), instance.ip));
        names.insert((instance.dns_name_by_index(), instance.ip));
        let domain = instance.group_domain();
        names.extend(GROUP_QUERIES.map(|query| (format!("{query}.{domain}"), instance.ip)));
        // The name certificates carry: a member looks up whether its caller's address is among its answers.
        names.insert((domain, instance.ip));
    }
    names.extend(aliases.iter().cloned());
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
    for (name, address) in names {
        writeln!(text, "{address} {name}").expect("writing to a String cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::fixture::identity;

    #[test]
    fn every_instance_has_both_its_names_and_the_group_has_all_addresses() {
        let instances = [identity("my_Group", 1, "u1", None), identity("my_Group", 0, "u0", None)];

        let text = hosts(&instances, &[("etcd.internal".into(), Ipv4Addr::new(127, 0, 9, 1))]);

        let expected = "\
127.0.0.1 localhost
::1 localhost ip6-localhost ip6-loopback
127.0.9.1 0.my-group.net.dep.bosh
127.0.9.2 1.my-group.net.dep.bosh
127.0.9.1 etcd.internal
127.0.9.1 my-group.net.dep.bosh
127.0.9.2 my-group.net.dep.bosh
127.0.9.1 q-s0.my-group.net.dep.bosh
127.0.9.2 q-s0.my-group.net.dep.bosh
127.0.9.1 q-s4.my-group.net.dep.bosh
127.0.9.2 q-s4.my-group.net.dep.bosh
127.0.9.1 u0.my-group.net.dep.bosh
127.0.9.2 u1.my-group.net.dep.bosh
";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_order_of_instances_does_not_change_the_text() {
        let (one, other) = (identity("a", 0, "u0", None), identity("a", 1, "u1", None));

        assert_eq!(hosts(&[one.clone(), other.clone()], &[]), hosts(&[other, one], &[]));
    }
}
