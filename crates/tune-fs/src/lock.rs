//! Folders and files that one process works with at a time.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::FsError;
use crate::error::Context;

/// Holds a folder for this process; others are refused until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct FolderLock {
    _folder: File,
}

impl FolderLock {
    /// Takes the folder, without waiting.
    ///
    /// # Errors
    /// A folder that cannot be opened, or that another process holds.
    pub fn acquire(folder: &Path) -> Result<Self, FsError> {
        let file = File::open(folder).context("open", folder)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _folder: file }),
            Err(TryLockError::WouldBlock) => Err(FsError::InUse { folder: folder.to_owned() }),
            Err(TryLockError::Error(error)) => Err(error).context("lock", folder),
        }
    }
}

/// Holds a file for this process while others wait, until it is dropped or the process ends. The file is there to be held
/// and has no content: one that is replaced by a rename cannot be held itself.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

impl FileLock {
    /// Takes the file, which is made where it is missing; waits while another process holds it.
    ///
    /// # Errors
    /// A file that cannot be made or locked.
    pub fn wait(path: &Path) -> Result<Self, FsError> {
        let file = File::options().create(true).append(true).open(path).context("open", path)?;
        file.lock().context("lock", path)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_holder() {
        let folder = tempfile::tempdir().unwrap();
        let held = FolderLock::acquire(folder.path()).unwrap();
        assert!(matches!(FolderLock::acquire(folder.path()), Err(FsError::InUse { .. })));
        drop(held);
        FolderLock::acquire(folder.path()).unwrap();
    }
}
