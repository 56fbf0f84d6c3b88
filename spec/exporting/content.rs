//! What a cluster holds: putting it there, and asking for it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::etcd::{Etcd, base64, number};

pub(super) fn revision(etcd: &Etcd) -> u64 {
    number(&etcd.call("kv/range", &json!({"key": base64(b"x"), "keys_only": true}))["header"]["revision"])
}

/// Value and lease of every key, at a revision (0 = now).
pub(super) fn keys(etcd: &Etcd, revision: u64) -> BTreeMap<String, (String, u64)> {
    let all = json!({"key": base64(b"\0"), "range_end": base64(b"\0"), "revision": revision});
    let answer = etcd.call("kv/range", &all);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pairs = answer["kvs"].as_array().cloned().unwrap_or_default();
    pairs.iter().map(|pair| (text(&pair["key"]), (text(&pair["value"]), number(&pair["lease"])))).collect()
}

/// The granted time of each lease that keys hang on, and these keys.
pub(super) fn leases(etcd: &Etcd) -> BTreeMap<u64, (u64, Vec<String>)> {
    let listed = etcd.call("lease/leases", &json!({}));
    let all = listed["leases"].as_array().cloned().unwrap_or_default().into_iter().map(|lease| {
        let told = etcd.call("lease/timetolive", &json!({"ID": lease["ID"], "keys": true}));
        let keys = told["keys"].as_array().cloned().unwrap_or_default();
        let mut keys: Vec<String> = keys.iter().map(|key| key.as_str().unwrap().to_owned()).collect();
        keys.sort();
        (number(&lease["ID"]), (number(&told["grantedTTL"]), keys))
    });
    all.filter(|(_, (_, keys))| !keys.is_empty()).collect()
}

/// Roles with their permissions, and users with their roles. What root may do is etcd's own knowledge: some versions tell
/// it and others do not.
pub(super) fn access(etcd: &Etcd) -> (BTreeMap<String, Value>, BTreeMap<String, Value>) {
    let names = |what: &str| {
        let listed = etcd.call(&format!("auth/{what}/list"), &json!({}));
        let names = listed[format!("{what}s")].as_array().cloned().unwrap_or_default();
        names.into_iter().map(|name| name.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let role = |name: String| {
        let told = etcd.call("auth/role/get", &json!({"role": name}));
        let permissions = if name == "root" { Value::Null } else { told["perm"].clone() };
        (name, permissions)
    };
    let user = |name: String| {
        let told = etcd.call("auth/user/get", &json!({"name": name}));
        (name, told["roles"].clone())
    };
    (names("role").into_iter().map(role).collect(), names("user").into_iter().map(user).collect())
}

pub(super) fn put_with_lease(etcd: &Etcd, key: &str, value: &str, lease: u64) {
    let (key, value) = (base64(key.as_bytes()), base64(value.as_bytes()));
    etcd.call("kv/put", &json!({"key": key, "value": value, "lease": lease}));
}

pub(super) fn put_many(etcd: &Etcd, count: usize, bytes: usize) {
    for hundred in (0..count).step_by(100) {
        let put = |number: usize| {
            let value: Vec<u8> = (0..bytes).map(|at| (number * 7 + at * 13).to_le_bytes()[0]).collect();
            let key = format!("key/{number:05}");
            json!({"request_put": {"key": base64(key.as_bytes()), "value": base64(&value)}})
        };
        let writes: Vec<Value> = (hundred..count.min(hundred + 100)).map(put).collect();
        etcd.call("kv/txn", &json!({"success": writes}));
    }
}

/// Thousands of keys, some that are no text, one of a MiB, leases, roles and users.
pub(super) fn fill(etcd: &Etcd) {
    put_many(etcd, 4_000, 50);
    etcd.put("empty", b"");
    etcd.put("large", &vec![0xa5; 1 << 20]);
    etcd.call("kv/put", &json!({"key": base64(b"\x01\xff\0"), "value": base64(b"\0\n\xff")}));
    etcd.call("kv/put", &json!({"key": base64(b"\xff\xff"), "value": base64(b"last")}));
    for (lease, seconds) in [(77, 4_000), (i64::MAX as u64, 5_000), (12, 6_000)] {
        etcd.call("lease/grant", &json!({"ID": lease, "TTL": seconds}));
    }
    put_with_lease(etcd, "leased/a", "1", 77);
    put_with_lease(etcd, "leased/b", "2", 77);
    put_with_lease(etcd, "leased/c", "3", i64::MAX as u64);
    etcd.delete("key/00007");
    for (role, key, end, kind) in [
        ("reader", &b"key/"[..], &b"key0"[..], "READ"),
        ("reader", b"one", b"", "READ"),
        ("writer", b"\0", b"\0", "READWRITE"),
    ] {
        // It may be there.
        let _ = etcd.try_call("auth/role/add", &json!({"name": role}));
        let grant = json!({"permType": kind, "key": base64(key), "range_end": base64(end)});
        etcd.call("auth/role/grant", &json!({"name": role, "perm": grant}));
    }
    for (user, roles) in [("root", &["root"][..]), ("app", &["reader", "writer"]), ("nobody", &[])] {
        etcd.call("auth/user/add", &json!({"name": user, "password": "of-a-test"}));
        for role in roles {
            if *role == "root" {
                let _ = etcd.try_call("auth/role/add", &json!({"name": role}));
            }
            etcd.call("auth/user/grant", &json!({"user": user, "role": role}));
        }
    }
}
