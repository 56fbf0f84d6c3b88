//! The launcher's records as files: which lies where, and all of them read at once.

use std::io;

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use super::attestation::Nonce;
use super::links;
use super::records::{
    BootstrapRecord, DrainMark, ExitRecord, JoinRecord, RECORD_VERSION, Records, RestoreProgress,
    RestoreRecord, RestoreRequest,
};
use crate::job::paths::Paths;
use crate::lifecycle::records::{self, DrainBegun, Record};

/// The nonce of this disk, as a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NonceFile {
    /// The nonce.
    pub nonce: Nonce,
}

macro_rules! record_file {
    ($type:ty, $file:literal) => {
        impl Record for $type {
            const FILE: &'static str = $file;
            const VERSION: u32 = RECORD_VERSION;
        }
    };
}

record_file!(NonceFile, "nonce.json");
record_file!(BootstrapRecord, "bootstrap.json");
record_file!(JoinRecord, "join.json");
record_file!(ExitRecord, "exit.json");
record_file!(RestoreRequest, "restore-request.json");
record_file!(RestoreRecord, "restored.json");
record_file!(RestoreProgress, "restore-progress.json");

/// All records of this disk; what is torn or foreign counts as absent and is logged.
pub fn read_all(paths: &Paths) -> io::Result<Records> {
    Ok(Records {
        nonce: records::read::<NonceFile>(paths)?.map(|file| file.nonce),
        bootstrap: records::read(paths)?,
        join: records::read(paths)?,
        exit: records::read(paths)?,
        restore_request: records::read(paths)?,
        restored: records::read(paths)?,
        drain: if records::read::<DrainBegun>(paths)?.is_some() {
            DrainMark::Begun
        } else {
            DrainMark::Absent
        },
        links: links::read(paths)?,
    })
}

/// A nonce from the system's random numbers.
pub fn fresh_nonce() -> io::Result<Nonce> {
    let mut random = [0; 16];
    SystemRandom::new()
        .fill(&mut random)
        .map_err(|_| io::Error::other("the system gives no random numbers"))?;
    Ok(Nonce::of(random))
}
