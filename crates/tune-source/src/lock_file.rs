//! `datasets.lock`: where it lies and when it changes.

use std::path::{Path, PathBuf};

use tune_schema::lock::{LOCK_VERSION, Lock, LockedSource};

use crate::SourceError;

/// A lock with the place it came from.
#[derive(Debug, Clone)]
pub struct LockFile {
    path: Option<PathBuf>,
    lock: Lock,
    saved: Lock,
}

/// The file's name.
pub const FILE_NAME: &str = "datasets.lock";

impl LockFile {
    /// The lock of a recipe: the nearest `datasets.lock` in the recipe's folder or one above it, or a new one beside the
    /// recipe. The search ends before a folder that everyone may write to, where anyone could have put one.
    ///
    /// # Errors
    /// A lock that cannot be read.
    pub fn find(recipe: &Path) -> Result<Self, SourceError> {
        let folder = recipe.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        let trusted = absolute.ancestors().take_while(|above| *above == absolute || !tune_fs::is_public(above));
        let found = trusted.map(|folder| folder.join(FILE_NAME)).find(|path| tune_fs::exists(path));
        let Some(path) = found else {
            let empty = Lock { version: LOCK_VERSION, sources: Vec::new() };
            return Ok(Self { path: Some(absolute.join(FILE_NAME)), lock: empty.clone(), saved: empty });
        };
        let lock = Lock::parse(&path.to_string_lossy(), &tune_fs::read_to_string(&path)?)?;
        Ok(Self { path: Some(path), lock: lock.clone(), saved: lock })
    }

    /// A lock that is in no file: that of a run to be verified.
    #[must_use]
    pub fn detached(lock: Lock) -> Self {
        Self { path: None, saved: lock.clone(), lock }
    }

    /// Where the lock is, or will be.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.path.clone().unwrap_or_else(|| PathBuf::from(FILE_NAME))
    }

    /// The folder that `file:` addresses are relative to.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.path.as_deref().and_then(Path::parent)
    }

    /// The entry of a source.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&LockedSource> {
        self.lock.sources.iter().find(|source| source.name == name)
    }

    /// Adds or replaces an entry.
    pub fn set(&mut self, source: LockedSource) {
        self.lock.sources.retain(|other| other.name != source.name);
        self.lock.sources.push(source);
        self.lock.sources.sort_by(|a, b| a.name.cmp(&b.name));
    }

    /// Writes the lock where it changed. Says whether it did.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&mut self) -> Result<bool, SourceError> {
        let Some(path) = self.path.as_ref().filter(|_| self.lock != self.saved) else { return Ok(false) };
        tune_fs::write_atomic(path, self.lock.to_yaml().as_bytes())?;
        self.saved = self.lock.clone();
        Ok(true)
    }
}
