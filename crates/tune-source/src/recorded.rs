//! Places that a run's `environment.json` names: where its sources and their secrets lay on the machine that computed it.
//!
//! Whoever gives a run away writes that file, and it may name any path of whoever reads it. So a place is gone to only where
//! plain files of exactly the locked sizes lie there; nothing is opened to find that out. A pipe or device may never end, and
//! neither may what a system shows of itself as files, which are empty by their size.

use std::path::{Path, PathBuf};

use tune_schema::environment::Environment;
use tune_schema::lock::LockedSource;

use crate::local;
use crate::resolve::SourceKind;

/// Where a run in the folder `run` of this machine had a source that has no address. None where nothing is on record, or
/// something else lies there than what is locked could be; a place where nothing lies is given, for an error that names it.
#[must_use]
pub fn place(environment: &Environment, source: &LockedSource, run: &Path) -> Option<PathBuf> {
    let path = environment.locations.get(&source.name).filter(|_| !source.has_address())?;
    let place = run.join(path);
    (!tune_fs::exists(&place) || may_be(&place, source)).then_some(place)
}

/// Where a run in the folder `run` of this machine had its file of secrets, if a plain file lies there.
#[must_use]
pub fn secrets(environment: &Environment, run: &Path) -> Option<PathBuf> {
    let place = run.join(environment.secrets.as_ref()?);
    tune_fs::stored_size(&place).map(|_| place)
}

/// Whether the files at `place` may be those of a source, by their number and sizes. Of a commitment no size is known.
fn may_be(place: &Path, source: &LockedSource) -> bool {
    let kind = if tune_fs::is_dir(place) { SourceKind::Model } else { SourceKind::Dataset };
    let Ok(found) = local::files(&source.name, place, kind) else { return false };
    match (source.files.as_slice(), found.len()) {
        ([], 1) if source.commitment.is_some() => found.values().all(|path| tune_fs::stored_size(path).is_some()),
        // A single file goes by any name.
        ([file], 1) => found.values().all(|path| tune_fs::stored_size(path) == Some(file.size)),
        (files, count) if files.len() == count => files
            .iter()
            .all(|file| found.get(&file.path).and_then(|path| tune_fs::stored_size(path)) == Some(file.size)),
        _ => false,
    }
}
