//! JSON Lines, one row at a time.

use std::collections::BTreeMap;
use std::io::{BufRead, Read};

use serde_json::{Map, Value};

use crate::error::{DataError, Place, RowProblem};

/// Longest line that is read.
const LINE_LIMIT: u64 = 4 << 20;

/// A row with its place.
#[derive(Debug, Clone)]
pub struct SourceRow {
    /// Where it is.
    pub place: Place,
    /// Columns.
    pub columns: Map<String, Value>,
}

/// A line of a source, as it was read.
#[derive(Debug, Clone)]
pub struct Line {
    /// Where it is.
    pub place: Place,
    /// Its bytes, without the line's end.
    pub bytes: Vec<u8>,
}

impl Line {
    /// Its text, or nothing where the line is blank.
    ///
    /// # Errors
    /// A line that is no text.
    pub fn text(&self) -> Result<Option<&str>, DataError> {
        text(self.place.line, &self.bytes).map_err(|problem| DataError::Row { place: self.place.clone(), problem })
    }

    /// Its row, or nothing where the line is blank.
    ///
    /// # Errors
    /// A line that is no JSON object.
    pub fn row(self) -> Result<Option<SourceRow>, DataError> {
        let place = self.place;
        match parse(place.line, &self.bytes) {
            Ok(columns) => Ok(columns.map(|columns| SourceRow { place, columns })),
            Err(problem) => Err(DataError::Row { place, problem }),
        }
    }
}

/// The lines of a source, up to the first that cannot be read.
#[derive(Debug)]
pub struct Lines<R> {
    source: String,
    reader: R,
    read: u64,
    limit: u64,
}

impl<R: BufRead> Lines<R> {
    /// The lines that `reader` gives.
    #[must_use]
    pub fn new(source: &str, reader: R) -> Self {
        Self { source: source.to_owned(), reader, read: 0, limit: LINE_LIMIT }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<Line, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut bytes = Vec::new();
        self.read += 1;
        let place = Place { source: self.source.clone(), line: self.read };
        // One byte more than the limit, and two for the line's end.
        match self.reader.by_ref().take(self.limit + 3).read_until(b'\n', &mut bytes) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(source) => return Some(Err(DataError::Read { place, source })),
        }
        for end in [b'\n', b'\r'] {
            if bytes.last() == Some(&end) {
                bytes.pop();
            }
        }
        if bytes.len() as u64 > self.limit {
            return Some(Err(DataError::Row { place, problem: RowProblem::LineTooLong { limit: self.limit } }));
        }
        Some(Ok(Line { place, bytes }))
    }
}

/// The text of a line, or nothing where it is blank.
fn text(line: u64, bytes: &[u8]) -> Result<Option<&str>, RowProblem> {
    if line == 1 && bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(RowProblem::ByteOrderMark);
    }
    let text = std::str::from_utf8(bytes).map_err(|error| RowProblem::NotUtf8 { byte: error.valid_up_to() + 1 })?;
    Ok((!text.trim().is_empty()).then_some(text))
}

/// The columns of a line, or nothing where it is blank.
fn parse(line: u64, bytes: &[u8]) -> Result<Option<Map<String, Value>>, RowProblem> {
    let Some(text) = text(line, bytes)? else { return Ok(None) };
    match serde_json::from_str(text) {
        Ok(Value::Object(columns)) => Ok(Some(columns)),
        Ok(other) => Err(RowProblem::NotAnObject { found: kind(&other) }),
        Err(error) => Err(RowProblem::Json { column: error.column(), reason: json_problem(&error) }),
    }
}

/// A JSON error without the place within the line's text, which would read as a line number of the file.
fn json_problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}

impl SourceRow {
    /// The text in a column.
    ///
    /// # Errors
    /// No such column, or one that is no text.
    pub fn text(&self, column: &str) -> Result<&str, DataError> {
        self.columns.get(column).and_then(Value::as_str).ok_or_else(|| self.missing(column, "text"))
    }

    /// The text in a column that may be absent or null.
    ///
    /// # Errors
    /// A column that is there and no text.
    pub fn optional_text(&self, column: &str) -> Result<Option<&str>, DataError> {
        match self.columns.get(column) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.text(column).map(Some),
        }
    }

    /// The list in a column, of at least one entry.
    ///
    /// # Errors
    /// No such column, or one that is no such list.
    pub fn list(&self, column: &str) -> Result<&[Value], DataError> {
        let list = self.columns.get(column).and_then(Value::as_array).filter(|list| !list.is_empty());
        list.map(Vec::as_slice).ok_or_else(|| self.missing(column, "list"))
    }

    /// The error that a column is missing.
    fn missing(&self, column: &str, expected: &'static str) -> DataError {
        // Sorted, for the order of a JSON map depends on how `serde_json` was built.
        let found: BTreeMap<_, _> = self.columns.iter().map(|(name, value)| (name, kind(value))).collect();
        let found: Vec<String> = found.into_iter().map(|(name, kind)| format!("`{name}` ({kind})")).collect();
        let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
        DataError::Column { place: self.place.clone(), column: column.to_owned(), expected, found }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(list) if list.is_empty() => "an empty list",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<u64>, String> {
        let lines = Lines { limit: 32, ..Lines::new("s", bytes) };
        let rows = lines.map(|line| line?.row()).filter_map(Result::transpose);
        rows.map(|row| row.map(|row| row.place.line).map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn rows_and_their_lines() {
        assert_eq!(read(b"{\"a\":1}\r\n\n {\"a\":2}").unwrap(), [1, 3]);
        assert_eq!(read(b"").unwrap(), [0_u64; 0]);
    }

    #[test]
    fn the_broken_line_is_named() {
        let text = "{\"a\":1}\n".repeat(3016) + "{\"a\":\n" + &"{\"a\":1}\n".repeat(5);
        assert_eq!(read(text.as_bytes()).unwrap_err(), "source `s`, line 3017: column 5: EOF while parsing a value");
        assert!(read(b"[1]\n").unwrap_err().ends_with("the line is JSON, but a list, not an object"));
        assert!(read(b"{\"a\":\"\xff\"}\n").unwrap_err().ends_with("byte 7 of the line is not UTF-8"));
        assert!(read(b"\xef\xbb\xbf{}\n").unwrap_err().ends_with("line 1: the file begins with a byte order mark"));
    }

    #[test]
    fn a_line_has_a_limit() {
        let line = |n: usize| format!("{{\"a\":\"{}\"}}\r\n", "x".repeat(n - 8));
        assert_eq!(read((line(32) + &line(32)).as_bytes()).unwrap(), [1, 2]);
        assert_eq!(
            read((line(32) + &line(33)).as_bytes()).unwrap_err(),
            "source `s`, line 2: the line is longer than 32 bytes"
        );
    }

    #[test]
    fn a_column_that_is_not_there_is_named_with_those_that_are() {
        let error = |column: &str, list: bool| {
            let text = br#"{"text":null,"b":[],"a":"x"}"#;
            let row = Lines::new("s", text.as_slice()).next().unwrap().unwrap().row().unwrap().unwrap();
            let error = if list { row.list(column).err() } else { row.text(column).err() };
            error.map_or_else(String::new, |error| error.to_string())
        };
        assert_eq!(error("a", false), "");
        let columns = "it has `a` (text), `b` (an empty list), `text` (null)";
        assert_eq!(error("text", false), format!("source `s`, line 1: the row has no text column `text`; {columns}"));
        assert_eq!(error("b", true), format!("source `s`, line 1: the row has no list column `b`; {columns}"));
    }
}
