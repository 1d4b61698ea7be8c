//! What can go wrong on the way to a published folder.

use std::collections::BTreeSet;
use std::path::PathBuf;

/// Why something cannot be published, audited or signed. [`PublishError::hint`] says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Not a finished run.
    #[error("`{0}` has no `manifest.json`: it is no finished run")]
    NotARun(PathBuf),
    /// A published folder where a run folder is needed.
    #[error("`{0}` is a published folder already")]
    Published(PathBuf),
    /// A file that is not what its name says.
    #[error("`{path}` cannot be read: {problem}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A place that is taken.
    #[error("`{0}` is there already")]
    Exists(PathBuf),
    /// Two files of the published folder with one name.
    #[error("`{0}` would be there twice: a source is called like a file of the result")]
    Twice(String),
    /// Checkpoints that the run does not have.
    #[error("the run has no checkpoint of step {}: it has those of steps {}", listed(.missing), listed(.there))]
    NoCheckpoint {
        /// Their steps.
        missing: BTreeSet<u64>,
        /// The steps of those it has.
        there: BTreeSet<u64>,
    },
    /// A destination in the run that is published.
    #[error("`{0}` lies in the run folder")]
    Inside(PathBuf),
    /// A file whose bytes are no longer those that the manifest lists.
    #[error("`{path}` is not what the manifest lists")]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// An export of another run.
    #[error("`{0}` is the record of another claim")]
    OtherClaim(PathBuf),
    /// A text that is no key.
    #[error("`{path}` holds no P-256 key of this kind in PEM: {problem}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A source of the run, whose rows an audit wants to look at.
    #[error(transparent)]
    Source(#[from] tune_source::SourceError),
    /// A row that cannot be read.
    #[error(transparent)]
    Data(#[from] tune_data::DataError),
    /// A file that cannot be read or written.
    #[error(transparent)]
    Fs(#[from] tune_fs::FsError),
    /// A value without canonical form.
    #[error(transparent)]
    Canonical(#[from] tune_schema::CanonicalError),
}

/// Steps in a sentence.
pub(crate) fn listed(steps: &BTreeSet<u64>) -> String {
    steps.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

impl PublishError {
    /// What to do next, where there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotARun(_) => Some(
                "name the folder that `tune run` made; an interrupted run goes on with the same command".to_owned(),
            ),
            Self::Published(_) => Some("name the run folder that it was made from".to_owned()),
            Self::Unreadable { .. } | Self::Changed { .. } => {
                Some("`tune verify RUN --level files` says what differs".to_owned())
            }
            Self::Exists(_) => Some("choose another place, or remove what is there".to_owned()),
            Self::Twice(_) => Some("give the source another `name` in the recipe".to_owned()),
            Self::NoCheckpoint { .. } => {
                Some("name some of these; `--without-checkpoints` leaves all of them out".to_owned())
            }
            Self::Inside(_) => Some("choose a place outside of the run folder".to_owned()),
            Self::Key { .. } => Some("`tune key new FILE` makes one".to_owned()),
            Self::Source(error) => error.hint(),
            Self::Data(error) => error.hint(),
            Self::Fs(error) => error.hint(),
            Self::OtherClaim(_) => Some("export the run that is published".to_owned()),
            Self::Canonical(_) => None,
        }
    }

    /// Whether the machine is at fault, and not what the user gave.
    #[must_use]
    pub fn is_outside(&self) -> bool {
        match self {
            Self::Fs(error) => error.is_outside(),
            Self::Data(error) => error.is_outside(),
            _ => false,
        }
    }
}
