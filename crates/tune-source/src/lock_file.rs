//! `datasets.lock`: where it lies and when it changes.

use std::path::{Path, PathBuf};

use tune_schema::Digest;
use tune_schema::commitment::Secret;
use tune_schema::lock::{LOCK_VERSION, Lock, LockedSource};

use crate::SourceError;
use crate::secrets::SecretsFile;

/// A lock with the place it came from.
#[derive(Debug, Clone)]
pub struct LockFile {
    path: Option<PathBuf>,
    lock: Lock,
    saved: Lock,
    secrets: SecretsFile,
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
            let secrets = SecretsFile::default();
            return Ok(Self { path: Some(absolute.join(FILE_NAME)), lock: empty.clone(), saved: empty, secrets });
        };
        let lock = Lock::parse(&path.to_string_lossy(), &tune_fs::read_to_string(&path)?)?;
        let secrets = Some(SecretsFile::beside(&path)).filter(|secrets| tune_fs::exists(secrets));
        let secrets = read_secrets(&lock, secrets.as_deref())?;
        Ok(Self { path: Some(path), lock: lock.clone(), saved: lock, secrets })
    }

    /// A lock that is in no file: that of a run to be verified. The file of secrets is read where the lock needs one.
    ///
    /// # Errors
    /// A file of secrets that cannot be read.
    pub fn detached(lock: Lock, secrets: Option<&Path>) -> Result<Self, SourceError> {
        Ok(Self { path: None, saved: lock.clone(), secrets: read_secrets(&lock, secrets)?, lock })
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

    /// The secrets of its commitments.
    #[must_use]
    pub fn secrets(&self) -> &SecretsFile {
        &self.secrets
    }

    /// Adds the secret of a new commitment.
    pub(crate) fn add_secret(&mut self, name: &str, root: Digest, secret: Secret) {
        self.secrets.add(name, root, secret);
    }

    /// Writes the lock where it changed, and before it new secrets to the file beside it.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&mut self) -> Result<Saved, SourceError> {
        let Some(path) = self.path.as_ref().filter(|_| self.lock != self.saved) else { return Ok(Saved::default()) };
        let secrets = SecretsFile::beside(path);
        let added = self.secrets.save(&secrets)?;
        tune_fs::write_atomic(path, self.lock.to_yaml().as_bytes())?;
        self.saved = self.lock.clone();
        Ok(Saved { lock: true, secrets: added.then_some(secrets) })
    }
}

/// What [`LockFile::save`] wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saved {
    /// Whether the lock changed.
    pub lock: bool,
    /// The file that new secrets were added to, where there were any.
    pub secrets: Option<PathBuf>,
}

fn read_secrets(lock: &Lock, path: Option<&Path>) -> Result<SecretsFile, SourceError> {
    let needed = lock.sources.iter().any(|source| source.commitment.is_some());
    path.filter(|_| needed).map_or_else(|| Ok(SecretsFile::default()), SecretsFile::read)
}
