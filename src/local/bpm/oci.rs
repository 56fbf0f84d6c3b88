//! A container as runc reads it: the `config.json` of a bundle, with what bpm writes into it.
//! docs/local-director.md#bpm

use serde_json::{Value, json};

use super::cgroup::Limits;
use super::container::Container;
use super::mounts::{MASKED, Mount, READ_ONLY};
use super::seccomp;

/// The version of the specification that runc 1.0 and later read.
const VERSION: &str = "1.0.2";
/// What bpm mounts before all else.
const KERNEL_FILE_SYSTEMS: [(&str, &str, &str, &str); 6] = [
    ("/proc", "proc", "proc", ""),
    ("/dev", "tmpfs", "tmpfs", "nosuid noexec mode=755"),
    ("/dev/pts", "devpts", "devpts", "nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5"),
    ("/dev/shm", "tmpfs", "shm", "nosuid noexec nodev mode=1777"),
    ("/dev/mqueue", "mqueue", "mqueue", "nosuid noexec nodev"),
    ("/sys", "sysfs", "sysfs", "nosuid noexec nodev ro"),
];

/// What only runc enforces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extras<'a> {
    /// The init in front of the program: tini, as bpm has it.
    pub init: &'a str,
    /// Linux capabilities, without `CAP_`.
    pub capabilities: &'a [String],
    /// Limits of its control groups.
    pub limits: Limits,
    /// Whether memory and swap together are limited too.
    pub counts_swap: bool,
    /// Its control groups, as an absolute path below each hierarchy.
    pub groups: &'a str,
}

/// The whole `config.json`. Mounts that may be missing and are must be left out before.
pub fn config(container: &Container, extras: &Extras<'_>) -> Value {
    let mut argv = vec![extras.init, "-w", "-s", "--"];
    argv.extend(container.argv.iter().map(String::as_str));
    let env: Vec<String> = container.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let capabilities: Vec<String> = extras.capabilities.iter().map(|name| format!("CAP_{name}")).collect();
    let namespaces = ["ipc", "mount", "uts", "pid"].map(|kind| json!({"type": kind}));
    let mut linux = json!({
        "namespaces": namespaces,
        "rootfsPropagation": "private",
        "maskedPaths": MASKED,
        "readonlyPaths": READ_ONLY,
        "cgroupsPath": extras.groups,
        "resources": resources(extras),
    });
    if let Some(profile) = seccomp::profile() {
        linux["seccomp"] = profile;
    }
    json!({
        "ociVersion": VERSION,
        "root": {"path": container.rootfs},
        "process": {
            "user": {"uid": container.user.0, "gid": container.user.1},
            "args": argv,
            "env": env,
            "cwd": container.workdir,
            // The effective set follows from these.
            "capabilities": {
                "bounding": capabilities,
                "inheritable": capabilities,
                "permitted": capabilities,
                "ambient": capabilities,
            },
            "noNewPrivileges": true,
            "rlimits": rlimits(container),
        },
        "mounts": mounts(&container.mounts),
        "linux": linux,
    })
}

fn rlimits(container: &Container) -> Vec<Value> {
    [("RLIMIT_NOFILE", container.open_files), ("RLIMIT_CORE", container.core_file_size)]
        .into_iter()
        .filter_map(|(kind, limit)| limit.map(|limit| json!({"type": kind, "hard": limit, "soft": limit})))
        .collect()
}

fn resources(extras: &Extras<'_>) -> Value {
    let mut resources = json!({});
    if let Some(bytes) = extras.limits.memory_bytes {
        resources["memory"] = json!({"limit": bytes});
        if extras.counts_swap {
            resources["memory"]["swap"] = json!(bytes);
        }
    }
    if let Some(processes) = extras.limits.processes {
        resources["pids"] = json!({"limit": processes});
    }
    resources
}

fn mounts(binds: &[Mount]) -> Vec<Value> {
    let options = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let kernel = KERNEL_FILE_SYSTEMS.iter().map(|(target, kind, source, text)| {
        json!({"destination": target, "type": kind, "source": source, "options": options(text)})
    });
    let binds = binds.iter().map(|mount| {
        let options = [
            if mount.recursive { "rbind" } else { "bind" },
            if mount.executable { "exec" } else { "noexec" },
            "nosuid",
            "nodev",
            if mount.writable { "rw" } else { "ro" },
        ];
        json!({"destination": mount.target, "type": "bind", "source": mount.source, "options": options})
    });
    kernel.chain(binds).collect()
}

#[cfg(test)]
mod tests {
    use super::super::config::JobConfig;
    use super::super::mounts;
    use super::*;

    /// The snapshot was compared with what bpm itself wrote for the same `bpm.yml`; what differs is said in
    /// docs/local-director.md#bpm.
    #[test]
    fn a_bundle_is_what_bpm_would_write() {
        let yaml = "processes: [{name: etcd, executable: /x, args: [one, 'two words'], env: {A: 1}, workdir: /w, \
                    persistent_disk: true, ephemeral_disk: true, capabilities: [NET_BIND_SERVICE], \
                    additional_volumes: [{path: /var/vcap/v, writable: true, allow_executions: true}]}]";
        let process = JobConfig::parse(yaml, "etcd").unwrap().processes.remove(0);
        let container = Container {
            rootfs: "/var/vcap/data/bpm/bundles/etcd/etcd/rootfs".to_owned(),
            mounts: mounts::mounts("etcd", &process),
            argv: vec![process.executable.clone(), "one".to_owned(), "two words".to_owned()],
            env: mounts::environment("etcd", &process),
            workdir: process.workdir.clone(),
            user: (1000, 1001),
            open_files: Some(4096),
            core_file_size: Some(0),
            groups: Vec::new(),
        };
        let limits = Limits { memory_bytes: Some(1 << 30), processes: Some(100) };
        let extras = Extras {
            init: "/usr/bin/tini",
            capabilities: &process.capabilities,
            limits,
            counts_swap: true,
            groups: "/etcd-local/an-instance/bpm-etcd",
        };

        let mut config = config(&container, &extras);
        config["linux"]["seccomp"] = "(seccomp.rs)".into();

        insta::assert_snapshot!(serde_json::to_string_pretty(&config).unwrap());
    }
}
