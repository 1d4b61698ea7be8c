//! One of the two folders, read without trust: only plain files that were found in it, none beyond a limit.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use tune_model::base::SafetensorsFile;
use tune_schema::Digest;
use tune_schema::chain::ChainRecord;
use tune_schema::lock::{LockedFile, LockedSource};
use tune_schema::manifest::Manifest;
use tune_train::{Job, JobOptions, Observer, RunFolder};

use super::DiffOptions;
use super::report::{Run, RunFacts};
use crate::files::{self, Evidence, TEXT_LIMIT};
use crate::verdict::Level;
use crate::{VerifyError, data};
use tune_schema::text::printable;

/// A run folder.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) run: Run,
    folder: RunFolder,
    /// Paths of all its files.
    found: BTreeSet<String>,
    manifest: Option<Manifest>,
    claim_id: Option<Digest>,
    /// The first thing in which it does not verify at level `files`.
    problem: Option<String>,
    /// What it has where it verifies.
    evidence: Option<Evidence>,
}

impl Side {
    /// Opens the run at `target` and checks its files.
    ///
    /// # Errors
    /// No finished run, or a folder with links or pipes in it.
    pub(super) fn open(run: Run, target: &Path) -> Result<Self, VerifyError> {
        let folder = crate::folder_of(target)?;
        // Before anything in it is opened: a pipe, or what a link leads to, may never end.
        let found = files::list(&folder)?.into_iter().collect();
        let (verdict, evidence) = files::check(&folder)?;
        let verdict = verdict.finish(Level::Files);
        let unread = || evidence.is_none().then(|| "its files cannot be read".to_owned());
        let problem = verdict.first_problem().or_else(unread);
        let evidence = evidence.filter(|_| problem.is_none());
        let mut side = Self { run, folder, found, manifest: None, claim_id: verdict.claim_id, problem, evidence };
        side.manifest = match &side.evidence {
            Some(evidence) => Some(evidence.manifest.clone()),
            None => side.json("manifest.json").ok(),
        };
        Ok(side)
    }

    /// Its files.
    pub(super) fn found(&self) -> &BTreeSet<String> {
        &self.found
    }

    /// Its manifest, where it is one.
    pub(super) fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// Digests of the files under its claim, where every one of them was checked already.
    pub(super) fn checked_digests(&self) -> Option<&BTreeMap<String, Digest>> {
        self.evidence.as_ref().map(|evidence| &evidence.manifest.claim.files)
    }

    /// The root of its initial weights, where its files were checked already.
    pub(super) fn checked_initial_root(&self) -> Option<Digest> {
        self.evidence.as_ref().map(|evidence| evidence.manifest.claim.initial_root)
    }

    /// What the report says of it.
    pub(super) fn facts(&self) -> RunFacts {
        RunFacts {
            folder: self.folder.path().to_owned(),
            claim_id: self.claim_id,
            problem: self.problem.as_deref().map(printable),
        }
    }

    /// Where one of its files is.
    ///
    /// # Errors
    /// No such file.
    pub(super) fn path(&self, name: &str) -> Result<PathBuf, String> {
        if self.found.contains(name) {
            Ok(self.folder.place(name))
        } else {
            Err(format!("{} has no `{name}`", self.run))
        }
    }

    /// The bytes of one of its texts.
    ///
    /// # Errors
    /// A file that is not there, or too large, or cannot be read.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, String> {
        let path = self.path(name)?;
        tune_fs::read_limited(&path, TEXT_LIMIT).map_err(|error| self.unreadable(name, &error))
    }

    /// One of its JSON files.
    ///
    /// # Errors
    /// As [`Self::read`], or a file that is not what it should be.
    pub(super) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, String> {
        serde_json::from_slice(&self.read(name)?).map_err(|error| self.unreadable(name, &error))
    }

    /// The first of these safetensors files that it has.
    ///
    /// # Errors
    /// None of them, or one that breaks the format.
    pub(super) fn tensors(&self, names: &[&str]) -> Result<SafetensorsFile, String> {
        let Some(name) = names.iter().find(|name| self.found.contains(**name)) else {
            return Err(format!("{} has no `{}`", self.run, names.join("` or `")));
        };
        SafetensorsFile::open(name, &self.path(name)?).map_err(|error| self.unreadable(name, &error))
    }

    /// That a file of this run cannot be read.
    pub(super) fn unreadable(&self, name: &str, error: &dyn std::fmt::Display) -> String {
        format!("`{name}` of {}: {error}", self.run)
    }

    /// What it claims, with the options under which the bytes of its sources are looked up.
    ///
    /// # Errors
    /// A folder that does not verify: what it says of its sources is not followed.
    pub(super) fn located(&self, options: &DiffOptions) -> Result<(&Evidence, JobOptions), String> {
        let evidence = self.evidence.as_ref().ok_or_else(|| format!("{} does not verify at `files`", self.run))?;
        let locked = |name: &str| evidence.lock.sources.iter().find(|source| source.name == name);
        let places = options.places.iter().filter(|(name, path)| locked(name).is_some_and(|source| fits(path, source)));
        let job = JobOptions {
            source: options.source.clone(),
            locations: places.cloned().collect(),
            ..JobOptions::default()
        };
        Ok((evidence, data::located(&self.folder, evidence, &job)))
    }

    /// The computation, with its rows rebuilt from its sources.
    ///
    /// # Errors
    /// Sources that cannot be had.
    pub(super) fn job(&self, options: &DiffOptions, observer: &mut dyn Observer) -> Result<Job, String> {
        let (evidence, job) = self.located(options)?;
        data::reopen(evidence, &job, observer)
            .map_err(|error| format!("the rows of {} cannot be had: {error}", self.run))
    }
}

/// Both chains, by their lines alone: whether the records are linked is for the level `files`.
///
/// # Errors
/// A line that is no record, or no line.
pub(super) fn chains(sides: [&Side; 2]) -> Result<[Vec<ChainRecord>; 2], String> {
    let chain = |side: &Side| -> Result<Vec<ChainRecord>, String> {
        let bytes = side.read("chain.jsonl")?;
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let record = |(line, text): (usize, &[u8])| {
            serde_json::from_slice(text)
                .map_err(|error| side.unreadable("chain.jsonl", &format!("line {line}: {error}")))
        };
        let records = (1..).zip(lines).map(record).collect::<Result<Vec<_>, _>>()?;
        if records.is_empty() { Err(side.unreadable("chain.jsonl", &"it has no record")) } else { Ok(records) }
    };
    Ok([chain(sides[0])?, chain(sides[1])?])
}

/// Folders that do not verify, and places that are of no use.
///
/// # Errors
/// A place for a source that neither run has.
pub(super) fn remarks(sides: [&Side; 2], places: &[(String, PathBuf)]) -> Result<Vec<String>, VerifyError> {
    let problem = |side: &Side| {
        let problem = side.problem.as_ref()?;
        Some(format!("{} does not verify at `files`: {}", side.run, printable(problem)))
    };
    let mut remarks: Vec<String> = sides.into_iter().filter_map(problem).collect();
    let known: BTreeMap<&str, Vec<&LockedSource>> =
        sides.iter().filter_map(|side| side.evidence.as_ref()).fold(BTreeMap::new(), |mut known, evidence| {
            evidence.lock.sources.iter().for_each(|source| known.entry(&source.name).or_default().push(source));
            known
        });
    // Of runs that do not verify, no source is looked up.
    for (name, path) in places.iter().filter(|_| !known.is_empty()) {
        let Some(sources) = known.get(name.as_str()) else {
            let known = known.keys().map(|name| printable(name)).collect::<Vec<_>>().join(", ");
            return Err(VerifyError::NoSuchSource { name: name.clone(), known });
        };
        if !sources.iter().any(|source| fits(path, source)) {
            remarks.push(format!("`{}` is not what either run has as `{name}`", path.display()));
        }
    }
    Ok(remarks)
}

/// Whether the bytes of a source lie at `path`. Of one with a commitment, that is seen once its rows are read.
fn fits(path: &Path, source: &LockedSource) -> bool {
    if source.commitment.is_some() {
        return tune_fs::is_file(path);
    }
    let same = |path: &Path, file: &LockedFile| {
        tune_fs::is_file(path) && tune_fs::digest_file(path).is_ok_and(|(digest, _)| digest == file.sha256)
    };
    match source.files.as_slice() {
        [file] if !tune_fs::is_dir(path) => same(path, file),
        files => files.iter().all(|file| same(&path.join(&file.path), file)),
    }
}
