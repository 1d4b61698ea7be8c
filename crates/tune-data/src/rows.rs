//! JSON Lines, one row at a time.

use std::io::BufRead;

use serde_json::{Map, Value};

use crate::DataError;

/// Longest line that is read.
const LINE_LIMIT: u64 = 64 << 20;

/// A row with its place.
#[derive(Debug, Clone)]
pub struct SourceRow {
    /// From 1.
    pub line: u64,
    /// Columns.
    pub columns: Map<String, Value>,
}

/// Calls `each` with every row of a source; blank lines are passed over.
///
/// # Errors
/// The first line that is no JSON object, with its place; or the first error of `each`.
pub fn for_each_row(source: &str, mut reader: impl BufRead, mut each: impl FnMut(SourceRow) -> Result<(), DataError>) -> Result<(), DataError> {
    let mut buffer = Vec::new();
    let mut line = 0;
    loop {
        buffer.clear();
        line += 1;
        let failed = |source_error| DataError::Read { source_name: source.to_owned(), line, source: source_error };
        let wrong = |problem: String| DataError::Row { source_name: source.to_owned(), line, problem };
        let n = std::io::Read::take(&mut reader, LINE_LIMIT).read_until(b'\n', &mut buffer).map_err(failed)?;
        if n == 0 {
            return Ok(());
        }
        if n as u64 == LINE_LIMIT {
            return Err(wrong(format!("the line is longer than {LINE_LIMIT} bytes")));
        }
        if line == 1 && buffer.starts_with(b"\xef\xbb\xbf") {
            return Err(wrong("the file begins with a byte order mark: save it as plain UTF-8".to_owned()));
        }
        let text = std::str::from_utf8(&buffer).map_err(|error| wrong(format!("byte {} is not UTF-8", error.valid_up_to() + 1)))?;
        if text.trim().is_empty() {
            continue;
        }
        let value: Value = serde_json::from_str(text).map_err(|error| wrong(format!("column {}: {}", error.column(), json_problem(&error))))?;
        match value {
            Value::Object(columns) => each(SourceRow { line, columns })?,
            _ => return Err(wrong("the line is JSON, but not an object".to_owned())),
        }
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
    pub fn text(&self, source: &str, column: &str) -> Result<&str, DataError> {
        self.columns.get(column).and_then(Value::as_str).ok_or_else(|| self.missing(source, column))
    }

    /// The error that a column is missing.
    #[must_use]
    pub fn missing(&self, source: &str, column: &str) -> DataError {
        let found: Vec<String> = self.columns.iter().map(|(name, value)| format!("`{name}` ({})", kind(value))).collect();
        DataError::Column { source_name: source.to_owned(), line: self.line, column: column.to_owned(), found: found.join(", ") }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<u64>, String> {
        let mut lines = Vec::new();
        let result = for_each_row("s", bytes, |row| {
            lines.push(row.line);
            Ok(())
        });
        result.map(|()| lines).map_err(|error| error.to_string())
    }

    #[test]
    fn rows_and_their_lines() {
        assert_eq!(read(b"{\"a\":1}\n\n {\"a\":2}").unwrap(), [1, 3]);
    }

    #[test]
    fn the_broken_line_is_named() {
        let text = "{\"a\":1}\n".repeat(3016) + "{\"a\":\n" + &"{\"a\":1}\n".repeat(5);
        assert_eq!(read(text.as_bytes()).unwrap_err(), "source `s`, line 3017: column 0: EOF while parsing a value");
        assert!(read(b"[1]\n").unwrap_err().contains("not an object"));
        assert!(read(b"{\"a\":\"\xff\"}\n").unwrap_err().contains("byte 7 is not UTF-8"));
        assert!(read(b"\xef\xbb\xbf{}\n").unwrap_err().contains("byte order mark"));
    }
}
