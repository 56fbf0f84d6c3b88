//! What requests to the store cost, and how many failed.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What is asked of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// A small object, or a part of a large one.
    Write,
    /// To the first byte of an object.
    Read,
    /// A list of names, all of it.
    List,
    /// Removing an object.
    Remove,
}

impl Act {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Write, Self::Read, Self::List, Self::Remove];

    /// As metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::List => "list",
            Self::Remove => "remove",
        }
    }
}

/// Counted since the store was opened.
#[derive(Debug, Default)]
pub struct Meter {
    acts: [Counted; Act::ALL.len()],
    uploaded_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Counted {
    requests: AtomicU64,
    failures: AtomicU64,
    nanoseconds: AtomicU64,
}

/// What was counted of one act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// How many requests have ended.
    pub requests: u64,
    /// How many of them in vain. That an object is not there, or is there already, is an answer.
    pub failures: u64,
    /// How long all of them took.
    pub took: Duration,
}

impl Meter {
    /// Of one act.
    pub fn figures(&self, act: Act) -> Figures {
        let counted = &self.acts[act as usize];
        Figures {
            requests: counted.requests.load(Relaxed),
            failures: counted.failures.load(Relaxed),
            took: Duration::from_nanos(counted.nanoseconds.load(Relaxed)),
        }
    }

    /// How much went to the store.
    pub fn uploaded_bytes(&self) -> u64 {
        self.uploaded_bytes.load(Relaxed)
    }

    pub(super) fn uploaded(&self, bytes: usize) {
        self.uploaded_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Times a request; one that is given up does not count.
    pub(super) async fn timed<T>(
        &self,
        act: Act,
        request: impl Future<Output = Result<T, object_store::Error>>,
    ) -> Result<T, object_store::Error> {
        use object_store::Error::{AlreadyExists, NotFound};
        let begun = Instant::now();
        let answer = request.await;
        let counted = &self.acts[act as usize];
        counted.requests.fetch_add(1, Relaxed);
        counted.nanoseconds.fetch_add(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX), Relaxed);
        if !matches!(answer, Ok(_) | Err(NotFound { .. } | AlreadyExists { .. })) {
            counted.failures.fetch_add(1, Relaxed);
        }
        answer
    }
}
