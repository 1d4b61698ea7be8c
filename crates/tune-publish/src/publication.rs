//! The published folder: the result in the layout that other tools read at its top, the run beside it in `run/`, and the
//! documents. It is made whole beside its place and renamed into it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tune_schema::export::{self, ExportRecord};
use tune_schema::manifest::PUBLISHED_RUN;

use crate::documents::Published;
use crate::envelope::Envelope;
use crate::facts::Facts;
use crate::key::PrivateKey;
use crate::{PublishError, documents, signature};

/// Which checkpoints of a run are published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Checkpoints {
    /// All of them.
    #[default]
    All,
    /// Those of these steps: single stretches can then be computed again only where they begin at one of them, or at the
    /// start. Of no step where the set is empty.
    Of(BTreeSet<u64>),
}

impl Checkpoints {
    /// Their steps.
    fn steps(&self, facts: &Facts) -> Result<BTreeSet<u64>, PublishError> {
        let there = facts.checkpoints();
        let Self::Of(wanted) = self else { return Ok(there) };
        let missing: BTreeSet<u64> = wanted.difference(&there).copied().collect();
        if missing.is_empty() { Ok(wanted.clone()) } else { Err(PublishError::NoCheckpoint { missing, there }) }
    }
}

/// What to publish.
#[derive(Debug, Default)]
pub struct PublishOptions {
    /// The checkpoints.
    pub checkpoints: Checkpoints,
    /// Signs the folder.
    pub key: Option<PrivateKey>,
    /// The result as GGUF: a folder that `tune export --gguf` made of the same run.
    pub gguf: Option<PathBuf>,
}

impl PublishOptions {
    /// The record of the export that is published too.
    fn export(&self, facts: &Facts) -> Result<Option<ExportRecord>, PublishError> {
        let Some(folder) = &self.gguf else { return Ok(None) };
        let path = folder.join(export::RECORD_FILE);
        let record: ExportRecord = crate::facts::json(&path)?;
        if record.claim_id == *facts.claim_id() { Ok(Some(record)) } else { Err(PublishError::OtherClaim(path)) }
    }
}

/// A file of the published folder: copied from the run, or made.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    Copied(PathBuf),
    Made(Vec<u8>),
}

/// Every file but the signature, by its path.
fn contents(facts: &Facts, options: &PublishOptions) -> Result<BTreeMap<String, Content>, PublishError> {
    let mut contents = BTreeMap::new();
    let published = Published { checkpoints: options.checkpoints.steps(facts)?, export: options.export(facts)? };
    let result = facts.recipe.adapter.result_folder();
    let listed = facts.claim().files.keys().chain(facts.manifest.environment.keys());
    for path in listed.map(String::as_str).chain(["manifest.json"]) {
        if checkpoint_of(path).is_some_and(|step| !published.checkpoints.contains(&step)) {
            continue;
        }
        let of_result = path.strip_prefix(result).and_then(|rest| rest.strip_prefix('/'));
        let place = of_result.map_or_else(|| format!("{PUBLISHED_RUN}/{path}"), str::to_owned);
        contents.insert(place, Content::Copied(facts.folder.join(path)));
    }
    for (path, bytes) in documents::all(facts, &published) {
        if contents.insert(path.clone(), Content::Made(bytes)).is_some() {
            return Err(PublishError::Twice(path));
        }
    }
    if let Some(folder) = &options.gguf {
        for (name, path) in export::PUBLISHED_FILES.into_iter().zip(export::published_paths()) {
            contents.insert(path, Content::Copied(folder.join(name)));
        }
    }
    if let Some(key) = &options.key {
        let statement = tune_schema::to_canonical_json(&documents::provenance::statement(facts))?;
        let envelope = Envelope::sign(&statement, key, key.public().hint());
        let mut line = tune_schema::to_canonical_json(&envelope)?;
        line.push(b'\n');
        contents.insert(documents::provenance::SIGNED_FILE_NAME.to_owned(), Content::Made(line));
    }
    Ok(contents)
}

/// The step of the checkpoint that a file of a run folder is part of.
fn checkpoint_of(path: &str) -> Option<u64> {
    path.strip_prefix("checkpoints/step-")?.split('/').next()?.parse().ok()
}

/// Paths that [`publish`] would write; with `gguf` those of an export too, which need not be made yet.
///
/// # Errors
/// A checkpoint that the run does not have, or an export that is named and cannot be read.
pub fn planned(facts: &Facts, options: &PublishOptions, gguf: bool) -> Result<Vec<String>, PublishError> {
    let mut paths: Vec<String> = contents(facts, options)?.into_keys().collect();
    if gguf {
        paths.extend(export::published_paths());
    }
    if options.key.is_some() {
        paths.push(signature::FILE_NAME.to_owned());
    }
    Ok(paths)
}

/// Makes the published folder at `to`, which must not be there; gives the number of its files.
///
/// # Errors
/// As [`planned`], a place that is taken or lies in the run, or files that cannot be read or written. Nothing is left behind.
pub fn publish(facts: &Facts, to: &Path, options: &PublishOptions) -> Result<usize, PublishError> {
    if tune_fs::exists(to) {
        return Err(PublishError::Exists(to.to_owned()));
    }
    if tune_fs::is_inside(to, &facts.folder) {
        return Err(PublishError::Inside(to.to_owned()));
    }
    tune_fs::create_dir_whole(to, |staging| fill(facts, staging, to, options))
}

fn fill(facts: &Facts, staging: &Path, to: &Path, options: &PublishOptions) -> Result<usize, PublishError> {
    let contents = contents(facts, options)?;
    for (path, content) in &contents {
        let place = staging.join(path);
        if let Some(parent) = place.parent() {
            tune_fs::create_dir_all(parent)?;
        }
        match content {
            Content::Made(bytes) => tune_fs::write_atomic(&place, bytes)?,
            Content::Copied(from) => tune_fs::copy(from, &place)?,
        }
    }
    let mut count = contents.len();
    if let Some(key) = &options.key {
        let name = to.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned());
        signature::sign_folder(staging, &name, key)?;
        count += 1;
    }
    Ok(count)
}
