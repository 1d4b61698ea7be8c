//! Commitments to the rows of a source: made, checked, and opened for chosen rows.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use tune_data::DataError;
use tune_data::rows::Lines;
use tune_schema::commitment::{Commitment, Scheme, Secret, row_leaf};
use tune_schema::merkle::Tree;
use tune_schema::reveal::RevealedRow;

use crate::lock_file::LockFile;
use crate::{ResolvedSource, SourceError};

/// A new secret from the system's randomness.
pub(crate) fn new_secret() -> Result<Secret, SourceError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| SourceError::NoRandomness(error.to_string()))?;
    Ok(Secret::from_bytes(bytes))
}

/// Adds the rows of files to a tree: the lines that are not blank, in order. `each` sees every row's index and text.
fn add_rows(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    secret: &Secret,
    tree: &mut Tree,
    mut each: impl FnMut(u64, &str),
) -> Result<(), SourceError> {
    for path in files.values() {
        for line in Lines::new(name, BufReader::with_capacity(1 << 16, tune_fs::open(path)?)) {
            let line = line?;
            if let Some(text) = line.text()? {
                let index = tree.leaves();
                tree.push(row_leaf(&secret.row_salt(index), text.as_bytes()));
                each(index, text);
            }
        }
    }
    Ok(())
}

/// The commitment to the rows of files under a secret.
pub(crate) fn commit(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    secret: &Secret,
) -> Result<Commitment, SourceError> {
    let mut tree = Tree::new();
    add_rows(name, files, secret, &mut tree, |_, _| {})?;
    let rows = tree.leaves();
    Ok(Commitment { scheme: Scheme::RowsV1, rows, root: tree.finish().0 })
}

/// The secret of a commitment, with which the rows of files were found to be those that it is to.
pub(crate) fn check(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    known: &Commitment,
    lock: &LockFile,
) -> Result<Secret, SourceError> {
    let no_secret = || SourceError::NoSecret { name: name.to_owned(), root: known.root };
    let secret = lock.secrets().get(&known.root).ok_or_else(no_secret)?;
    match commit(name, files, &secret) {
        Ok(now) => same(name, known, &now)?,
        // Only readable rows were ever committed to.
        Err(SourceError::Rows(error @ DataError::Row { .. })) => return Err(differs(name, known, error.to_string())),
        Err(error) => return Err(error),
    }
    Ok(secret)
}

/// A commitment in words.
fn words(commitment: &Commitment) -> String {
    format!("the root {} ({} rows)", commitment.root, commitment.rows)
}

fn differs(name: &str, known: &Commitment, found: String) -> SourceError {
    SourceError::Differs { name: name.to_owned(), file: "rows".to_owned(), locked: words(known), found }
}

/// That two commitments under one secret are to the same rows.
fn same(name: &str, known: &Commitment, now: &Commitment) -> Result<(), SourceError> {
    if known == now { Ok(()) } else { Err(differs(name, known, words(now))) }
}

/// Rows of a source, by their numbers from 1, each with the proof that the source's commitment is to it.
///
/// # Errors
/// A source without a commitment, rows that it does not have, or files that are no longer what they were.
pub fn reveal(source: &ResolvedSource, rows: &[RangeInclusive<u64>]) -> Result<Vec<RevealedRow>, SourceError> {
    let name = &source.name;
    let (Some(known), Some(secret)) = (&source.locked.commitment, &source.secret) else {
        return Err(SourceError::NotCommitted { name: name.clone() });
    };
    // Before ranges are written out: they may be of any length.
    let ends = rows.iter().flat_map(|range| [*range.start(), *range.end()]);
    if let Some(row) = ends.into_iter().find(|row| !(1..=known.rows).contains(row)) {
        return Err(SourceError::NoSuchRow { name: name.clone(), row, rows: known.rows });
    }
    let indices: BTreeSet<u64> = rows.iter().cloned().flatten().map(|row| row - 1).collect();
    let mut tree = Tree::with_paths(known.rows, indices.iter().copied());
    let mut texts: BTreeMap<u64, String> = BTreeMap::new();
    add_rows(name, &source.files, secret, &mut tree, |index, text| {
        if indices.contains(&index) {
            texts.insert(index, text.to_owned());
        }
    })?;
    let found = tree.leaves();
    let (root, paths) = tree.finish();
    same(name, known, &Commitment { scheme: Scheme::RowsV1, rows: found, root })?;
    let row = |(index, text): (u64, String)| RevealedRow {
        row: index + 1,
        text,
        salt: secret.row_salt(index),
        path: paths.of(index).expect("the tree was told which paths are wanted"),
    };
    Ok(texts.into_iter().map(row).collect())
}
