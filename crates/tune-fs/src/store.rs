//! A folder of files under the names of their digests: what was fetched once need not be fetched again.

use std::io::Read;
use std::path::{Path, PathBuf};

use tune_schema::Digest;

use crate::error::Context;
use crate::{AtomicFile, FsError};

/// The content store in a folder.
#[derive(Debug, Clone)]
pub struct ContentStore(PathBuf);

impl ContentStore {
    /// The store in `folder`; nothing is created until something is inserted.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// Where content with this digest lies, or would.
    #[must_use]
    pub fn place(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.0.join("sha256").join(&hex[..2]).join(hex)
    }

    /// Where content with this digest lies, if the store has it.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> Option<PathBuf> {
        Some(self.place(digest)).filter(|path| path.is_file())
    }

    /// Stores what `reader` gives, up to `limit` bytes. Gives digest and size.
    ///
    /// # Errors
    /// A reader that fails or gives more, or a full disk; nothing is left behind.
    pub fn insert(&self, reader: &mut dyn Read, limit: u64) -> Result<(Digest, u64), FsError> {
        let folder = self.0.join("sha256");
        crate::create_dir_all(&folder)?;
        let mut file = AtomicFile::create(&folder.join("incoming"))?;
        let (mut buffer, mut size) = (vec![0; 1 << 20], 0_u64);
        loop {
            let n = reader.read(&mut buffer).context("fetch into", &folder)?;
            if n == 0 {
                break;
            }
            size += n as u64;
            if size > limit {
                return Err(FsError::TooLarge { path: folder, limit });
            }
            file.write(&buffer[..n])?;
        }
        let digest = file.digest();
        let place = self.place(&digest);
        crate::create_dir_all(place.parent().unwrap_or(Path::new(".")))?;
        file.rename_to(&place);
        file.commit()
    }
}

/// Where the tool keeps what it fetched: `TUNE_CACHE`, else `XDG_CACHE_HOME/tune`, else `HOME/.cache/tune`.
#[must_use]
pub fn cache_dir() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("TUNE_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|path| path.join("tune")))
        .or_else(|| variable("HOME").map(|path| path.join(".cache/tune")))
        .unwrap_or_else(|| PathBuf::from(".tune-cache"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_is_found_by_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let store = ContentStore::new(folder.path());
        let (digest, size) = store.insert(&mut b"abc".as_slice(), 3).unwrap();
        assert_eq!((digest, size), (Digest::of(b"abc"), 3));
        assert_eq!(crate::read(&store.path(&digest).unwrap()).unwrap(), b"abc");
        assert!(store.path(&Digest::of(b"other")).is_none());
        assert!(matches!(store.insert(&mut b"abcd".as_slice(), 3), Err(FsError::TooLarge { .. })));
        assert_eq!(crate::list_files_recursive(folder.path()).unwrap().len(), 1);
    }
}
