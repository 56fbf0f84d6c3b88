//! Tables as the `bosh` command line prints them, for people and as JSON.

use std::fmt::Write;

use serde_json::{Map, Value, json};

/// A table with a title, a header and rows of texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Line above it; may be empty.
    pub title: String,
    /// What the rows are, in the plural: `instances`.
    pub content: &'static str,
    /// Names of the columns.
    pub header: Vec<&'static str>,
    /// Rows; each as long as the header.
    pub rows: Vec<Vec<String>>,
    /// How many things are counted in the footer, if not the rows.
    pub count: Option<usize>,
}

impl Table {
    /// For a terminal: two blanks between columns, a repeated first cell as `~`, the count below.
    pub fn human(&self) -> String {
        let mut rows: Vec<Vec<&str>> = vec![self.header.clone()];
        let mut last = "";
        for row in &self.rows {
            let mut cells: Vec<&str> =
                row.iter().map(|cell| if cell.is_empty() { "-" } else { cell.as_str() }).collect();
            if let Some(first) = cells.first_mut() {
                let repeated = *first == last;
                last = first;
                if repeated {
                    *first = "~";
                }
            }
            rows.push(cells);
        }
        let widths: Vec<usize> = (0..self.header.len())
            .map(|column| {
                rows.iter().flat_map(|row| row[column].lines()).map(str::len).max().unwrap_or_default()
            })
            .collect();
        let mut text = String::new();
        if !self.title.is_empty() {
            text = format!("{}\n\n", self.title);
        }
        for row in &rows {
            let height = row.iter().map(|cell| cell.lines().count()).max().unwrap_or_default();
            for line in 0..height {
                for (cell, width) in row.iter().zip(&widths) {
                    let part = cell.lines().nth(line).unwrap_or_default();
                    write!(text, "{part:width$}  ").expect("writing to a String cannot fail");
                }
                text.push('\n');
            }
        }
        let count = self.count.unwrap_or(self.rows.len());
        write!(text, "\n{count} {}\n", self.content).expect("writing to a String cannot fail");
        text
    }

    /// One element of `Tables` in the JSON of `bosh --json`.
    pub fn json(&self) -> Value {
        let keys: Vec<String> = self.header.iter().map(|title| key(title)).collect();
        let object = |cells: Vec<&str>| -> Value {
            let pairs = keys.iter().cloned().zip(cells.into_iter().map(Value::from));
            Value::Object(pairs.collect::<Map<_, _>>())
        };
        json!({
            "Content": self.content,
            "Header": object(self.header.clone()),
            "Rows": self.rows.iter().map(|row| object(row.iter().map(String::as_str).collect())).collect::<Vec<_>>(),
            "Notes": null,
        })
    }
}

/// The key of a column in JSON: lower-case, everything that is no letter or digit as one `_`.
fn key(title: &str) -> String {
    let words = title.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        Table {
            title: "Deployment 'etcd'".to_owned(),
            content: "instances",
            header: vec!["Instance", "Process State", "Load\n(1m, 5m, 15m)"],
            rows: vec![
                row(["etcd/1", "running", "x"]),
                row(["etcd/1", "failing", ""]),
                row(["b", "running", "y"]),
            ],
            count: Some(2),
        }
    }

    #[test]
    fn people_get_columns() {
        let lines: Vec<String> = table().human().lines().map(|line| line.trim_end().to_owned()).collect();

        assert_eq!(
            lines,
            [
                "Deployment 'etcd'",
                "",
                "Instance  Process State  Load",
                "                         (1m, 5m, 15m)",
                "etcd/1    running        x",
                "~         failing        -",
                "b         running        y",
                "",
                "2 instances"
            ]
        );
    }

    #[test]
    fn programs_get_the_keys_of_bosh() {
        let json = table().json();

        assert_eq!(json["Header"]["process_state"], "Process State");
        assert_eq!(json["Rows"][0]["load_1m_5m_15m"], "x");
        assert_eq!(json["Rows"][1]["instance"], "etcd/1");
        assert_eq!(json["Content"], "instances");
    }
}
