//! Why something could not be exported.

use crate::base::BaseError;

/// Why an adapter or a merged model could not be written in another tool's format.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// A tensor of the adapter for which the format, or the base model, has no place.
    #[error("tensor `{tensor}` cannot be exported: {reason}")]
    NoPlace {
        /// The tensor's name in the adapter.
        tensor: String,
        /// Why.
        reason: &'static str,
    },
    /// One of the two matrices of a layer.
    #[error("tensor `{tensor}` is there, but not its other half `{missing}`")]
    MissingHalf {
        /// The matrix that is there.
        tensor: String,
        /// The one that is not.
        missing: String,
    },
    /// A tensor whose shape is not what the base model and the rank say.
    #[error("tensor `{tensor}` has shape {found:?}, expected {expected:?}")]
    WrongShape {
        /// The tensor's name.
        tensor: String,
        /// The shape it must have.
        expected: Vec<usize>,
        /// The shape it has.
        found: Vec<usize>,
    },
    /// A tensor with more or fewer values than its shape says.
    #[error("tensor `{tensor}` of shape {shape:?} has {values} values")]
    ValueCount {
        /// The tensor's name.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
        /// How many values there are.
        values: usize,
    },
    /// No tensors at all.
    #[error("the adapter has no tensors")]
    Empty,
    /// Rank and alpha for which the format has no number: llama.cpp takes an alpha of 0 for a scale of 1.
    #[error("an adapter of rank {rank} with alpha {alpha} has no scale that GGUF can express")]
    Scale {
        /// The rank.
        rank: usize,
        /// Alpha.
        alpha: f64,
    },
    /// A merged weight beyond the numbers of f32.
    #[error("tensor `{tensor}`: value {index} is not finite after merging")]
    NotFinite {
        /// The tensor's Hugging Face name.
        tensor: String,
        /// The value's place.
        index: usize,
    },
    /// A tensor that a GGUF file cannot hold.
    #[error("tensor `{tensor}` cannot be in a GGUF file: {problem}")]
    Unwritable {
        /// The tensor's name.
        tensor: String,
        /// Why.
        problem: &'static str,
    },
    /// A metadata key twice.
    #[error("metadata key `{key}` is there twice")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A number of the model that does not fit the type GGUF has for it.
    #[error("`{key}` = {value} does not fit 32 bits")]
    TooLarge {
        /// The metadata key.
        key: String,
        /// The number.
        value: usize,
    },
    /// A tokenizer that llama.cpp has no name for.
    #[error("the tokenizer cannot be written as GGUF metadata: {problem}")]
    Tokenizer {
        /// What is in the way.
        problem: String,
    },
    /// A text that would end its place in a Modelfile early.
    #[error("{what} cannot be in a Modelfile: {problem}")]
    Modelfile {
        /// Which text.
        what: &'static str,
        /// What is in the way.
        problem: &'static str,
    },
    /// The base model.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// The place where the file is written.
    #[error("cannot write the file")]
    Io(#[from] std::io::Error),
}
