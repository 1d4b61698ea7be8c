//! What can go wrong with the hub.

use std::path::PathBuf;

use tune_fs::FsError;

/// What happened. [`HubError::hint`] says what to do next. No error holds the token.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// A file or folder.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A repository in no known form.
    #[error("`{text}`: {problem}")]
    Target {
        /// As written.
        text: String,
        /// What is wrong.
        problem: String,
    },
    /// An address of the hub that is none.
    #[error("`HF_ENDPOINT` is `{text}`: {problem}")]
    Endpoint {
        /// As written.
        text: String,
        /// What is wrong.
        problem: String,
    },
    /// A token with characters that no token has.
    #[error("the token in the environment holds characters that no token has")]
    Token,
    /// Something to publish, and no token.
    #[error("the hub needs a token before anything can be published there")]
    NoToken,
    /// No or no accepted token.
    #[error("`{address}`: {}{said}", if *.with_token { "the hub does not accept the token (401)" } else { "the hub wants a token (401)" })]
    Unauthorized {
        /// What was asked.
        address: String,
        /// Whether a token was sent.
        with_token: bool,
        /// What the hub said of it.
        said: String,
    },
    /// A token that may not do this.
    #[error("`{address}`: this is not allowed (403){said}")]
    Forbidden {
        /// What was asked.
        address: String,
        /// What the hub said of it.
        said: String,
    },
    /// Nothing of this name.
    #[error("`{address}`: the hub has no such repository, revision or file (404){said}")]
    NotFound {
        /// What was asked.
        address: String,
        /// What the hub said of it.
        said: String,
    },
    /// Too many requests.
    #[error("`{address}`: the hub takes no more requests for now (429)")]
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
    /// A repository that is not fetched.
    #[error("`{id}` is not fetched: {problem}")]
    Refused {
        /// The repository.
        id: String,
        /// Why.
        problem: String,
    },
    /// A place that is taken.
    #[error("`{0}` is there already")]
    Exists(PathBuf),
    /// A repository that everyone can read, where a private one was asked for.
    #[error("`{0}` is there already, and everyone can read it")]
    Public(String),
    /// A file that a repository's `.gitignore` leaves out.
    #[error("`{id}` has a `.gitignore` that leaves out `{path}`")]
    Ignored {
        /// The repository.
        id: String,
        /// The file.
        path: String,
    },
    /// A repository that somebody changed meanwhile.
    #[error("`{0}` was changed by somebody else meanwhile")]
    Changed(String),
}

impl HubError {
    /// What to do next, where there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Fs(error) => return error.hint(),
            Self::Target { .. } => "as `hf://user/repo`, or `hf://user/repo@revision` where something is fetched",
            Self::Endpoint { .. } => "unset it, or set it to `https://huggingface.co`",
            Self::Token => "set `HF_TOKEN` to a token of https://huggingface.co/settings/tokens, and nothing else",
            Self::NoToken => {
                "make one with write permission at https://huggingface.co/settings/tokens and set the environment variable `HF_TOKEN` to it"
            }
            Self::Unauthorized { with_token: true, .. } => {
                "look at https://huggingface.co/settings/tokens whether the token in `HF_TOKEN` is still there and may do this"
            }
            Self::Unauthorized { .. } => {
                "check the name; a private repository, or one with conditions, needs a token in the environment variable `HF_TOKEN`"
            }
            Self::Forbidden { .. } => {
                "the token needs permission for this repository (write permission to publish); a repository with conditions asks to accept them on its page"
            }
            Self::NotFound { .. } => {
                "check user, repository and revision; a private repository needs a token in the environment variable `HF_TOKEN`"
            }
            Self::Busy { .. } => {
                "wait some minutes, then run the same command again; a token in `HF_TOKEN` has a larger share"
            }
            Self::Transfer { .. } => {
                "check the connection, then run the same command again; an upload goes on where it was"
            }
            Self::Refused { .. } => "look at the repository's files on its page: it is not what `tune publish` makes",
            Self::Exists(_) => "choose another place, or remove what is there",
            Self::Public(_) => "leave `--private` out, choose another name, or make it private in its settings",
            Self::Ignored { .. } => "remove the `.gitignore` from the repository, or choose another repository",
            Self::Changed(_) => "look at what was changed, then run the same command again",
        };
        Some(text.to_owned())
    }

    /// Whether something outside what the user wrote is at fault: the hub, the network, a disk.
    #[must_use]
    pub fn is_outside(&self) -> bool {
        match self {
            Self::Fs(error) => error.is_outside(),
            Self::Target { .. } | Self::Endpoint { .. } | Self::Token | Self::Exists(_) | Self::Public(_) => false,
            _ => true,
        }
    }
}
