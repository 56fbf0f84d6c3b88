//! How large the binaries are that a deployment installs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::figure::Figure;

/// `size_NAME`, for each binary of package etcd-tools.
pub fn measure(packages: &Path) -> Result<Vec<Figure>> {
    let directory = packages.join("etcd-tools/bin");
    let tell = || format!("list {}", directory.display());
    let mut figures = Vec::new();
    for entry in fs::read_dir(&directory).with_context(tell)? {
        let entry = entry.with_context(tell)?;
        let bytes = entry.metadata().with_context(tell)?.len();
        let name = entry.file_name().to_string_lossy().into_owned();
        figures.push((name, bytes));
    }
    figures.sort();
    #[expect(clippy::cast_precision_loss, reason = "no binary has 2^52 bytes")]
    Ok(figures
        .into_iter()
        .map(|(name, bytes)| Figure::exact(format!("size_{name}"), bytes as f64 / 1e6, "MB"))
        .collect())
}
