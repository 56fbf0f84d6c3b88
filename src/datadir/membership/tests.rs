use proptest::prelude::*;

use super::*;

fn name(text: &str) -> MemberName {
    text.parse().unwrap()
}

fn found(cluster: &str, token: &str, own: &str, advertised: &str) -> Result<Membership, Unfit> {
    Membership::found(&initial_cluster::parse(cluster)?, token, &name(own), &peer_urls(advertised)?)
}

/// Seen with etcd 3.6.16, which was given the same flags.
#[test]
fn ids_are_those_of_etcd_also_with_several_urls() {
    let cluster = "n1=http://127.9.9.2:23801,n2=http://127.9.9.3:23801,n1=http://127.9.9.1:23801";

    let founded = found(cluster, "tok-1", "n1", "http://127.9.9.1:23801,http://127.9.9.2:23801").unwrap();

    assert_eq!(founded.own().id.to_string(), "d4085939259a3a42");
    assert_eq!(founded.cluster_id().to_string(), "dd3d70fc1980a1b6");
    assert_eq!(founded.own().peer_urls.len(), 2);
    assert!(founded.members().is_sorted_by_key(|founder| founder.id));
}

#[test]
fn a_list_that_founds_no_cluster_is_refused_with_the_text_to_write() {
    let rows = [
        // (list, own name, advertised, what, next)
        ("", "a", "https://a:1", "empty", "--initial-cluster NAME="),
        (",,", "a", "https://a:1", "empty", "--initial-cluster NAME="),
        ("https://a:1", "a", "https://a:1", "'https://a:1' in the list", "NAME=https"),
        ("a=", "a", "https://a:1", "'a=' in the list", "NAME=https"),
        ("a=b.test:2380", "a", "https://a:1", "no scheme", "write a=https://b.test:2380"),
        ("a=b.test", "a", "https://a:1", "no scheme", "write https://HOST:PORT"),
        ("a=https://b.test", "a", "https://a:1", "no port", "write a=https://b.test:2380"),
        ("a=https://b.test:2380/", "a", "https://a:1", "another id", "write a=https://b.test:2380"),
        ("a=https://B.test:2380", "a", "https://a:1", "another id", "write a=https://b.test:2380"),
        ("a=https://b.test:02380", "a", "https://a:1", "another id", "write a=https://b.test:2380"),
        ("a=unix://x:1", "a", "https://a:1", "neither https nor http", "write https://HOST:PORT"),
        ("a=https://b:1/x", "a", "https://a:1", "without a path", "write https://HOST:PORT"),
        ("a b=https://b:1", "a", "https://a:1", "'a b' is not a member name", "another name"),
        ("a=https://a:1,b=https://a:1", "a", "https://a:1", "of two members, 'a' and 'b'", "only once"),
        ("a=https://a:1,a=https://a:1", "a", "https://a:1", "twice for member 'a'", "only once"),
        ("a=https://a:1,b=https://b:1", "c", "https://c:1", "'c' is not among those listed: a,b", "--name"),
        ("a=https://a:1,b=https://b:1", "c", "https://b:1", "'c' is not among", "pass --name b"),
        ("a=https://a:1", "a", "https://b:1", "listed with https://a:1, but", "peer-urls https://a:1"),
        (
            "a=https://a:1",
            "a",
            "https://a:1,https://b:1",
            "advertises https://a:1,https://b:1",
            "correct the list",
        ),
        ("a=https://a:1", "a", "https://a:1,https://a:1", "there twice", "write https"),
        ("a=https://a:1", "a", "", "there is none", "write https"),
        // Without a separator, two lists of URLs can be the same letters.
        (
            "a=https://a:1,a=https://b:1,b=https://a:1https://b:1",
            "a",
            "https://a:1,https://b:1",
            "path",
            "write",
        ),
    ];
    for (list, own, advertised, what, next) in rows {
        let unfit = found(list, "t", own, advertised).expect_err(list);
        let complaint = unfit.complaint();
        assert!(complaint.what.contains(what), "{list}: {complaint}");
        assert!(complaint.next.contains(next), "{list}: {complaint}");
        assert!(!complaint.why.is_empty(), "{list}: {complaint}");
    }
}

#[test]
fn blanks_around_parts_and_empty_parts_are_left_out_as_etcd_leaves_them_out() {
    let listed = initial_cluster::parse(" a=https://a:1 ,, b= HTTPS://b:1,").unwrap();

    assert_eq!(listed.keys().map(MemberName::as_str).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(listed[&name("b")].first().unwrap().as_str(), "https://b:1");
}

#[test]
fn a_file_of_members_is_yaml_or_json_or_what_etcdctl_prints() {
    let rows = [
        "members:\n- name: a\n  peer_urls: [\"https://a:1\", \"https://b:1\"]\n- {name: c, peer_urls: [\"https://c:1\"]}\n",
        r#"{"members": [{"name": "c", "peer_urls": ["https://c:1"]}, {"name": "a", "peer_urls": ["https://b:1", "https://a:1"]}]}"#,
        r#"{"header":{"cluster_id":1},"members":[{"ID":7,"name":"a","peerURLs":["https://a:1","https://b:1"],"clientURLs":["https://a:2"]},{"ID":8,"name":"c","peerURLs":["https://c:1"]}]}"#,
    ];
    let expected = initial_cluster::parse("a=https://a:1,a=https://b:1,c=https://c:1").unwrap();
    for text in rows {
        assert_eq!(members_file::parse(text).unwrap(), expected, "{text}");
    }
}

#[test]
fn a_file_of_members_that_says_too_little_is_refused() {
    let rows = [
        ("", "cannot be read"),
        ("members: []", "empty"),
        ("members: [{peer_urls: [\"https://a:1\"]}]", "'' is not a member name"),
        ("members: [{name: a}]", "peer_urls"),
        ("members: [{name: a, peer_urls: []}]", "'a' has no peer URL"),
        ("members: [{name: a, peer_urls: [\"a:1\"]}]", "no scheme"),
        ("members: [{name: a, peer_urls: [\"https://a:1\"], isLearner: true}]", "learner"),
        (
            "members: [{name: a, peer_urls: [\"https://a:1\"]}, {name: a, peer_urls: [\"https://b:1\"]}]",
            "listed twice",
        ),
    ];
    for (text, what) in rows {
        let unfit = members_file::parse(text).expect_err(text);
        assert!(unfit.to_string().contains(what), "{text}: {unfit}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_a_source_panic(text in "[a-zA-Z0-9=,:/\\[\\]. \\-{}\"\n]{0,80}", any: String) {
        for text in [&text, &any] {
            let _ = initial_cluster::parse(text);
            let _ = members_file::parse(text);
            let _ = peer_urls(text);
        }
    }

    /// etcd sorts the members by id and the URLs by letter: the order of the list says nothing.
    #[test]
    fn the_order_of_a_list_changes_nothing(mut ports in proptest::collection::btree_set(1_u16.., 2..6), seed: u64) {
        let entries: Vec<String> =
            ports.iter().map(|port| format!("m{}=https://h:{port}", port % 2)).collect();
        let mut turned = entries.clone();
        turned.rotate_left(usize::try_from(seed % entries.len() as u64).unwrap());
        let own = format!("m{}", ports.first().unwrap() % 2);
        let parity = ports.first().unwrap() % 2;
        ports.retain(|port| port % 2 == parity);
        let urls: Vec<String> = ports.iter().map(|port| format!("https://h:{port}")).collect();

        let one = found(&entries.join(","), "t", &own, &urls.join(",")).unwrap();
        let other = found(&turned.join(","), "t", &own, &urls.join(",")).unwrap();

        prop_assert_eq!(one, other);
    }
}
