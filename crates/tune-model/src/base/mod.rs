//! Base models as they lie on disk: configuration, tokenizer, weights.
//!
//! This module reads; it computes nothing, knows no tensor library and trusts no file. A model is a map from relative
//! file names to paths, as the lock resolved it: either one GGUF file, or the files of a Hugging Face folder. Weights
//! are handed out one tensor at a time, as f32 by the stated formula of their type ([`tune_kernels::encoding`]), under their
//! Hugging Face names and in Hugging Face's row order.
//!
//! - [`BaseModel`]: all of it behind one type
//! - [`SafetensorsFile`]: one safetensors file by itself, such as an adapter's
//! - [`config`]: what the decoder is made of
//! - [`tokenizer`]: a `tokenizer.json` and what stands beside it
//! - [`gguf`]: GGUF files
//! - [`root`]: one digest for a set of tensors
//! - [`mod@write`]: safetensors files with reproducible bytes

pub mod config;

pub mod error;
mod file;
pub mod gguf;
pub mod root;
mod safetensors;
mod store;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod tokenizer;
pub mod write;

use std::collections::BTreeMap;
use std::path::PathBuf;

use tune_schema::Digest;

pub use self::config::{ModelConfig, RopeScaling};
pub use self::error::{BaseError, GgufProblem};
pub use self::root::{TensorEntry, root_of_entries, tensor_root};
pub use self::safetensors::SafetensorsFile;
pub use self::tokenizer::TokenizerParts;
pub use self::write::{safetensors_header, write_safetensors};

use self::config::CONFIG_FILE;
use self::file::ModelFile;
use self::gguf::GgufMetadata;
pub use self::store::{Keep, LoadedMatrix};

use self::store::TensorStore;

/// The longest `config.json` accepted.
const CONFIG_LIMIT: u64 = 1 << 22;

/// A base model whose headers are read and whose weights are still on disk.
#[derive(Debug)]
pub struct BaseModel {
    /// What the decoder is made of.
    pub config: ModelConfig,
    /// Its tokenizer.
    pub tokenizer: TokenizerParts,
    /// Whether the files hold weights: configuration and tokenizer alone are enough to rebuild a data stream.
    pub has_weights: bool,
    /// The metadata, where the model is a GGUF file.
    pub gguf: Option<GgufMetadata>,
    store: TensorStore,
}

impl BaseModel {
    /// Opens the model in `files`, a map from names relative to the model to paths on this machine.
    ///
    /// With `config.json` it is a Hugging Face folder; a single file, whatever its name, is GGUF.
    ///
    /// # Errors
    /// If a file is missing, cannot be read, breaks its format, or describes a model that is not supported.
    pub fn open(files: &BTreeMap<String, PathBuf>) -> Result<Self, BaseError> {
        if let Some(path) = files.get(CONFIG_FILE) {
            let config = ModelConfig::from_config_json(&ModelFile::read_whole(CONFIG_FILE, path, CONFIG_LIMIT)?)?;
            let tokenizer = TokenizerParts::from_files(files)?;
            let store = safetensors::open(files)?;
            return Ok(Self { config, tokenizer, has_weights: !store.files.is_empty(), gguf: None, store });
        }
        let mut entries = files.iter();
        let (Some((name, path)), None) = (entries.next(), entries.next()) else {
            return Err(BaseError::MissingFile { file: CONFIG_FILE.to_owned() });
        };
        let (metadata, config, store) = gguf::open(name, path)?;
        let tokenizer = TokenizerParts::from_gguf(&metadata)?;
        Ok(Self { config, tokenizer, has_weights: !store.tensors.is_empty(), gguf: Some(metadata), store })
    }

    /// The Hugging Face names of the stored tensors, sorted. May hold more than a decoder needs.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.store.tensors.keys().map(String::as_str)
    }

    /// The shape of tensor `name`, outermost dimension first, if it is stored.
    #[must_use]
    pub fn tensor_shape(&self, name: &str) -> Option<&[usize]> {
        self.store.tensors.get(name).map(|tensor| tensor.shape.as_slice())
    }

    /// The type in which tensor `name` is stored (`F32`, `BF16`, `Q4_1`, …), if it is stored.
    #[must_use]
    pub fn tensor_dtype(&self, name: &str) -> Option<&str> {
        self.store.tensors.get(name).map(|tensor| tensor.dtype.as_str())
    }

    /// Reads tensor `name` as f32, row-major. Nothing of it is kept.
    ///
    /// # Errors
    /// If it is not stored, has another shape than `expected`, a type without a stated formula or a value that is not
    /// finite, or cannot be read.
    pub fn load_tensor(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>, BaseError> {
        self.store.load(name, expected)
    }

    /// Reads tensor `name`: a matrix that `keep` names stays as it is stored, anything else becomes f32.
    ///
    /// # Errors
    /// As [`Self::load_tensor`].
    pub fn load_matrix(&self, name: &str, expected: &[usize], keep: Keep) -> Result<LoadedMatrix, BaseError> {
        self.store.load_matrix(name, expected, keep)
    }

    /// Bytes that the decoder's weights take in memory; what they would take as f32 where there are no weights here.
    #[must_use]
    pub fn bytes_in_memory(&self, keep: Keep) -> u64 {
        let tied = self.config.tie_word_embeddings;
        let stored = self.store.bytes_in_memory(keep, |name| !(tied && name == "lm_head.weight"));
        if self.has_weights { stored } else { 4 * crate::work::parameters(&self.config) }
    }

    /// The tensor root of all stored tensors, as [`root`] defines it. Reads all weights once.
    ///
    /// # Errors
    /// If there are no weights or a file cannot be read.
    pub fn tensor_root(&self) -> Result<Digest, BaseError> {
        if self.has_weights { self.store.root() } else { Err(BaseError::NoWeights) }
    }
}
