//! What can go wrong with sources.

use std::path::PathBuf;

use tune_schema::Digest;

use crate::secrets::FILE_NAME;

/// What happened to which source. [`SourceError::hint`] says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file or folder.
    #[error(transparent)]
    Fs(#[from] tune_fs::FsError),
    /// A name in no known form.
    #[error("`{uri}`: {problem}")]
    Uri {
        /// As written.
        uri: String,
        /// What is wrong.
        problem: String,
    },
    /// Nothing at a local path.
    #[error("source `{name}`: `{path}` does not exist")]
    Missing {
        /// The source.
        name: String,
        /// Where it should be.
        path: PathBuf,
    },
    /// A source without an address of which no place is given.
    #[error("source `{name}` has no address, and where it lies is not known")]
    NoPlace {
        /// The source.
        name: String,
    },
    /// A folder that holds no model.
    #[error("source `{name}`: `{path}` is not a model folder: it has no `{file}`")]
    NotAModel {
        /// The source.
        name: String,
        /// The folder.
        path: PathBuf,
        /// What it lacks.
        file: &'static str,
    },
    /// A folder, pipe or device where a file is needed.
    #[error("source `{name}`: `{path}` is not a file; a data set is one file, a model a folder of files")]
    NotAFile {
        /// The source.
        name: String,
        /// What is no file.
        path: PathBuf,
    },
    /// Bytes that are not those of the lock.
    #[error("source `{name}`: `{file}` is not what is locked: {locked} is, {found} was found")]
    Differs {
        /// The source.
        name: String,
        /// The file within it.
        file: String,
        /// What the lock says.
        locked: String,
        /// What the bytes are.
        found: String,
    },
    /// Bytes that are not those the recipe pins.
    #[error("source `{name}`: the recipe pins {pinned}, found {found}")]
    Pinned {
        /// The source.
        name: String,
        /// What the recipe says.
        pinned: Digest,
        /// What the bytes are.
        found: Digest,
    },
    /// A source that the lock does not hold, where the lock may not change.
    #[error("source `{name}` is not in `{lock}`")]
    NotLocked {
        /// The source.
        name: String,
        /// The lock.
        lock: PathBuf,
    },
    /// A source that the lock holds from another address, where the lock may not change.
    #[error("source `{name}` is locked from `{locked}`, and the recipe names `{asked}`")]
    Moved {
        /// The source.
        name: String,
        /// The address in the lock.
        locked: String,
        /// That in the recipe.
        asked: String,
    },
    /// A source in the lock by its digest that may not be shared, or the reverse, where the lock may not change.
    #[error("source `{name}` stands in `{lock}` by {}, and its class in the recipe asks for {}", form(*committed), form(!*committed))]
    OtherForm {
        /// The source.
        name: String,
        /// The lock.
        lock: PathBuf,
        /// Whether the lock has a commitment.
        committed: bool,
    },
    /// A commitment that nothing can be compared with.
    #[error("source `{name}`: the secret of its commitment {root} is not here")]
    NoSecret {
        /// The source.
        name: String,
        /// The root.
        root: Digest,
    },
    /// A file that should hold secrets.
    #[error("`{path}` is no file of secrets: {problem}")]
    Secrets {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// No secret can be made.
    #[error("the system gives no random bytes: {0}")]
    NoRandomness(String),
    /// An unshareable source at an address.
    #[error("source `{name}` is unshareable, and `{uri}` is an address that a lock would publish")]
    NotLocal {
        /// The source.
        name: String,
        /// Where it is.
        uri: String,
    },
    /// An unshareable source with a digest in the recipe.
    #[error("source `{name}` is unshareable, and the recipe's `sha256` would publish the digest of its file")]
    PinnedUnshareable {
        /// The source.
        name: String,
    },
    /// A source of which no single rows can be shown.
    #[error("source `{name}` stands in the claim by its digest: there is no commitment to single rows")]
    NotCommitted {
        /// The source.
        name: String,
    },
    /// A number beyond the rows.
    #[error("source `{name}` has no row {row}: it has the rows 1 to {rows}")]
    NoSuchRow {
        /// The source.
        name: String,
        /// The number that was asked for.
        row: u64,
        /// How many rows there are.
        rows: u64,
    },
    /// A row that cannot be read.
    #[error(transparent)]
    Rows(#[from] tune_data::DataError),
    /// A lock that cannot be read.
    #[error(transparent)]
    Lock(#[from] tune_schema::lock::LockError),
    /// A source that would have to be fetched.
    #[error("source `{name}`: `{uri}` is not in the cache, and the network may not be used")]
    Offline {
        /// The source.
        name: String,
        /// Where it is.
        uri: String,
    },
    /// A transfer that failed.
    #[error("source `{name}`: cannot fetch `{uri}`: {problem}")]
    Fetch {
        /// The source.
        name: String,
        /// Where it is.
        uri: String,
        /// What happened.
        problem: String,
    },
    /// A source that needs pip, on a machine without it.
    #[error("source `{name}`: `{requirement}` cannot be fetched without `python3 -m pip`")]
    NoPip {
        /// The source.
        name: String,
        /// The package.
        requirement: String,
    },
    /// A package that cannot be had or read.
    #[error("source `{name}`: cannot fetch the package `{requirement}`: {problem}")]
    Pip {
        /// The source.
        name: String,
        /// The package.
        requirement: String,
        /// What happened.
        problem: String,
    },
    /// A package without the member.
    #[error("source `{name}`: the package `{package}` holds no `{member}`")]
    Member {
        /// The source.
        name: String,
        /// The package.
        package: String,
        /// What was looked for.
        member: String,
        /// The names most like it that it does hold.
        near: Vec<String>,
    },
}

/// How a source stands in a lock.
fn form(committed: bool) -> &'static str {
    if committed { "a commitment to its rows" } else { "the digest of its file" }
}

impl SourceError {
    /// What to do next, where there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Fs(error) => return error.hint(),
            Self::Uri { .. } => return None,
            Self::Missing { .. } => "paths in a recipe are relative to the recipe's folder; `datasets.0.path=…` or `base_model=…` on the command line, relative to the current folder, takes another place".to_owned(),
            Self::NoPlace { name } => format!(
                "say where it is with `--source {name}=PATH`; the place that a run names counts only where files of the locked sizes lie"
            ),
            Self::NotAModel { .. } => "a model folder holds `config.json`, `tokenizer.json` and `*.safetensors`, as on the hub; a GGUF file is named itself".to_owned(),
            Self::NotAFile { .. } => "name the file".to_owned(),
            Self::Differs { .. } => "if the change is wanted, `tune lock RECIPE` accepts it; otherwise bring the locked file back".to_owned(),
            Self::Pinned { .. } => "bring the pinned file back, or change `sha256` in the recipe".to_owned(),
            Self::NotLocked { .. } => "`tune lock RECIPE` adds it".to_owned(),
            Self::OtherForm { .. } => "`tune lock RECIPE` changes it".to_owned(),
            Self::NoSecret { .. } => format!(
                "get `{FILE_NAME}` from whoever locked it; `--secrets FILE` names one for a run; `tune lock RECIPE` makes a new commitment"
            ),
            Self::Secrets { .. } => {
                "bring back a copy, or get one from whoever locked it: without it, runs on unshareable data cannot be verified".to_owned()
            }
            Self::NoRandomness(_) => return None,
            Self::NotLocal { .. } => "fetch it, and name the file".to_owned(),
            Self::PinnedUnshareable { .. } => "leave `sha256` out: the lock holds the rows to a commitment".to_owned(),
            Self::NotCommitted { .. } => "only sources of class `unshareable` have one".to_owned(),
            Self::NoSuchRow { .. } => "rows are the lines that are not blank".to_owned(),
            Self::Rows(error) => return error.hint(),
            Self::Lock(error) => return error.hint(),
            Self::Offline { .. } => "run `tune lock RECIPE` once with the network".to_owned(),
            Self::Moved { .. } => "`tune lock RECIPE` accepts the new address".to_owned(),
            Self::NoPip { .. } => "install Python with pip, or get the file another way and name its path".to_owned(),
            Self::Pip { requirement, .. } => format!("`python3 -m pip download --no-deps --only-binary=:all: {requirement}` shows more"),
            Self::Fetch { .. } => "check the address and the connection, then run the same command again".to_owned(),
            Self::Member { near, .. } if near.is_empty() => return None,
            Self::Member { near, .. } => format!("the nearest it holds: `{}`", near.join("`, `")),
        })
    }

    /// Whether something outside the recipe and its lock is at fault: a disk, a network, a missing tool.
    #[must_use]
    pub fn is_outside(&self) -> bool {
        match self {
            Self::Rows(error) => error.is_outside(),
            Self::Fs(tune_fs::FsError::Io { .. })
            | Self::Offline { .. }
            | Self::Fetch { .. }
            | Self::NoPip { .. }
            | Self::Pip { .. }
            | Self::NoRandomness(_) => true,
            _ => false,
        }
    }

    /// Whether a source was found and is not what it should be.
    #[must_use]
    pub fn is_difference(&self) -> bool {
        matches!(self, Self::Differs { .. } | Self::Pinned { .. })
    }
}
