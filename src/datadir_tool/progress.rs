//! How far long work is, on stderr.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

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

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Bytes.
    Bytes,
    /// Keys: where nobody knows beforehand how large they are.
    Keys,
}

/// Long work that is going on.
pub(crate) enum Progress {
    Bar(ProgressBar, Unit),
    Lines { last: Option<Instant>, unit: Unit },
    Silent,
}

impl Progress {
    /// Begins; `what` is a word or two.
    pub(crate) fn begin(listener: Listener, what: &'static str) -> Self {
        Self::counting(listener, what, Unit::Bytes)
    }

    /// Begins work that is counted in something else.
    pub(crate) fn counting(listener: Listener, what: &'static str, unit: Unit) -> Self {
        match listener {
            Listener::Auto if io::stderr().is_terminal() => {
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
                bar.set_message(what);
                Self::Bar(bar, unit)
            }
            Listener::Auto | Listener::None => Self::Silent,
            Listener::Json => Self::Lines { last: None, unit },
        }
    }

    /// So much is done, of so much.
    pub(crate) fn tell(&mut self, done: u64, of: u64) {
        match self {
            Self::Bar(bar, unit) => {
                if bar.length() != Some(of) {
                    bar.set_length(of);
                    bar.set_style(style(*unit));
                }
                bar.set_position(done);
            }
            Self::Lines { last, unit } => {
                let due = last.is_none_or(|last| last.elapsed() >= TELL_EVERY);
                if due || done == of {
                    *last = Some(Instant::now());
                    // Ignored: who no longer listens does not stop the work.
                    let _ = writeln!(io::stderr(), "{}", line(done, of, *unit));
                }
            }
            Self::Silent => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Self::Bar(bar, _) = self {
            bar.finish_and_clear();
        }
    }
}

fn line(done: u64, of: u64, unit: Unit) -> Value {
    match unit {
        Unit::Bytes => json!({"done": done, "of": of}),
        Unit::Keys => json!({"done": done, "of": of, "unit": "keys"}),
    }
}

/// How far, how fast, and for how much longer. Without colours: they would say nothing more.
fn style(unit: Unit) -> ProgressStyle {
    let template = match unit {
        Unit::Bytes => "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        Unit::Keys => "{msg} {bar:30} {human_pos}/{human_len} keys {per_sec} {eta}",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use indicatif::TermLike;

    use super::*;

    /// A terminal that remembers what was written last.
    #[derive(Debug, Clone, Default)]
    struct Terminal(Arc<Mutex<String>>);

    impl TermLike for Terminal {
        fn width(&self) -> u16 {
            120
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            self.0.lock().unwrap().clear();
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Every command has the same bar: what it says is looked at here, once.
    #[test]
    fn a_bar_tells_how_fast_and_for_how_much_longer() {
        for (unit, wanted) in
            [(Unit::Bytes, ["512 B/1.00 KiB", "B/s"]), (Unit::Keys, ["512/1,024 keys", "/s"])]
        {
            let terminal = Terminal::default();
            let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
            let mut progress = Progress::Bar(ProgressBar::with_draw_target(None, target), unit);
            progress.tell(512, 1024);
            if let Progress::Bar(bar, _) = &progress {
                bar.tick();
            }
            let told = terminal.0.lock().unwrap().clone();

            assert!(wanted.iter().all(|part| told.contains(part)), "{told}");
            // The time left, at the end.
            let last = told.split_whitespace().last().unwrap();
            assert!(last.ends_with(['s', 'm', 'h']) && !last.contains('/'), "{told}");
        }
    }

    #[test]
    fn a_program_is_told_what_is_counted_unless_it_is_bytes() {
        assert_eq!(line(1, 2, Unit::Bytes).to_string(), r#"{"done":1,"of":2}"#);
        assert_eq!(line(1, 2, Unit::Keys).to_string(), r#"{"done":1,"of":2,"unit":"keys"}"#);
    }
}
