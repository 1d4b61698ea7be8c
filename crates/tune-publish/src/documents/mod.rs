//! The documents of a published folder, each made from [`Facts`] and [`Published`] alone.
//!
//! - [`card`]: `README.md`, the model card
//! - [`report`]: `REPORT.md`, the technical report
//! - [`provenance`]: `provenance.json`, SLSA provenance in an in-toto statement
//! - [`cyclonedx`]: `bom.cdx.json`, a CycloneDX bill of materials
//! - [`spdx`]: `model.spdx3.json`, an SPDX 3 document with the AI and dataset profiles
//! - [`croissant`]: `croissant/NAME.json` for each data source
//! - [`mof`]: `MOF.yml` for the Model Openness Tool
//! - [`eu_summary`]: `training-content.md`, the EU's public summary of training content
//! - `commands`: parts of the commands that documents tell their readers

pub mod card;
mod commands;
pub mod croissant;
pub mod cyclonedx;
pub mod eu_summary;
pub mod mof;
pub mod provenance;
pub mod report;
pub mod spdx;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tune_schema::commitment::Commitment;
use tune_schema::export::ExportRecord;
use tune_schema::text::is_obeyed;

use crate::facts::Facts;

/// Where this tool's source and the explanations of its formats are.
pub const PROJECT: &str = env!("CARGO_PKG_REPOSITORY");

/// Terms of the code that trains, evaluates and generates: this tool's.
pub const CODE_LICENCE: &str = env!("CARGO_PKG_LICENSE");

/// What of a run is published beside what always is.
#[derive(Debug, Clone)]
pub struct Published {
    /// Steps of the checkpoints, of those of the run.
    pub checkpoints: BTreeSet<u64>,
    /// The record of the export.
    pub export: Option<ExportRecord>,
}

/// Every document, by its path in the published folder.
///
/// # Panics
/// Never: the documents have a JSON form.
#[must_use]
pub fn all(facts: &Facts, published: &Published) -> BTreeMap<String, Vec<u8>> {
    let mut documents = BTreeMap::from([
        (card::FILE_NAME.to_owned(), card::card(facts, published).into_bytes()),
        (report::FILE_NAME.to_owned(), report::report(facts).into_bytes()),
        (provenance::FILE_NAME.to_owned(), json(&provenance::statement(facts))),
        (cyclonedx::FILE_NAME.to_owned(), json(&cyclonedx::bom(facts))),
        (spdx::FILE_NAME.to_owned(), json(&spdx::document(facts))),
        (mof::FILE_NAME.to_owned(), mof::document(facts, published).into_bytes()),
        (eu_summary::FILE_NAME.to_owned(), eu_summary::summary(facts).into_bytes()),
    ]);
    for source in &facts.data {
        documents.insert(croissant::path(source), json(&croissant::metadata(facts, source)));
    }
    documents
}

fn json(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

/// Whether a path in a published folder is that of a document that is made here.
#[must_use]
pub fn is_document(path: &str) -> bool {
    let named = [
        card::FILE_NAME,
        report::FILE_NAME,
        provenance::FILE_NAME,
        provenance::SIGNED_FILE_NAME,
        cyclonedx::FILE_NAME,
        spdx::FILE_NAME,
        mof::FILE_NAME,
        eu_summary::FILE_NAME,
    ];
    named.contains(&path)
        || path.strip_prefix("croissant/").is_some_and(|name| !name.contains('/') && name.ends_with(".json"))
}

/// A text in a span of code: backslashes do not escape there.
fn code(text: &str) -> String {
    let plain = |c: char| if is_obeyed(c) || c == '`' { ' ' } else { c };
    text.chars().map(plain).collect()
}

/// What a commitment is, in a sentence.
fn committed(commitment: &Commitment) -> String {
    format!(
        "The claim commits to its {} rows by the root {} and has no digest of its file.",
        commitment.rows, commitment.root
    )
}

/// A text, or what is said where none is on record.
fn or_unknown(text: Option<&str>) -> &str {
    text.unwrap_or("not on record")
}

/// A cell of a Markdown table, or a line of Markdown: nothing in it is markup of its own or breaks the line.
fn cell(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            c if is_obeyed(c) => escaped.push(' '),
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '\\' | '|' | '`' | '*' | '_' | '[' | ']' | '#' => {
                escaped.push('\\');
                escaped.push(character);
            }
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_cell_holds_no_markup() {
        assert_eq!(super::cell("a|b\n<script> [x](y)"), "a\\|b &lt;script> \\[x\\](y)");
    }
}
