//! `chain.jsonl`: appended to while a run goes on, read back to resume and to verify.

use std::path::{Path, PathBuf};

use tune_fs::AppendFile;
use tune_schema::Digest;
use tune_schema::chain::ChainRecord;

use crate::TrainError;

/// Why a chain file is not a chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// A line is not a record in canonical form.
    #[error("`{file}` line {line}: {problem}")]
    Line {
        /// The file's name.
        file: String,
        /// From 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A record does not hold the digest of the one before.
    #[error("`{file}` line {line}: the record names {found} as the one before it, which has {expected}")]
    Broken {
        /// The file's name.
        file: String,
        /// From 1.
        line: usize,
        /// Digest in the record.
        found: Digest,
        /// Digest of the record before.
        expected: Digest,
    },
}

/// Parses a chain: every line canonical, steps 0, 1, 2…, each record linked to the one before; the first names `origin`.
///
/// # Errors
/// The first line that is not what it should be.
pub fn parse_chain(file: &str, bytes: &[u8], origin: Digest) -> Result<Vec<ChainRecord>, ChainError> {
    let (records, rest) = parse_prefix(file, bytes, origin)?;
    match rest {
        None => Ok(records),
        Some(problem) => Err(ChainError::Line { file: file.to_owned(), line: records.len() + 1, problem }),
    }
}

/// The longest valid prefix, and what is wrong with the first line after it that is not a whole record.
fn parse_prefix(file: &str, bytes: &[u8], origin: Digest) -> Result<(Vec<ChainRecord>, Option<String>), ChainError> {
    let mut records: Vec<ChainRecord> = Vec::new();
    let mut expected = origin;
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some(end) = rest.iter().position(|b| *b == b'\n') else {
            return Ok((records, Some("the last line has no end".to_owned())));
        };
        let (line, after) = (&rest[..end], &rest[end + 1..]);
        let number = records.len() + 1;
        let record: ChainRecord = match serde_json::from_slice(line) {
            Ok(record) => record,
            Err(error) => return Ok((records, Some(error.to_string()))),
        };
        if record.to_line().ok().as_deref() != Some(line) {
            return Ok((records, Some("the record is not in canonical form".to_owned())));
        }
        if record.step != records.len() as u64 {
            let problem = format!("the record is for step {}, expected step {}", record.step, records.len());
            return Err(ChainError::Line { file: file.to_owned(), line: number, problem });
        }
        if record.previous != expected {
            return Err(ChainError::Broken { file: file.to_owned(), line: number, found: record.previous, expected });
        }
        expected = Digest::of(line);
        records.push(record);
        rest = after;
    }
    Ok((records, None))
}

/// The chain of a run in progress.
#[derive(Debug)]
pub struct ChainFile {
    path: PathBuf,
    file: AppendFile,
    head: Digest,
    records: Vec<ChainRecord>,
}

impl ChainFile {
    /// Opens the chain at `path`, which starts from `origin`; a line cut off by an interruption is ignored.
    ///
    /// # Errors
    /// A file that cannot be read, or holds a chain from another origin.
    pub fn open(path: &Path, origin: Digest) -> Result<Self, TrainError> {
        let bytes = if tune_fs::exists(path) { tune_fs::read(path)? } else { Vec::new() };
        let (records, _) = parse_prefix("chain.jsonl", &bytes, origin)?;
        let file = AppendFile::open(path)?;
        let mut chain = Self { path: path.to_owned(), file, head: origin, records };
        chain.truncate(chain.records.len(), origin)?;
        Ok(chain)
    }

    /// Keeps the first `count` records.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn truncate(&mut self, count: usize, origin: Digest) -> Result<(), TrainError> {
        self.records.truncate(count);
        let mut length = 0;
        self.head = origin;
        for record in &self.records {
            let line = record.to_line()?;
            length += line.len() as u64 + 1;
            self.head = Digest::of(&line);
        }
        self.file.truncate_to(length)?;
        Ok(())
    }

    /// Appends a record; its `previous` must be [`Self::head`]. With `durable` the file reaches the disk before this returns.
    ///
    /// # Errors
    /// A file that cannot be written.
    ///
    /// # Panics
    /// If the record is not the next one.
    pub fn append(&mut self, record: ChainRecord, durable: bool) -> Result<(), TrainError> {
        assert_eq!(
            (record.step, record.previous),
            (self.records.len() as u64, self.head),
            "records are appended in order"
        );
        let mut line = record.to_line()?;
        self.head = Digest::of(&line);
        line.push(b'\n');
        self.file.append(&line)?;
        if durable {
            self.file.sync()?;
        }
        self.records.push(record);
        Ok(())
    }

    /// Digest of the last record, or the origin.
    #[must_use]
    pub fn head(&self) -> Digest {
        self.head
    }

    /// All records.
    #[must_use]
    pub fn records(&self) -> &[ChainRecord] {
        &self.records
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}
