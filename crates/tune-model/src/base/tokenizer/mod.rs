//! The tokenizer that comes with a base model, as the bytes of a `tokenizer.json` and what stands beside it.
//!
//! This module gathers; the crate that tokenises interprets. From a Hugging Face folder the bytes are handed on as
//! they are. From a GGUF file an equivalent `tokenizer.json` is built, the same bytes on every machine.

mod gguf;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub(crate) use gguf::Pre;
use serde::Deserialize;

use super::error::BaseError;
use super::file::ModelFile;

/// The longest tokenizer file accepted; the largest vocabularies in use take some 30 MB.
const TOKENIZER_LIMIT: u64 = 1 << 28;
/// The longest template or configuration accepted.
const TEXT_LIMIT: u64 = 1 << 24;

const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// A tokenizer and what its chat template needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenizerParts {
    /// The bytes of `tokenizer.json`: the file's own, or built from GGUF metadata.
    pub tokenizer_json: Vec<u8>,
    /// The bytes of `tokenizer_config.json`, if there is one.
    pub tokenizer_config: Option<Vec<u8>>,
    /// The text of the token that begins a text.
    pub bos: Option<String>,
    /// The text of the token that ends one.
    pub eos: Option<String>,
    /// Whether encoding a plain text with special tokens puts `bos` first, where the model says so. The
    /// post-processor in `tokenizer_json` does this already: whoever adds it by hand must encode without special tokens.
    pub add_bos: Option<bool>,
    /// The chat template, Jinja source.
    pub chat_template: Option<String>,
}

impl TokenizerParts {
    /// Gathers the tokenizer of a Hugging Face folder: `tokenizer.json`, and if present `tokenizer_config.json` and
    /// `chat_template.jinja`, which as in transformers wins over a template inside the configuration.
    ///
    /// # Errors
    /// If `tokenizer.json` is missing, a file cannot be read, or the configuration is not JSON.
    pub fn from_files(files: &BTreeMap<String, PathBuf>) -> Result<Self, BaseError> {
        let read = |name: &str, limit| files.get(name).map(|path| ModelFile::read_whole(name, path, limit)).transpose();
        let tokenizer_json =
            read(TOKENIZER, TOKENIZER_LIMIT)?.ok_or_else(|| BaseError::MissingFile { file: TOKENIZER.to_owned() })?;
        let tokenizer_config = read(TOKENIZER_CONFIG, TEXT_LIMIT)?;
        let config: TokenizerConfig = match &tokenizer_config {
            Some(bytes) => serde_json::from_slice(bytes)
                .map_err(|source| BaseError::Json { file: TOKENIZER_CONFIG.to_owned(), source })?,
            None => TokenizerConfig::default(),
        };
        let template = match read(CHAT_TEMPLATE, TEXT_LIMIT)? {
            Some(bytes) => Some(
                String::from_utf8(bytes)
                    .map_err(|_| BaseError::NotUtf8 { file: CHAT_TEMPLATE.to_owned(), offset: 0 })?,
            ),
            None => config.chat_template.and_then(Template::default_text),
        };
        Ok(Self {
            tokenizer_json,
            tokenizer_config,
            bos: config.bos_token.map(Token::text),
            eos: config.eos_token.map(Token::text),
            add_bos: config.add_bos_token,
            chat_template: template,
        })
    }

    /// Builds the tokenizer that GGUF metadata describes.
    ///
    /// # Errors
    /// If it is not byte-level BPE with a known pre-tokenizer, or the metadata contradict themselves.
    pub fn from_gguf(metadata: &super::gguf::GgufMetadata) -> Result<Self, BaseError> {
        gguf::build(metadata)
    }
}

/// The keys of `tokenizer_config.json` that matter here.
#[derive(Deserialize, Default)]
struct TokenizerConfig {
    bos_token: Option<Token>,
    eos_token: Option<Token>,
    add_bos_token: Option<bool>,
    chat_template: Option<Template>,
}

/// A special token: its text, or an object that has it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Object { content: String },
}

impl Token {
    fn text(self) -> String {
        match self {
            Self::Text(text) | Self::Object { content: text } => text,
        }
    }
}

/// A chat template, or several with names, of which `default` is the one used without tools.
#[derive(Deserialize)]
#[serde(untagged)]
enum Template {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

impl Template {
    fn default_text(self) -> Option<String> {
        match self {
            Self::One(text) => Some(text),
            Self::Named(list) => list.into_iter().find(|entry| entry.name == "default").map(|entry| entry.template),
        }
    }
}
