use super::request::Request;
use super::*;

#[test]
fn a_promotion_is_told_from_an_addition() {
    let change = |kind: u64, context: &str| {
        let message = message::ConfChange {
            id: Some(7),
            kind: Some(kind),
            member_id: Some(5),
            context: Some(context.as_bytes().to_vec()),
        };
        let read = ConfChange::decode(&message.encode_to_vec()).unwrap();
        (read.kind, read.member.map(|member| member.peer_urls.len()))
    };
    let member = r#"{"id":5,"peerURLs":["http://a:1"],"isPromote":false}"#;
    assert_eq!(change(0, member), (ChangeKind::Add, Some(1)));
    assert_eq!(change(0, r#"{"id":5,"peerURLs":null,"isPromote":true}"#), (ChangeKind::Promote, Some(0)));
    assert_eq!(change(1, ""), (ChangeKind::Remove, None));
    assert_eq!(change(2, member), (ChangeKind::Update, Some(1)));
    assert_eq!(change(3, member), (ChangeKind::AddLearner, Some(1)));
    assert_eq!(change(9, "no JSON"), (ChangeKind::Unknown(9), None));
}

#[test]
fn requests_are_named_as_etcd_names_them() {
    // Field 4 (put) of one byte, and one that nobody knows.
    assert_eq!(Request::decode(&[0x22, 1, 0x80]).unwrap().name(), "put");
    assert_eq!(Request::decode(&[0xfa, 0xff, 1, 0]).unwrap().name(), "unknown");
    assert_eq!(Request::decode(&[]).unwrap(), Request::Empty);
    assert!(Request::decode(&[0x22, 9]).is_err());
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _ = (Owner::decode(&bytes), Entry::decode(&bytes), HardState::decode(&bytes));
        let _ = (SnapshotMark::decode(&bytes), ConfChange::decode(&bytes), Request::decode(&bytes));
    }
}

#[test]
fn members_up_to_3_5_publish_themselves_without_an_envelope() {
    // The beginning of what 3.5.35 writes: number, method, path, value.
    let text = |field: u8, text: &str| {
        [&[field << 3 | 2, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
    };
    let value = r#"{"name":"m1","clientURLs":["http://127.0.0.1:1"]}"#;
    let message =
        [vec![0x08, 1], text(2, "PUT"), text(3, "/0/members/df/attributes"), text(4, value), vec![0x28, 0]]
            .concat();
    let expected = Request::Published {
        member_id: MemberId(0xdf),
        name: "m1".to_owned(),
        client_urls: vec!["http://127.0.0.1:1".to_owned()],
    };
    assert_eq!(Request::decode(&message).unwrap(), expected);
}
