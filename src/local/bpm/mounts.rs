//! What a bpm container sees: an empty root with these mounts and nothing else. Other jobs,
//! `/var/vcap/sys/run`, `/root` and `/home` are not there, and a rename between two mounts fails, as
//! in production. docs/local-director.md#bpm

use serde::{Deserialize, Serialize};

use super::config::Process;

/// One directory or file of the machine inside the container, at the same path unless `target` says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of a mount")]
pub struct Mount {
    /// Where it is seen.
    pub target: String,
    /// What is shown.
    pub source: String,
    /// Whether it can be written.
    pub writable: bool,
    /// Whether programs in it can be executed.
    pub executable: bool,
    /// Whether it may be missing on the machine.
    pub optional: bool,
    /// Whether what is mounted below the source is shown too.
    pub recursive: bool,
}

impl Mount {
    fn of(path: &str) -> Self {
        Self {
            target: path.to_owned(),
            source: path.to_owned(),
            writable: false,
            executable: false,
            optional: false,
            recursive: false,
        }
    }

    fn writable(self) -> Self {
        Self { writable: true, ..self }
    }

    fn executable(self) -> Self {
        Self { executable: true, ..self }
    }

    fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    fn recursive(self) -> Self {
        Self { recursive: true, ..self }
    }

    fn from(self, source: &str) -> Self {
        Self { source: source.to_owned(), ..self }
    }
}

/// All bind mounts of a process' container, shallow ones first. Of two with the same target the first
/// in bpm's order wins: system, defaults, volumes.
pub fn mounts(job: &str, process: &Process) -> Vec<Mount> {
    let data = format!("/var/vcap/data/{job}");
    let tmp = format!("{data}/tmp");
    let system = ["/bin", "/lib", "/lib64", "/sbin", "/usr"];
    let resolvers = ["/run/resolvconf", "/run/systemd/resolve"];
    let mut all: Vec<Mount> = Vec::new();
    all.extend(system.map(|path| Mount::of(path).executable().optional()));
    // bpm does not look below; here the hosts file and profile.d of an instance are mounts.
    all.push(Mount::of("/etc").executable().recursive());
    all.extend(resolvers.map(|path| Mount::of(path).optional()));
    all.push(Mount::of(&format!("/var/vcap/jobs/{job}")).executable());
    all.push(Mount::of("/var/vcap/packages").executable());
    all.push(Mount::of("/var/vcap/data/packages").executable());
    all.push(Mount::of(&format!("/var/vcap/sys/log/{job}")).writable().recursive());
    all.extend(["/tmp", "/var/tmp", &tmp].map(|path| Mount::of(path).from(&tmp).writable().recursive()));
    if process.ephemeral_disk {
        all.push(Mount::of(&data).writable().recursive());
    }
    if process.persistent_disk {
        all.push(Mount::of(&format!("/var/vcap/store/{job}")).writable().recursive());
    }
    all.extend(process.additional_volumes.iter().map(|volume| Mount {
        writable: volume.writable,
        executable: volume.allow_executions,
        ..Mount::of(&volume.path).recursive()
    }));
    let mut chosen: Vec<Mount> = Vec::new();
    for mount in all {
        if !chosen.iter().any(|other| other.target == mount.target) {
            chosen.push(mount);
        }
    }
    chosen.sort_by_key(|mount| mount.target.matches('/').count());
    chosen
}

/// What is hidden in a container besides: files are empty, directories too.
pub const MASKED: [&str; 7] = [
    "/etc/sv",
    "/proc/kcore",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
];

/// What of `/proc` can be read only.
pub const READ_ONLY: [&str; 6] =
    ["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The container's environment: what `bpm.yml` says and bpm's four defaults, nothing inherited.
pub fn environment(job: &str, process: &Process) -> Vec<(String, String)> {
    let data = format!("/var/vcap/data/{job}");
    let mut env = process.env.clone();
    for (name, value) in [
        ("TMPDIR", format!("{data}/tmp")),
        ("LANG", "en_US.UTF-8".to_owned()),
        ("HOME", data),
        (
            "PATH",
            format!(
                "/var/vcap/jobs/{job}/bin:/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin:."
            ),
        ),
    ] {
        env.entry(name.to_owned()).or_insert(value);
    }
    env.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::super::config::JobConfig;
    use super::*;

    fn process(extra: &str) -> Process {
        let yaml = format!("processes:\n- name: etcd\n  executable: /x\n{extra}");
        JobConfig::parse(&yaml, "etcd").unwrap().processes.remove(0)
    }

    fn find<'a>(mounts: &'a [Mount], target: &str) -> Option<&'a Mount> {
        mounts.iter().find(|mount| mount.target == target)
    }

    #[test]
    fn only_the_jobs_own_directories_are_seen() {
        let seen = mounts("etcd", &process(""));

        let job = find(&seen, "/var/vcap/jobs/etcd").unwrap();
        assert!(job.executable && !job.writable);
        assert!(find(&seen, "/var/vcap/sys/log/etcd").unwrap().writable);
        assert_eq!(find(&seen, "/tmp").unwrap().source, "/var/vcap/data/etcd/tmp");
        for hidden in [
            "/var/vcap/jobs",
            "/var/vcap/sys/run",
            "/var/vcap/store/etcd",
            "/var/vcap/data/etcd",
            "/root",
            "/run",
        ] {
            assert!(find(&seen, hidden).is_none(), "{hidden}");
        }
    }

    #[test]
    fn disks_and_volumes_are_added_and_deeper_mounts_come_later() {
        let seen = mounts(
            "etcd",
            &process(
                "  persistent_disk: true\n  ephemeral_disk: true\n  additional_volumes:\n  \
                 - {path: /var/vcap/sys/run/etcd, writable: true}\n  - {path: /var/vcap/sys/log/etcd}\n",
            ),
        );

        let position = |target: &str| seen.iter().position(|mount| mount.target == target).unwrap();
        assert!(find(&seen, "/var/vcap/store/etcd").unwrap().writable);
        assert!(find(&seen, "/var/vcap/sys/run/etcd").unwrap().writable);
        assert!(!find(&seen, "/var/vcap/store/etcd").unwrap().executable);
        // Redeclaring a default changes nothing.
        assert!(find(&seen, "/var/vcap/sys/log/etcd").unwrap().writable);
        assert!(position("/var/vcap/data/etcd") < position("/var/vcap/data/etcd/tmp"));
    }

    #[test]
    fn the_environment_is_bpms_defaults_unless_the_job_says_otherwise() {
        let env = environment("etcd", &process("  env: {LANG: C, EXTRA: 1}\n"));

        let get =
            |name: &str| env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).unwrap();
        assert_eq!(get("LANG"), "C");
        assert_eq!(get("HOME"), "/var/vcap/data/etcd");
        assert_eq!(get("TMPDIR"), "/var/vcap/data/etcd/tmp");
        assert!(get("PATH").starts_with("/var/vcap/jobs/etcd/bin:/usr/local/bin:"));
        assert_eq!(env.len(), 5);
    }
}
