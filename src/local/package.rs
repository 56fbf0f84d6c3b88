//! Packages: what `ci/` built lies in one directory each; instances get them under a fingerprint of
//! their content, as BOSH gives them under that of the compiled package.
//!
//! Each is copied once into the state directory and hard-linked from there: a build that rewrites its
//! output in place must not change what runs.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ring::digest;

use super::layout::{InstanceDir, StateDir};
use crate::report::Complaint;

/// Package names and the fingerprints of their content.
pub type Fingerprints = BTreeMap<String, String>;

/// Copies the packages of these names from `built` into the state directory and tells their fingerprints.
pub fn collect<'a>(
    state: &StateDir,
    built: &Path,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<Fingerprints> {
    names
        .into_iter()
        .map(|name| {
            let source = built.join(name);
            if !source.is_dir() {
                return Err(Complaint::failed(
                    format!("package '{name}' is not built: there is no directory {}", source.display()),
                    "a job of the manifest needs it",
                    "build the packages (ci/try does), or say where they are with --packages DIR",
                )
                .into());
            }
            let fingerprint = fingerprint(&source)
                .with_context(|| format!("read package '{name}' in {}", source.display()))?;
            let kept = state.packages().join(name).join(&fingerprint);
            if !kept.exists() {
                place(&source, &kept, How::Copy).with_context(|| format!("copy package '{name}'"))?;
            }
            Ok((name.to_owned(), fingerprint))
        })
        .collect()
}

/// Gives an instance exactly these packages.
pub fn install(state: &StateDir, instance: &InstanceDir, packages: &Fingerprints) -> Result<()> {
    let links = instance.root().join("packages");
    for (name, fingerprint) in packages {
        let tell = || format!("install package '{name}'");
        let target = instance.root().join("data/packages").join(name).join(fingerprint);
        if !target.exists() {
            place(&state.packages().join(name).join(fingerprint), &target, How::Link).with_context(tell)?;
        }
        link(Path::new("../data/packages").join(name).join(fingerprint).as_path(), &links.join(name))
            .with_context(tell)?;
    }
    for entry in fs::read_dir(&links).context("list installed packages")? {
        let entry = entry.context("list installed packages")?;
        if !packages.contains_key(entry.file_name().to_string_lossy().as_ref()) {
            fs::remove_file(entry.path()).context("take a package away")?;
        }
    }
    Ok(())
}

/// Points the symlink at `path` to `target`, atomically.
pub fn link(target: &Path, path: &Path) -> Result<()> {
    let temporary = path.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    symlink(target, &temporary).with_context(|| format!("link {}", temporary.display()))?;
    fs::rename(&temporary, path).with_context(|| format!("link {}", path.display()))
}

/// SHA-256 over names, executable bits and content.
fn fingerprint(directory: &Path) -> Result<String> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 1 << 20];
    for (relative, path) in walk(directory)? {
        let metadata = fs::symlink_metadata(&path)?;
        context.update(relative.to_string_lossy().as_bytes());
        if metadata.is_symlink() {
            context.update(b"\0link\0");
            context.update(fs::read_link(&path)?.to_string_lossy().as_bytes());
        } else {
            context.update(if metadata.permissions().mode() & 0o111 == 0 {
                b"\0file\0"
            } else {
                b"\0prog\0"
            });
            context.update(&metadata.len().to_be_bytes());
            let mut file = fs::File::open(&path).with_context(|| format!("open {}", path.display()))?;
            loop {
                match file.read(&mut buffer)? {
                    0 => break,
                    count => context.update(&buffer[..count]),
                }
            }
        }
    }
    let hash = context.finish();
    Ok(hash.as_ref()[..20].iter().map(|byte| format!("{byte:02x}")).collect())
}

/// All files below a directory, relative and absolute, sorted.
fn walk(directory: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let mut found = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(&next).with_context(|| format!("list {}", next.display()))? {
            let path = entry.with_context(|| format!("list {}", next.display()))?.path();
            if fs::symlink_metadata(&path)?.is_dir() {
                pending.push(path);
            } else {
                let relative = path.strip_prefix(directory).expect("found below it").to_owned();
                found.push((relative, path));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// How a file gets to another place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// Its content is copied.
    Copy,
    /// It is the same file, if the file system allows: only for what is never written again.
    Link,
}

/// Makes `target` the same as `source`, complete or not there: built beside it and renamed.
fn place(source: &Path, target: &Path, how: How) -> Result<()> {
    let beside = target.with_extension("partial");
    if beside.exists() {
        fs::remove_dir_all(&beside).context("remove an unfinished copy")?;
    }
    fs::create_dir_all(&beside).with_context(|| format!("make {}", beside.display()))?;
    for (relative, path) in walk(source)? {
        let file = beside.join(&relative);
        let parent = file.parent().expect("it lies below a directory");
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        let metadata = fs::symlink_metadata(&path)?;
        if metadata.is_symlink() {
            symlink(fs::read_link(&path)?, &file)?;
        } else if how == How::Copy || fs::hard_link(&path, &file).is_err() {
            fs::copy(&path, &file).with_context(|| format!("copy {}", path.display()))?;
            let mode = if metadata.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
            fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
        }
    }
    fs::rename(&beside, target).with_context(|| format!("name {}", target.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_changes_with_name_content_and_executable_bit_only() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("bin/tool");
        fs::create_dir(directory.path().join("bin")).unwrap();
        fs::write(&file, "one").unwrap();
        let first = fingerprint(directory.path()).unwrap();

        fs::write(&file, "one").unwrap();
        assert_eq!(fingerprint(directory.path()).unwrap(), first);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        let executable = fingerprint(directory.path()).unwrap();
        assert_ne!(executable, first);
        fs::write(&file, "two").unwrap();
        assert_ne!(fingerprint(directory.path()).unwrap(), executable);
    }

    #[test]
    fn an_instance_has_exactly_the_packages_it_was_given() {
        let directory = tempfile::tempdir().unwrap();
        let (state, built) = (StateDir::at(directory.path().join("state")), directory.path().join("built"));
        let instance = InstanceDir::at(directory.path().join("instance"));
        fs::create_dir_all(instance.root().join("packages")).unwrap();
        for name in ["a", "b"] {
            fs::create_dir_all(built.join(name).join("bin")).unwrap();
            fs::write(built.join(name).join("bin/tool"), name).unwrap();
        }

        let both = collect(&state, &built, ["a", "b"]).unwrap();
        install(&state, &instance, &both).unwrap();
        fs::write(built.join("a/bin/tool"), "rewritten in place").unwrap();
        assert_eq!(fs::read_to_string(instance.root().join("packages/a/bin/tool")).unwrap(), "a");

        let one = collect(&state, &built, ["a"]).unwrap();
        install(&state, &instance, &one).unwrap();
        assert_eq!(
            fs::read_to_string(instance.root().join("packages/a/bin/tool")).unwrap(),
            "rewritten in place"
        );
        assert!(!instance.root().join("packages/b").exists());
        assert!(collect(&state, &built, ["c"]).unwrap_err().to_string().contains("package 'c' is not built"));
    }
}
