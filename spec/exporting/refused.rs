//! What the other cluster has already, or does not take.

use std::collections::BTreeMap;

use etcd_release::etcd::client::EtcdClient;
use etcd_release::etcd::client::keys::Put;
use etcd_release::etcd::connect::Target;
use serde_json::{Value, json};

use super::content::{access, keys, put_with_lease, revision};
use super::etcd::{PATIENCE, base64};
use super::scene::{Scene, import, refused, succeeded};

#[test]
fn what_differs_is_refused_unless_it_is_said_which_is_right() {
    let scene = Scene::new();
    let from = scene.etcd("3.6", "from", &[]);
    let to = scene.etcd("3.6", "to", &[]);
    from.put("a/differs", b"ours");
    from.put("a/new", b"1");
    from.put("a/same", b"1");
    from.call("lease/grant", &json!({"ID": 5, "TTL": 4_000}));
    put_with_lease(&from, "a/leased", "1", 5);
    from.call("auth/role/add", &json!({"name": "r"}));
    for etcd in [&from, &to] {
        etcd.call("auth/user/add", &json!({"name": "u", "password": "of-a-test"}));
    }
    to.call("auth/role/add", &json!({"name": "more"}));
    to.call("auth/user/grant", &json!({"user": "u", "role": "more"}));
    to.put("a/differs", b"theirs");
    to.put("a/leased", b"1");
    to.put("a/same", b"1");
    to.put("b/others", b"1");
    let (file, output) = scene.export("keys", &from, &[]);
    succeeded(&output);
    let before = (keys(&to, 0), access(&to), revision(&to));

    let told = refused(&import(&file, &to, &["--into-existing"]), 3);
    assert!(told.contains("3 keys, roles or users"), "{told}");
    assert!(told.contains(r#"user u, "a/differs", "a/leased""#), "{told}");
    assert_eq!((keys(&to, 0), access(&to), revision(&to)), before);

    let told = succeeded(&import(&file, &to, &["--into-existing", "--on-conflict", "keep"]));
    assert!(
        told.contains("1 keys written") && told.contains("2 keys that differ are as they were"),
        "{told}"
    );
    let kept = keys(&to, 0);
    assert_eq!(kept[&base64(b"a/differs")], (base64(b"theirs"), 0));
    assert_eq!(access(&to).1, before.1.1);

    succeeded(&import(&file, &to, &["--into-existing", "--on-conflict", "overwrite"]));
    let mut wanted = keys(&from, 0);
    wanted.insert(base64(b"b/others"), (base64(b"1"), 0));
    assert_eq!(keys(&to, 0), wanted);
    assert_eq!(access(&to).1["u"], Value::Null);
}

/// An import writes on condition that nobody else has: all of a transaction, or nothing of it.
#[test]
fn a_transaction_does_nothing_where_somebody_else_has_written() {
    let scene = Scene::new();
    let etcd = scene.etcd("3.6", "etcd", &[]);
    etcd.put("b", b"1");
    let seen = i64::try_from(revision(&etcd)).unwrap();
    let put = |key: &str, seen| Put { key: key.into(), value: b"ours".to_vec(), lease: 0, seen };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let target = Target::named(&etcd.address.to_string(), 2379);
        let mut client = EtcdClient::connect_plain(&target, PATIENCE).await.unwrap();
        let (absent, there) = (put("a", 0), put("b", seen));

        for wrong in [put("b", 0), put("b", seen - 1), put("c", seen)] {
            assert!(!client.put_all(&[&absent, &wrong]).await.unwrap(), "{wrong:?}");
        }
        assert_eq!(keys(&etcd, 0), BTreeMap::from([(base64(b"b"), (base64(b"1"), 0))]));
        assert!(client.put_all(&[&absent, &there]).await.unwrap());
        assert!(!client.put_all(&[&absent, &there]).await.unwrap());
    });
    assert_eq!(keys(&etcd, 0).values().filter(|(value, _)| *value == base64(b"ours")).count(), 2);
}

#[test]
fn a_key_that_the_other_cluster_does_not_take_is_named() {
    let scene = Scene::new();
    let from = scene.etcd("3.6", "from", &["--max-request-bytes", "4194304"]);
    from.put("a", b"1");
    from.put("larger", &vec![1; 3 << 20]);
    from.put("z", b"1");
    // As large as a write can be, and so too large for a transaction, which names the key twice.
    let key = base64(&[b'x'; 60]);
    let fits = (1..100)
        .map(|less| (4 << 20) - 8 * less)
        .find(|size| from.try_call("kv/put", &json!({"key": key, "value": base64(&vec![1; *size])})).is_ok());
    // A number in each request takes a byte more or less.
    from.call("kv/put", &json!({"key": key, "value": base64(&vec![1; fits.unwrap() - 8])}));
    let (file, output) = scene.export("keys", &from, &[]);
    succeeded(&output);
    let to = scene.etcd("3.7", "to", &[]);

    let told = refused(&import(&file, &to, &[]), 3);

    assert!(told.contains(r#"does not take key "larger": its value has 3145728 bytes"#), "{told}");
    assert!(told.contains("max_request_bytes") && told.contains("--into-existing"), "{told}");
    let to = scene.etcd("3.7", "larger", &["--max-request-bytes", "4194304"]);
    succeeded(&import(&file, &to, &[]));
    assert_eq!(keys(&to, 0), keys(&from, 0));
}
