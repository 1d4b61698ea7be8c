//! A folder that one process works in.

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
