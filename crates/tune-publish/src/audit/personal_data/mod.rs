//! Personal data in the training rows, by pattern and checksum.
//!
//! Reports how often a kind occurs and in which rows, never what was found: a report is printed, kept and published. What
//! no pattern finds, as names, is not found here either.

mod checksum;
mod patterns;

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;
use tune_data::rows::Lines;
use tune_source::{SourceKind, recorded};

use crate::PublishError;
use crate::facts::{Facts, Source};
use patterns::{Pattern, patterns};

/// Row numbers that a report keeps of a kind.
const ROWS_KEPT: usize = 1000;

/// Where rows are, and whether the network may be used.
#[derive(Debug, Clone, Default)]
pub struct ScanOptions {
    /// Where sources are, by name, in place of where the run had them.
    pub locations: BTreeMap<String, PathBuf>,
    /// How sources are found.
    pub source: tune_source::Options,
}

/// What was found in a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Scan {
    /// The source.
    pub source: String,
    /// Rows that were read; none where the source could not be had.
    pub rows: Option<u64>,
    /// Why it could not be had.
    pub problem: Option<String>,
    /// Kinds that were found.
    pub found: BTreeMap<String, Occurrences>,
}

/// How often a kind occurs, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Occurrences {
    /// How often.
    pub count: u64,
    /// In how many rows.
    pub rows: u64,
    /// The first thousand of these rows, by their line from 1.
    pub lines: Vec<u64>,
}

/// Scans the rows of every data source. A source that cannot be had, or has a row that cannot be read, is said to be.
#[must_use]
pub fn scan(facts: &Facts, options: &ScanOptions) -> Vec<Scan> {
    let patterns = patterns();
    let one = |source: &Source| {
        let mut scan = Scan { source: source.name.clone(), rows: None, problem: None, found: BTreeMap::new() };
        match scan_source(facts, source, options, &patterns, &mut scan.found) {
            Ok(rows) => scan.rows = Some(rows),
            Err(error) => scan.problem = Some(error.to_string()),
        }
        scan
    };
    facts.data.iter().map(one).collect()
}

fn scan_source(
    facts: &Facts,
    source: &Source,
    options: &ScanOptions,
    patterns: &[Pattern],
    found: &mut BTreeMap<String, Occurrences>,
) -> Result<u64, PublishError> {
    let mut rows = 0;
    for place in places(facts, source, options)? {
        let reader = BufReader::new(tune_fs::open(&place)?);
        for line in Lines::new(&source.name, reader) {
            let line = line?;
            let number = line.place.line;
            let Some(row) = line.row()? else { continue };
            rows += 1;
            for (kind, count) in in_row(&Value::Object(row.columns), patterns) {
                let occurrences = found.entry(kind.to_owned()).or_default();
                occurrences.count += count;
                occurrences.rows += 1;
                if occurrences.lines.len() < ROWS_KEPT {
                    occurrences.lines.push(number);
                }
            }
        }
    }
    Ok(rows)
}

/// The files of a source, its bytes held to the lock.
fn places(facts: &Facts, source: &Source, options: &ScanOptions) -> Result<Vec<PathBuf>, PublishError> {
    let given = options.locations.get(&source.name).cloned();
    let place = given.or_else(|| recorded::place(&facts.environment, &source.locked, &facts.folder));
    let mut options = options.source.clone();
    options.secrets = options.secrets.or_else(|| recorded::secrets(&facts.environment, &facts.folder));
    let found = tune_source::resolve_locked(&source.locked, SourceKind::Dataset, place.as_deref(), &options)?;
    Ok(found.files.into_values().collect())
}

/// How often each kind occurs in the texts of a row.
fn in_row(row: &Value, patterns: &[Pattern]) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    each_text(row, &mut |text| {
        for pattern in patterns {
            let count = pattern.count(text);
            if count > 0 {
                *counts.entry(pattern.kind).or_insert(0) += count;
            }
        }
    });
    counts
}

fn each_text(value: &Value, look: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => look(text),
        // A number column may hold a card's or a person's.
        Value::Number(number) => look(&number.to_string()),
        Value::Array(list) => list.iter().for_each(|value| each_text(value, look)),
        Value::Object(members) => members.values().for_each(|value| each_text(value, look)),
        Value::Null | Value::Bool(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nested_texts_and_numbers_are_seen_once_each() {
        let row = json!({"messages": [{"content": "a@b.co and c@d.co"}, {"content": "none"}], "n": 4_111_111_111_111_111_u64});
        let counts = in_row(&row, &patterns());
        assert_eq!(counts, BTreeMap::from([("card number", 1), ("e-mail address", 2)]));
    }
}
