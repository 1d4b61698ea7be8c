//! Level `data`: the sources fetched by their lock, the stream of rows rebuilt, its digest compared step by step.
//!
//! The model is not loaded: this runs in seconds on a laptop.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tune_data::StreamHead;
use tune_schema::to_canonical_json;
use tune_train::environment::Environment;
use tune_train::{Job, JobOptions, Observer, RunFolder};

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
    let options = located(folder, evidence, options);
    let (recipe, text) = (evidence.recipe.clone(), evidence.recipe_text.clone());
    let inputs = &evidence.manifest.claim.inputs;
    let job = match Job::reopen(recipe, text, inputs.overrides.clone(), evidence.lock.clone(), &options, observer) {
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
    Some(job)
}

/// Walks all rows and compares the stream's head after every step.
fn check_stream(evidence: &Evidence, job: &Job, verdict: &mut Verdict) {
    let stream = &job.prepared.train;
    let mut head = StreamHead::new();
    let mut row = 0;
    for record in &evidence.chain {
        while row < record.rows.min(stream.len()) {
            head.push(&stream.row(row));
            row += 1;
        }
        if head.digest() != record.stream {
            let detail =
                format!("step {}: the stream has {}, the chain says {}", record.step, head.digest(), record.stream);
            verdict.record(Level::Data, "stream", Outcome::Differs(detail));
            return;
        }
    }
    let facts = &evidence.manifest.claim.stream;
    let found = tune_schema::manifest::StreamFacts {
        digest: head.digest(),
        rows: row,
        tokens: facts.tokens,
        supervised_tokens: facts.supervised_tokens,
        ..job.prepared.facts.clone()
    };
    let outcome = if found == *facts && row == stream.len() {
        Outcome::Verified(format!("{row} rows, {}", head.digest()))
    } else {
        Outcome::Differs("the claim's counts are not those of the stream".to_owned())
    };
    verdict.record(Level::Data, "stream", outcome);
}

/// Where to look for sources that have no address: where the run found them, unless the verifier says otherwise.
fn located(folder: &RunFolder, evidence: &Evidence, options: &JobOptions) -> JobOptions {
    let environment = tune_fs::read(&folder.environment()).ok();
    let environment = environment.and_then(|bytes| serde_json::from_slice::<Environment>(&bytes).ok());
    let known = environment.map(|environment| environment.locations).unwrap_or_default();
    let mut locations: BTreeMap<String, PathBuf> = BTreeMap::new();
    for source in &evidence.lock.sources {
        // An address is looked up in the cache, or fetched; a local file lies where the run had it.
        if let Some(path) = known.get(&source.name).filter(|_| source.uri.starts_with("file:")) {
            locations.insert(source.name.clone(), folder.path().join(path));
        }
    }
    locations.extend(options.locations.clone());
    JobOptions { locations, ..options.clone() }
}
