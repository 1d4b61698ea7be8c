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
    /// A manifest that cannot be read as one.
    #[error("`{path}` is not a manifest: {problem}")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A key or statement.
    #[error(transparent)]
    Publish(#[from] tune_publish::PublishError),
    /// A place for a source that no run has.
    #[error("a place was given for `{name}`, and the sources of these runs are {known}")]
    NoSuchSource {
        /// The name that was given.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The computation cannot be set up again.
    #[error(transparent)]
    Train(#[from] tune_train::TrainError),
    /// A folder that is not the one that was verified.
    #[error("`{0}` has another manifest than when it was verified: nothing was signed")]
    ChangedMeanwhile(PathBuf),
    /// A pipe or a folder where a file should be.
    #[error("`{0}` is not a file")]
    NotAFile(PathBuf),
    /// A run whose files do not fit together.
    #[error("`{target}` does not verify at level `files`: {problem}")]
    NotSound {
        /// The run.
        target: PathBuf,
        /// The first thing that is wrong.
        problem: String,
    },
    /// A place that is taken.
    #[error("`{0}` is there already")]
    Taken(PathBuf),
    /// A file for revealed rows in the run that they are of.
    #[error("`{0}` lies in the run")]
    Inside(PathBuf),
    /// A source that is nowhere to be found.
    #[error("where the rows of `{0}` are is not on record")]
    NoPlace(String),
    /// More rows than a reader would read.
    #[error("these rows would make a file of more than {limit} bytes, which nobody reads")]
    TooMuch {
        /// The most.
        limit: u64,
    },
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
            Self::Manifest { .. } | Self::NotAFile(_) => None,
            Self::ChangedMeanwhile(_) => Some("verify a copy that nobody else writes to".to_owned()),
            Self::Publish(error) => error.hint(),
            Self::Train(error) => error.hint(),
            Self::NotSound { target, .. } => {
                Some(format!("`tune verify {} --level files` says what differs", target.display()))
            }
            Self::NoSuchSource { .. } => None,
            Self::Taken(_) => Some("choose another place, or remove what is there".to_owned()),
            Self::Inside(_) => {
                Some("choose a place outside: a run holds nothing that its manifest does not list".to_owned())
            }
            Self::NoPlace(name) => Some(format!("say where they are with `--source {name}=PATH`")),
            Self::TooMuch { .. } => Some("reveal fewer, or several files".to_owned()),
            Self::Fs(error) => error.hint(),
        }
    }
}
