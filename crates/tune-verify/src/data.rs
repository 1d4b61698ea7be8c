//! Level `data`: the sources fetched by their lock, the stream of rows rebuilt, its digest compared step by step.
//!
//! The model is not loaded: this runs in seconds on a laptop.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tune_data::StreamHead;
use tune_schema::chain::ChainRecord;
use tune_schema::lock::LockedSource;
use tune_schema::manifest::StreamFacts;
use tune_schema::{Digest, to_canonical_json};
use tune_train::environment::Environment;
use tune_train::{Job, JobOptions, Observer, RunFolder, TrainError, run};

use crate::export;
use crate::files::Evidence;
use crate::verdict::{Level, Outcome, Verdict};

/// Opens the sources again and compares the stream. Gives the job for the further levels.
pub fn check(
    folder: &RunFolder,
    evidence: &Evidence,
    options: &JobOptions,
    verdict: &mut Verdict,
    observer: &mut dyn Observer,
) -> Option<Job> {
    let unknown = |name: &&String| evidence.lock.sources.iter().all(|source| source.name != **name);
    if let Some(name) = options.locations.keys().find(unknown) {
        let names: Vec<&str> = evidence.lock.sources.iter().map(|source| source.name.as_str()).collect();
        let reason = format!("a place was given for `{name}`, and this run's sources are {}", names.join(", "));
        verdict.record(Level::Data, "sources", Outcome::NotChecked(reason));
        return None;
    }
    let options = located(folder, evidence, options);
    let untold =
        |source: &&LockedSource| source.uri.starts_with("file:") && !options.locations.contains_key(&source.name);
    if let Some(source) = evidence.lock.sources.iter().find(untold) {
        let name = &source.name;
        let reason = format!("`{name}` has no address: say where it is with `--source {name}=PATH`");
        verdict.record(Level::Data, "sources", Outcome::NotChecked(reason));
        return None;
    }
    let inputs = &evidence.manifest.claim.inputs;
    let job = match reopen(evidence, &options, observer) {
        Ok(job) => job,
        Err(error) => {
            let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            let reason = format!("{error}{hint}");
            let outcome = if error.is_difference() { Outcome::Differs(reason) } else { Outcome::NotChecked(reason) };
            verdict.record(Level::Data, "sources", outcome);
            return None;
        }
    };
    let same = to_canonical_json(&job.inputs).ok() == to_canonical_json(inputs).ok();
    let outcome = if same {
        Outcome::Verified(format!("{} sources, base model, tokenizer and template", job.sources.len()))
    } else {
        Outcome::Differs("what the sources give is not the claim's inputs".to_owned())
    };
    verdict.record(Level::Data, "sources", outcome);
    check_stream(evidence, &job, verdict);
    check_side_files(folder, evidence, &job, verdict);
    check_questions(folder, &job, verdict);
    export::check_data(folder, &job, verdict);
    Some(job)
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
    let overrides = evidence.manifest.claim.inputs.overrides.clone();
    Job::reopen(recipe, text, overrides, evidence.lock.clone(), options, observer)
}

/// Walks all rows and compares the stream's head and counts after every step.
fn check_stream(evidence: &Evidence, job: &Job, verdict: &mut Verdict) {
    let stream = &job.prepared.train;
    let mut head = StreamHead::new();
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
fn check_side_files(folder: &RunFolder, evidence: &Evidence, job: &Job, verdict: &mut Verdict) {
    let result = folder.result(evidence.recipe.adapter);
    let here = |record: &&ChainRecord| record.state_root.is_some() && !evidence.withheld.contains(&record.step);
    let checkpoints = evidence.chain.iter().filter(here);
    let mut folders: Vec<PathBuf> = checkpoints.map(|record| folder.checkpoint(record.step)).collect();
    folders.push(result);
    let side = run::side_files(job);
    for place in &folders {
        for (name, bytes) in &side {
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
                let same = scores.answers.len() == count
                    && asked.iter().zip(&scores.answers).all(|(asked, answer)| {
                        asked.prompt_text == answer.prompt && asked.reference_text == answer.reference
                    });
                if same {
                    continue;
                }
                Outcome::Differs(format!("evaluation-{when}.json: the questions are not the held-out examples"))
            }
        };
        return verdict.record(Level::Data, "held-out examples", outcome);
    }
    verdict.record(Level::Data, "held-out examples", Outcome::Verified(format!("{count} asked before and after")));
}

/// Where to look for sources that have no address: where the run found them, unless the verifier says otherwise.
pub(crate) fn located(folder: &RunFolder, evidence: &Evidence, options: &JobOptions) -> JobOptions {
    let environment = tune_fs::read(&folder.environment()).ok();
    let environment = environment.and_then(|bytes| serde_json::from_slice::<Environment>(&bytes).ok());
    let mut locations: BTreeMap<String, PathBuf> = BTreeMap::new();
    for source in &evidence.lock.sources {
        // An address is looked up in the cache, or fetched; a local file lies where the run had it.
        let place = environment.as_ref().and_then(|environment| environment.place_of(source, folder.path()));
        // A published folder lies elsewhere than its run did.
        if let Some(path) = place.filter(|path| folder.published().is_none() || tune_fs::exists(path)) {
            locations.insert(source.name.clone(), path);
        }
    }
    locations.extend(options.locations.clone());
    JobOptions { locations, ..options.clone() }
}
