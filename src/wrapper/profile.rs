//! `/etc/profile.d/etcd.sh`: how login shells find the wrapper.

use anyhow::Context as _;
use serde::Serialize;
use tera::{Context, Tera};

use crate::job::paths::Paths;

const TEMPLATE: &str = include_str!("../../templates/profile.d-etcd.sh.tera");

/// What a user may have said to etcdctl by variables, and sudo would otherwise forget: the wrapper's
/// switch and etcdctl's global flags (3.6.16; older ones have fewer).
const VARIABLES: [&str; 22] = [
    "LOCAL",
    "ETCDCTL_ENDPOINTS",
    "ETCDCTL_CACERT",
    "ETCDCTL_CERT",
    "ETCDCTL_KEY",
    "ETCDCTL_USER",
    "ETCDCTL_PASSWORD",
    "ETCDCTL_WRITE_OUT",
    "ETCDCTL_HEX",
    "ETCDCTL_DEBUG",
    "ETCDCTL_DIAL_TIMEOUT",
    "ETCDCTL_COMMAND_TIMEOUT",
    "ETCDCTL_KEEPALIVE_TIME",
    "ETCDCTL_KEEPALIVE_TIMEOUT",
    "ETCDCTL_MAX_REQUEST_BYTES",
    "ETCDCTL_MAX_RECV_BYTES",
    "ETCDCTL_INSECURE_TRANSPORT",
    "ETCDCTL_INSECURE_DISCOVERY",
    "ETCDCTL_INSECURE_SKIP_TLS_VERIFY",
    "ETCDCTL_DISCOVERY_SRV",
    "ETCDCTL_DISCOVERY_SRV_NAME",
    "ETCDCTL_API",
];

#[derive(Serialize)]
struct Values {
    bin: String,
    variables: String,
}

/// The file's text. Root's shells get the job's scripts on PATH, all others two functions.
pub fn render() -> anyhow::Result<String> {
    render_for(&Paths::default())
}

fn render_for(paths: &Paths) -> anyhow::Result<String> {
    let bin = paths.job().join("bin").display().to_string();
    let values = Values { bin, variables: VARIABLES.join(",") };
    let context = Context::from_serialize(&values).context("prepare the values of profile.d/etcd.sh")?;
    Tera::one_off(TEMPLATE, &context, false).context("render profile.d/etcd.sh")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::process::Command;

    #[test]
    fn the_file_is_for_the_real_paths() {
        insta::assert_snapshot!(render().unwrap());
    }

    /// What `script` prints in a login-like shell that has read the file twice.
    fn shell(shell: &str, root: &Path, script: &str) -> String {
        let file = root.join("etcd.sh");
        crate::atomic_file::write(&file, render_for(&Paths::below(root)).unwrap().as_bytes(), 0o644).unwrap();
        let file = file.display();
        let output = Command::new(shell)
            .args(["-euc", &format!(". {file}; . {file}; {script}")])
            .env("PATH", format!("{}:/usr/bin:/bin", root.join("fake").display()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{shell}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn executable(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        crate::atomic_file::write(path, text.as_bytes(), 0o755).unwrap();
    }

    #[test]
    fn whoever_may_run_the_scripts_gets_them_on_path_once() {
        let root = tempfile::tempdir().unwrap();
        executable(&root.path().join("jobs/etcd/bin/etcdctl"), "#!/bin/sh\necho \"real $*\"\n");
        let bin = root.path().join("jobs/etcd/bin").display().to_string();

        for name in ["sh", "bash"] {
            assert_eq!(shell(name, root.path(), "etcdctl get 'a b'"), "real get a b\n");
            assert_eq!(shell(name, root.path(), "echo \"$PATH\"").matches(&bin).count(), 1, "{name}");
        }
    }

    #[test]
    fn the_others_ask_sudo_and_keep_their_variables() {
        let root = tempfile::tempdir().unwrap();
        executable(&root.path().join("fake/sudo"), "#!/bin/sh\nfor a; do echo \"<$a>\"; done\n");
        let bin = root.path().join("jobs/etcd/bin").display().to_string();

        for name in ["sh", "bash"] {
            let told = shell(name, root.path(), "etcdctl get 'a b' ''");
            let lines: Vec<&str> = told.lines().collect();
            assert!(lines[0].starts_with("<--preserve-env=LOCAL,ETCDCTL_ENDPOINTS,"), "{name}: {told}");
            assert_eq!(lines[1..], [&format!("<{bin}/etcdctl>"), "<get>", "<a b>", "<>"], "{name}");
        }
    }
}
