use proptest::prelude::*;

use super::*;

fn stored(id: u64, url: &str, is_learner: bool) -> StoredMember {
    StoredMember { id, peer_urls: vec![url.to_owned()], is_learner, ..StoredMember::default() }
}

fn change(kind: ChangeKind, id: u64, member: Option<StoredMember>) -> What {
    What::Membership(ConfChange { kind, member_id: MemberId(id), member })
}

#[test]
fn the_part_about_the_cluster_is_read_and_users_data_is_noticed() {
    let store = |users: &str, auth: &str| {
        let json = format!(
            r#"{{"Root":{{"Path":"/","Value":"","Children":{{
                "0":{{"Children":{{
                    "version":{{"Value":"3.5.0","Children":null}},
                    "removed_members":{{"Children":{{"d4":{{"Value":""}}}}}},
                    "members":{{"Children":{{"a1":{{"Children":{{
                        "attributes":{{"Value":"{{\"name\":\"m1\",\"clientURLs\":[\"http://c:1\"]}}"}},
                        "raftAttributes":{{"Value":"{{\"peerURLs\":[\"http://p:1\"],\"isLearner\":true}}"}}
                    }}}}}}}}
                }}}},
                "1":{{"Children":{users}}},
                "2":{{"Children":{auth}}}
            }}}},"WatcherHub":{{}},"CurrentVersion":2}}"#
        );
        V2Store::from_json(json.as_bytes()).unwrap()
    };
    let found = store("{}", r#"{"roles":{"Children":{}},"enabled":{"Value":"false"}}"#);
    let member = StoredMember {
        name: "m1".to_owned(),
        client_urls: vec!["http://c:1".to_owned()],
        ..stored(0xa1, "http://p:1", true)
    };
    assert_eq!(found.members, BTreeMap::from([(MemberId(0xa1), member)]));
    assert_eq!(found.removed, BTreeSet::from([MemberId(0xd4)]));
    assert_eq!(found.cluster_version.as_deref(), Some("3.5.0"));
    assert!(!found.has_user_data);
    assert!(store(r#"{"k":{"Value":"v"}}"#, "null").has_user_data);
    assert!(store("null", r#"{"roles":{"Children":{"root":{}}}}"#).has_user_data);
}

#[test]
fn a_member_nobody_can_read_is_named() {
    for member in [r#"{"Children":{}}"#, r#"{"Children":{"raftAttributes":{"Value":"torn"}}}"#] {
        let json = format!(
            r#"{{"Root":{{"Children":{{"0":{{"Children":{{"members":{{"Children":{{"a1":{member}}}}}}}}}}}}}}}"#
        );
        assert!(matches!(V2Store::from_json(json.as_bytes()), Err(Fault::Member { name }) if name == "a1"));
    }
    assert!(matches!(V2Store::from_json(b"{"), Err(Fault::Json(_))));
    // Deeper than anybody writes: an error, not the end of the stack.
    let deep = format!("{}1{}", r#"{"Root":"#.repeat(5000), "}".repeat(5000));
    assert!(V2Store::from_json(deep.as_bytes()).is_err());
}

#[test]
fn changes_that_do_not_fit_are_passed_over_as_etcd_does() {
    use ChangeKind::{Add, AddLearner, Promote, Remove, Update};
    let mut store = V2Store::default();
    let mut apply = |what: What| {
        store.apply(&what);
        let members: Vec<_> = store
            .members
            .values()
            .map(|member| {
                format!(
                    "{:x} {}{}",
                    member.id,
                    member.peer_urls.join(","),
                    if member.is_learner { " learner" } else { "" }
                )
            })
            .collect();
        (members.join("; "), store.removed.len())
    };
    #[rustfmt::skip]
    let steps = [
        (change(Add, 1, Some(stored(1, "a", false))),       "1 a",               0),
        (change(Add, 1, Some(stored(1, "b", false))),       "1 a",               0),
        (change(AddLearner, 2, Some(stored(2, "a", true))), "1 a",               0),
        (change(AddLearner, 2, Some(stored(2, "b", true))), "1 a; 2 b learner",  0),
        (change(Update, 2, Some(stored(2, "a", false))),    "1 a; 2 b learner",  0),
        (change(Update, 2, Some(stored(2, "c", false))),    "1 a; 2 c learner",  0),
        (change(Promote, 2, Some(stored(2, "", false))),    "1 a; 2 c",          0),
        (change(Promote, 3, Some(stored(3, "", false))),    "1 a; 2 c",          0),
        (change(Remove, 3, None),                           "1 a; 2 c",          0),
        (change(Remove, 1, None),                           "2 c",               1),
        (change(Add, 1, Some(stored(1, "z", false))),       "2 c",               1),
    ];
    for (what, members, removed) in steps {
        assert_eq!(apply(what.clone()), (members.to_owned(), removed), "{what:?}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(urls in proptest::collection::btree_map(any::<u64>(), "[a-z\"\\\\é]{0,9}", 0..5)) {
        let members: Vec<_> = urls.iter().map(|(id, url)| stored(*id, url, false)).collect();
        let read = V2Store::from_json(&V2Store::founding(&members)).unwrap();
        let expected = members.into_iter().map(|member| (member.member_id(), member)).collect();
        prop_assert_eq!(read, V2Store { members: expected, ..V2Store::default() });
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _ = V2Store::from_json(&bytes);
    }
}
