//! What etcd of every series leaves on a disk, judged and described by us, and what etcd makes of damage.

#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]
#![allow(dead_code, reason = "support is shared by several specs")]

use std::path::Path;

#[path = "support/corpus.rs"]
mod corpus;
#[path = "support/etcd.rs"]
mod etcd;
#[path = "support/facts.rs"]
mod facts;

/// `ci/corpus` puts them in the place of the committed ones.
#[test]
#[cfg(feature = "long")]
fn the_committed_directories_can_be_made_again() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("committed");
    if directory.exists() {
        std::fs::remove_dir_all(&directory).unwrap();
    }

    corpus::make_committed(&directory);

    for path in corpus::files(&directory) {
        let length = path.metadata().unwrap().len();
        assert!(length <= 150_000, "{} is too large to commit: {length} bytes", path.display());
    }
}
