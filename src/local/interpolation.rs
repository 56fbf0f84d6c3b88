//! Ops files, variables and certificates through the real `bosh interpolate`, so that a manifest means
//! here what it means on a Director.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::manifest::Manifest;

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
pub fn interpolate(sources: &Sources) -> Result<Interpolated> {
    bail!("interpolation of {} is not written yet", sources.manifest.display())
}
