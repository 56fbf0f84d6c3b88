//! Whether anything secret is where somebody could read it: command lines and environments of the instances' processes,
//! all the time; and in the end every file that they wrote.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use etcd_release::local::process::Home;

use super::support::fleet::Fleet;

/// Short-lived programs are there for some milliseconds.
const EVERY: Duration = Duration::from_millis(3);
/// A line of a PEM body; the last one may be too short to say anything.
const LINE: usize = 24;

/// What must be nowhere, with a name that may be printed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Secrets(Vec<(String, String)>);

impl Secrets {
    pub(crate) fn add(&mut self, name: &str, text: &str) {
        assert!(text.len() >= 16, "{name} is too short to be looked for");
        self.0.push((name.to_owned(), text.to_owned()));
    }

    /// Each line of a private key.
    pub(crate) fn add_key(&mut self, name: &str, pem: &str) {
        let lines = pem.lines().filter(|line| line.len() >= LINE && !line.starts_with("-----"));
        let before = self.0.len();
        // The first bytes of a key say what kind of key it is, and every key of that kind begins with them.
        self.0.extend(lines.skip(1).map(|line| (name.to_owned(), line.to_owned())));
        assert!(self.0.len() > before, "{name} is no key");
    }

    pub(crate) fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// The names of those that are in there.
    pub(crate) fn within(&self, bytes: &[u8]) -> BTreeSet<&str> {
        let text = String::from_utf8_lossy(bytes);
        self.0.iter().filter(|(_, secret)| text.contains(secret)).map(|(name, _)| name.as_str()).collect()
    }
}

/// Looks at processes until it is ended.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    secrets: Arc<Mutex<Secrets>>,
    thread: Option<JoinHandle<(BTreeSet<String>, BTreeSet<String>)>>,
}

impl Watch {
    pub(crate) fn begin(fleet: &Fleet, secrets: Secrets) -> Self {
        let instances = fleet.state_dir().join("deployments/etcd/instances");
        let (stop, secrets) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(secrets)));
        let (asked, known) = (Arc::clone(&stop), Arc::clone(&secrets));
        let thread = std::thread::spawn(move || {
            let (mut found, mut seen) = (BTreeSet::new(), BTreeSet::new());
            while !asked.load(Ordering::Relaxed) {
                look(&instances, &known.lock().expect("nobody panics with it"), &mut found, &mut seen);
                std::thread::sleep(EVERY);
            }
            (found, seen)
        });
        Self { stop, secrets, thread: Some(thread) }
    }

    /// From now on these are looked for, too.
    pub(crate) fn also(&self, secrets: &Secrets) {
        self.secrets.lock().expect("nobody panics with it").0.extend(secrets.0.clone());
    }

    /// What was found where, and the names of all programs that were seen.
    pub(crate) fn end(mut self) -> (BTreeSet<String>, BTreeSet<String>) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("ended once").join().expect("it does not panic")
    }
}

fn look(instances: &Path, secrets: &Secrets, found: &mut BTreeSet<String>, seen: &mut BTreeSet<String>) {
    let homes: Vec<Home> = fs::read_dir(instances)
        .into_iter()
        .flatten()
        .filter_map(|instance| Home::of(&instance.ok()?.path().join("root")))
        .collect();
    for pid in homes.iter().flat_map(|home| home.inhabitants()) {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
        for page in ["cmdline", "environ"] {
            // It may be gone already.
            let bytes = fs::read(format!("/proc/{pid}/{page}")).unwrap_or_default();
            found.extend(secrets.within(&bytes).iter().map(|secret| format!("{secret} in {page} of {name}")));
        }
        seen.insert(name);
    }
}

/// Files below `directory` that have a secret, other than those that `may` have it; and those that may, but that others
/// than their owner and group can read.
pub(crate) fn files(directory: &Path, secrets: &Secrets, may: &dyn Fn(&Path) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut left: Vec<PathBuf> = vec![directory.to_path_buf()];
    while let Some(path) = left.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            left.extend(
                fs::read_dir(&path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())),
            );
        } else if metadata.is_file() {
            let inside = secrets.within(&fs::read(&path).unwrap_or_default()).into_iter();
            let is_open = metadata.permissions().mode() & 0o007 != 0;
            for secret in inside.filter(|_| is_open || !may(&path)) {
                let mode = metadata.permissions().mode() & 0o7777;
                found.push(format!("{secret} in {} (mode {mode:o})", path.display()));
            }
        }
    }
    found
}

#[test]
fn what_is_planted_is_found() {
    let mut secrets = Secrets::default();
    secrets.add("a password", "correct horse battery");
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    secrets.add_key("a key", &key);
    let line = key.lines().nth(2).unwrap();

    assert_eq!(secrets.within(b"nothing").len(), 0);
    assert_eq!(secrets.within(b"--password=correct horse battery"), ["a password"].into());
    assert_eq!(secrets.within(format!("{{\"key\":\"...\\n{line}\\n\"}}").as_bytes()), ["a key"].into());

    let directory = tempfile::tempdir().unwrap();
    let (open, closed) = (directory.path().join("open.key"), directory.path().join("closed.key"));
    for (path, mode) in [(&open, 0o644), (&closed, 0o640)] {
        fs::write(path, &key).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let found = files(directory.path(), &secrets, &|_| true);
    assert_eq!(found, [format!("a key in {} (mode 644)", open.display())]);
    assert_eq!(files(directory.path(), &secrets, &|_| false).len(), 2);
}
