//! The settings a real etcd knows, read from its `--help`: etcd ignores keys of its configuration file that it does
//! not know, so nothing else tells an operator of a typing error (docs/contract.md#etcd-config).

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::process::Command;

/// The names of all flags, without the dashes.
pub fn known(binary: &Path) -> io::Result<BTreeSet<String>> {
    let output = Command::new(binary).arg("--help").env_clear().output()?;
    // Up to 3.4 the text is on stderr.
    let text = [output.stdout, output.stderr].concat();
    let known = parse(&String::from_utf8_lossy(&text));
    if known.is_empty() {
        return Err(io::Error::other(format!("{} --help lists no flags", binary.display())));
    }
    Ok(known)
}

fn parse(help: &str) -> BTreeSet<String> {
    let flags = help.lines().filter_map(|line| line.trim_start().strip_prefix("--"));
    let names = flags.map(|flag| flag.split([' ', '=']).next().unwrap_or_default().trim_end_matches(','));
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_the_first_words_of_their_lines() {
        let help = "Usage:\n  etcd --config-file F\nMember:\n  --name 'default'\n    Human-readable name, see --help.\n  --wal-dir ''\n  --enable-v2=false\n";

        assert_eq!(parse(help), ["enable-v2", "name", "wal-dir"].map(str::to_owned).into());
    }
}
