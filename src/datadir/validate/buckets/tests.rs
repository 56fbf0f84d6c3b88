use super::*;

fn judged(bucket: &str, name: &[u8], value: &[u8]) -> String {
    match entry(bucket.as_bytes(), name, value) {
        Ok(Notable::Nothing) => "fine".to_owned(),
        Ok(notable) => format!("{notable:?}"),
        Err(fault) => fault.to_string(),
    }
}

#[test]
fn each_entry_has_its_form() {
    let revision = [&5_u64.to_be_bytes()[..], b"_", &[0; 8]].concat();
    let lease = [0x08, 0x07, 0x10, 0x3c];
    #[rustfmt::skip]
    let cases: &[(&str, &[u8], &[u8], &str)] = &[
        ("meta",            b"consistent_index",    &[0; 8],                                 "fine"),
        ("meta",            b"consistent_index",    &[0; 7],                                 "has 7 bytes instead of 8"),
        ("meta",            b"term",                &[0; 9],                                 "has 9 bytes instead of 8"),
        ("meta",            b"finishedCompactRev",  &revision,                               "fine"),
        ("meta",            b"scheduledCompactRev", &revision[..16],                         "is no revision"),
        ("meta",            b"scheduledCompactRev", &[0; 17],                                "is no revision"),
        ("meta",            b"confState",           br#"{"voters":[1],"auto_leave":false}"#, "fine"),
        ("meta",            b"confState",           br#"{"voters":null,"learners":[2]}"#,    "fine"),
        ("meta",            b"confState",           br#"{"voters":"1"}"#,                    "is no JSON of the form that etcd writes"),
        ("meta",            b"storageVersion",      b"3.6.0",                                "fine"),
        ("meta",            b"storageVersion",      b"3.6",                                  "is no version like 3.6.0"),
        ("meta",            b"something",           b"else",                                 "fine"),
        ("cluster",         b"clusterVersion",      b"3.x.0",                                "is no version like 3.6.0"),
        ("cluster",         b"downgrade",           br#"{"target-version":"","enabled":false}"#, "fine"),
        ("cluster",         b"downgrade",           br#"{"enabled":7}"#,                     "is no JSON of the form that etcd writes"),
        ("lease",           &7_u64.to_be_bytes(),   &lease,                                  "fine"),
        ("lease",           &8_u64.to_be_bytes(),   &lease,                                  "belongs to '0000000000000007', not to the name it is filed under"),
        ("lease",           b"7",                   &lease,                                  "has 1 bytes instead of 8"),
        ("lease",           &7_u64.to_be_bytes(),   &lease[..3],                             "cannot be decoded: it ends in the middle of a field"),
        ("alarm",           &[0x08, 5, 0x10, 1],    b"",                                     "Alarm(5, 1)"),
        ("alarm",           &[0x0a, 5],             b"",                                     "cannot be decoded: it ends in the middle of a field"),
        ("auth",            b"authEnabled",         &[1],                                    "fine"),
        ("auth",            b"authEnabled",         &[3],                                    "is neither on (1) nor off (0), which etcd takes for off"),
        ("auth",            b"authRevision",        &[0; 8],                                 "fine"),
        ("authUsers",       b"root",                b"\x0a\x04root\x1a\x04root",             "fine"),
        ("authUsers",       b"toor",                b"\x0a\x04root\x1a\x04root",             "belongs to 'root', not to the name it is filed under"),
        ("authUsers",       b"root",                b"\x0a\x04root\x1a\x04ro",               "cannot be decoded: it ends in the middle of a field"),
        ("authRoles",       b"r",                   b"\x0a\x01r\x12\x05\x08\x02\x12\x01k",   "fine"),
        ("authRoles",       b"r",                   b"\x0a\x01r\x12\x05\x08\x03\x12\x01k",   "grants something that is neither reading nor writing nor both (3)"),
        ("members",         b"a1",                  br#"{"id":161,"peerURLs":["http://h:1"],"name":"x"}"#, "Member(StoredMember { id: 161, peer_urls: [\"http://h:1\"], is_learner: false, name: \"x\", client_urls: [] })"),
        ("members",         b"a2",                  br#"{"id":161,"peerURLs":["http://h:1"]}"#, "belongs to 'a1', not to the name it is filed under"),
        ("members",         b"0a1",                 br#"{"id":161,"peerURLs":["http://h:1"]}"#, "is filed under a name that is no member id"),
        ("members",         b"a1",                  br#"{"id":161,"peerURLs":["http:/h:1"]}"#, "has a peer URL that etcd cannot use: 'http:/h:1'"),
        ("members",         b"a1",                  br#"{"id":161"#,                         "is no JSON of the form that etcd writes"),
        ("members_removed", b"d4",                  b"removed",                              "Removed(MemberId(d4))"),
        ("members_removed", b"-",                   b"removed",                              "is filed under a name that is no member id"),
    ];
    for (bucket, name, value, expected) in cases {
        let found = judged(bucket, name, value);
        assert_eq!(found, *expected, "{bucket} {}", name.escape_ascii());
    }
}
