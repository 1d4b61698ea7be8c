//! Rows of an unshareable source that its owner shows, and what a stranger can tell of them: that the claim committed to them,
//! not that a step used them.

use std::ops::RangeInclusive;
use std::path::Path;

use tune_schema::commitment::Commitment;
use tune_schema::reveal::{REVEAL_LIMIT, REVEAL_SCHEMA, Reveal};
use tune_schema::text::printable;
use tune_source::{SourceError, SourceKind};
use tune_train::{JobOptions, TrainError};

use crate::files::Evidence;
use crate::verdict::Outcome;
use crate::{VerifyError, data, sound};

/// Rows of a source, by their numbers from 1.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The source.
    pub source: String,
    /// The numbers.
    pub rows: Vec<RangeInclusive<u64>>,
}

/// Writes chosen rows of the run at `target` to a new file, with their proofs.
///
/// # Errors
/// A run that does not verify at level `files`; a source without a commitment, or whose rows or secret are not here or not
/// what they were; rows that it does not have; a file that is there already, or lies in the run.
pub fn reveal(target: &Path, selection: &Selection, to: &Path, options: &JobOptions) -> Result<Reveal, VerifyError> {
    let (folder, evidence) = sound(target)?;
    if tune_fs::exists(to) {
        return Err(VerifyError::Taken(to.to_owned()));
    }
    if tune_fs::is_inside(to, folder.top()) {
        return Err(VerifyError::Inside(to.to_owned()));
    }
    let name = &selection.source;
    let sources = &evidence.manifest.claim.inputs.sources;
    let Some(locked) = sources.iter().find(|source| source.name == *name) else {
        let known = sources.iter().map(|source| printable(&source.name)).collect::<Vec<_>>().join(", ");
        return Err(VerifyError::NoSuchSource { name: name.clone(), known });
    };
    let Some(Commitment { scheme, root, .. }) = locked.commitment else {
        return Err(TrainError::from(SourceError::NotCommitted { name: name.clone() }).into());
    };
    let options = data::located(&folder, &evidence, options);
    let Some(place) = options.locations.get(name) else { return Err(VerifyError::NoPlace(name.clone())) };
    let source = tune_source::resolve_locked(locked, SourceKind::Dataset, Some(place), &options.source);
    let rows = source.and_then(|source| tune_source::commit::reveal(&source, &selection.rows));
    let reveal = Reveal {
        schema: REVEAL_SCHEMA.to_owned(),
        claim_id: evidence.manifest.claim_id,
        source: name.clone(),
        scheme,
        root,
        rows: rows.map_err(TrainError::from)?,
    };
    let bytes = reveal.to_bytes().map_err(TrainError::from)?;
    if bytes.len() as u64 > REVEAL_LIMIT {
        return Err(VerifyError::TooMuch { limit: REVEAL_LIMIT });
    }
    tune_fs::write_atomic(to, &bytes)?;
    Ok(reveal)
}

/// Checks revealed rows against the claim of a run.
pub(crate) fn check(file: &Path, evidence: &Evidence) -> Outcome {
    if !tune_fs::is_file(file) {
        return Outcome::NotChecked("it is not a file".to_owned());
    }
    let bytes = match tune_fs::read_limited(file, REVEAL_LIMIT) {
        Ok(bytes) => bytes,
        Err(error) => return Outcome::NotChecked(error.to_string()),
    };
    let manifest = &evidence.manifest;
    let checked = Reveal::parse(&bytes).and_then(|reveal| {
        reveal.check(&manifest.claim_id, &manifest.claim.inputs.sources)?;
        Ok(format!(
            "{} rows of `{}` are among those that the claim commits to",
            reveal.rows.len(),
            printable(&reveal.source)
        ))
    });
    match checked {
        Ok(words) => Outcome::Verified(words),
        Err(problem) => Outcome::Differs(problem.to_string()),
    }
}
