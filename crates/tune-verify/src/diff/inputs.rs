//! What went in beside the recipe: base model, sources, seeds, as `inputs.json` names them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use tune_schema::Digest;
use tune_schema::lock::{LockedFile, LockedSource};
use tune_schema::manifest::ClaimInputs;
use tune_schema::text::printable;
use tune_source::SourceKind;

use super::DiffOptions;
use super::report::{Bearing, Difference, Part, Run, Values, What};
use super::rows::{self, RowDifference};
use super::side::Side;

/// The inputs of both runs.
///
/// # Errors
/// A file that cannot be read.
pub(super) fn read([a, b]: [&Side; 2]) -> Result<[ClaimInputs; 2], String> {
    Ok([a.json("inputs.json")?, b.json("inputs.json")?])
}

/// Files, tensors, tokenizer and template of the base model.
pub(super) fn base_model(a: &ClaimInputs, b: &ClaimInputs) -> Vec<Difference> {
    let (base_a, base_b) = (&a.base_model, &b.base_model);
    let mut found = Vec::new();
    let mut add = |bearing: Bearing, values: Option<Values>| {
        found.extend(values.map(|values| Difference::of_values(Part::BaseModel, bearing, values)));
    };
    add(Bearing::Label, Values::differing("the name of the base model", Some(&base_a.name), Some(&base_b.name)));
    // A file of weights in which only the header's order is another one has the same tensors.
    let same_tensors = base_a.tensor_root == base_b.tensor_root;
    let file = |name: &str, a: Option<&LockedFile>, b: Option<&LockedFile>| {
        let digest = |file: Option<&LockedFile>| file.map(|file| file.sha256);
        let holds_tensors = name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
        let bearing = if holds_tensors && same_tensors { Bearing::Label } else { Bearing::Training };
        (bearing, Values::differing(&format!("`{name}` of the base model"), digest(a), digest(b)))
    };
    if let ([a], [b]) = (base_a.files.as_slice(), base_b.files.as_slice()) {
        // A single file goes by the model's name, which is compared already.
        let (bearing, values) = file(&a.path, Some(a), Some(b));
        add(bearing, values);
    } else {
        let by_path = |files: &'_ [LockedFile]| -> BTreeMap<String, LockedFile> {
            files.iter().map(|file| (file.path.clone(), file.clone())).collect()
        };
        let (files_a, files_b) = (by_path(&base_a.files), by_path(&base_b.files));
        let paths: BTreeSet<&String> = files_a.keys().chain(files_b.keys()).collect();
        for path in paths {
            let (bearing, values) = file(path, files_a.get(path), files_b.get(path));
            add(bearing, values);
        }
    }
    let training = [
        Values::differing("the tensor root of the base model", base_a.tensor_root, base_b.tensor_root),
        Values::differing("the tokenizer of the base model", Some(a.tokenizer), Some(b.tokenizer)),
        Values::differing("the chat template", a.chat_template, b.chat_template),
    ];
    training.into_iter().for_each(|values| add(Bearing::Training, values));
    found
}

/// Seeds, modules with an adapter, and overrides, which change nothing once the recipe is resolved.
pub(super) fn seeds(a: &ClaimInputs, b: &ClaimInputs) -> Vec<Difference> {
    let mut found = Vec::new();
    for (about, bearing, a, b) in [
        ("the seed of", Bearing::Training, &a.seeds, &b.seeds),
        ("the override of", Bearing::Label, &a.overrides, &b.overrides),
    ] {
        let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        let values = names
            .into_iter()
            .filter_map(|name| Values::differing(&format!("{about} `{name}`"), a.get(name), b.get(name)));
        found.extend(values.map(|values| Difference::of_values(Part::Seeds, bearing, values)));
    }
    let modules = |inputs: &ClaimInputs| Some(inputs.adapted_modules.join(", "));
    let modules = Values::differing("the list of adapted modules", modules(a), modules(b));
    found.extend(modules.map(|values| Difference::of_values(Part::Seeds, Bearing::Training, values)));
    found
}

/// A source that is not the same in both runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceDifference {
    /// Its name.
    pub name: String,
    /// The one run that has it.
    pub only_in: Option<Run>,
    /// Whether the bytes differ, as far as the claims say.
    pub other_bytes: bool,
    /// Whether a claim has a commitment to them in place of a digest. Each has its own salts, so that equal rows have others.
    pub committed: bool,
    /// Licence, class, address and revision, where they differ.
    pub facts: Vec<Values>,
    /// What differs in its rows, where the bytes of both could be had.
    pub rows: Option<RowDifference>,
    /// Why they could not.
    pub rows_cannot_be_had: Option<String>,
}

impl fmt::Display for SourceDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the source `{}`", printable(&self.name))?;
        if let Some(run) = self.only_in {
            return write!(f, " is only in {run}");
        }
        if !self.other_bytes {
            return write!(f, " has the same bytes")
                .and_then(|()| self.facts.iter().try_for_each(|values| write!(f, "; its {values}")));
        }
        f.write_str(if self.committed { " is committed to otherwise" } else { " has other bytes" })?;
        match (&self.rows, &self.rows_cannot_be_had) {
            (Some(rows), _) => write!(f, "; {rows}"),
            (None, Some(reason)) => write!(f, "; its rows cannot be compared: {}", printable(reason)),
            (None, None) => f.write_str("; its rows are the same, but for the ends of lines"),
        }
    }
}

/// Sources by name, with the first row that differs.
pub(super) fn sources(sides: [&Side; 2], [a, b]: [&ClaimInputs; 2], options: &DiffOptions) -> Vec<Difference> {
    let by_name = |inputs: &ClaimInputs| -> BTreeMap<String, LockedSource> {
        inputs.sources.iter().map(|source| (source.name.clone(), source.clone())).collect()
    };
    let (in_a, in_b) = (by_name(a), by_name(b));
    let names: BTreeSet<&String> = in_a.keys().chain(in_b.keys()).collect();
    let mut found = Vec::new();
    for name in names {
        let (what, bearing) = match (in_a.get(name), in_b.get(name)) {
            (Some(a), Some(b)) if a == b => continue,
            (Some(a), Some(b)) => in_both(sides, a, b, options),
            (a, b) => {
                let (run, others) = if a.is_some() { (Run::A, &in_b) } else { (Run::B, &in_a) };
                let bytes = a.or(b).map(digests);
                // Under another name the same bytes are the same data.
                let renamed = others.values().any(|other| Some(digests(other)) == bytes);
                let bearing = if renamed { Bearing::Label } else { Bearing::Training };
                (SourceDifference { only_in: Some(run), ..unchanged(name) }, bearing)
            }
        };
        found.push(Difference { part: Part::Sources, bearing, what: What::Source(what) });
    }
    found
}

fn unchanged(name: &str) -> SourceDifference {
    let name = name.to_owned();
    SourceDifference {
        name,
        only_in: None,
        other_bytes: false,
        committed: false,
        facts: Vec::new(),
        rows: None,
        rows_cannot_be_had: None,
    }
}

/// What a claim has of the bytes of a source.
fn digests(source: &LockedSource) -> Vec<Digest> {
    let root = source.commitment.iter().map(|commitment| commitment.root);
    source.files.iter().map(|file| file.sha256).chain(root).collect()
}

/// A source that both runs have, and not the same.
fn in_both(
    sides: [&Side; 2],
    a: &LockedSource,
    b: &LockedSource,
    options: &DiffOptions,
) -> (SourceDifference, Bearing) {
    let class = |source: &LockedSource| source.class.and_then(|class| serde_json::to_value(class).ok());
    let facts = [
        Values::differing("licence", a.licence.as_ref(), b.licence.as_ref()),
        Values::differing("class", class(a), class(b)),
        Values::differing("address", Some(&a.uri), Some(&b.uri)),
        Values::differing("revision", a.revision.as_ref(), b.revision.as_ref()),
    ];
    let mut found = SourceDifference { facts: facts.into_iter().flatten().collect(), ..unchanged(&a.name) };
    if digests(a) == digests(b) {
        return (found, Bearing::Label);
    }
    found.other_bytes = true;
    found.committed = a.commitment.is_some() || b.commitment.is_some();
    match first_row(sides, &a.name, options) {
        // The very same rows are the same data.
        Ok(None) => return (found, Bearing::Label),
        Ok(Some(rows)) => found.rows = Some(rows),
        Err(reason) => found.rows_cannot_be_had = Some(reason),
    }
    (found, Bearing::Training)
}

/// Looks the files of a source up in both runs, and compares their rows.
fn first_row(sides: [&Side; 2], name: &str, options: &DiffOptions) -> Result<Option<RowDifference>, String> {
    let [a, b] = sides.map(|side| file_of(side, name, options));
    rows::compare([&a?, &b?], name).map_err(|error| error.to_string())
}

/// The file of a source, with exactly the bytes that are locked.
fn file_of(side: &Side, name: &str, options: &DiffOptions) -> Result<PathBuf, String> {
    let (evidence, job) = side.located(options)?;
    let source = evidence.lock.sources.iter().find(|source| source.name == name);
    let source = source.ok_or_else(|| format!("the lock of {} does not have it", side.run))?;
    let place = job.locations.get(name).map(PathBuf::as_path);
    let found = tune_source::resolve_locked(source, SourceKind::Dataset, place, &job.source);
    found.map(|found| found.root).map_err(|error| format!("those of {} cannot be had: {error}", side.run))
}
