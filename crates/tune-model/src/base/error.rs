//! What can be wrong with a base model's files, one variant a situation.

/// Why a base model could not be read, or a tensor file not be written.
///
/// `file` is the name relative to the model, as in the lock file, never a path of this machine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaseError {
    /// The file cannot be opened.
    #[error("cannot open `{file}`")]
    Open {
        /// The file's name in the model.
        file: String,
        /// Where it was looked for, and what the operating system said.
        #[source]
        source: tune_fs::FsError,
    },
    /// The operating system refused to read the open file.
    #[error("cannot read `{file}`")]
    Io {
        /// The file's name in the model.
        file: String,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// The model lacks a file that it must have.
    #[error("the model has no file `{file}`")]
    MissingFile {
        /// The missing name.
        file: String,
    },
    /// A size read from the file, or the file itself, is beyond what any supported model needs.
    #[error("`{file}`: {what} is {found}, the limit is {limit}")]
    TooLarge {
        /// The file's name in the model.
        file: String,
        /// What is too large.
        what: &'static str,
        /// The size found.
        found: u64,
        /// The largest size accepted.
        limit: u64,
    },
    /// The file ends before what it announces.
    #[error("`{file}` is truncated: {needed} bytes are announced at offset {offset}, the file has {length}")]
    Truncated {
        /// The file's name in the model.
        file: String,
        /// Where the announced bytes begin.
        offset: u64,
        /// How many bytes are announced there.
        needed: u64,
        /// The file's length.
        length: u64,
    },
    /// The file, or its header, is not the JSON it should be.
    #[error("`{file}` is not valid")]
    Json {
        /// The file's name in the model.
        file: String,
        /// Line, column and reason.
        #[source]
        source: serde_json::Error,
    },
    /// A text that is not UTF-8.
    #[error("`{file}`: the text at offset {offset} is not UTF-8")]
    NotUtf8 {
        /// The file's name in the model.
        file: String,
        /// Where the text begins.
        offset: u64,
    },
    /// An architecture that the decoder does not implement.
    #[error("`{file}`: architecture `{found}` is not supported")]
    UnsupportedArchitecture {
        /// The file's name in the model.
        file: String,
        /// The architecture named there.
        found: String,
    },
    /// A setting whose value would change the mathematics in a way that is not implemented.
    #[error("`{file}`: `{key}` = {found} is not supported (supported: {supported})")]
    UnsupportedSetting {
        /// The file's name in the model.
        file: String,
        /// The setting's key.
        key: String,
        /// Its value.
        found: String,
        /// What is supported.
        supported: &'static str,
    },
    /// A key without which the model is not defined.
    #[error("`{file}`: key `{key}` is missing")]
    MissingKey {
        /// The file's name in the model.
        file: String,
        /// The missing key.
        key: String,
    },
    /// A key whose value makes no sense.
    #[error("`{file}`: `{key}` = {found}, expected {expected}")]
    InvalidValue {
        /// The file's name in the model.
        file: String,
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// What would have been accepted.
        expected: String,
    },
    /// The file does not begin with `GGUF`.
    #[error("`{file}` does not begin with the letters `GGUF`")]
    NotGguf {
        /// The file's name in the model.
        file: String,
    },
    /// A GGUF version that is not read.
    #[error("`{file}` is GGUF version {version}{}", if *big_endian { " in big-endian byte order" } else { "" })]
    GgufVersion {
        /// The file's name in the model.
        file: String,
        /// The version, in the file's own byte order.
        version: u32,
        /// Whether the file is big-endian.
        big_endian: bool,
    },
    /// A GGUF field that breaks the format.
    #[error("`{file}` at offset {offset}: {problem}")]
    GgufField {
        /// The file's name in the model.
        file: String,
        /// Where the field begins.
        offset: u64,
        /// What is wrong with it.
        problem: GgufProblem,
    },
    /// A GGUF tensor whose name belongs to no part of a Llama decoder.
    #[error("`{file}`: tensor `{tensor}` has no place in a Llama decoder")]
    UnknownTensor {
        /// The file's name in the model.
        file: String,
        /// The name stored.
        tensor: String,
    },
    /// One name for two tensors, in one file or in two.
    #[error("`{file}`: tensor `{tensor}` is stored twice")]
    DuplicateTensor {
        /// The file in which the second was found.
        file: String,
        /// The name.
        tensor: String,
    },
    /// A tensor's name that is empty or contains a control character.
    #[error("`{file}`: {tensor:?} is not a usable tensor name")]
    TensorName {
        /// The file's name in the model.
        file: String,
        /// The name stored.
        tensor: String,
    },
    /// A tensor's shape, type and byte range contradict each other.
    #[error(
        "`{file}`: tensor `{tensor}` ({dtype} {shape:?}) takes {found} bytes at offset {offset}, not what its shape needs"
    )]
    TensorSize {
        /// The file's name in the model.
        file: String,
        /// The tensor's name.
        tensor: String,
        /// Its type as stored.
        dtype: String,
        /// Its shape as announced.
        shape: Vec<u64>,
        /// Where its bytes begin in the file.
        offset: u64,
        /// How many bytes the header gives it.
        found: u64,
    },
    /// A tensor's bytes lie, in part or wholly, outside the file.
    #[error("`{file}`: tensor `{tensor}` ends at offset {end}, the file at {length}")]
    TensorBeyondFile {
        /// The file's name in the model.
        file: String,
        /// The tensor's name.
        tensor: String,
        /// Where its bytes would end.
        end: u64,
        /// The file's length.
        length: u64,
    },
    /// Two tensors share bytes.
    #[error("`{file}`: tensors `{first}` and `{second}` overlap at offset {offset}")]
    Overlap {
        /// The file's name in the model.
        file: String,
        /// The tensor that begins first.
        first: String,
        /// The tensor that begins before the first one ends.
        second: String,
        /// Where the second begins.
        offset: u64,
    },
    /// Bytes that belong to no tensor, which safetensors forbids: they would escape every tensor digest.
    #[error("`{file}`: the bytes from offset {offset} to {end} belong to no tensor")]
    Gap {
        /// The file's name in the model.
        file: String,
        /// Where the unclaimed bytes begin.
        offset: u64,
        /// Where they end.
        end: u64,
    },
    /// A stored type that cannot be turned into f32 by a stated formula.
    #[error("`{file}`: tensor `{tensor}` is stored as {dtype}, which is not supported")]
    UnsupportedDtype {
        /// The file's name in the model.
        file: String,
        /// The tensor's name.
        tensor: String,
        /// Its type as stored.
        dtype: String,
    },
    /// A weight that is infinite or NaN: with it every result would be.
    #[error("`{file}`: value {index} of tensor `{tensor}` is not finite")]
    NotFinite {
        /// The file's name in the model.
        file: String,
        /// The tensor's Hugging Face name.
        tensor: String,
        /// The value's index, row-major.
        index: usize,
    },
    /// The index of a sharded model and its files disagree about a tensor.
    #[error("`{index}` and `{file}` disagree about tensor `{tensor}`")]
    IndexMismatch {
        /// The index file.
        index: String,
        /// The shard.
        file: String,
        /// The tensor listed but not stored there, or stored there but not listed.
        tensor: String,
    },
    /// The model's files hold configuration and tokenizer only.
    #[error("the model's files hold no weights that can be read")]
    NoWeights,
    /// The decoder needs a tensor that no file holds.
    #[error("no file of the model holds tensor `{tensor}`")]
    MissingTensor {
        /// The tensor's Hugging Face name.
        tensor: String,
    },
    /// A tensor is there with another shape than the configuration implies.
    #[error("`{file}`: tensor `{tensor}` has shape {found:?}, expected {expected:?}")]
    WrongShape {
        /// The file's name in the model.
        file: String,
        /// The tensor's Hugging Face name.
        tensor: String,
        /// The shape that the configuration implies.
        expected: Vec<usize>,
        /// The shape stored, outermost dimension first.
        found: Vec<usize>,
    },
    /// A tokenizer that cannot be expressed as a byte-level BPE `tokenizer.json`.
    #[error("`{file}`: tokenizer model `{model}` is not supported")]
    UnsupportedTokenizer {
        /// The file's name in the model.
        file: String,
        /// `tokenizer.ggml.model`.
        model: String,
    },
    /// A tensor to be written has another number of values than its shape says.
    #[error("tensor `{tensor}` has {values} values, its shape {shape:?} needs another number")]
    ValueCount {
        /// The tensor's name.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
        /// How many values were given.
        values: usize,
    },
}

/// What a GGUF field gets wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GgufProblem {
    /// A value type that the format does not define.
    #[error("value type {0} is not defined")]
    ValueType(u32),
    /// A boolean that is neither 0 nor 1.
    #[error("{0} is not a boolean")]
    Boolean(u8),
    /// Arrays inside arrays, deeper than any known key needs.
    #[error("arrays are nested more than {0} deep")]
    Nesting(u32),
    /// A key that appears twice.
    #[error("key `{0}` appears twice")]
    DuplicateKey(String),
    /// More dimensions than ggml has, or none.
    #[error("tensor `{tensor}` has {dimensions} dimensions, 1 to 4 are possible")]
    Dimensions {
        /// The tensor's name.
        tensor: String,
        /// The number found.
        dimensions: u32,
    },
    /// A dimension of zero, a product that overflows, or rows that are not whole blocks.
    #[error("tensor `{tensor}` of type {dtype} cannot have shape {shape:?}")]
    Shape {
        /// The tensor's name.
        tensor: String,
        /// Its type.
        dtype: &'static str,
        /// Its dimensions, outermost first.
        shape: Vec<u64>,
    },
    /// A tensor type number that is not read.
    #[error("tensor `{tensor}` has type {name} ({id}), which is not supported")]
    TensorType {
        /// The tensor's name.
        tensor: String,
        /// ggml's number.
        id: u32,
        /// ggml's name, `unknown` if it has none that we know.
        name: &'static str,
    },
    /// A tensor that does not begin at a multiple of the alignment.
    #[error("tensor `{tensor}` begins at {offset}, not a multiple of the alignment {alignment}")]
    Misaligned {
        /// The tensor's name.
        tensor: String,
        /// Its offset inside the data section.
        offset: u64,
        /// The file's alignment.
        alignment: u64,
    },
}

impl BaseError {
    /// What the user can do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Open { source, .. } => return source.hint(),
            Self::UnsupportedArchitecture { .. } => {
                "supported are `LlamaForCausalLM` (model type `llama`), `MistralForCausalLM` without a sliding window, \
                 and GGUF files of architecture `llama`"
            }
            Self::Truncated { .. }
            | Self::TooLarge { .. }
            | Self::Json { .. }
            | Self::NotUtf8 { .. }
            | Self::DuplicateTensor { .. }
            | Self::TensorName { .. }
            | Self::TensorSize { .. }
            | Self::TensorBeyondFile { .. }
            | Self::Overlap { .. }
            | Self::Gap { .. }
            | Self::NotFinite { .. } => "fetch the file again and compare its sha256",
            Self::MissingFile { .. } => {
                "a model is a folder with `config.json`, `tokenizer.json` and `*.safetensors`, or one GGUF file, named itself and not by its folder"
            }
            Self::MissingTensor { .. } | Self::WrongShape { .. } | Self::IndexMismatch { .. } => {
                "configuration and weights belong to different models: fetch both from the same place"
            }
            Self::NotGguf { .. } => "a text of some hundred bytes instead of a model is usually a Git LFS pointer",
            Self::GgufVersion { .. } => {
                "versions 2 and 3 in little-endian byte order are read; convert the file with llama.cpp"
            }
            Self::GgufField { problem: GgufProblem::TensorType { .. }, .. } => {
                "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K and Q6_K are read; take another file of the model"
            }
            Self::GgufField { .. } => "fetch the file again and compare its sha256",
            Self::UnknownTensor { tensor, .. } if tensor == "rope_freqs.weight" => {
                "GGUF stores Llama 3's frequency scaling as a table; use the model's Hugging Face folder"
            }
            Self::UnsupportedDtype { .. } => "F32, BF16 and F16 are read; convert the model with transformers",
            Self::NoWeights => {
                "the folder needs `model.safetensors`, or `model.safetensors.index.json` with its shards; `.bin` files are not read"
            }
            Self::UnsupportedTokenizer { .. } => {
                "byte-level BPE (`gpt2`) tokenizers are read from GGUF; use the model's Hugging Face folder for others"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}
