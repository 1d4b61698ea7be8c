//! What can go wrong with a folder on a web server.

use tune_fs::FsError;

use crate::hub::HubError;

/// What happened. [`SiteError::hint`] says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// A file or folder.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// An address in no known form.
    #[error("`{text}`: {problem}")]
    Target {
        /// As written.
        text: String,
        /// What is wrong.
        problem: String,
    },
    /// Nothing there.
    #[error("`{address}`: the server has no such file (404)")]
    NotFound {
        /// What was asked.
        address: String,
    },
    /// A file that not everyone may read.
    #[error("`{address}`: the server does not give this to everyone ({status})")]
    Closed {
        /// What was asked.
        address: String,
        /// 401 or 403.
        status: u16,
    },
    /// Too many requests.
    #[error("`{address}`: the server takes no more requests for now (429)")]
    Busy {
        /// What was asked.
        address: String,
    },
    /// Any other answer, or none.
    #[error("`{address}`: {problem}")]
    Transfer {
        /// What was asked.
        address: String,
        /// What happened.
        problem: String,
    },
    /// A folder that is not fetched.
    #[error("`{address}` is not fetched: {problem}")]
    Refused {
        /// The folder.
        address: String,
        /// Why.
        problem: String,
    },
}

impl SiteError {
    /// What to do next, where there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Fs(error) => return error.hint(),
            Self::Target { .. } => {
                "as `https://host/path/manifest.json`, or the folder that it lies in, ending in `/`: `https://host/path/`"
            }
            Self::NotFound { .. } => {
                "check the address; the files lie there as in the folder that `tune run` or `tune publish` made"
            }
            Self::Closed { .. } => "no password or token is sent: fetch the folder, and name the copy",
            Self::Busy { .. } => "wait some minutes, then run the same command again",
            Self::Transfer { .. } => "check the connection, then run the same command again",
            Self::Refused { .. } => "fetch the folder in another way, look at it, and name the copy",
        };
        Some(text.to_owned())
    }

    /// Whether something outside what the user wrote is at fault: the server, the network, a disk.
    #[must_use]
    pub fn is_outside(&self) -> bool {
        match self {
            Self::Fs(error) => error.is_outside(),
            Self::Target { .. } => false,
            _ => true,
        }
    }
}

/// What the client says, which it shares with the hub.
impl From<HubError> for SiteError {
    fn from(error: HubError) -> Self {
        match error {
            HubError::Fs(error) => Self::Fs(error),
            HubError::Busy { address } => Self::Busy { address },
            HubError::Transfer { address, problem } => Self::Transfer { address, problem },
            other => Self::Transfer { address: "the server".to_owned(), problem: other.to_string() },
        }
    }
}
