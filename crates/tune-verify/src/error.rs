//! Why a target cannot be verified at all.

use std::path::PathBuf;

/// A target that is no run.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Nothing is there.
    #[error("`{0}` does not exist")]
    NoTarget(PathBuf),
    /// No manifest, so no claim.
    #[error("`{0}` has no `manifest.json`: there is no claim to verify")]
    NoManifest(PathBuf),
    /// A file of another name than a manifest's.
    #[error("`{0}` is neither a run folder nor a `manifest.json`")]
    NotAManifest(PathBuf),
    /// A file that cannot be read.
    #[error(transparent)]
    Fs(#[from] tune_fs::FsError),
}

impl VerifyError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoTarget(_) | Self::NotAManifest(_) => Some("give a run folder or its `manifest.json`".to_owned()),
            Self::NoManifest(_) => Some("a run that was interrupted has none yet: `tune run` finishes it".to_owned()),
            Self::Fs(error) => error.hint(),
        }
    }
}
