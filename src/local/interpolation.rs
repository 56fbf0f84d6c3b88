//! Ops files, variables and certificates through the real `bosh interpolate`, so that a manifest means
//! here what it means on a Director.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, anyhow};

use super::manifest::Manifest;
use crate::atomic_file;
use crate::report::Complaint;

/// The variables store holds private keys: its owner only.
const STORE_MODE: u32 = 0o600;

/// What a person typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// The `bosh` program.
    pub bosh: PathBuf,
    /// The base manifest.
    pub manifest: PathBuf,
    /// Ops files, in order (`-o`).
    pub ops_files: Vec<PathBuf>,
    /// Variables as typed, `name=value` (`-v`).
    pub vars: Vec<String>,
    /// Files with variables, in order (`-l`).
    pub vars_files: Vec<PathBuf>,
    /// Where generated passwords and certificates are kept (`--vars-store`).
    pub vars_store: PathBuf,
}

/// A manifest in which nothing is left to fill in.
#[derive(Debug, Clone, PartialEq)]
pub struct Interpolated {
    /// As text; it carries secrets.
    pub yaml: String,
    /// With types.
    pub manifest: Manifest,
}

/// Runs `bosh interpolate` and reads what it prints.
///
/// The variables store is the old one or the complete new one at any time: `bosh` works on a copy, since
/// it writes its file in place and a torn store would cost a deployment its certificates.
pub fn interpolate(sources: &Sources) -> Result<Interpolated> {
    let store = Store::open(&sources.vars_store)?;
    let output = run(sources, &store.copy)?;
    if !output.status.success() {
        return Err(refused(sources, &output));
    }
    let yaml = String::from_utf8(output.stdout).context("read what `bosh interpolate` printed")?;
    let manifest = Manifest::parse(&yaml)?;
    store.keep()?;
    Ok(Interpolated { yaml, manifest })
}

fn run(sources: &Sources, store: &Path) -> Result<Output> {
    let mut command = Command::new(&sources.bosh);
    command.args(["--non-interactive", "--no-color", "interpolate", "--var-errs"]);
    command.arg(&sources.manifest);
    for file in &sources.ops_files {
        command.arg("--ops-file").arg(file);
    }
    for var in &sources.vars {
        command.arg("--var").arg(var);
    }
    for file in &sources.vars_files {
        command.arg("--vars-file").arg(file);
    }
    command.arg("--vars-store").arg(store);
    command.stdin(Stdio::null()).output().map_err(|error| {
        let program = sources.bosh.display();
        if error.kind() == io::ErrorKind::NotFound {
            anyhow!(Complaint::failed(
                format!("the BOSH command line, {program}, is not there"),
                "ops files, variables and certificates are its work",
                "run ci/setup, or put `bosh` on PATH",
            ))
        } else {
            anyhow!(error).context(format!("run {program}"))
        }
    })
}

fn refused(sources: &Sources, output: &Output) -> anyhow::Error {
    let told: Vec<_> = [&output.stderr, &output.stdout]
        .into_iter()
        .map(|stream| String::from_utf8_lossy(stream).trim().to_owned())
        .filter(|text| !text.is_empty())
        .collect();
    anyhow!(Complaint::failed(
        format!("`bosh interpolate {}` failed:\n{}", sources.manifest.display(), told.join("\n")),
        "without a complete manifest nothing can be deployed; nothing was changed",
        "correct the manifest or ops file it names, or give the variables with -v or -l",
    ))
}

/// The variables store and the copy that `bosh` writes to.
struct Store {
    path: PathBuf,
    copy: PathBuf,
}

impl Store {
    fn open(path: &Path) -> Result<Self> {
        // Behind a symbolic link the file itself is replaced, not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let name = path.file_name().context("the variables store is no file name")?.to_string_lossy();
        let store = Self { copy: path.with_file_name(format!(".{name}.{}", std::process::id())), path };
        let content = match fs::read(&store.path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(store.context("read", error)),
        };
        atomic_file::write(&store.copy, &content, STORE_MODE)
            .map_err(|error| store.context("copy", error))?;
        Ok(store)
    }

    /// Makes the copy the store.
    fn keep(self) -> Result<()> {
        let replace = || {
            fs::set_permissions(&self.copy, Permissions::from_mode(STORE_MODE))?;
            File::open(&self.copy)?.sync_all()?;
            fs::rename(&self.copy, &self.path)
        };
        replace().map_err(|error| self.context("replace", error))
    }

    fn context(&self, verb: &str, error: io::Error) -> anyhow::Error {
        anyhow!(error).context(format!("{verb} the variables store {}", self.path.display()))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Ignored: after `keep` there is no copy any more, and one that stays behind after a failure is
        // readable by its owner only.
        let _ = fs::remove_file(&self.copy);
    }
}
