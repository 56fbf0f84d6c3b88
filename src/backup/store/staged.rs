//! What a directory holds besides objects: an object is written beside its name, with `#` and a number behind it, and
//! gets its name when all of it is there. Whoever is killed meanwhile leaves that, as large as a database perhaps.
//! `object_store` neither lists nor removes it, so it is done here: what nobody sees would stay for ever.

use std::fs::{self, DirEntry};
use std::io::{self, ErrorKind};
use std::path::Path;

use jiff::Timestamp;

use super::Listed;

/// Folders below a prefix that may hold something: sets lie in one, and a link back to where we are must have an end.
const DEPTH: usize = 3;

/// Whether a name is that of something that is being written, or was.
pub(in crate::backup) fn is_staged(name: &str) -> bool {
    let number = name.rsplit_once('#').map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// All of that below a prefix.
pub(super) fn list(root: &Path, prefix: &str) -> io::Result<Vec<Listed>> {
    let mut found = Vec::new();
    below(root, prefix.trim_matches('/'), DEPTH, &mut found)?;
    Ok(found)
}

/// Removes one, and its folder if nothing else is there; one that is not there is removed already.
pub(super) fn delete(root: &Path, name: &str) -> io::Result<()> {
    let path = root.join(name);
    or_gone(fs::remove_file(&path))?;
    if let Some(folder) = path.parent().filter(|folder| *folder != root) {
        // Ignored: it has other files, or somebody was faster.
        let _ = fs::remove_dir(folder);
    }
    Ok(())
}

fn below(root: &Path, folder: &str, depth: usize, found: &mut Vec<Listed>) -> io::Result<()> {
    let Some(entries) = or_gone(fs::read_dir(root.join(folder)))? else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let Ok(file) = entry.file_name().into_string() else { continue };
        let name = if folder.is_empty() { file } else { format!("{folder}/{file}") };
        if is_staged(&name) {
            // It may get its name at any moment.
            found.extend(or_gone(listed(&entry, name))?);
        } else if depth > 0 && entry.path().is_dir() {
            below(root, &name, depth - 1, found)?;
        }
    }
    Ok(())
}

fn listed(entry: &DirEntry, name: String) -> io::Result<Listed> {
    let metadata = entry.metadata()?;
    let modified = Timestamp::try_from(metadata.modified()?).unwrap_or_default();
    Ok(Listed { name, bytes: metadata.len(), modified })
}

fn or_gone<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        done => done.map(Some),
    }
}
