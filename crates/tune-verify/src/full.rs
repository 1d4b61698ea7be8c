//! Level `full`: the whole run, computed again in a folder of its own.

use tune_kernels::KernelBackend;
use tune_schema::Digest;
use tune_schema::chain::ChainRecord;
use tune_schema::manifest::Manifest;
use tune_schema::text::printable;
use tune_train::{Job, Observer, RunFolder, chain_file, run};

use crate::device_bound::{elsewhere, judged};
use crate::files::Evidence;
use crate::sample::difference;
use crate::verdict::{Level, Outcome, Verdict};

/// Runs the job again and compares the claims.
pub fn check<B: KernelBackend>(
    folder: &RunFolder,
    evidence: &Evidence,
    job: &Job,
    devices: &[B::Device],
    verdict: &mut Verdict,
    observer: &mut dyn Observer,
) {
    let outcome = match rerun::<B>(evidence, job, devices, observer) {
        Ok(outcome) => outcome,
        Err(problem) => Outcome::NotChecked(problem),
    };
    let outcome = judged(outcome, elsewhere(folder, job).as_deref());
    verdict.record(Level::Full, "whole run", outcome);
}

fn rerun<B: KernelBackend>(
    evidence: &Evidence,
    job: &Job,
    devices: &[B::Device],
    observer: &mut dyn Observer,
) -> Result<Outcome, String> {
    let place = tempfile::tempdir().map_err(|error| format!("no folder for the second run: {error}"))?;
    let folder = RunFolder::new(place.path().join("run"));
    let outcome = run::run::<B>(job, &folder, devices, observer).map_err(|error| error.to_string())?;
    let (found, stated) = (&outcome.manifest, &evidence.manifest);
    if found.claim_id == stated.claim_id {
        return Ok(Outcome::Verified(format!("the same claim, {}", found.claim_id)));
    }
    let bytes = tune_fs::read(&folder.chain()).map_err(|error| error.to_string())?;
    let origin = tune_schema::canonical_digest(&job.inputs).unwrap_or(Digest::of(b""));
    let chain = chain_file::parse_chain("chain.jsonl", &bytes, origin).map_err(|error| error.to_string())?;
    Ok(Outcome::Differs(first_difference(&chain, evidence).unwrap_or_else(|| match differing_file(found, stated) {
        Some(path) => format!("`{path}` is not what the computation gives"),
        None => format!("the claims differ in `{}`", differing_member(found, stated)),
    })))
}

/// The first record that differs.
fn first_difference(chain: &[ChainRecord], evidence: &Evidence) -> Option<String> {
    chain
        .iter()
        .zip(&evidence.chain)
        .find(|(found, stated)| found != stated)
        .map(|(found, stated)| difference(found, stated))
}

/// The first file of the claim that differs, where both have it.
fn differing_file(found: &Manifest, stated: &Manifest) -> Option<String> {
    let mut files = stated.claim.files.iter();
    let differs =
        |(path, digest): &(&String, &Digest)| found.claim.files.get(*path).is_some_and(|found| found != *digest);
    files.find(differs).map(|(path, _)| printable(path))
}

/// The first member of the claim that differs.
pub(crate) fn differing_member(found: &Manifest, stated: &Manifest) -> String {
    let members = |manifest: &Manifest| match serde_json::to_value(&manifest.claim) {
        Ok(serde_json::Value::Object(members)) => members.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        _ => std::collections::BTreeMap::new(),
    };
    let (found, stated) = (members(found), members(stated));
    let name = stated.iter().find(|(name, value)| found.get(*name) != Some(value)).map(|(name, _)| name.clone());
    name.unwrap_or_else(|| "their members".to_owned())
}
