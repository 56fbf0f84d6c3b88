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
#[path = "support/mutation.rs"]
mod mutation;
#[path = "support/outcome.rs"]
mod outcome;

use mutation::{Dice, Kind};
use outcome::Outcome;

#[test]
fn explore() {
    let bases =
        ["3.4 compacted", "3.5 killed", "3.6 segments", "3.7 everything", "3.5 three-voter", "3.7 purged"];
    let next =
        std::sync::Mutex::new(bases.iter().flat_map(|&base| Kind::ALL.map(|kind| (base, kind))).enumerate());
    let sound: std::collections::HashMap<_, _> = corpus::all()
        .iter()
        .filter(|entry| bases.contains(&entry.title().as_str()))
        .map(|entry| (entry.title(), Outcome::of(entry, &entry.copy().1)))
        .collect();
    for (name, outcome) in &sound {
        println!("SOUND {name}: {outcome}");
    }
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let Some((seed, (base, kind))) = next.lock().unwrap().next() else { break };
                    let begun = std::time::Instant::now();
                    let entry = corpus::all().iter().find(|entry| entry.title() == base).unwrap();
                    let (_guard, data_dir) = entry.copy();
                    let Some(what) = kind.apply(&data_dir, &mut Dice(seed as u64)) else { continue };
                    let outcome = Outcome::of(entry, &data_dir);
                    let same = outcome == sound[base];
                    println!(
                        "SAMPLE {base} {kind:?} {what} => same={same} {outcome} ({} ms)",
                        begun.elapsed().as_millis()
                    );
                }
            });
        }
    });
}

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
