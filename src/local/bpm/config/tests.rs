//! Each line was put to bpm itself (built from its sources, August 2026), with the same outcome but for the words
//! of its YAML parser.

use super::*;

fn parse(yaml: &str) -> Result<JobConfig, String> {
    JobConfig::parse(yaml, "etcd").map_err(|error| error.to_string())
}

/// The only process of a file, with these keys besides the required ones.
fn process(keys: &str) -> Result<Process, String> {
    let file = format!("processes: [{{name: etcd, executable: /x, {keys}}}]");
    parse(&file).map(|mut config| config.processes.remove(0))
}

#[test]
fn a_full_process_is_read() {
    let process = process(
        "args: [--port, 2379, true], env: {A: 1}, workdir: /w, hooks: {pre_start: /bin/hook}, \
         capabilities: [NET_BIND_SERVICE], limits: {memory: 1G, open_files: 65536, processes: 9, core_file_size: 0}, \
         ephemeral_disk: true, persistent_disk: true, shutdown_signal: INT, \
         additional_volumes: [{path: /var/vcap/v, writable: true, allow_executions: true, mount_only: true, shared: true}], \
         unsafe: {privileged: true, host_pid_namespace: true, unrestricted_volumes: [{path: /opt/*}]}",
    )
    .unwrap();

    assert_eq!(process.args, ["--port", "2379", "true"]);
    assert_eq!(process.workdir, "/w");
    assert_eq!(process.hooks, Some(Hooks { pre_start: "/bin/hook".to_owned() }));
    assert_eq!(process.capabilities, ["NET_BIND_SERVICE"]);
    assert_eq!(
        process.limits,
        Limits {
            memory: Some("1G".to_owned()),
            open_files: Some(65536),
            processes: Some(9),
            core_file_size: Some(0)
        }
    );
    assert!(process.ephemeral_disk && process.persistent_disk);
    assert_eq!(process.shutdown_signal, "INT");
    let volume = &process.additional_volumes[0];
    assert!(volume.writable && volume.allow_executions && volume.mount_only && volume.shared);
    assert!(process.exceptions.privileged && process.exceptions.host_pid_namespace);
    assert_eq!(process.exceptions.unrestricted_volumes[0].path, "/opt/*");
}

#[test]
fn what_is_dropped_without_a_word() {
    let plain = process("").unwrap();
    for keys in [
        "bogus: 1",
        "Args: [x]",
        "arg: [x]",
        "limits: ~",
        "limits: {cpu: 2}",
        "hooks: ~",
        "unsafe: ~",
        "unsafe: {}",
        "env: ~",
        "args: ~",
        "additional_volumes: ~",
        "capabilities: ~",
        "shutdown_signal: ''",
        "persistent_disk: ~",
    ] {
        assert_eq!(process(keys).unwrap(), plain, "{keys}");
    }
    // Not even empty files and files of something else are faults; they only have no process.
    for file in ["", "processes:", "processes: []", "something: else", "~"] {
        assert_eq!(parse(file).unwrap(), JobConfig::default(), "{file}");
    }
    // Of processes with one name, and of documents, the first counts.
    let config =
        parse("processes: [{name: a, executable: /first}, {name: a, executable: /second}]\n---\nx: 1")
            .unwrap();
    assert_eq!(config.process("a").unwrap().executable, "/first");
    assert!(config.process("b").is_none());
}

#[test]
fn scalars_are_texts_as_they_are_written() {
    let written = process(
        "env: {1: 2, true: 3, B: ~, C: 1.50, D: 0x10, E: 1e3, F: 010, G: yes, H: 2020-01-01}, args: [~, 1.0, 'x']",
    )
    .unwrap();

    let text: Vec<String> = written.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(text, ["1=2", "B=", "C=1.50", "D=0x10", "E=1e3", "F=010", "G=yes", "H=2020-01-01", "true=3"]);
    assert_eq!(written.args, ["", "1.0", "x"]);
}

#[test]
fn truths_and_numbers_may_be_written_in_many_ways() {
    for truth in ["true", "True", "TRUE", "yes", "Yes", "YES", "y", "Y", "on", "On", "ON", "'yes'"] {
        assert!(process(&format!("persistent_disk: {truth}")).unwrap().persistent_disk, "{truth}");
    }
    for untruth in ["false", "no", "n", "off", "~"] {
        assert!(!process(&format!("persistent_disk: {untruth}")).unwrap().persistent_disk, "{untruth}");
    }
    for (number, meant) in [("10", 10), ("1e3", 1000), ("100.0", 100), ("100.5", 100), ("0x10", 16)] {
        let limits = process(&format!("limits: {{open_files: {number}}}")).unwrap().limits;
        assert_eq!(limits.open_files, Some(meant), "{number}");
    }
    for number in ["-1", "0"] {
        assert!(process(&format!("limits: {{processes: {number}}}")).is_ok(), "{number}");
    }
    // Any text at all: a start reads it, and fails then.
    for memory in ["512", "lots", "''", "-1M"] {
        assert!(process(&format!("limits: {{memory: {memory}}}")).is_ok(), "{memory}");
    }
}

#[test]
fn what_has_another_shape_cannot_be_parsed() {
    for keys in [
        "args: x",
        "args: [[x]]",
        "args: {a: 1}",
        "env: [A=1]",
        "env: {A: [1]}",
        "persistent_disk: 'true'",
        "persistent_disk: 1",
        "limits: 1",
        "limits: {open_files: -1}",
        "limits: {open_files: '10'}",
        "limits: {open_files: 99999999999999999999999}",
        "additional_volumes: x",
        "additional_volumes: {path: /var/vcap/x}",
        "additional_volumes: [/var/vcap/x]",
        "additional_volumes: [{path: /var/vcap/x, writable: maybe}]",
        "workdir: [x]",
        // Keys that come twice, known or not.
        "workdir: a, workdir: b",
        "env: {A: 1, A: 2}",
        "zzz: 1, zzz: 2",
    ] {
        assert!(process(keys).is_err(), "{keys}");
    }
    for file in ["processes: {}", "processes: x", "processes: [x]", "processes: [~]", "[]", "x: ["] {
        assert!(parse(file).is_err(), "{file}");
    }
    // bpm would follow it.
    assert_eq!(parse("processes: [{<<: {name: a}}]").unwrap_err(), ConfigError::MergeKey.to_string());
}

#[test]
fn faults_are_told_in_bpms_words() {
    const CONFLICT: &str = "cannot conflict with default job data or store directories";
    let volume = |path: &str| format!("additional_volumes: [{{path: '{path}'}}]");
    let canonical = |expected: &str, got: &str| {
        format!("volume path must be canonical, expected {expected} but got {got}")
    };
    let outside = |path: &str| format!("invalid volume path: {path} must be within /var/vcap");
    let signal = |name: &str| {
        format!("shutdown signal should either be 'TERM' or 'INT' (or left unspecified), but got '{name}'")
    };

    let cases = [
        (volume("/var/vcap/x/"), canonical("/var/vcap/x", "/var/vcap/x/")),
        (volume("/var/vcap//x"), canonical("/var/vcap/x", "/var/vcap//x")),
        (volume("/var/vcap/./x"), canonical("/var/vcap/x", "/var/vcap/./x")),
        (volume("/var/vcap/x/../y"), canonical("/var/vcap/y", "/var/vcap/x/../y")),
        (volume("/var/vcap/.."), canonical("/var", "/var/vcap/..")),
        (volume("/.."), canonical("/", "/..")),
        (volume(""), canonical(".", "")),
        ("additional_volumes: [{}]".to_owned(), canonical(".", "")),
        (volume("/var/vcap/data/etcd"), format!("invalid volume path: /var/vcap/data/etcd {CONFLICT}")),
        (volume("/var/vcap/store/etcd"), format!("invalid volume path: /var/vcap/store/etcd {CONFLICT}")),
        (volume("/tmp/x"), outside("/tmp/x")),
        (volume("/var/vcap"), outside("/var/vcap")),
        (volume("/var/vcapx"), outside("/var/vcapx")),
        (volume("var/vcap/x"), outside("var/vcap/x")),
        (volume("/"), outside("/")),
        (volume(".."), outside("..")),
        ("shutdown_signal: HUP".to_owned(), signal("HUP")),
        ("shutdown_signal: term".to_owned(), signal("term")),
        ("shutdown_signal: SIGTERM".to_owned(), signal("SIGTERM")),
    ];
    for (keys, told) in cases {
        assert_eq!(process(&keys).unwrap_err(), told, "{keys}");
    }
    for path in
        ["/var/vcap/data/etcd/sub", "/var/vcap/store/other", "/var/vcap/sys/log/etcd", "/var/vcap/data/*"]
    {
        assert!(process(&volume(path)).is_ok(), "{path}");
    }
    for (file, told) in [
        ("processes: [{executable: /x}]", "invalid config: name"),
        ("processes: [{name: '', executable: /x}]", "invalid config: name"),
        ("processes: [{Name: a, executable: /x}]", "invalid config: name"),
        ("processes: [{name: a}]", "invalid config: executable"),
        ("processes: [{name: a, executable: ~}]", "invalid config: executable"),
        // One bad entry spoils the whole file.
        ("processes: [{name: a, executable: /x}, {name: b}]", "invalid config: executable"),
    ] {
        assert_eq!(parse(file).unwrap_err(), told, "{file}");
    }
    // Nothing of it is judged.
    assert!(process("unsafe: {unrestricted_volumes: [{path: /opt/../x/}]}, capabilities: [BOGUS]").is_ok());
}
