//! Level `data`: the sources fetched by their lock, the stream of rows rebuilt, its digest compared step by step.
//!
//! The model is not loaded: this runs in seconds on a laptop.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use tune_data::DataError;
use tune_model::base::BaseModel;
use tune_model::trained_shapes;
use tune_schema::chain::ChainRecord;
use tune_schema::lock::LockedSource;
use tune_schema::manifest::{ClaimInputs, StreamFacts};
use tune_schema::text::printable;
use tune_schema::{Digest, to_canonical_json};
use tune_source::secrets::SecretsFile;
use tune_source::{SourceError, recorded};
use tune_train::checkpoint::SideFiles;
use tune_train::environment::Environment;
use tune_train::evaluate::is_asked;
use tune_train::job::{self, WithoutRows};
use tune_train::trainer::lora_spec;
use tune_train::{Job, JobOptions, Observer, RunFolder, TrainError, run};

use crate::files::{Evidence, TEXT_LIMIT};
use crate::verdict::{Level, Outcome, Verdict};
use crate::{Origin, export};

/// What could be opened of a run.
#[derive(Debug)]
pub enum Opened {
    /// All of it.
    Whole(Box<Job>),
    /// What there is without the rows of some unshareable source.
    WithoutRows(Box<WithoutRows>),
}

/// Opens the sources again and compares the stream. Gives what was opened for the further levels.
pub fn check(
    folder: &RunFolder,
    evidence: &Evidence,
    origin: Origin,
    options: &JobOptions,
    verdict: &mut Verdict,
    observer: &mut dyn Observer,
) -> Option<Opened> {
    let unknown = |name: &&String| evidence.lock.sources.iter().all(|source| source.name != **name);
    if let Some(name) = options.locations.keys().find(unknown) {
        let names: Vec<&str> = evidence.lock.sources.iter().map(|source| source.name.as_str()).collect();
        let reason = format!("a place was given for `{name}`, and this run's sources are {}", names.join(", "));
        verdict.record(Level::Data, "sources", Outcome::NotChecked(reason));
        return None;
    }
    // What a folder says of places and secrets is not claimed: a copy may lead to other bytes than the run had.
    let given = options;
    let options = match origin {
        Origin::Here => located(folder, evidence, options),
        Origin::Fetched | Origin::FetchedByName => options.clone(),
    };
    let withheld: BTreeMap<String, String> = evidence
        .lock
        .sources
        .iter()
        .filter_map(|source| Some((source.name.clone(), lacking(source, &options)?)))
        .collect();
    if !withheld.is_empty() {
        let opened = check_without_rows(folder, evidence, &withheld, [given, &options], verdict, observer)?;
        return Some(Opened::WithoutRows(Box::new(opened)));
    }
    let job = record_error(reopen(evidence, &options, observer), evidence, given, verdict)?;
    check_shapes(evidence, &job.base, verdict);
    if verdict.differs() {
        return None;
    }
    let sources = format!("{} sources, base model, tokenizer and template", job.sources.len());
    check_inputs(evidence, &job.inputs, sources, verdict);
    check_stream(evidence, &job, verdict);
    check_side_files(folder, evidence, &run::side_files(&job.recipe, &job.base, &job.inputs), verdict);
    check_questions(folder, &job, verdict);
    export::check_data(folder, &job.recipe, &job.base, &job.tokenizer, verdict);
    Some(Opened::Whole(Box::new(job)))
}

/// What is not at hand of a source that stands in the claim by a commitment: its rows or its secret.
fn lacking(source: &LockedSource, options: &JobOptions) -> Option<String> {
    let commitment = source.commitment.as_ref()?;
    let name = &source.name;
    let rows = match options.locations.get(name) {
        Some(place) if tune_fs::exists(place) => None,
        Some(place) => Some(format!("`{}` does not exist", place.display())),
        None => Some("its rows are not here".to_owned()),
    };
    let secret = match options.source.secrets.as_deref() {
        None => Some("nor is its secret".to_owned()),
        Some(path) => match SecretsFile::read(path) {
            Err(error) => Some(error.to_string()),
            Ok(secrets) if secrets.get(&commitment.root).is_none() => {
                Some(format!("`{}` has no secret of it", path.display()))
            }
            Ok(_) => None,
        },
    };
    match (rows, secret) {
        (None, None) => None,
        (None, Some(_)) if options.source.secrets.is_none() => {
            Some("its secret is not here: `--secrets FILE` names it".to_owned())
        }
        (rows, secret) => Some([rows, secret].into_iter().flatten().collect::<Vec<_>>().join(", ")),
    }
}

/// Everything that the level compares and that does not hang on rows that are not here.
fn check_without_rows(
    folder: &RunFolder,
    evidence: &Evidence,
    withheld: &BTreeMap<String, String>,
    [given, options]: [&JobOptions; 2],
    verdict: &mut Verdict,
    observer: &mut dyn Observer,
) -> Option<WithoutRows> {
    let names: BTreeSet<String> = withheld.keys().cloned().collect();
    let (recipe, overrides) = (evidence.recipe.clone(), evidence.manifest.claim.inputs.overrides.clone());
    let parts = job::reopen_without(names, recipe, overrides, &evidence.lock, options, observer);
    let parts = record_error(parts, evidence, given, verdict)?;
    check_shapes(evidence, &parts.base, verdict);
    if verdict.differs() {
        return None;
    }
    let all = parts.read.len() + parts.withheld.len();
    let sources = format!("{} of {all} data sources, base model, tokenizer and template", parts.read.len());
    check_inputs(evidence, &parts.inputs, sources, verdict);
    for (name, reason) in withheld {
        let reason = printable(&format!("nothing of it was compared: {reason}"));
        verdict.record(Level::Data, check_name(name), Outcome::Withheld(reason));
    }
    let list = list_of(&parts.withheld);
    let stream = format!("it could not be rebuilt without the rows of {list}");
    verdict.record(Level::Data, "stream", Outcome::NotChecked(stream));
    check_side_files(folder, evidence, &run::side_files(&parts.recipe, &parts.base, &parts.inputs), verdict);
    let questions = format!("which these are cannot be told without the rows of {list}");
    verdict.record(Level::Data, "held-out examples", Outcome::NotChecked(questions));
    export::check_data(folder, &parts.recipe, &parts.base, &parts.tokenizer, verdict);
    Some(parts)
}

/// Names in a sentence.
pub(crate) fn list_of(names: &BTreeSet<String>) -> String {
    names.iter().map(|name| format!("`{}`", printable(name))).collect::<Vec<_>>().join(", ")
}

/// What checks about one source are called.
pub(crate) fn check_name(source: &str) -> String {
    format!("source {}", printable(source))
}

/// The check about bytes that are not what is locked. That says something of what the verifier has, and nothing of the claim.
pub(crate) const AT_HAND: &str = "sources at hand";

/// What was opened, or the error as an outcome. `given` is what the verifier named: other bytes where only the folder says
/// that a source lies are no difference, for a copy of a folder can say anything.
fn record_error<T>(
    result: Result<T, TrainError>,
    evidence: &Evidence,
    given: &JobOptions,
    verdict: &mut Verdict,
) -> Option<T> {
    let error = match result {
        Ok(opened) => return Some(opened),
        Err(error) => error,
    };
    if let TrainError::Source(SourceError::Differs { name, .. }) = &error
        && let Some(source) = evidence.lock.sources.iter().find(|source| source.name == *name)
    {
        let committed = source.commitment.is_some();
        let placed = source.has_address() || given.locations.contains_key(name);
        if !placed || committed && given.source.secrets.is_none() {
            let secrets = if committed { " with `--secrets FILE`" } else { "" };
            let reason = format!(
                "{error} (that is what lies where the folder says: `--source {name}=PATH`{secrets} names what the run had)"
            );
            verdict.record(Level::Data, "sources", Outcome::NotChecked(reason));
            return None;
        }
    }
    let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
    let reason = format!("{error}{hint}");
    if matches!(error, TrainError::Data(DataError::TooManyRows(_))) {
        verdict.record(Level::Data, "stream", Outcome::Differs(reason));
    } else if error.is_difference() {
        verdict.record(Level::Data, AT_HAND, Outcome::Differs(reason));
    } else {
        verdict.record(Level::Data, "sources", Outcome::NotChecked(reason));
    }
    None
}

/// What the sources give against the claim's inputs.
fn check_inputs(evidence: &Evidence, found: &ClaimInputs, sources: String, verdict: &mut Verdict) {
    let same = to_canonical_json(found).ok() == to_canonical_json(&evidence.manifest.claim.inputs).ok();
    let outcome = if same {
        Outcome::Verified(sources)
    } else {
        Outcome::Differs("what the sources give is not the claim's inputs".to_owned())
    };
    verdict.record(Level::Data, "sources", outcome);
}

/// That the trained tensors are those that recipe and base model have: what is loaded later is as large as they say.
fn check_shapes(evidence: &Evidence, base: &BaseModel, verdict: &mut Verdict) {
    let outcome = match trained_shapes(&base.config, lora_spec(&evidence.recipe).as_ref()) {
        Err(error) => Outcome::NotChecked(error.to_string()),
        Ok(expected) => {
            let found = &evidence.shapes;
            let mut names = expected.keys().chain(found.keys());
            match names.find(|name| expected.get(*name) != found.get(*name)) {
                None => Outcome::Verified(format!("{} tensors as recipe and base model have them", expected.len())),
                Some(name) => Outcome::Differs(format!(
                    "`{}` is not as recipe and base model have it, is missing, or should not be there",
                    printable(name)
                )),
            }
        }
    };
    verdict.record(Level::Data, "trained tensors", outcome);
}

/// The computation of a run again, from the sources at these places.
///
/// # Errors
/// Sources that cannot be had, or are not what the lock says.
pub(crate) fn reopen(
    evidence: &Evidence,
    options: &JobOptions,
    observer: &mut dyn Observer,
) -> Result<Job, TrainError> {
    let (recipe, text) = (evidence.recipe.clone(), evidence.recipe_text.clone());
    let claim = &evidence.manifest.claim;
    let options = JobOptions { most_rows: Some(claim.stream.rows), ..options.clone() };
    Job::reopen(recipe, text, claim.inputs.overrides.clone(), evidence.lock.clone(), &options, observer)
}

/// Walks all rows and compares the stream's head and counts after every step.
fn check_stream(evidence: &Evidence, job: &Job, verdict: &mut Verdict) {
    let stream = &job.prepared.train;
    let mut head = job.prepared.head.clone();
    let (mut rows, mut tokens, mut supervised_tokens) = (0, 0, 0);
    for record in &evidence.chain {
        let before = (tokens, supervised_tokens);
        while rows < record.rows.min(stream.len()) {
            let row = match stream.row(rows) {
                Ok(row) => row,
                Err(error) => {
                    let cannot = Outcome::NotChecked(format!("the rows cannot be had: {error}"));
                    verdict.record(Level::Data, "stream", cannot);
                    return;
                }
            };
            head.push(&row);
            tokens += row.input_ids.len() as u64;
            supervised_tokens += row.supervised();
            rows += 1;
        }
        let found = (head.digest(), tokens - before.0, supervised_tokens - before.1);
        let stated = (record.stream, record.tokens, record.supervised_tokens);
        if found != stated {
            let words = |(digest, tokens, supervised): (Digest, u64, u64)| {
                format!("{digest}, {tokens} tokens, {supervised} supervised")
            };
            let detail =
                format!("step {}: the stream has {}, the chain says {}", record.step, words(found), words(stated));
            verdict.record(Level::Data, "stream", Outcome::Differs(detail));
            return;
        }
    }
    let found = StreamFacts { digest: head.digest(), rows, tokens, supervised_tokens, ..job.prepared.facts.clone() };
    let outcome = if found == evidence.manifest.claim.stream && rows == stream.len() {
        Outcome::Verified(format!("{rows} rows, {}", head.digest()))
    } else {
        Outcome::Differs("the claim's counts are not those of the stream".to_owned())
    };
    verdict.record(Level::Data, "stream", outcome);
}

/// The files beside the weights, which make them readable by other tools: a changed scale in `adapter_config.json` would
/// be another model.
fn check_side_files(folder: &RunFolder, evidence: &Evidence, side: &SideFiles, verdict: &mut Verdict) {
    let result = folder.result(evidence.recipe.adapter);
    let here = |record: &&ChainRecord| record.state_root.is_some() && !evidence.withheld.contains(&record.step);
    let checkpoints = evidence.chain.iter().filter(here);
    let mut folders: Vec<PathBuf> = checkpoints.map(|record| folder.checkpoint(record.step)).collect();
    folders.push(result);
    for place in &folders {
        for (name, bytes) in side {
            let path = place.join(name);
            if tune_fs::read_limited(&path, bytes.len() as u64).ok().as_ref() != Some(bytes) {
                let detail = format!("{} is not what this run's recipe and base model give", path.display());
                verdict.record(Level::Data, "files beside the weights", Outcome::Differs(detail));
                return;
            }
        }
    }
    let detail =
        format!("{} in {} folders", side.keys().map(String::as_str).collect::<Vec<_>>().join(", "), folders.len());
    verdict.record(Level::Data, "files beside the weights", Outcome::Verified(detail));
}

/// That the answers in the folder are to the held-out examples. Whether they are the model's is for level `full`.
fn check_questions(folder: &RunFolder, job: &Job, verdict: &mut Verdict) {
    let count = job.prepared.eval_examples.len().min(job.recipe.eval_exact_match as usize);
    let asked = &job.prepared.eval_examples[..count];
    for when in ["before", "after"] {
        let outcome = match tune_train::evaluate::read_scores(&folder.evaluation(when)) {
            Err(error) => Outcome::NotChecked(error.to_string()),
            Ok(scores) => {
                let mut pairs = (0..).zip(asked.iter().zip(&scores.answers));
                let is_asked = |(index, (example, answer))| is_asked(job, index, example, answer).unwrap_or(false);
                if scores.answers.len() == count && pairs.all(is_asked) {
                    continue;
                }
                Outcome::Differs(format!("evaluation-{when}.json: the questions are not the held-out examples"))
            }
        };
        return verdict.record(Level::Data, "held-out examples", outcome);
    }
    verdict.record(Level::Data, "held-out examples", Outcome::Verified(format!("{count} asked before and after")));
}

/// Where to look for sources that have no address: where the run found them, unless the verifier says otherwise. Only for a
/// folder of this machine.
pub(crate) fn located(folder: &RunFolder, evidence: &Evidence, options: &JobOptions) -> JobOptions {
    let environment = tune_fs::read_limited(&folder.environment(), TEXT_LIMIT).ok();
    let environment = environment.and_then(|bytes| serde_json::from_slice::<Environment>(&bytes).ok());
    let Some(environment) = environment else { return options.clone() };
    let mut locations: BTreeMap<String, PathBuf> = BTreeMap::new();
    for source in &evidence.lock.sources {
        // An address is looked up in the cache, or fetched; a local file lies where the run had it.
        let place = recorded::place(&environment, source, folder.path());
        // A published folder lies elsewhere than its run did.
        if let Some(path) = place.filter(|path| folder.published().is_none() || tune_fs::exists(path)) {
            locations.insert(source.name.clone(), path);
        }
    }
    locations.extend(options.locations.clone());
    let mut source = options.source.clone();
    source.secrets = source.secrets.or_else(|| recorded::secrets(&environment, folder.path()));
    JobOptions { locations, source, ..options.clone() }
}
