//! The GGUF adapter of a published folder with its Modelfile and `export.json`, where they are there: the manifest does not
//! list them, but they follow from what it lists.
//!
//! Level `files` holds them to their record, level `data` makes adapter and Modelfile again from the run's adapter, and level
//! `full` the record, which needs the base model's weights: the digest of its GGUF file, and the measured fidelity.

use std::collections::BTreeMap;

use tune_data::Tokenizer;
use tune_kernels::KernelBackend;
use tune_model::base::BaseModel;
use tune_schema::export::{
    ADAPTED_BASE, ADAPTER_FILE, BASE_FILE, ExportRecord, MODELFILE, PUBLISHED_EXPORT, PUBLISHED_FILES, RECORD_FILE,
    published_paths,
};
use tune_schema::recipe::Recipe;
use tune_schema::{Digest, to_canonical_json};
use tune_train::export::{ExportOptions, adapter_files, export};
use tune_train::{Job, Observer, RunFolder};

use crate::files::TEXT_LIMIT;
use crate::verdict::{Level, Outcome, Verdict};

/// What the checks are called.
pub(crate) const CHECK: &str = PUBLISHED_EXPORT;

/// Whether a path in a published folder is that of a file which is checked here.
pub(crate) fn is_export(path: &str) -> bool {
    published_paths().iter().any(|known| known == path)
}

/// Whether the folder has such files.
fn is_there(folder: &RunFolder) -> bool {
    let here = |path: &String| folder.published().is_some_and(|place| tune_fs::is_file(&place.join(path)));
    published_paths().iter().any(here)
}

/// The bytes of one of the files.
fn read(folder: &RunFolder, name: &str, limit: u64) -> Result<Vec<u8>, String> {
    let path = format!("{PUBLISHED_EXPORT}/{name}");
    let place = folder.top().join(&path);
    tune_fs::read_limited(&place, limit).map_err(|error| format!("{path}: {error}"))
}

/// Level `files`: the files have the digests of the record, which is one of this claim.
pub(crate) fn check_files(folder: &RunFolder, claim_id: Digest, verdict: &mut Verdict) {
    if !is_there(folder) {
        return;
    }
    let outcome = match compare_with_record(folder, claim_id) {
        Ok(count) => {
            Outcome::Verified(format!("{count} files as {RECORD_FILE} says; what it says is for `data` and `full`"))
        }
        Err(problem) => Outcome::Differs(problem),
    };
    verdict.record(Level::Files, CHECK, outcome);
}

fn compare_with_record(folder: &RunFolder, claim_id: Digest) -> Result<usize, String> {
    let place = folder.top();
    for path in published_paths() {
        if !tune_fs::is_file(&place.join(&path)) {
            return Err(format!("`{path}` is missing beside the others of {PUBLISHED_EXPORT}"));
        }
    }
    let problem = |text: &str| format!("{PUBLISHED_EXPORT}/{RECORD_FILE}: {text}");
    let bytes = read(folder, RECORD_FILE, TEXT_LIMIT)?;
    let record: ExportRecord = serde_json::from_slice(&bytes).map_err(|error| problem(&error.to_string()))?;
    if to_canonical_json(&record).ok().as_ref() != Some(&bytes) {
        return Err(problem("not in canonical form"));
    }
    if record.claim_id != claim_id {
        return Err(problem("it is the record of another claim"));
    }
    let named: Vec<&str> = record.files.keys().map(String::as_str).collect();
    let measured: Vec<&str> = record.fidelity.keys().map(String::as_str).collect();
    if named != [MODELFILE, ADAPTER_FILE, BASE_FILE] || measured != [ADAPTED_BASE] {
        return Err(problem("it is not that of an export with `--gguf` alone"));
    }
    for name in [MODELFILE, ADAPTER_FILE] {
        let path = format!("{PUBLISHED_EXPORT}/{name}");
        let (found, _) = tune_fs::digest_file(&place.join(&path)).map_err(|error| format!("{path}: {error}"))?;
        if found != record.files[name] {
            return Err(format!("{path}: the record says {}, the file has {found}", record.files[name]));
        }
    }
    Ok(PUBLISHED_FILES.len())
}

/// Level `data`: the same adapter gives the same files.
pub(crate) fn check_data(
    folder: &RunFolder,
    recipe: &Recipe,
    base: &BaseModel,
    tokenizer: &Tokenizer,
    verdict: &mut Verdict,
) {
    if !is_there(folder) {
        return;
    }
    let outcome = match adapter_files(recipe, base, tokenizer, folder) {
        Err(error) => Outcome::NotChecked(error.to_string()),
        Ok(expected) => match other_file(folder, &expected) {
            None => Outcome::Verified(format!("{ADAPTER_FILE} and {MODELFILE} made again from the adapter")),
            Some(problem) => Outcome::Differs(problem),
        },
    };
    verdict.record(Level::Data, CHECK, outcome);
}

/// The first file that is not as it should be.
fn other_file(folder: &RunFolder, expected: &BTreeMap<&str, Vec<u8>>) -> Option<String> {
    let is_other =
        |(name, bytes): &(&&str, &Vec<u8>)| read(folder, name, bytes.len() as u64).ok().as_ref() != Some(*bytes);
    let (name, _) = expected.iter().find(is_other)?;
    Some(format!("{PUBLISHED_EXPORT}/{name} is not what this run's adapter gives"))
}

/// Level `full`: the same export gives the same record.
pub(crate) fn check_full<B: KernelBackend>(
    folder: &RunFolder,
    job: &Job,
    claim_id: Digest,
    device: &B::Device,
    verdict: &mut Verdict,
    observer: &mut dyn Observer,
) {
    if !is_there(folder) {
        return;
    }
    let outcome = match export_again::<B>(folder, job, claim_id, device, observer) {
        Err(problem) => Outcome::NotChecked(problem),
        Ok(expected) if read(folder, RECORD_FILE, TEXT_LIMIT).ok().as_ref() == Some(&expected) => {
            Outcome::Verified(format!("{RECORD_FILE} with the measured fidelity"))
        }
        Ok(_) => {
            Outcome::Differs(format!("{PUBLISHED_EXPORT}/{RECORD_FILE} is not what an export of this run measures"))
        }
    };
    verdict.record(Level::Full, CHECK, outcome);
}

/// The record of an export made anew.
fn export_again<B: KernelBackend>(
    folder: &RunFolder,
    job: &Job,
    claim_id: Digest,
    device: &B::Device,
    observer: &mut dyn Observer,
) -> Result<Vec<u8>, String> {
    let place = tempfile::tempdir().map_err(|error| format!("no folder for a second export: {error}"))?;
    let options = ExportOptions { gguf: true, merged: false };
    let to = place.path().join("export");
    let record =
        export::<B>(job, folder, claim_id, &to, options, device, observer).map_err(|error| error.to_string())?;
    to_canonical_json(&record).map_err(|error| error.to_string())
}
