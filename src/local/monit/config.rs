//! `monit` files of jobs: `check process … with pidfile … start program … stop program … group vcap`.
//!
//! Statements that only watch resources (`if totalmem > …`) are read over and reported, since nothing
//! here measures resources. docs/contract.md#monit

use std::iter::Peekable;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a start or stop program may take unless the file says otherwise.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(30);

/// Words that monit's grammar allows anywhere and ignores.
const NOISE: [&str; 11] = ["with", "within", "using", "use", "and", "has", "is", "are", "on", "only", "the"];

/// What one monit file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MonitFile {
    /// Its services, in order.
    pub services: Vec<Service>,
    /// Statements that are read over.
    pub ignored: Vec<String>,
}

/// One `check process`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name, unique in an instance.
    pub name: String,
    /// Where the pid is found.
    pub pidfile: String,
    /// How it is started.
    pub start: Program,
    /// How it is stopped.
    pub stop: Program,
    /// Its group. The agent sees only `vcap`.
    pub group: Option<String>,
}

/// A start or stop program: no shell, split at blanks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Program {
    /// Program and arguments; empty if the file names none.
    pub argv: Vec<String>,
    /// How long to wait for the effect.
    pub timeout: Duration,
}

/// Why a monit file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MonitError {
    /// Something else stood there.
    #[error("monit: expected {expected} but got '{got}'")]
    Unexpected {
        /// What the grammar wants.
        expected: &'static str,
        /// What the file has, or `end of file`.
        got: String,
    },
    /// A quote is not closed.
    #[error("monit: a quoted string is not closed")]
    OpenQuote,
}

/// Reads a monit file.
pub fn parse(text: &str) -> Result<MonitFile, MonitError> {
    let mut words = Words { rest: tokens(text)?.into_iter().peekable() };
    let mut file = MonitFile::default();
    while let Some(word) = words.next() {
        match word.as_str() {
            "check" => {
                words.expect("process", "'process' (other checks are not played by etcd-local)")?;
                file.services.push(service(&mut words, &mut file.ignored)?);
            }
            other => return Err(unexpected("'check'", Some(other))),
        }
    }
    Ok(file)
}

fn service(words: &mut Words, ignored: &mut Vec<String>) -> Result<Service, MonitError> {
    let name = words.value("a service name")?;
    words.expect("pidfile", "'pidfile' (matching by name is not played by etcd-local)")?;
    let pidfile = words.value("the path of a pidfile")?;
    let mut service =
        Service { name, pidfile, start: Program::default(), stop: Program::default(), group: None };
    while let Some(word) = words.peek() {
        match word {
            "check" => break,
            "start" => service.start = words.program()?,
            "stop" => service.stop = words.program()?,
            "group" => {
                words.next();
                service.group = Some(words.value("a group name")?);
            }
            "depends" | "if" | "mode" | "every" | "alert" | "noalert" | "restart" => {
                ignored.push(words.statement())
            }
            other => return Err(unexpected("a statement of 'check process'", Some(other))),
        }
    }
    Ok(service)
}

fn unexpected(expected: &'static str, got: Option<&str>) -> MonitError {
    MonitError::Unexpected { expected, got: got.unwrap_or("end of file").to_owned() }
}

/// The words of a file, without noise.
struct Words {
    rest: Peekable<std::vec::IntoIter<String>>,
}

impl Words {
    fn next(&mut self) -> Option<String> {
        self.peek()?;
        self.rest.next()
    }

    fn peek(&mut self) -> Option<&str> {
        while self.rest.peek().is_some_and(|word| NOISE.contains(&word.as_str())) {
            self.rest.next();
        }
        self.rest.peek().map(String::as_str)
    }

    fn expect(&mut self, word: &str, expected: &'static str) -> Result<(), MonitError> {
        match self.next() {
            Some(got) if got == word => Ok(()),
            got => Err(unexpected(expected, got.as_deref())),
        }
    }

    fn value(&mut self, expected: &'static str) -> Result<String, MonitError> {
        self.next().map(|word| unquoted(&word).to_owned()).ok_or_else(|| unexpected(expected, None))
    }

    /// `start program = "…" [as uid … and gid …] [with timeout N seconds]`.
    fn program(&mut self) -> Result<Program, MonitError> {
        self.next();
        if self.peek().is_some_and(|word| word == "program") {
            self.next();
        }
        if self.peek().is_some_and(|word| word == "=") {
            self.next();
        }
        let text = self.value("a program")?;
        let argv = text.split_whitespace().map(str::to_owned).collect();
        let mut timeout = PROGRAM_TIMEOUT;
        while let Some(word) = self.peek() {
            match word {
                "as" => {
                    self.next();
                }
                "uid" | "gid" => {
                    let got = self.next();
                    return Err(unexpected(
                        "no 'as uid' (not played by etcd-local; use bpm)",
                        got.as_deref(),
                    ));
                }
                "timeout" => {
                    self.next();
                    let number = self.value("a number of seconds")?;
                    let seconds =
                        number.parse().map_err(|_| unexpected("a number of seconds", Some(&number)))?;
                    timeout = Duration::from_secs(seconds);
                    if self.peek().is_some_and(|word| matches!(word, "seconds" | "second" | "s")) {
                        self.next();
                    }
                }
                _ => break,
            }
        }
        Ok(Program { argv, timeout })
    }

    /// Skips a statement up to the next word that begins another one.
    fn statement(&mut self) -> String {
        let mut skipped: Vec<String> = self.next().into_iter().collect();
        while let Some(word) = self.peek() {
            let inside = skipped.last().is_some_and(|last| last == "then");
            let begins = ["check", "if", "depends", "group", "mode", "every", "alert", "noalert"];
            if begins.contains(&word) || (!inside && ["start", "stop", "restart"].contains(&word)) {
                break;
            }
            skipped.extend(self.next());
        }
        skipped.join(" ")
    }
}

fn unquoted(word: &str) -> &str {
    word.strip_prefix(['"', '\'']).map_or(word, |rest| rest.strip_suffix(['"', '\'']).unwrap_or(rest))
}

/// Splits at blanks; a quoted string stays one word, with its quotes; `#` begins a comment.
fn tokens(text: &str) -> Result<Vec<String>, MonitError> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '"' | '\'' => rest[1..].find(first).ok_or(MonitError::OpenQuote)? + 2,
            '=' => 1,
            _ => rest.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(rest.len()),
        };
        if first != '#' {
            words.push(rest[..length].to_owned());
        }
        rest = rest[length..].trim_start();
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_stanza_of_a_bpm_job_is_read() {
        let file = parse(
            "# one process\ncheck process etcd\n  with pidfile /var/vcap/sys/run/bpm/etcd/etcd.pid\n  \
             start program \"/var/vcap/jobs/bpm/bin/bpm start etcd\"\n  \
             stop program = '/var/vcap/jobs/bpm/bin/bpm stop etcd' with timeout 120 seconds\n  group vcap\n",
        )
        .unwrap();

        let service = &file.services[0];
        assert_eq!(service.name, "etcd");
        assert_eq!(service.pidfile, "/var/vcap/sys/run/bpm/etcd/etcd.pid");
        assert_eq!(service.start.argv, ["/var/vcap/jobs/bpm/bin/bpm", "start", "etcd"]);
        assert_eq!(service.start.timeout, Duration::from_secs(30));
        assert_eq!(service.stop.argv, ["/var/vcap/jobs/bpm/bin/bpm", "stop", "etcd"]);
        assert_eq!(service.stop.timeout, Duration::from_secs(120));
        assert_eq!(service.group.as_deref(), Some("vcap"));
        assert!(file.ignored.is_empty());
    }

    #[test]
    fn several_services_and_resource_rules_are_read() {
        let file = parse(
            "check process a with pidfile /a\n if totalmem > 1 Gb for 5 cycles then restart\n group vcap\n\
             check process b with pidfile /b\n depends on a\n start program \"/x\"\n",
        )
        .unwrap();

        assert_eq!(file.services.iter().map(|service| service.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(file.ignored, ["if totalmem > 1 Gb for 5 cycles then restart", "depends a"]);
        assert_eq!(file.services[1].start.argv, ["/x"]);
    }

    #[test]
    fn an_empty_file_has_no_services() {
        assert_eq!(parse("\n# nothing\n").unwrap(), MonitFile::default());
    }

    #[test]
    fn faults_name_what_was_expected() {
        let cases = [
            (
                "check file x",
                "monit: expected 'process' (other checks are not played by etcd-local) but got 'file'",
            ),
            ("nonsense", "monit: expected 'check' but got 'nonsense'"),
            ("check process", "monit: expected a service name but got 'end of file'"),
            ("check process x with pidfile \"/a", "monit: a quoted string is not closed"),
            (
                "check process x with pidfile /a sing",
                "monit: expected a statement of 'check process' but got 'sing'",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text: String) {
            let _ = parse(&text);
        }

        #[test]
        fn parsing_words_of_the_grammar_never_panics(
            words in proptest::collection::vec("check|process|with|pidfile|start|stop|program|\"a b\"|timeout|if|then|=|9|é", 0..20)
        ) {
            let _ = parse(&words.join(" "));
        }
    }
}
