//! A folder of files under the names of their digests: what was fetched once need not be fetched again.

use std::io::Read;
use std::path::{Path, PathBuf};

use tune_schema::Digest;

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

    /// Path and size of the content with this digest, after reading all of it: a store is not trusted. None where the
    /// store has no such content, or has it damaged; inserting it again mends that.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn verify(&self, digest: &Digest) -> Result<Option<(PathBuf, u64)>, FsError> {
        let Some(path) = self.path(digest) else { return Ok(None) };
        let (found, size) = crate::digest_file(&path)?;
        Ok((found == *digest).then_some((path, size)))
    }

    /// Stores what `reader` gives, up to `limit` bytes. Gives digest and size.
    ///
    /// # Errors
    /// A reader that fails or gives more, or a full disk; nothing is left behind.
    pub fn insert(&self, reader: &mut dyn Read, limit: u64) -> Result<(Digest, u64), FsError> {
        let folder = self.0.join("sha256");
        crate::create_dir_all(&folder)?;
        let mut file = AtomicFile::create(&folder.join("incoming"))?;
        file.fill(reader, limit)?;
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
        assert!(matches!(store.insert(&mut b"abcd".as_slice(), 3), Err(FsError::IncomingTooLarge { .. })));
        assert_eq!(crate::list_files_recursive(folder.path()).unwrap().len(), 1);
    }

    #[test]
    fn damage_is_noticed_and_mended() {
        let folder = tempfile::tempdir().unwrap();
        let store = ContentStore::new(folder.path());
        let (digest, _) = store.insert(&mut b"abc".as_slice(), 3).unwrap();
        assert_eq!(store.verify(&digest).unwrap(), Some((store.place(&digest), 3)));
        crate::write_atomic(&store.place(&digest), b"abd").unwrap();
        assert_eq!(store.verify(&digest).unwrap(), None);
        store.insert(&mut b"abc".as_slice(), 3).unwrap();
        assert!(store.verify(&digest).unwrap().is_some());
    }

    #[test]
    fn a_reader_that_fails_is_told_from_a_disk_and_leaves_nothing() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                Err(std::io::Error::other("gone"))
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let store = ContentStore::new(folder.path());
        let error = store.insert(&mut b"some".as_slice().chain(Broken), 100).unwrap_err();
        assert!(matches!(error, FsError::Incoming { .. }), "{error}");
        assert!(crate::list_files_recursive(folder.path()).unwrap().is_empty());
    }
}
