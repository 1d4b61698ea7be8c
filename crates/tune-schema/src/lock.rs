//! `datasets.lock`: which bytes every source of the recipes stands for.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::commitment::Commitment;
use crate::recipe::{DataClass, yaml};
use crate::{Digest, path};

/// The format version this crate reads and writes. A higher one is refused with its own error.
pub const LOCK_VERSION: u32 = 1;

/// The whole lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Format version; a change breaks readers.
    pub version: u32,
    /// Sources, sorted by name.
    pub sources: Vec<LockedSource>,
}

/// One source: where it was found, what its bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockedSource {
    /// The name that recipes use.
    pub name: String,
    /// `https://…`, `pip:NAME==VERSION#MEMBER`, or `file:RELATIVE` to the lock's folder (only the file's name when it
    /// lies elsewhere: a lock never holds a path of one machine).
    pub uri: String,
    /// Version or revision, where the source has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// SPDX licence expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// OSAID class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<DataClass>,
    /// The files, sorted by path; none where there is a commitment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<LockedFile>,
    /// What stands for the rows of a source that may not be shared, in place of digest and size of its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commitment: Option<Commitment>,
}

impl LockedSource {
    /// A source of which nothing is known but name and address.
    #[must_use]
    pub fn new(name: impl Into<String>, uri: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            uri: uri.into(),
            revision: None,
            licence: None,
            class: None,
            files: Vec::new(),
            commitment: None,
        }
    }

    /// Whether it can be fetched from somewhere, and is no file of one machine.
    #[must_use]
    pub fn has_address(&self) -> bool {
        ["https://", "http://", "pip:"].iter().any(|scheme| self.uri.starts_with(scheme))
    }

    /// The source as a claim names it: a local one by its name alone, for where it lies on one machine and what a single
    /// file is called there is nothing that was computed.
    #[must_use]
    pub fn claimed(&self) -> Self {
        let mut claimed = self.clone();
        if claimed.uri.starts_with("file:") {
            claimed.uri = format!("file:{}", self.name);
            if let [file] = claimed.files.as_mut_slice() {
                file.path.clone_from(&self.name);
            }
        }
        claimed
    }
}

/// One file of a source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockedFile {
    /// Path within the source, `/` separators; the file's name for a source of one file.
    pub path: String,
    /// Digest of its bytes.
    pub sha256: Digest,
    /// Size in bytes.
    pub size: u64,
}

/// Why a text is no lock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// Written by a newer version of the tool.
    #[error("`{file}` has version {found}, this `tune` reads version {LOCK_VERSION}")]
    Newer {
        /// The file.
        file: String,
        /// Its version.
        found: u64,
    },
    /// Not a lock.
    #[error("`{file}`:{line}: {problem}")]
    Invalid {
        /// The file.
        file: String,
        /// From 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
}

impl LockError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Newer { .. } => "use a newer `tune`".to_owned(),
            Self::Invalid { .. } => "the file is written by `tune lock`: remove it and lock again".to_owned(),
        })
    }
}

impl Lock {
    /// Reads a lock; `file` is its name in errors.
    ///
    /// # Errors
    /// A newer version, or a text that is no lock.
    pub fn parse(file: &str, text: &str) -> Result<Self, LockError> {
        let invalid = |line: usize, problem: String| LockError::Invalid { file: file.to_owned(), line, problem };
        let document = yaml::parse(text).map_err(|error| invalid(error.place.line, error.problem))?;
        if let Some(found) =
            document.value.get("version").and_then(serde_json::Value::as_u64).filter(|v| *v > u64::from(LOCK_VERSION))
        {
            return Err(LockError::Newer { file: file.to_owned(), found });
        }
        let line_of = |path: &str| document.values.get(path).map_or(1, |place| place.line);
        let lock: Self = serde_path_to_error::deserialize(&document.value).map_err(
            |error: serde_path_to_error::Error<serde_json::Error>| {
                let path = error.path().to_string().replace(['[', ']'], ".").replace("..", ".");
                invalid(line_of(path.trim_matches('.')), error.inner().to_string())
            },
        )?;
        let mut names = BTreeSet::new();
        for (i, source) in lock.sources.iter().enumerate() {
            let refused = |key: &str, text: &str, problem: &str| {
                invalid(line_of(&format!("sources.{i}.{key}")), format!("{text:?} is refused: {problem}"))
            };
            path::check(&source.name).map_err(|problem| refused("name", &source.name, problem))?;
            if !names.insert(&source.name) {
                return Err(refused("name", &source.name, "another source has this name already"));
            }
            if source.files.is_empty() == source.commitment.is_none() {
                let problem = "a source has either `files` or a `commitment`";
                return Err(invalid(line_of(&format!("sources.{i}.name")), problem.to_owned()));
            }
            for (j, file) in source.files.iter().enumerate() {
                let key = format!("files.{j}.path");
                path::check(&file.path).map_err(|problem| refused(&key, &file.path, problem))?;
            }
        }
        Ok(lock)
    }

    /// The file's text: sources and files sorted, one value a line, so that a change is easy to read.
    ///
    /// # Panics
    /// Never: a lock has a JSON form.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let mut sorted = self.clone();
        sorted.sources.sort_by(|a, b| a.name.cmp(&b.name));
        sorted.sources.iter_mut().for_each(|source| source.files.sort());
        let value = serde_json::to_value(&sorted).expect("a lock has a JSON form");
        format!("# Generated by tune; not for manual editing.\n{}", yaml::emit(&value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commitment::Scheme;

    fn lock() -> Lock {
        let file = LockedFile { path: "a.jsonl".into(), sha256: Digest::of(b"a"), size: 1 };
        let source = |name: &str| LockedSource {
            licence: Some("MIT".into()),
            class: Some(DataClass::Open),
            files: vec![file.clone()],
            ..LockedSource::new(name, "file:a.jsonl")
        };
        Lock { version: 1, sources: vec![source("a"), source("b")] }
    }

    #[test]
    fn round_trip_and_golden_text() {
        let text = lock().to_yaml();
        assert_eq!(Lock::parse("datasets.lock", &text).unwrap(), lock());
        assert!(text.starts_with("# Generated by tune; not for manual editing.\nsources:\n  -\n    class: \"open\"\n    files:\n      -\n        path: \"a.jsonl\"\n        sha256: \"sha256:ca97"), "{text}");
    }

    #[test]
    fn a_commitment_stands_in_place_of_files() {
        let mut committed = lock();
        let commitment = Commitment { scheme: Scheme::RowsV1, rows: 3, root: Digest::of(b"root") };
        committed.sources[1].commitment = Some(commitment);
        let both = Lock::parse("l", &committed.to_yaml()).unwrap_err();
        assert!(
            matches!(&both, LockError::Invalid { line: 25, problem, .. } if problem.contains("either")),
            "{both:?}"
        );
        committed.sources[1].files.clear();
        let text = committed.to_yaml();
        assert_eq!(Lock::parse("l", &text).unwrap(), committed);
        assert!(text.contains("      scheme: \"tune-rows/1\"\n") && text.matches("size").count() == 1, "{text}");
        committed.sources[1].commitment = None;
        assert!(matches!(Lock::parse("l", &committed.to_yaml()), Err(LockError::Invalid { .. })));
        assert!(Lock::parse("l", &text.replace("tune-rows/1", "tune-rows/2")).is_err());
    }

    #[test]
    fn newer_and_broken_locks_are_told_apart() {
        let newer = lock().to_yaml().replace("version: 1", "version: 2");
        assert!(matches!(Lock::parse("l", &newer), Err(LockError::Newer { found: 2, .. })));
        let broken = lock().to_yaml().replace("size: 1", "size: many");
        assert!(
            matches!(Lock::parse("l", &broken), Err(LockError::Invalid { line: 9, .. })),
            "{:?}",
            Lock::parse("l", &broken)
        );
        for (from, to, line) in [
            ("name: \"b\"", "name: \"../b\"", 21),
            ("name: \"a\"", "name: \"a\\u001b[2J\"", 11),
            ("path: \"a.jsonl\"", "path: \"../a.jsonl\"", 7),
        ] {
            let hostile = lock().to_yaml();
            assert!(hostile.contains(from), "{hostile}");
            let error = Lock::parse("l", &hostile.replacen(from, to, 1)).unwrap_err();
            assert!(matches!(error, LockError::Invalid { line: found, .. } if found == line), "{error:?}\n{hostile}");
            assert!(!error.to_string().contains('\u{1b}'), "{error}");
        }
        let twice = lock().to_yaml().replace("name: \"b\"", "name: \"a\"");
        assert!(Lock::parse("l", &twice).unwrap_err().to_string().contains("has this name already"));
        let unknown = lock().to_yaml().replace("licence:", "license:");
        assert!(matches!(Lock::parse("l", &unknown), Err(LockError::Invalid { .. })));
    }
}
