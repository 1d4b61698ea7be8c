//! Names of what is being written: an interruption that nobody can catch leaves such a name behind.

use std::path::{Path, PathBuf};

use crate::error::Context;
use crate::{FsError, list_folder, remove_dir_all};

/// How the name of everything of ours that is not whole yet begins.
pub(crate) const PREFIX: &str = ".tune-";
/// How it ends.
pub(crate) const SUFFIX: &str = ".incomplete";

/// The name under which what will be `path` is written, beside it.
#[must_use]
pub fn incomplete_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{PREFIX}{name}{SUFFIX}"))
}

/// Whether a path of [`crate::list_files_recursive`] is, or lies in, something of ours that is not whole.
#[must_use]
pub fn is_incomplete(path: &str) -> bool {
    path.split('/').any(|part| part.starts_with(PREFIX) && part.ends_with(SUFFIX))
}

/// Removes what an interrupted process of ours left unfinished below `folder`. Links are not followed.
///
/// # Errors
/// A folder that cannot be read, or remains that cannot be removed.
pub fn remove_incomplete(folder: &Path) -> Result<(), FsError> {
    for name in list_folder(folder)? {
        let path = folder.join(&name);
        let is_folder = std::fs::symlink_metadata(&path).context("look at", &path)?.is_dir();
        match (is_folder, is_incomplete(&name)) {
            (true, true) => remove_dir_all(&path)?,
            (true, false) => remove_incomplete(&path)?,
            (false, true) => std::fs::remove_file(&path).context("remove", &path)?,
            (false, false) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{create_dir_all, list_files_recursive, write_atomic};

    #[test]
    fn files_of_others_stay() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write_atomic(&folder.path().join("film.incomplete"), b"x").unwrap();
        write_atomic(&other.path().join(".tune-x.incomplete"), b"x").unwrap();
        std::os::unix::fs::symlink(other.path(), folder.path().join("link")).unwrap();
        remove_incomplete(folder.path()).unwrap();
        assert_eq!(list_folder(folder.path()).unwrap(), ["film.incomplete", "link"]);
        assert_eq!(list_folder(other.path()).unwrap(), [".tune-x.incomplete"]);
    }

    #[test]
    fn only_what_is_unfinished_goes() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        let staging = incomplete_name(&folder.path().join("step"));
        create_dir_all(&inner).unwrap();
        create_dir_all(&staging).unwrap();
        for path in [inner.join("whole"), inner.join(".tune-x.incomplete"), staging.join("part")] {
            write_atomic(&path, b"x").unwrap();
        }
        assert_eq!(list_files_recursive(folder.path()).unwrap().iter().filter(|path| is_incomplete(path)).count(), 2);
        remove_incomplete(folder.path()).unwrap();
        assert_eq!(list_folder(folder.path()).unwrap(), ["inner"]);
        assert_eq!(list_files_recursive(folder.path()).unwrap(), ["inner/whole"]);
    }
}
