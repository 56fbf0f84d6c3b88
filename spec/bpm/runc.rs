//! Whether runc can run here.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

/// Whether runc can run a container on this machine at all: with a bundle of runc's own making, not of ours, so that
/// no fault of ours skips anything. Asked once: tests that ask at the same time would be in each other's way.
pub(crate) fn runc_runs() -> bool {
    static ANSWER: OnceLock<Result<(), String>> = OnceLock::new();
    let answer = ANSWER.get_or_init(try_runc);
    if let Err(why) = answer {
        skipped("containers by runc", why);
    }
    answer.is_ok()
}

fn try_runc() -> Result<(), String> {
    if !Path::new("/usr/bin/tini").exists() {
        return Err("there is no tini on this machine (apt-get install tini)".to_owned());
    }
    let directory = tempfile::Builder::new().prefix("probe-").tempdir().unwrap();
    let runc = |arguments: &[&str]| {
        let output = Command::new("runc")
            .current_dir(directory.path())
            // Debian's is in /usr/sbin, which is not on everybody's PATH.
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .args(["--root", "state"])
            .args(arguments)
            .output()
            .map_err(|error| format!("runc cannot be run: {error} (apt-get install runc)"))?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(format!("runc {arguments:?}: {told}")) }
    };
    runc(&["spec"])?;
    let file = directory.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = json!(["/bin/true"]);
    let programs = ["/bin", "/lib", "/lib64", "/usr"].into_iter().filter(|path| Path::new(path).exists());
    let binds = programs
        .map(|path| json!({"destination": path, "type": "bind", "source": path, "options": ["bind", "ro"]}));
    let proc = json!({"destination": "/proc", "type": "proc", "source": "proc"});
    config["mounts"] = std::iter::once(proc).chain(binds).collect();
    fs::create_dir(directory.path().join("rootfs")).unwrap();
    fs::write(&file, config.to_string()).unwrap();
    runc(&["run", directory.path().file_name().unwrap().to_str().unwrap()])
}

/// Says loudly what was not tried: past the harness, which keeps to itself what tests print that pass.
pub(crate) fn skipped(what: &str, why: &str) {
    let line = format!("SKIPPED: {what}: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}
