//! A page in Markdown, as far as these specs look at it: anchors, links, paths and command blocks.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The top of the repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A page, by its path in the repository.
pub(crate) struct Page {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// A fenced block.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Line of its first fence, from 1.
    pub(crate) line: usize,
    /// Line of its last fence.
    pub(crate) end: usize,
    /// What stands behind the first fence.
    pub(crate) info: String,
    pub(crate) text: String,
}

/// What stands below a heading of the second level; the first has none, and is what stands before them.
pub(crate) struct Section {
    pub(crate) heading: String,
    pub(crate) blocks: Vec<Block>,
}

/// A word of a page with its line, from 1.
pub(crate) type Located = (usize, String);

impl Page {
    pub(crate) fn open(path: &Path) -> Self {
        let text = std::fs::read_to_string(repository().join(path))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path: path.to_owned(), text }
    }

    /// Every page of the repository: those at the top and those in `docs/`.
    pub(crate) fn all() -> Vec<Self> {
        let mut paths: Vec<PathBuf> =
            ["", "docs"].iter().flat_map(|directory| pages_in(Path::new(directory))).collect();
        paths.sort();
        paths.iter().map(|path| Self::open(path)).collect()
    }

    /// What a link to this page may name after `#`: ids, and headings as GitHub names them.
    pub(crate) fn anchors(&self) -> BTreeSet<String> {
        let mut anchors: BTreeSet<String> = self
            .text
            .split("<a id=\"")
            .skip(1)
            .filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()))
            .collect();
        for (_, line) in self.prose() {
            if let Some(heading) = line.strip_prefix('#').map(|rest| rest.trim_start_matches('#').trim()) {
                let plain = slug(heading);
                let again = (1..).map(|number| format!("{plain}-{number}"));
                let free = std::iter::once(plain.clone()).chain(again).find(|name| !anchors.contains(name));
                anchors.extend(free);
            }
        }
        anchors
    }

    /// Targets of the links.
    pub(crate) fn links(&self) -> Vec<Located> {
        let mut links = Vec::new();
        for (number, line) in self.prose() {
            let without_code = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
            for rest in without_code.split("](").skip(1) {
                if let Some((target, _)) = rest.split_once(')') {
                    links.push((number, target.to_owned()));
                }
            }
        }
        links
    }

    /// Text between backticks.
    pub(crate) fn code_spans(&self) -> Vec<Located> {
        let spans = |(number, line): (usize, &str)| -> Vec<Located> {
            line.split('`').skip(1).step_by(2).map(|span| (number, span.to_owned())).collect()
        };
        self.prose().flat_map(spans).collect()
    }

    /// Lines outside of fenced blocks.
    fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut fenced = false;
        self.text.lines().enumerate().filter_map(move |(at, line)| {
            let fence = line.trim_start().starts_with("```");
            fenced ^= fence;
            (!fenced && !fence).then_some((at + 1, line))
        })
    }

    /// The fenced blocks.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut open = false;
        for (at, line) in self.text.lines().enumerate() {
            match line.strip_prefix("```") {
                Some(_) if open => {
                    open = false;
                    blocks.last_mut().expect("an open block has been pushed").end = at + 1;
                }
                Some(info) => {
                    open = true;
                    let (info, text) = (info.trim().to_owned(), String::new());
                    blocks.push(Block { line: at + 1, end: 0, info, text });
                }
                None if open => {
                    let block = blocks.last_mut().expect("an open block has been pushed");
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                None => {}
            }
        }
        assert!(!open, "{}: a fenced block is never closed", self.path.display());
        blocks
    }

    /// The blocks by the heading they are below.
    pub(crate) fn sections(&self) -> Vec<Section> {
        let headings = self.prose().filter_map(|(line, text)| Some((line, text.strip_prefix("## ")?.trim())));
        let mut begins: Vec<(usize, &str)> = vec![(0, "")];
        begins.extend(headings);
        let mut sections: Vec<Section> = Vec::new();
        let mut blocks = self.blocks().into_iter().peekable();
        for (at, (_, heading)) in begins.iter().enumerate() {
            let end = begins.get(at + 1).map_or(usize::MAX, |(line, _)| *line);
            let own = std::iter::from_fn(|| blocks.next_if(|block| block.line < end)).collect();
            sections.push(Section { heading: (*heading).to_owned(), blocks: own });
        }
        sections
    }

    /// Cells of the tables below a heading, row by row, without heads.
    pub(crate) fn rows_below(&self, heading: &str) -> Vec<Vec<String>> {
        self.text
            .lines()
            .skip_while(|line| *line != heading)
            .skip(1)
            .take_while(|line| !line.starts_with('#'))
            .filter(|line| line.starts_with('|'))
            .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
            .collect()
    }
}

fn pages_in(directory: &Path) -> Vec<PathBuf> {
    let names = std::fs::read_dir(repository().join(directory)).expect("a directory of the repository");
    let names = names.map(|entry| entry.expect("an entry").file_name());
    names
        .map(|name| directory.join(name))
        .filter(|path| path.extension().is_some_and(|kind| kind == "md"))
        .collect()
}

/// A heading as GitHub turns it into an anchor.
fn slug(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// `docs/PAGE.md` and `docs/PAGE.md#ANCHOR` in a text that is no page: code, scripts, manifests. Pages have
/// lower-case names.
pub(crate) fn references(text: &str) -> Vec<(String, Option<String>)> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let mut found = Vec::new();
    for rest in text.split("docs/").skip(1) {
        let name: String = rest.chars().take_while(|c| word(*c) && !c.is_ascii_uppercase()).collect();
        let Some(rest) = rest[name.len()..].strip_prefix(".md").filter(|_| !name.is_empty()) else {
            continue;
        };
        let anchor =
            rest.strip_prefix('#').map(|rest| rest.chars().take_while(|c| word(*c)).collect::<String>());
        found.push((format!("docs/{name}.md"), anchor.filter(|anchor| !anchor.is_empty())));
    }
    found
}
