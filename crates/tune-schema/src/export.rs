//! `export.json`: what an export holds, and what the change of form did to the logits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// The adapter for llama.cpp.
pub const ADAPTER_FILE: &str = "adapter.gguf";

/// The base that it is put on.
pub const BASE_FILE: &str = "base.gguf";

/// What Ollama makes a model of both from.
pub const MODELFILE: &str = "Modelfile";

/// The record.
pub const RECORD_FILE: &str = "export.json";

/// Where a published folder has an export.
pub const PUBLISHED_EXPORT: &str = "gguf";

/// The files of an export that a published folder has there: all but the base, which is somebody else's and large.
pub const PUBLISHED_FILES: [&str; 3] = [MODELFILE, ADAPTER_FILE, RECORD_FILE];

/// The form whose fidelity is that of the published files.
pub const ADAPTED_BASE: &str = "base.gguf with adapter";

/// The file. Its bytes are its canonical JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportRecord {
    /// The claim whose result it is.
    pub claim_id: Digest,
    /// Digest of every file, by path.
    pub files: BTreeMap<String, Digest>,
    /// How far each form's logits are from the run's, by form.
    pub fidelity: BTreeMap<String, Fidelity>,
}

/// The logits of a form beside those of the run's own model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fidelity {
    /// Prompts looked at.
    pub prompts: usize,
    /// Tokens of these prompts.
    pub tokens: usize,
    /// Largest absolute difference of two logits.
    pub largest_difference: f32,
    /// Tokens after which both find the same next token most likely.
    pub same_next_token: usize,
}

/// Paths of the files of an export in a published folder.
#[must_use]
pub fn published_paths() -> [String; 3] {
    PUBLISHED_FILES.map(|name| format!("{PUBLISHED_EXPORT}/{name}"))
}
