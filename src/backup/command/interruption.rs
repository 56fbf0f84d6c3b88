//! Work that a person or BOSH may end at any time: what it keeps only for itself is gone then.

use std::io::Write;

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

use crate::report::Exit;

/// Runs work until it has ended, or SIGINT or SIGTERM ends it. What the work holds is dropped in both cases; a thread
/// that it waits for goes on, and ends with the process.
pub(super) fn block_on(work: impl Future<Output = Result<Exit>>) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended: Result<Ended> = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            done = work => Ok(Ended::Itself(done)),
            _ = interrupt.recv() => Ok(Ended::By("SIGINT", 130)),
            _ = terminate.recv() => Ok(Ended::By("SIGTERM", 143)),
        }
    });
    match ended? {
        Ended::Itself(done) => done,
        Ended::By(signal, code) => {
            // Never shut down: a thread that still asks it for something would panic about that on the way out.
            std::mem::forget(runtime);
            Ok(ended_by(signal, code))
        }
    }
}

enum Ended {
    Itself(Result<Exit>),
    By(&'static str, u8),
}

/// As shells tell it: 128 and the number of the signal.
fn ended_by(signal: &str, code: u8) -> Exit {
    // Ignored: whoever sent the signal may have closed the terminal.
    let _ = writeln!(
        std::io::stderr(),
        "ended by {signal}: what was begun is not finished, and temporary files are removed"
    );
    Exit::Code(code)
}
