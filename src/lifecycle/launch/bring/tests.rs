use super::*;

/// A VM whose `etcd-backup` says this.
fn vm(script: &str) -> (tempfile::TempDir, Paths) {
    let root = tempfile::tempdir().unwrap();
    let paths = Paths::below(root.path());
    let tool = paths.backup_tool();
    fs::create_dir_all(tool.parent().unwrap()).unwrap();
    let written = root.path().join("script");
    fs::write(&written, format!("#!/bin/sh\n{script}\n")).unwrap();
    // Another process makes the file: see the tests of `validation::child`.
    let made = std::process::Command::new("install").arg("-m755").args([&written, &tool]).status().unwrap();
    assert!(made.success());
    (root, paths)
}

fn own() -> (MemberName, PeerUrl) {
    ("a".parse().unwrap(), PeerUrl::https("a.etcd", 2380))
}

fn founder<'a>(name: &'a MemberName, peer_url: &'a PeerUrl) -> Founder<'a> {
    Founder { deployment: "etcd", instance: "a", name, peer_url }
}

fn has_backup_job(paths: &Paths) {
    fs::create_dir_all(paths.backup_job_json().parent().unwrap()).unwrap();
    fs::write(paths.backup_job_json(), "{}").unwrap();
}

#[tokio::test]
async fn what_the_store_says_is_told_apart() {
    for (script, told) in [
        (
            r#"echo '{"sets": [{"set": "2", "new": 1}, {"set": "1"}]}'"#,
            Backup::Exists { newest: "2".to_owned() },
        ),
        (r#"echo '{"sets": []}'"#, Backup::None),
        ("echo 'error: 403' >&2; echo 'next: log in' >&2; exit 1", unknown("error: 403; next: log in")),
        ("exit 3", unknown("etcd-backup ended with exit status: 3")),
        ("echo '{}'", unknown("its list is not understood: missing field `sets` at line 1 column 2")),
    ] {
        let (_root, paths) = vm(script);
        assert_eq!(BackupStore::of(&paths).newest().await, Backup::NoStore, "there is no job etcd-backup");
        has_backup_job(&paths);
        assert_eq!(BackupStore::of(&paths).newest().await, told, "{script}");
    }
    let root = tempfile::tempdir().unwrap();
    let paths = Paths::below(root.path());
    has_backup_job(&paths);
    let Backup::Unknown { why } = BackupStore::of(&paths).newest().await else { panic!("there is no tool") };
    assert!(why.starts_with("etcd-backup cannot be started: "), "{why}");
}

fn unknown(why: &str) -> Backup {
    Backup::Unknown { why: why.to_owned() }
}

/// Makes what it was told to, as far as a shell can.
const MAKES: &str = r#"
echo "$@" > "$0.args"
for word in "$@"; do
  case $last in --data-dir) mkdir -p "$word/member" ;; esac
  last=$word
done
"#;

#[tokio::test]
async fn data_is_made_beside_what_is_there_and_a_request_asks_for_it() {
    let (name, peer_url) = own();
    let founder = founder(&name, &peer_url);
    let says = r#"echo '{"cluster_id": "1", "set": "s", "revision": 1000000007, "raised_from": 7}'"#;
    let (_root, paths) = vm(&format!("{MAKES}{says}"));
    let left_over = Ready::of(&paths, Uuid::from_u128(7));
    fs::create_dir_all(left_over.data_dir()).unwrap();

    // The token is random, so no script can know the cluster's id.
    let error = bring(founder, &paths, "s", None).await.map(|_| ()).unwrap_err();

    assert!(error.to_string().starts_with("etcd-backup restore made cluster 1, not "), "{error}");
    assert!(!left_over.directory().exists(), "what another run left goes");
    let arguments = fs::read_to_string(format!("{}.args", paths.backup_tool().display())).unwrap();
    for wanted in
        ["restore --job-config ", "--to latest", "--bump-revision 1000000000 --mark-compacted", "--json"]
    {
        assert!(arguments.contains(wanted), "{wanted}: {arguments}");
    }
    assert!(!arguments.contains("--set"), "a newer set that is broken must not be passed over: {arguments}");
}

#[tokio::test]
async fn what_cannot_be_restored_is_refused_with_what_was_said_and_leaves_nothing() {
    let (name, peer_url) = own();
    let founder = founder(&name, &peer_url);
    let (_root, paths) = vm(&format!("{MAKES} echo 'error: object x is damaged' >&2; exit 1"));

    let Err(Obstacle::Refuse(Refusal::NotRestored { backup, why })) =
        bring(founder, &paths, "set-1", None).await.unwrap()
    else {
        panic!("it was restored")
    };

    assert_eq!((backup.as_str(), why.as_str()), ("set-1", "error: object x is damaged"));
    assert_eq!(fs::read_dir(paths.restoring()).unwrap().count(), 0);
}

#[test]
fn the_words_of_a_request_tell_the_revision_before_it_was_raised() {
    let (name, peer_url) = own();
    let founder = founder(&name, &peer_url);
    let root = tempfile::tempdir().unwrap();
    let ready = Ready::of(&Paths::below(root.path()), Uuid::from_u128(1));
    let (membership, token) = founder.found().unwrap();
    let making = Making {
        membership: &membership,
        token: &token,
        peer_url: &peer_url,
        ready: &ready,
        wal_dir: None,
        bump: None,
    };
    let told = |raised_from: Option<i64>| {
        let made = json!({"cluster_id": membership.cluster_id(), "set": "s", "revision": 9, "raised_from": raised_from});
        making.point(made.to_string().as_bytes()).unwrap()
    };

    assert_eq!(told(Some(7)), "set s up to revision 7");
    assert_eq!(told(None), "set s up to revision 9");
    assert_ne!(
        founder.found().unwrap().0.cluster_id(),
        membership.cluster_id(),
        "no two restores make one cluster"
    );
}
