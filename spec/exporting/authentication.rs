//! Users who may see everything, or not.

use std::path::Path;
use std::process::{Command, Stdio};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair,
};
use serde_json::json;

use super::content::{access, keys};
use super::etcd::{Etcd, Start, base64};
use super::scene::{Scene, import, refused, succeeded};

/// A CA, a server's certificate for this address and those of two users, as files in a directory.
fn certificates(directory: &Path, address: std::net::IpAddr) {
    let key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(vec![]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = ca.self_signed(&key).unwrap();
    let issuer = Issuer::new(ca, key);
    std::fs::write(directory.join("ca.crt"), certificate.pem()).unwrap();
    for name in ["server", "root", "app"] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![address.to_string()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &issuer).unwrap();
        std::fs::write(directory.join(format!("{name}.crt")), certificate.pem()).unwrap();
        std::fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

#[test]
fn with_authentication_on_the_administrator_exports_everything_and_others_what_they_may() {
    for series in ["3.4", "3.7"] {
        let scene = Scene::new();
        let directory = scene.file("certificates");
        std::fs::create_dir(&directory).unwrap();
        let start = Start::alone(series, &scene.file("from"));
        certificates(&directory, start.address);
        let file = |name: &str| directory.join(name).to_str().unwrap().to_owned();
        let secure = format!("https://{}:2381", start.address);
        let listen = format!("http://{}:2379,{secure}", start.address);
        let from = Etcd::start(&start.with(&[
            "--listen-client-urls",
            &listen,
            "--client-cert-auth",
            "--trusted-ca-file",
            &file("ca.crt"),
            "--cert-file",
            &file("server.crt"),
            "--key-file",
            &file("server.key"),
        ]));
        from.put("key/1", b"1");
        from.put("key/2", b"2");
        from.put("other", b"3");
        from.call("auth/role/add", &json!({"name": "root"}));
        let grant = json!({"permType": "READ", "key": base64(b"key/"), "range_end": base64(b"key0")});
        from.call("auth/role/add", &json!({"name": "reader"}));
        from.call("auth/role/grant", &json!({"name": "reader", "perm": grant}));
        for (user, role) in [("root", "root"), ("app", "reader")] {
            from.call("auth/user/add", &json!({"name": user, "password": "of-a-test"}));
            from.call("auth/user/grant", &json!({"user": user, "role": role}));
        }
        let wanted = (keys(&from, 0), access(&from));
        from.call("auth/enable", &json!({}));
        let export = |name: &str, user: &str, more: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-backup"));
            command.arg("export").arg(scene.file(name)).args(["--etcd", &secure]).args(more);
            command.args(["--etcd-cacert", &file("ca.crt")]);
            command.args(["--etcd-cert", &file(&format!("{user}.crt"))]);
            command.args(["--etcd-key", &file(&format!("{user}.key"))]);
            let output = command.env_clear().stdin(Stdio::null()).output().unwrap();
            (scene.file(name), output)
        };

        let told = refused(&export("nothing", "app", &[]).1, 3);
        assert!(told.contains("--prefix"), "{told}");
        assert!(!scene.file("nothing").exists());
        let (_, output) = export("part", "app", &["--prefix", "key/"]);
        assert!(succeeded(&output).contains("2 keys at revision"), "{series}");
        let (exported, output) = export("all", "root", &[]);
        succeeded(&output);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains("authentication is on"), "{told}");

        let to = scene.etcd("3.6", "to", &[]);
        let told = succeeded(&import(&exported, &to, &[]));
        assert!(told.contains("`etcdctl auth enable` turns it on here"), "{told}");
        assert_eq!((keys(&to, 0), access(&to)), wanted);
        // A user without a password is known by certificate.
        to.call("auth/enable", &json!({}));
    }
}
