//! Typing what a page shows, and comparing what is printed with what it says is.

use std::time::Instant;

use super::machine::Machine;
use super::page::Block;

/// Types the blocks that are to be run, in their order, and demands of each what the page says of it.
pub(crate) fn type_blocks(machine: &Machine, name: &str, blocks: &[Block]) {
    for (at, block) in blocks.iter().enumerate() {
        let succeeds = match block.info.as_str() {
            "sh test" => true,
            "sh fails" => false,
            _ => continue,
        };
        let started = Instant::now();
        let outcome = machine.run(&block.text);
        let place = format!("{name}:{}", block.line);
        println!("{place}: exit code {}, {:.1} s", outcome.code, started.elapsed().as_secs_f64());
        let told =
            format!("{place}: exit code {}\n{}--- printed\n{}", outcome.code, block.text, outcome.output);

        assert_eq!(outcome.code == 0, succeeds, "{told}");
        for expected in printed(block, blocks.get(at + 1)) {
            let found = outcome.output.lines().any(|line| fits(expected, line));
            assert!(found, "{told}\n--- never printed\n{expected}");
        }
    }
}

/// The lines that the page says are printed: those of a `text` block that follows without words in between.
fn printed<'a>(typed: &Block, next: Option<&'a Block>) -> impl Iterator<Item = &'a str> {
    let block = next.filter(|block| block.info == "text" && block.line <= typed.end + 2);
    block.into_iter().flat_map(|block| block.text.lines()).map(str::trim).filter(|line| !line.is_empty())
}

/// Whether a line is what the page shows: `…` stands for anything, and margins do not count.
fn fits(shown: &str, line: &str) -> bool {
    let mut parts = shown.split('…');
    let Some(mut rest) = parts.next().and_then(|first| line.trim().strip_prefix(first.trim_end())) else {
        return false;
    };
    for part in parts {
        let Some(at) = rest.find(part.trim()) else { return false };
        rest = &rest[at + part.trim().len()..];
    }
    rest.trim().is_empty() || shown.ends_with('…')
}

#[test]
fn a_shown_line_fits_what_it_stands_for_and_nothing_else() {
    assert!(fits("Task … done", "Task 12 | 10:00:00 | done"));
    assert!(fits("error: …", "  error: something"));
    assert!(fits("a … c …", "a b c d"));
    assert!(!fits("Task … done", "Task 12 | done, not quite"));
    assert!(!fits("error: …", "no error: something"));
}
