//! `datasets.lock`: which bytes every source of the recipes stands for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::recipe::DataClass;

/// The format version this crate reads and writes. A higher one is refused with its own error.
pub const LOCK_VERSION: u32 = 1;

/// The whole lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Format version; a change breaks readers.
    pub version: u32,
    /// Sources, sorted by name.
    pub sources: Vec<LockedSource>,
}

/// One source: where it was found, what its bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockedSource {
    /// The name that recipes use.
    pub name: String,
    /// `https://…`, `pip:NAME==VERSION#MEMBER`, or `file:RELATIVE` to the lock's folder (only the file's name when it
    /// lies elsewhere: a lock never holds a path of one machine).
    pub uri: String,
    /// Version or revision, where the source has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// SPDX licence expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// OSAID class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<DataClass>,
    /// The files, sorted by path.
    pub files: Vec<LockedFile>,
}

/// One file of a source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockedFile {
    /// Path within the source, `/` separators; the file's name for a source of one file.
    pub path: String,
    /// Digest of its bytes.
    pub sha256: Digest,
    /// Size in bytes.
    pub size: u64,
}
