//! One open file of a model: bounded positioned reads, nothing else.
//!
//! The handle is kept, so that what was checked when the header was read is what is read later, even if somebody
//! replaces the path meanwhile. Memory-mapping was rejected: it needs `unsafe`, and a file that shrinks under a
//! mapping kills the process instead of giving an error.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::error::BaseError;

/// Bytes read at a time where a tensor is decoded or hashed: the memory that reading costs beyond the result.
const CHUNK: u64 = 1 << 20;

/// An open file with its name in the model and its length when it was opened.
#[derive(Debug)]
pub(crate) struct ModelFile {
    name: String,
    length: u64,
    handle: Mutex<File>,
}

impl ModelFile {
    /// Opens `path`, which must be a regular file.
    pub(crate) fn open(name: &str, path: &Path) -> Result<Self, BaseError> {
        let io = |source| BaseError::Io { file: name.to_owned(), source };
        let handle = tune_fs::open(path).map_err(|source| BaseError::Open { file: name.to_owned(), source })?;
        let metadata = handle.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(io(std::io::Error::other("not a regular file")));
        }
        Ok(Self { name: name.to_owned(), length: metadata.len(), handle: Mutex::new(handle) })
    }

    /// The file's name in the model.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The file's length in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Reads a whole small file, refusing one longer than `limit`.
    pub(crate) fn read_whole(name: &str, path: &Path, limit: u64) -> Result<Vec<u8>, BaseError> {
        let file = Self::open(name, path)?;
        if file.length > limit {
            return Err(BaseError::TooLarge { file: file.name, what: "the file's length", found: file.length, limit });
        }
        file.read(0, file.length)
    }

    /// The `length` bytes from `offset`. Both are checked against the file before memory is taken.
    pub(crate) fn read(&self, offset: u64, length: u64) -> Result<Vec<u8>, BaseError> {
        let size = self.check(offset, length)?;
        let mut bytes = vec![0; size];
        self.fill(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Hands the `length` bytes from `offset` to `each` in pieces that are multiples of `unit` bytes, the last one
    /// excepted if `length` is not.
    pub(crate) fn for_chunks(
        &self,
        offset: u64,
        length: u64,
        unit: u64,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), BaseError> {
        self.check(offset, length)?;
        let piece = (CHUNK / unit.max(1)).max(1).saturating_mul(unit.max(1));
        let mut buffer = Vec::new();
        let mut done = 0;
        while done < length {
            let size = piece.min(length - done);
            buffer.resize(self.check(offset + done, size)?, 0);
            self.fill(offset + done, &mut buffer)?;
            each(&buffer);
            done += size;
        }
        Ok(())
    }

    /// Gives `read` a buffered reader that stands at the beginning of the file.
    pub(crate) fn with_reader<T>(
        &self,
        read: impl FnOnce(&mut dyn Read) -> Result<T, BaseError>,
    ) -> Result<T, BaseError> {
        let mut handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        handle.rewind().map_err(|source| self.io(source))?;
        read(&mut BufReader::with_capacity(1 << 16, &mut *handle))
    }

    fn check(&self, offset: u64, length: u64) -> Result<usize, BaseError> {
        let inside = offset.checked_add(length).is_some_and(|end| end <= self.length);
        match usize::try_from(length) {
            Ok(size) if inside => Ok(size),
            _ => Err(BaseError::Truncated { file: self.name.clone(), offset, needed: length, length: self.length }),
        }
    }

    fn fill(&self, offset: u64, bytes: &mut [u8]) -> Result<(), BaseError> {
        // A panic while the lock was held leaves at worst another position, which is set here anyway.
        let mut handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        handle.seek(SeekFrom::Start(offset)).and_then(|_| handle.read_exact(bytes)).map_err(|source| self.io(source))
    }

    fn io(&self, source: std::io::Error) -> BaseError {
        BaseError::Io { file: self.name.clone(), source }
    }
}
