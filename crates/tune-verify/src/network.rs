//! What would be fetched to compare a run with its sources: addresses that whoever made the run chose.

use std::collections::BTreeMap;
use std::path::Path;

use tune_schema::Digest;
use tune_schema::lock::{Lock, LockedSource};
use tune_schema::text::printable;
use tune_source::lock_file::FILE_NAME;
use tune_train::JobOptions;

use crate::{files, folder_of};

/// The sources in the lock of the run at `target` that have an address, are given no place and are not in the cache. Nothing is
/// fetched. Of a folder whose lock cannot be read there are none: what reads it next says why.
#[must_use]
pub fn unfetched(target: &Path, options: &JobOptions) -> Vec<LockedSource> {
    let read = || {
        let folder = folder_of(target).ok()?;
        // Before it is opened: a pipe, or what a link leads to, may never end.
        files::list(&folder).ok()?.iter().any(|path| path == FILE_NAME).then_some(())?;
        let bytes = tune_fs::read_limited(&folder.lock(), files::TEXT_LIMIT).ok()?;
        Lock::parse(FILE_NAME, std::str::from_utf8(&bytes).ok()?).ok()
    };
    // Each content is read once, however many entries of a stranger's lock name it.
    let mut known: BTreeMap<Digest, bool> = BTreeMap::new();
    let mut is_here = |source: &LockedSource| match source.files.as_slice() {
        [file] => *known
            .entry(file.sha256)
            .or_insert_with(|| options.source.store.verify(&file.sha256).is_ok_and(|found| found.is_some())),
        _ => false,
    };
    let mut sources = read().map(|lock| lock.sources).unwrap_or_default();
    sources.retain(|source| source.has_address() && !options.locations.contains_key(&source.name) && !is_here(source));
    sources
}

/// Names, addresses and sizes, in one line for people.
#[must_use]
pub fn in_words(sources: &[LockedSource]) -> String {
    let one = |source: &LockedSource| {
        let bytes = source.files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.size));
        format!("`{}` from {} ({bytes} bytes)", printable(&source.name), printable(&source.uri))
    };
    sources.iter().map(one).collect::<Vec<_>>().join(", ")
}
