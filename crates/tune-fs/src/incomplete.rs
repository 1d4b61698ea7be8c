//! Names of what is being written: an interruption that nobody can catch leaves such a name behind.

use std::path::{Path, PathBuf};

use crate::error::Context;
use crate::{FsError, list_folder, remove_dir_all};

/// How the name of everything that is not whole yet ends.
pub(crate) const SUFFIX: &str = ".incomplete";

/// The name under which what will be `path` is written.
#[must_use]
pub fn incomplete_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(SUFFIX);
    PathBuf::from(name)
}

/// Whether a path of [`crate::list_files_recursive`] is, or lies in, something that is not whole.
#[must_use]
pub fn is_incomplete(path: &str) -> bool {
    path.split('/').any(|part| part.ends_with(SUFFIX))
}

/// Removes what an interrupted process left unfinished below `folder`.
///
/// # Errors
/// A folder that cannot be read, or remains that cannot be removed.
pub fn remove_incomplete(folder: &Path) -> Result<(), FsError> {
    for name in list_folder(folder)? {
        let path = folder.join(&name);
        match (path.is_dir(), is_incomplete(&name)) {
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
