//! What a Llama-architecture decoder is made of, from `config.json` or GGUF metadata, and back to `config.json`.
//!
//! Whoever reads a configuration sizes memory by it, so every number has a limit far above known models and far below
//! what would overflow; what would change the mathematics in a way that is not implemented is an error, never ignored.

mod gguf;
mod hugging_face;

use serde::Serialize;

use super::error::BaseError;

/// The name under which messages mention a Hugging Face configuration.
pub(crate) const CONFIG_FILE: &str = "config.json";

/// A decoder of the Llama architecture.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads; divides `num_heads`.
    pub num_kv_heads: usize,
    /// Width of a head; even. `num_heads * head_dim` need not be `hidden_size`.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// The epsilon of every RMS norm.
    pub rms_norm_eps: f64,
    /// The base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies are stretched, if they are.
    pub rope_scaling: Option<RopeScaling>,
    /// Whether the output head is the embedding.
    pub tie_word_embeddings: bool,
    /// Whether the query, key, value and output projections have biases.
    pub attention_bias: bool,
    /// Whether the feed-forward projections have biases.
    pub mlp_bias: bool,
    /// The longest sequence the model was made for.
    pub max_position_embeddings: usize,
    /// The token that begins a text.
    pub bos_token_id: Option<u32>,
    /// The tokens that end one; the first is the tokenizer's own.
    pub eos_token_ids: Vec<u32>,
    /// Standard deviation of freshly drawn weights.
    pub initializer_range: f64,
}

/// The standard deviation that transformers' `LlamaConfig` draws weights with.
pub(crate) const DEFAULT_INITIALIZER_RANGE: f64 = 0.02;

/// How rotary frequencies are stretched for long contexts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// Every frequency divided by `factor`.
    Linear {
        /// The divisor, at least 1.
        factor: f64,
    },
    /// Llama 3.1: long wavelengths divided by `factor`, short ones kept, those between interpolated.
    Llama3 {
        /// The divisor, at least 1.
        factor: f64,
        /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_position_embeddings / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// The context length before stretching.
        original_max_position_embeddings: usize,
    },
}

/// The largest sizes accepted, with their keys in `config.json`. The product of any two stays below 2^51.
const LIMITS: [(&str, usize); 8] = [
    ("hidden_size", 1 << 18),
    ("intermediate_size", 1 << 20),
    ("num_hidden_layers", 1 << 10),
    ("num_attention_heads", 1 << 12),
    ("num_key_value_heads", 1 << 12),
    ("head_dim", 1 << 12),
    ("vocab_size", 1 << 22),
    ("max_position_embeddings", 1 << 28),
];

impl ModelConfig {
    /// Reads the bytes of a `config.json` of `LlamaForCausalLM`, or of `MistralForCausalLM` without a sliding window,
    /// as transformers 4 and 5 write it. Absent keys have the defaults of transformers' `LlamaConfig`.
    ///
    /// # Errors
    /// If it is not JSON, another architecture, a setting that is not implemented, or numbers that make no decoder.
    pub fn from_config_json(bytes: &[u8]) -> Result<Self, BaseError> {
        hugging_face::read(bytes)?.checked(CONFIG_FILE)
    }

    /// Reads GGUF metadata of architecture `llama`.
    ///
    /// # Errors
    /// As [`Self::from_config_json`].
    pub fn from_gguf(
        metadata: &super::gguf::GgufMetadata,
        presence: &super::gguf::TensorPresence,
    ) -> Result<Self, BaseError> {
        gguf::read(metadata, presence)?.checked(metadata.file())
    }

    /// The bytes of a `config.json` of `LlamaForCausalLM` with weights in f32, which [`Self::from_config_json`] reads
    /// as this configuration. Equal configurations give equal bytes.
    #[must_use]
    pub fn to_config_json(&self) -> Vec<u8> {
        let file = ConfigFile {
            architectures: ["LlamaForCausalLM"],
            attention_bias: self.attention_bias,
            attention_dropout: 0.0,
            bos_token_id: self.bos_token_id,
            eos_token_id: &self.eos_token_ids,
            head_dim: self.head_dim,
            hidden_act: "silu",
            hidden_size: self.hidden_size,
            initializer_range: self.initializer_range,
            intermediate_size: self.intermediate_size,
            max_position_embeddings: self.max_position_embeddings,
            mlp_bias: self.mlp_bias,
            model_type: "llama",
            num_attention_heads: self.num_heads,
            num_hidden_layers: self.num_layers,
            num_key_value_heads: self.num_kv_heads,
            rms_norm_eps: self.rms_norm_eps,
            rope_scaling: self.rope_scaling.as_ref().map(RopeEntry::from),
            rope_theta: self.rope_theta,
            tie_word_embeddings: self.tie_word_embeddings,
            torch_dtype: "float32",
            vocab_size: self.vocab_size,
        };
        let mut bytes = serde_json::to_vec_pretty(&file).expect("numbers and texts in a struct are always JSON");
        bytes.push(b'\n');
        bytes
    }

    /// Query heads that share a key head.
    #[must_use]
    pub fn heads_per_kv_head(&self) -> usize {
        self.num_heads / self.num_kv_heads
    }

    /// This configuration if its numbers make a decoder.
    fn checked(self, file: &str) -> Result<Self, BaseError> {
        let sizes = [
            self.hidden_size,
            self.intermediate_size,
            self.num_layers,
            self.num_heads,
            self.num_kv_heads,
            self.head_dim,
            self.vocab_size,
            self.max_position_embeddings,
        ];
        let invalid = |key: &str, found: String, expected: String| {
            Err(BaseError::InvalidValue { file: file.to_owned(), key: key.to_owned(), found, expected })
        };
        for (size, (key, limit)) in sizes.into_iter().zip(LIMITS) {
            if size == 0 || size > limit {
                return invalid(key, size.to_string(), format!("1 to {limit}"));
            }
        }
        if !self.num_heads.is_multiple_of(self.num_kv_heads) {
            let expected = format!("a divisor of the {} attention heads", self.num_heads);
            return invalid("num_key_value_heads", self.num_kv_heads.to_string(), expected);
        }
        if !self.head_dim.is_multiple_of(2) {
            return invalid("head_dim", self.head_dim.to_string(), "an even number".to_owned());
        }
        // The norm adds epsilon to a mean of squares in f32; zero is allowed by nobody's model and divides by zero.
        if !(self.rms_norm_eps > 0.0 && self.rms_norm_eps < 1.0) {
            return invalid("rms_norm_eps", self.rms_norm_eps.to_string(), "a number between 0 and 1".to_owned());
        }
        if !(self.rope_theta > 1.0 && self.rope_theta < 1e12) {
            return invalid("rope_theta", self.rope_theta.to_string(), "a number between 1 and 1e12".to_owned());
        }
        if !(self.initializer_range > 0.0 && self.initializer_range < 10.0) {
            let expected = "a number above 0 and below 10".to_owned();
            return invalid("initializer_range", self.initializer_range.to_string(), expected);
        }
        let factor = match self.rope_scaling {
            None => 1.0,
            Some(RopeScaling::Linear { factor } | RopeScaling::Llama3 { factor, .. }) => factor,
        };
        if !(1.0..1e6).contains(&factor) {
            return invalid("rope_scaling.factor", factor.to_string(), "a number from 1 to 1e6".to_owned());
        }
        if let Some(RopeScaling::Llama3 {
            low_freq_factor: low,
            high_freq_factor: high,
            original_max_position_embeddings: original,
            ..
        }) = self.rope_scaling
        {
            if !(low > 0.0 && low < high && high < 1e6) {
                let expected = "`low_freq_factor` above 0 and below `high_freq_factor`".to_owned();
                return invalid("rope_scaling", format!("{low} and {high}"), expected);
            }
            if original == 0 || original > LIMITS[7].1 {
                let expected = format!("1 to {}", LIMITS[7].1);
                return invalid("rope_scaling.original_max_position_embeddings", original.to_string(), expected);
            }
        }
        for &id in self.bos_token_id.iter().chain(&self.eos_token_ids) {
            if id as usize >= self.vocab_size {
                let expected = format!("below the vocabulary's size {}", self.vocab_size);
                return invalid("bos_token_id or eos_token_id", id.to_string(), expected);
            }
        }
        Ok(self)
    }
}

/// `config.json` as written: a struct, so that the order of keys is ours whatever features `serde_json` was built with.
/// `rope_theta` and `torch_dtype` are transformers 4's names, which 5 still reads.
#[derive(Serialize)]
struct ConfigFile<'a> {
    architectures: [&'static str; 1],
    attention_bias: bool,
    attention_dropout: f64,
    bos_token_id: Option<u32>,
    #[serde(serialize_with = "one_or_more")]
    eos_token_id: &'a [u32],
    head_dim: usize,
    hidden_act: &'static str,
    hidden_size: usize,
    initializer_range: f64,
    intermediate_size: usize,
    max_position_embeddings: usize,
    mlp_bias: bool,
    model_type: &'static str,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    num_key_value_heads: usize,
    rms_norm_eps: f64,
    rope_scaling: Option<RopeEntry>,
    rope_theta: f64,
    tie_word_embeddings: bool,
    torch_dtype: &'static str,
    vocab_size: usize,
}

/// `rope_scaling` as written.
#[derive(Serialize)]
struct RopeEntry {
    factor: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    high_freq_factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    low_freq_factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_max_position_embeddings: Option<usize>,
    rope_type: &'static str,
}

impl From<&RopeScaling> for RopeEntry {
    fn from(scaling: &RopeScaling) -> Self {
        match *scaling {
            RopeScaling::Linear { factor } => Self {
                factor,
                high_freq_factor: None,
                low_freq_factor: None,
                original_max_position_embeddings: None,
                rope_type: "linear",
            },
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                Self {
                    factor,
                    high_freq_factor: Some(high_freq_factor),
                    low_freq_factor: Some(low_freq_factor),
                    original_max_position_embeddings: Some(original_max_position_embeddings),
                    rope_type: "llama3",
                }
            }
        }
    }
}

/// One token id as a number, several as a list, none as null: what transformers writes.
fn one_or_more<S: serde::Serializer>(ids: &&[u32], serializer: S) -> Result<S::Ok, S::Error> {
    match ids {
        [] => serializer.serialize_none(),
        [id] => serializer.serialize_u32(*id),
        _ => serializer.collect_seq(*ids),
    }
}

#[cfg(test)]
mod tests;
