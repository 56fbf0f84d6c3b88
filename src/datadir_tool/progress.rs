//! How far long work is, on stderr.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

/// For a program a line this often is enough, and for a log not too much.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// Whom to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Listener {
    /// A bar if stderr is a terminal, else nothing
    Auto,
    /// Lines {"done": BYTES, "of": BYTES} on stderr, for a program
    Json,
    /// Nothing
    None,
}

/// Long work that is going on.
pub(crate) enum Progress {
    Bar(ProgressBar),
    Lines { last: Option<Instant> },
    Silent,
}

impl Progress {
    /// Begins; `what` is a word or two.
    pub(crate) fn begin(listener: Listener, what: &'static str) -> Self {
        match listener {
            Listener::Auto if io::stderr().is_terminal() => {
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
                bar.set_message(what);
                Self::Bar(bar)
            }
            Listener::Auto | Listener::None => Self::Silent,
            Listener::Json => Self::Lines { last: None },
        }
    }

    /// So many bytes are done, of so many.
    pub(crate) fn tell(&mut self, done: u64, of: u64) {
        match self {
            Self::Bar(bar) => {
                if bar.length() != Some(of) {
                    bar.set_length(of);
                    bar.set_style(style());
                }
                bar.set_position(done);
            }
            Self::Lines { last } => {
                let due = last.is_none_or(|last| last.elapsed() >= TELL_EVERY);
                if due || done == of {
                    *last = Some(Instant::now());
                    // Ignored: who no longer listens does not stop the work.
                    let _ = writeln!(io::stderr(), "{}", json!({"done": done, "of": of}));
                }
            }
            Self::Silent => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// Without colours: they would say nothing more.
fn style() -> ProgressStyle {
    ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
