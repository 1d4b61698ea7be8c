//! What can go wrong with files.

use std::io;
use std::path::{Path, PathBuf};

/// An operation on a path that failed. [`FsError::hint`] says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// The operating system refused.
    #[error("cannot {operation} `{path}`")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file beyond the limit that its kind has.
    #[error("`{path}` is larger than {limit} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// What was to be stored could not be read to its end: the fault is where the bytes come from, not of this disk.
    #[error("the incoming bytes broke off")]
    Incoming {
        /// Why it failed.
        source: io::Error,
    },
    /// What was to be stored is beyond the limit; it was abandoned there.
    #[error("more than {limit} bytes came in")]
    IncomingTooLarge {
        /// The limit.
        limit: u64,
    },
    /// A temporary file.
    #[error("cannot {operation} a temporary file in `{folder}`")]
    Scratch {
        /// What was tried.
        operation: &'static str,
        /// The folder for temporary files.
        folder: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another process works in the folder.
    #[error("another process is working in `{folder}`")]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// A symbolic link where files are listed.
    #[error("`{path}` is a symbolic link")]
    Link {
        /// The place.
        path: PathBuf,
    },
    /// Something that does not belong where it is.
    #[error("`{path}` is {what}")]
    Unexpected {
        /// The place.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
}

impl FsError {
    /// Whether the machine is at fault, and not what a file holds.
    #[must_use]
    pub fn is_outside(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Scratch { .. } | Self::InUse { .. } | Self::Incoming { .. })
    }

    /// What to do next, where there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let (path, source) = match self {
            Self::Io { path, source, .. } => (path, source),
            Self::Scratch { folder, source, .. } => {
                let full = if source.kind() == io::ErrorKind::StorageFull { "its disk is full: " } else { "" };
                return Some(format!(
                    "{full}free some space in `{}`, or name another folder with the environment variable `TMPDIR`",
                    folder.display()
                ));
            }
            Self::InUse { .. } => {
                return Some("wait for it to end, or choose another folder with `output_dir=…`".to_owned());
            }
            Self::Link { .. } => {
                let hint =
                    "a folder of links, as the hub's cache has them, becomes one of files by `cp -rL FOLDER COPY`";
                return Some(hint.to_owned());
            }
            _ => return None,
        };
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).display();
        match source.kind() {
            io::ErrorKind::StorageFull => {
                Some(format!("the disk of `{folder}` is full: free some space and run the same command again"))
            }
            io::ErrorKind::ReadOnlyFilesystem => Some(format!("`{folder}` is read-only: choose another folder")),
            io::ErrorKind::PermissionDenied => Some(format!(
                "this user may not do that in `{folder}`: check its permissions, or choose another folder"
            )),
            io::ErrorKind::NotFound => Some("check the path".to_owned()),
            io::ErrorKind::NotADirectory => Some("a part of the path is a file: choose another place".to_owned()),
            io::ErrorKind::IsADirectory => Some("a folder is there: name a file".to_owned()),
            io::ErrorKind::FileTooLarge => {
                Some("this process may not write larger files: raise the limit (`ulimit -f`)".to_owned())
            }
            _ => None,
        }
    }
}

/// Turns an `io::Error` into an [`FsError`] that says what was tried.
pub(crate) trait Context<T> {
    /// Adds operation and path.
    fn context(self, operation: &'static str, path: &Path) -> Result<T, FsError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, operation: &'static str, path: &Path) -> Result<T, FsError> {
        self.map_err(|source| FsError::Io { operation, path: path.to_owned(), source })
    }
}
