//! The Hugging Face hub: repositories of models fetched whole, and published folders sent to it.
//!
//! - [`HubTarget`]: a repository and its revision, `hf://user/repo[@revision]`
//! - [`Hub`]: the client; `HF_ENDPOINT` and `HF_TOKEN` of the environment
//! - [`Hub::look`]: what a repository holds, at one commit; [`Hub::download`]: all of it, into a folder
//! - [`Hub::upload`]: a folder as one commit
//!
//! The token comes from the environment only and goes to the hub's own host only: not to the storage that the hub sends
//! a client on to, not into a file, not into a message.
//!
//! Large files (Git LFS) are checked by SHA-256, as the hub's list has it. For the others the list has only git's SHA-1,
//! and they are checked by their size; what they hold is for the verifier to check, who does so for every file of a run.

mod client;
mod commit;
mod download;
pub(crate) mod endpoint;
mod error;
mod lfs;
mod listing;
pub(crate) mod paths;
mod repository;
pub(crate) mod request;
mod target;
mod upload;

use std::fmt;

pub use client::Hub;
pub use error::HubError;
pub use listing::{Limits, Listing, RemoteFile};
pub use target::HubTarget;
pub use upload::{Upload, Uploaded};

/// What is going on, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A file is fetched.
    Fetching {
        /// Its path in the repository.
        path: String,
        /// Its bytes.
        size: u64,
    },
    /// A large file is sent.
    Sending {
        /// Its path in the repository.
        path: String,
        /// Its bytes.
        size: u64,
    },
    /// The server asked for a pause.
    Waiting {
        /// How long.
        seconds: u64,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fetching { path, size } => write!(f, "fetching {path} ({size} bytes)"),
            Self::Sending { path, size } => write!(f, "sending {path} ({size} bytes)"),
            Self::Waiting { seconds } => write!(f, "the server asks to wait: {seconds} s"),
        }
    }
}

/// Who is told what is going on.
pub(crate) type Observer<'a> = dyn FnMut(Event) + 'a;
