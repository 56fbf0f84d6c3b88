//! Progress as the Director tells it: numbered tasks, stages, one line per event.

use std::io::{self, Write};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::Result;
use jiff::Timestamp;

/// One task and its lines. Shared by the workers of a command.
pub struct Task {
    number: u32,
    started: Timestamp,
    clock: Instant,
    lines: Mutex<Lines>,
}

struct Lines {
    out: Box<dyn Write + Send>,
    /// The step whose line is the last and still open, so that its duration can follow on it.
    open: Option<usize>,
    next_step: usize,
}

/// One step of a stage: work on one instance, for example.
pub struct Step<'a> {
    task: &'a Task,
    id: usize,
    label: String,
    title: String,
    quiet: bool,
}

impl Task {
    /// Begins a task that tells its lines on `out`.
    pub fn begin(number: u32, mut out: Box<dyn Write + Send>) -> io::Result<Self> {
        write!(out, "Task {number}\n")?;
        out.flush()?;
        Ok(Self {
            number,
            started: Timestamp::now(),
            clock: Instant::now(),
            lines: Mutex::new(Lines { out, open: None, next_step: 0 }),
        })
    }

    /// Its number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Does one step of a stage and tells when it began, how long it took and why it failed.
    pub fn step<T>(&self, stage: &str, title: &str, act: impl FnOnce(&Step<'_>) -> Result<T>) -> Result<T> {
        let id = {
            let mut lines = self.locked();
            lines.next_step += 1;
            lines.next_step
        };
        let label = format!("{stage}: {title}");
        let step = Step { task: self, id, label, title: title.to_owned(), quiet: false };
        let clock = Instant::now();
        self.line(id, &step.label);
        let outcome = act(&step);
        let took = duration(clock.elapsed().as_secs());
        let mut lines = self.locked();
        if lines.open == Some(id) {
            lines.tell(&format!(" ({took})"));
        } else {
            lines.close();
            let line = format!("Task {} | {} | {} ({took})", self.number, time_of_day(), step.label);
            lines.tell(&line);
        }
        if let Err(error) = &outcome {
            lines.tell(&format!("\n{:20}L Error: {}", "", crate::report::chain(error)));
        }
        lines.open = Some(id);
        drop(lines);
        outcome
    }

    /// Tells something that an operator should notice.
    pub fn warning(&self, text: &str) {
        self.line(0, &format!("Warning: {text}"));
    }

    /// Ends the task and tells how it went.
    pub fn finish<T>(self, outcome: &Result<T>) {
        if let Err(error) = outcome {
            self.line(0, &format!("Error: {}", crate::report::chain(error)));
        }
        let word = if outcome.is_ok() { "done" } else { "error" };
        let number = self.number;
        let date = |time: Timestamp| time.strftime("%a %b %e %H:%M:%S UTC %Y").to_string();
        let mut lines = self.locked();
        lines.close();
        let text = format!(
            "\nTask {number} Started  {}\nTask {number} Finished {}\nTask {number} Duration {}\nTask {number} {word}\n",
            date(self.started),
            date(Timestamp::now()),
            duration(self.clock.elapsed().as_secs())
        );
        lines.tell(&text);
    }

    fn line(&self, step: usize, text: &str) {
        let mut lines = self.locked();
        lines.close();
        let line = format!("Task {} | {} | {text}", self.number, time_of_day());
        lines.tell(&line);
        lines.open = Some(step);
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Step<'_> {
    /// The same step without words about what is being done, as in deletions.
    pub fn quiet(&self) -> Self {
        Self {
            task: self.task,
            id: self.id,
            label: self.label.clone(),
            title: self.title.clone(),
            quiet: true,
        }
    }

    /// Tells what is being done within this step.
    pub fn doing(&self, what: &str) {
        if self.quiet {
            return;
        }
        self.task.line(self.id, &format!("L {what}: {}", self.title));
    }

    /// Tells something that an operator should notice.
    pub fn warning(&self, text: &str) {
        self.task.warning(text);
    }
}

impl Lines {
    fn tell(&mut self, text: &str) {
        // Ignored: nobody reads any more, and the work must be finished all the same.
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }

    /// Ends the open line; right after the header this makes the empty line that stands there.
    fn close(&mut self) {
        self.open = None;
        self.tell("\n");
    }
}

fn time_of_day() -> String {
    Timestamp::now().strftime("%H:%M:%S").to_string()
}

/// `HH:MM:SS`.
fn duration(secs: u64) -> String {
    format!("{:02}:{:02}:{:02}", secs / 3600, secs / 60 % 60, secs % 60)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is on the screen, with times and dates made alike.
    fn shown(screen: &Screen) -> String {
        let text = String::from_utf8(screen.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(|line| match line.split_once(" | ") {
            Some((task, rest)) => format!("{task} | T{}", &rest[8..]),
            None if line.contains("Started") || line.contains("Finished") => line[..15].to_owned(),
            None => line.to_owned(),
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn steps_are_told_as_the_director_tells_them() {
        let screen = Screen::default();
        let task = Task::begin(42, Box::new(screen.clone())).unwrap();

        task.step("Preparing deployment", "Rendering templates", |_| Ok(())).unwrap();
        let outcome = task.step("Updating instance etcd", "etcd/6e2 (0) (canary)", |step| {
            step.doing("executing pre-stop");
            step.doing("starting jobs");
            anyhow::bail!("'etcd/6e2 (0)' is not running after update.")
        });
        task.finish::<()>(&outcome);

        assert_eq!(
            shown(&screen),
            "Task 42\n\n\
             Task 42 | T | Preparing deployment: Rendering templates (00:00:00)\n\
             Task 42 | T | Updating instance etcd: etcd/6e2 (0) (canary)\n\
             Task 42 | T | L executing pre-stop: etcd/6e2 (0) (canary)\n\
             Task 42 | T | L starting jobs: etcd/6e2 (0) (canary) (00:00:00)\n\
             \u{20}                   L Error: 'etcd/6e2 (0)' is not running after update.\n\
             Task 42 | T | Error: 'etcd/6e2 (0)' is not running after update.\n\n\
             Task 42 Started\nTask 42 Finishe\nTask 42 Duration 00:00:00\nTask 42 error"
        );
    }

    #[test]
    fn steps_at_the_same_time_get_lines_of_their_own() {
        let screen = Screen::default();
        let task = Task::begin(1, Box::new(screen.clone())).unwrap();

        task.step("Stage", "outer", |_| task.step("Stage", "inner", |_| Ok(()))).unwrap();

        assert_eq!(
            shown(&screen),
            "Task 1\n\nTask 1 | T | Stage: outer\nTask 1 | T | Stage: inner (00:00:00)\nTask 1 | T | Stage: outer (00:00:00)"
        );
    }
}
