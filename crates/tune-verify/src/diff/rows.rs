//! The first row in which two files of a source differ.

use std::collections::BTreeSet;
use std::fmt;
use std::io::BufReader;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};
use tune_data::DataError;
use tune_data::rows::{Line, Lines};
use tune_schema::Digest;

use super::report::Run;
use super::text::{around, quoted};
use tune_schema::text::printable;

/// How the rows of two files differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RowDifference {
    /// The first row that differs, as a line of the file, from 1.
    pub row: u64,
    /// How it differs.
    pub change: Change,
    /// The first column that differs, where both lines are rows.
    pub column: Option<String>,
    /// What A has there.
    pub a: Option<String>,
    /// What B has there.
    pub b: Option<String>,
    /// Rows in A, and in B.
    pub count: [u64; 2],
}

/// How a row differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Another row in each file.
    Changed,
    /// Another row, but of all rows only the order differs.
    Reordered,
    /// A row of A that B does not have in this place.
    OnlyInA,
    /// A row of B that A does not have in this place.
    OnlyInB,
}

impl fmt::Display for RowDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.change == Change::Reordered {
            f.write_str("they are the same rows in another order; ")?;
        } else if self.count[0] != self.count[1] {
            write!(f, "A has {} rows, B {}; ", self.count[0], self.count[1])?;
        }
        write!(f, "first example that differs: row {}", self.row)?;
        let text = |text: &Option<String>| text.as_deref().map_or_else(|| "absent".to_owned(), quoted);
        let only = |f: &mut fmt::Formatter<'_>, run: Run, row: &Option<String>| {
            write!(f, " of {run}, which the other run does not have there: {}", text(row))
        };
        match self.change {
            Change::OnlyInA => return only(f, Run::A, &self.a),
            Change::OnlyInB => return only(f, Run::B, &self.b),
            Change::Changed | Change::Reordered => {}
        }
        match &self.column {
            Some(column) => write!(f, ", `{}`", printable(column))?,
            None => f.write_str(", the line")?,
        }
        write!(f, " is {} in A, {} in B", text(&self.a), text(&self.b))
    }
}

/// The first lines that differ, with those that follow them.
struct First {
    row: u64,
    lines: [Option<Vec<u8>>; 2],
    next: Option<[Option<Vec<u8>>; 2]>,
}

/// Compares two files line by line; nothing where all lines are the same. Memory holds a few lines.
///
/// # Errors
/// A file that cannot be read.
pub(super) fn compare([a, b]: [&Path; 2], name: &str) -> Result<Option<RowDifference>, DataError> {
    let open =
        |path: &Path| Ok::<_, DataError>(Lines::new(name, BufReader::with_capacity(1 << 16, tune_fs::open(path)?)));
    let (mut lines_a, mut lines_b) = (open(a)?, open(b)?);
    let mut first: Option<First> = None;
    let mut row = 0;
    let (mut count, mut sums) = ([0, 0], [0_u128, 0]);
    loop {
        let bytes = |line: Option<Line>| line.map(|line| line.bytes);
        let lines = [bytes(lines_a.next().transpose()?), bytes(lines_b.next().transpose()?)];
        row += 1;
        for (side, line) in lines.iter().enumerate() {
            if let Some(line) = line {
                count[side] += 1;
                sums[side] = sums[side].wrapping_add(number(line));
            }
        }
        if lines == [None, None] {
            break;
        }
        match &mut first {
            Some(first) => {
                first.next.get_or_insert(lines);
            }
            None if lines[0] != lines[1] => first = Some(First { row, lines, next: None }),
            None => {}
        }
    }
    let reordered = count[0] == count[1] && sums[0] == sums[1];
    Ok(first.map(|first| describe(first, count, reordered)))
}

/// A line as a number: two files with the same sum have the same lines, in whatever order.
fn number(line: &[u8]) -> u128 {
    let digest = Digest::of(line);
    digest.as_bytes()[..16].iter().fold(0, |number, byte| number << 8 | u128::from(*byte))
}

fn describe(first: First, count: [u64; 2], reordered: bool) -> RowDifference {
    let First { row, lines: [a, b], next } = first;
    let [next_a, next_b] = next.unwrap_or_default();
    let change = if reordered {
        Change::Reordered
    } else if b.is_none() || (next_a.is_some() && next_a == b && next_b != a) {
        Change::OnlyInA
    } else if a.is_none() || (next_b.is_some() && next_b == a && next_a != b) {
        Change::OnlyInB
    } else {
        Change::Changed
    };
    let columns = |line: &Option<Vec<u8>>| {
        line.as_deref().and_then(|line| serde_json::from_slice::<Map<String, Value>>(line).ok())
    };
    let text = |line: Option<Vec<u8>>| line.map(|line| String::from_utf8_lossy(&line).into_owned());
    let (column, a, b) = match (change, columns(&a), columns(&b)) {
        (Change::Changed | Change::Reordered, Some(columns_a), Some(columns_b)) => {
            let names: BTreeSet<&String> = columns_a.keys().chain(columns_b.keys()).collect();
            let differing = names.into_iter().find(|name| columns_a.get(*name) != columns_b.get(*name));
            match differing {
                Some(name) => (Some(name.clone()), columns_a.get(name).map(plain), columns_b.get(name).map(plain)),
                // Written otherwise, and read as the same row.
                None => (None, text(a), text(b)),
            }
        }
        _ => (None, text(a), text(b)),
    };
    let (a, b) = match (a, b) {
        (Some(a), Some(b)) => {
            let [a, b] = around(&a, &b);
            (Some(a), Some(b))
        }
        (a, b) => {
            let short = |text: Option<String>| text.map(|text| around(&text, "")[0].clone());
            (short(a), short(b))
        }
    };
    RowDifference { row, change, column, a, b, count }
}

/// A column's text, or its JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(a: &str, b: &str) -> Option<RowDifference> {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = [("a", a), ("b", b)].map(|(name, text)| {
            let path = folder.path().join(name);
            tune_fs::write_atomic(&path, text.as_bytes()).unwrap();
            path
        });
        compare([&a, &b], "rows").unwrap()
    }

    #[test]
    fn the_kinds_of_changes() {
        let rows = "{\"p\":\"1\"}\n{\"p\":\"2\"}\n{\"p\":\"3\"}\n";
        assert_eq!(found(rows, rows.trim_end()), None);
        let kind = |text: &str| found(rows, text).map(|found| (found.row, found.change));
        assert_eq!(kind(&rows.replace('2', "5")), Some((2, Change::Changed)));
        assert_eq!(kind("{\"p\":\"1\"}\n{\"p\":\"3\"}\n"), Some((2, Change::OnlyInA)));
        assert_eq!(kind("{\"p\":\"0\"}\n{\"p\":\"1\"}\n{\"p\":\"2\"}\n{\"p\":\"3\"}\n"), Some((1, Change::OnlyInB)));
        assert_eq!(kind("{\"p\":\"1\"}\n{\"p\":\"3\"}\n{\"p\":\"2\"}\n"), Some((2, Change::Reordered)));
        assert_eq!(kind("{\"p\":\"1\"}\n"), Some((2, Change::OnlyInA)));
        assert_eq!(kind(""), Some((1, Change::OnlyInA)));
    }

    #[test]
    fn the_column_is_named() {
        let column = found("{\"a\":\"x\",\"b\":\"one\"}\n", "{\"b\":\"two\",\"a\":\"x\"}\n").unwrap();
        assert_eq!(column.to_string(), "first example that differs: row 1, `b` is \"one\" in A, \"two\" in B");
        let spaced = found("{\"a\":1}\n", "{\"a\": 1}\n").unwrap();
        assert!(spaced.to_string().contains("row 1, the line is"), "{spaced}");
    }
}
