//! Finding the real tool: the package's, or else the first on PATH that is not one of our own scripts.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::machine::Machine;
use crate::etcd::release_line::ReleaseLine;
use crate::report::{Complaint, Exit};

/// What the wrapper stands in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// Talks to the cluster.
    Etcdctl,
    /// Works on files only, so there is nothing to add.
    Etcdutl,
}

impl Tool {
    /// The tool of that name.
    pub fn named(name: &OsStr) -> Option<Self> {
        [Self::Etcdctl, Self::Etcdutl].into_iter().find(|tool| name == tool.name())
    }

    /// Its file name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcdctl => "etcdctl",
            Self::Etcdutl => "etcdutl",
        }
    }
}

/// The real tool of this release line. `path` is the user's PATH.
pub fn find(
    tool: Tool,
    line: ReleaseLine,
    package: &Path,
    path: Option<&OsStr>,
) -> Result<PathBuf, Complaint> {
    let mut directories = vec![package.to_owned()];
    directories.extend(path.into_iter().flat_map(std::env::split_paths));
    // Only fails for a directory with a colon in its name, which came out of split_paths without one.
    let searched = std::env::join_paths(&directories).unwrap_or_else(|_| package.into());
    which::WhichConfig::new_with_sys(Machine)
        .binary_name(tool.name().into())
        .system_cwd(false)
        .custom_path_list(searched)
        .all_results()
        .ok()
        .and_then(|mut candidates| candidates.find(|candidate| !is_ours(candidate)))
        .ok_or_else(|| missing(tool, line, package))
}

/// Whether a file is this program or a script it interprets: executing that would go in circles.
fn is_ours(candidate: &Path) -> bool {
    interprets(candidate, "etcdctl-wrapper") || is_this_program(candidate)
}

fn interprets(script: &Path, interpreter: &str) -> bool {
    // The kernel, too, looks no further for the interpreter.
    let mut head = [0; 256];
    let Ok(length) = File::open(script).and_then(|mut file| file.read(&mut head)) else {
        return false;
    };
    let line = head[..length].split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.starts_with(b"#!") && String::from_utf8_lossy(line).contains(interpreter)
}

fn is_this_program(candidate: &Path) -> bool {
    let (Ok(candidate), Ok(this)) = (candidate.metadata(), std::fs::metadata("/proc/self/exe")) else {
        return false;
    };
    (candidate.dev(), candidate.ino()) == (this.dev(), this.ino())
}

/// 127 is what shells say for "command not found".
fn missing(tool: Tool, line: ReleaseLine, package: &Path) -> Complaint {
    let name = tool.name();
    if (tool, line) == (Tool::Etcdutl, ReleaseLine::V3_4) {
        return Complaint {
            exit: Exit::Code(127),
            ..Complaint::failed(
                "etcd 3.4 has no etcdutl",
                "it begins with 3.5; until then etcdctl does its work",
                "etcdctl snapshot status FILE, etcdctl snapshot restore FILE, or etcd-datadir inspect",
            )
        };
    }
    Complaint {
        exit: Exit::Code(127),
        ..Complaint::failed(
            format!("{name} is neither in {} nor on PATH", package.display()),
            "this is only its wrapper, which has nothing to start",
            "deploy again, which installs package etcd; docs/etcdctl.md#exit-codes",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executable(path: &Path, content: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        crate::atomic_file::write(path, content.as_bytes(), 0o755).unwrap();
    }

    #[test]
    fn the_package_comes_before_path() {
        let root = tempfile::tempdir().unwrap();
        let (package, other) = (root.path().join("package"), root.path().join("other"));
        executable(&package.join("etcdctl"), "#!/bin/sh\n");
        executable(&other.join("etcdctl"), "#!/bin/sh\n");

        let found = find(Tool::Etcdctl, ReleaseLine::V3_6, &package, Some(other.as_os_str())).unwrap();
        assert_eq!(found, package.join("etcdctl"));

        std::fs::remove_file(package.join("etcdctl")).unwrap();
        let found = find(Tool::Etcdctl, ReleaseLine::V3_6, &package, Some(other.as_os_str())).unwrap();
        assert_eq!(found, other.join("etcdctl"));
    }

    #[test]
    fn neither_our_scripts_nor_this_program_nor_plain_files_are_the_real_tool() {
        let root = tempfile::tempdir().unwrap();
        let directory = |name: &str| root.path().join(name);
        executable(
            &directory("job").join("etcdctl"),
            "#!/var/vcap/packages/etcd-tools/bin/etcdctl-wrapper etcdctl\n",
        );
        std::fs::create_dir(directory("link")).unwrap();
        std::os::unix::fs::symlink(std::env::current_exe().unwrap(), directory("link").join("etcdctl"))
            .unwrap();
        std::fs::create_dir(directory("plain")).unwrap();
        crate::atomic_file::write(&directory("plain").join("etcdctl"), b"", 0o644).unwrap();
        executable(&directory("real").join("etcdctl"), "#!/bin/sh\n");
        let find_in = |names: &[&str]| {
            let path = std::env::join_paths(names.iter().map(|name| directory(name))).unwrap();
            find(Tool::Etcdctl, ReleaseLine::V3_6, &directory("none"), Some(&path))
        };

        assert_eq!(find_in(&["job", "link", "plain", "real"]).unwrap(), directory("real").join("etcdctl"));
        let complaint = find_in(&["job", "link", "plain"]).unwrap_err();
        assert_eq!(complaint.exit, Exit::Code(127));
        assert_eq!(find(Tool::Etcdctl, ReleaseLine::V3_6, &directory("none"), None).unwrap_err(), complaint);
    }

    #[test]
    fn a_line_without_etcdutl_says_what_does_its_work() {
        let complaint = find(Tool::Etcdutl, ReleaseLine::V3_4, Path::new("/none"), None).unwrap_err();

        assert!(complaint.what.contains("3.4 has no etcdutl") && complaint.next.contains("etcdctl snapshot"));
    }
}
