//! Bytes that are needed only while the process lives, and may be more than memory holds.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::FsError;

/// Bytes that grow at the end and are read anywhere. The last ones are in memory, at most as many as was said; those
/// before them in a file without a name, which the system removes with the process, however it ends.
///
/// A little is never written at all: the file is made when memory is full for the first time.
#[derive(Debug)]
pub struct ScratchFile {
    folder: PathBuf,
    file: Option<File>,
    /// Bytes in the file.
    written: u64,
    /// The bytes after those.
    recent: Vec<u8>,
    memory: usize,
}

impl ScratchFile {
    /// Nothing yet, with at most `memory` bytes to be held in memory, and the system's folder for temporary files.
    #[must_use]
    pub fn new(memory: usize) -> Self {
        Self::in_folder(&std::env::temp_dir(), memory)
    }

    /// The same with another folder.
    #[must_use]
    pub fn in_folder(folder: &Path, memory: usize) -> Self {
        Self { folder: folder.to_owned(), file: None, written: 0, recent: Vec::new(), memory }
    }

    /// Adds bytes at the end.
    ///
    /// # Errors
    /// A folder that cannot be written, or a full disk, for two. What was there before can still be read.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), FsError> {
        if !self.recent.is_empty() && self.recent.len() + bytes.len() > self.memory {
            self.write_recent().map_err(|source| self.failed("write to", source))?;
        }
        self.recent.extend_from_slice(bytes);
        Ok(())
    }

    fn write_recent(&mut self) -> io::Result<()> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => tempfile::tempfile_in(&self.folder)?,
        };
        // Where reading moves the place of writing, or an earlier attempt broke off in the middle.
        let result = file.seek(SeekFrom::Start(self.written)).and_then(|_| file.write_all(&self.recent));
        self.file = Some(file);
        result?;
        self.written += self.recent.len() as u64;
        self.recent.clear();
        Ok(())
    }

    /// Fills `bytes` with what begins at `start`.
    ///
    /// # Errors
    /// A disk that fails.
    ///
    /// # Panics
    /// Where as much was never added.
    pub fn read(&self, start: u64, bytes: &mut [u8]) -> Result<(), FsError> {
        assert!(start + bytes.len() as u64 <= self.len(), "bytes at {start} are within {}", self.len());
        let in_file = usize::try_from(self.written.saturating_sub(start)).map_or(bytes.len(), |n| n.min(bytes.len()));
        let (from_file, from_memory) = bytes.split_at_mut(in_file);
        if let Some(file) = self.file.as_ref().filter(|_| !from_file.is_empty()) {
            read_at(file, start, from_file).map_err(|source| self.failed("read from", source))?;
        }
        if !from_memory.is_empty() {
            let start = usize::try_from(start.saturating_sub(self.written)).expect("a place in memory");
            from_memory.copy_from_slice(&self.recent[start..start + from_memory.len()]);
        }
        Ok(())
    }

    /// Number of bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.written + self.recent.len() as u64
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that are held in memory.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.recent.capacity()
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> FsError {
        FsError::Scratch { operation, folder: self.folder.clone(), source }
    }
}

#[cfg(unix)]
fn read_at(file: &File, start: u64, bytes: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, start)
}

#[cfg(windows)]
fn read_at(file: &File, mut start: u64, mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, start) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => (bytes, start) = (&mut bytes[n..], start + n as u64),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every place and length, so that pieces in the file, in memory and across both are read.
    fn assert_holds(scratch: &ScratchFile, expected: &[u8]) {
        assert_eq!(scratch.len(), expected.len() as u64);
        for start in 0..=expected.len() {
            for end in start..=expected.len() {
                let mut bytes = vec![0; end - start];
                scratch.read(start as u64, &mut bytes).unwrap();
                assert_eq!(bytes, expected[start..end]);
            }
        }
    }

    #[test]
    fn what_was_added_can_be_read_from_file_and_memory() {
        let folder = tempfile::tempdir().unwrap();
        let mut scratch = ScratchFile::in_folder(folder.path(), 8);
        let mut expected = Vec::new();
        assert!(scratch.is_empty());
        for n in [3_u8, 5, 1, 0, 20, 2, 7] {
            let bytes: Vec<u8> = (0..n).map(|i| n.wrapping_mul(16).wrapping_add(i)).collect();
            scratch.append(&bytes).unwrap();
            expected.extend(bytes);
            assert_holds(&scratch, &expected);
        }
        assert!(scratch.written > 0 && scratch.recent.len() <= 8);
        assert!(crate::list_folder(folder.path()).unwrap().is_empty(), "the file has no name");
    }

    #[test]
    fn a_little_needs_no_folder_and_more_says_which() {
        let mut scratch = ScratchFile::in_folder(Path::new("/nowhere/at/all"), 4);
        scratch.append(b"abcd").unwrap();
        let error = scratch.append(b"e").unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
        assert!(error.is_outside() && error.hint().is_some_and(|hint| hint.contains("TMPDIR")));
        assert_holds(&scratch, b"abcd");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_said() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut scratch = ScratchFile { file: Some(full), ..ScratchFile::new(4) };
        scratch.append(b"abcd").unwrap();
        let error = scratch.append(b"e").unwrap_err();
        assert!(error.hint().is_some_and(|hint| hint.contains("full")), "{:?}", error.hint());
        assert_holds(&scratch, b"abcd");
    }
}
