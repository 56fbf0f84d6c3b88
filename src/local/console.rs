//! What a command says: text as it happens, or one JSON document at its end.

use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::report::{self, Complaint};
use crate::table::Table;

/// Where a command's words go.
#[derive(Debug, Clone)]
pub struct Console {
    json: bool,
    interactive: bool,
    said: Arc<Mutex<Said>>,
}

#[derive(Debug, Default)]
struct Said {
    tables: Vec<Value>,
    blocks: String,
    lines: Vec<String>,
    answered: bool,
}

impl Console {
    /// A console that prints for people, or collects for programs; `interactive` ones may ask.
    pub fn new(json: bool, interactive: bool) -> Self {
        Self { json, interactive, said: Arc::default() }
    }

    /// Whether words are collected for a program.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Says a line.
    pub fn line(&self, text: &str) -> Result<()> {
        if self.json {
            self.locked().lines.push(text.to_owned());
            return Ok(());
        }
        report::answer(text).context("print")
    }

    /// Says the one thing that was asked for; no last words follow.
    pub fn answer(&self, text: &str) -> Result<()> {
        self.locked().answered = true;
        self.line(text)
    }

    /// Shows a table.
    pub fn table(&self, table: &Table) -> Result<()> {
        if self.json {
            self.locked().tables.push(table.json());
            return Ok(());
        }
        report::answer(&table.human()).context("print")
    }

    /// Where the lines of a task go.
    pub fn task_output(&self) -> Box<dyn Write + Send> {
        if self.json { Box::new(Blocks(self.clone())) } else { Box::new(io::stdout()) }
    }

    /// Asks before something is deleted or interrupted.
    pub fn confirm(&self) -> Result<()> {
        if !self.interactive {
            return Ok(());
        }
        if self.json || !io::stdin().is_terminal() {
            return Err(Complaint::refused(
                "this command asks before it acts, and there is nobody to ask",
                "it stops or deletes something",
                "add -n (--non-interactive)",
            )
            .into());
        }
        eprint!("Continue? [yN]: ");
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).context("read the answer")?;
        if matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(());
        }
        Err(Complaint::failed("Stopped", "the answer was not yes", "nothing was changed").into())
    }

    /// Ends a command: the last words, or the JSON document.
    pub fn finish(&self, outcome: &Result<()>) -> Result<()> {
        match (outcome, self.json) {
            (Ok(()), false) if self.locked().answered => Ok(()),
            (Ok(()), false) => report::answer("\nSucceeded").context("print"),
            // report::exit tells the error on stderr.
            (Err(_), false) => Ok(()),
            (outcome, true) => {
                let mut said = self.locked();
                if let Err(error) = outcome {
                    said.lines.extend([report::chain(error), "Exit code 1".to_owned()]);
                } else {
                    said.lines.push("Succeeded".to_owned());
                }
                let blocks = (!said.blocks.is_empty()).then(|| vec![said.blocks.clone()]);
                report::answer_json(&json!({"Tables": said.tables, "Blocks": blocks, "Lines": said.lines}))
            }
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Task output as a block of the JSON document.
struct Blocks(Console);

impl Write for Blocks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.locked().blocks.push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
