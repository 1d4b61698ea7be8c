//! The configuration in GGUF metadata, as llama.cpp's converter writes it for architecture `llama`.

use super::super::error::BaseError;
use super::super::gguf::{GgufMetadata, TensorPresence};
use super::{DEFAULT_INITIALIZER_RANGE, ModelConfig, RopeScaling};

/// Keys of other models that share the architecture's name, and which change its mathematics.
const CHANGED_MATHEMATICS: [&str; 6] = [
    "llama.expert_count",
    "llama.attention.sliding_window",
    "llama.attention.scale",
    "llama.embedding_scale",
    "llama.residual_scale",
    "llama.logit_scale",
];

/// The configuration that `metadata` describes, its numbers unchecked.
pub(super) fn read(metadata: &GgufMetadata, presence: &TensorPresence) -> Result<ModelConfig, BaseError> {
    let architecture = "general.architecture";
    match metadata.required(architecture, metadata.text(architecture)?)? {
        "llama" => {}
        other => {
            return Err(BaseError::UnsupportedArchitecture {
                file: metadata.file().to_owned(),
                found: format!("{other} (GGUF)"),
            });
        }
    }
    // An adapter or a vocabulary in a GGUF file has the same architecture key.
    match metadata.text("general.type")? {
        None | Some("model") => {}
        Some(other) => return Err(unsupported(metadata, "general.type", format_args!("`{other}`"), "`model`")),
    }
    for key in CHANGED_MATHEMATICS {
        if let Some(value) = metadata.get(key)
            && !value.is_zero()
        {
            return Err(unsupported(metadata, key, "set", "unset or 0"));
        }
    }

    let hidden_size = size(metadata, "llama.embedding_length")?;
    let num_heads = size(metadata, "llama.attention.head_count")?;
    let num_kv_heads = optional_size(metadata, "llama.attention.head_count_kv")?.unwrap_or(num_heads);
    let head_dim = match optional_size(metadata, "llama.attention.key_length")? {
        Some(length) => length,
        None if num_heads > 0 && hidden_size.is_multiple_of(num_heads) => hidden_size / num_heads,
        None => return Err(metadata.invalid("llama.attention.head_count", num_heads, "a divisor of the width")),
    };
    for key in ["llama.attention.value_length", "llama.rope.dimension_count"] {
        if let Some(length) = optional_size(metadata, key)?
            && length != head_dim
        {
            return Err(unsupported(metadata, key, length, "the width of a head"));
        }
    }
    let tokens = metadata.texts("tokenizer.ggml.tokens")?.map(<[String]>::len);
    let vocab_size = optional_size(metadata, "llama.vocab_size")?.or(tokens);
    let vocab_size = metadata.required("llama.vocab_size", vocab_size)?;
    if tokens.is_some_and(|tokens| tokens > vocab_size) {
        return Err(metadata.invalid("llama.vocab_size", vocab_size, "at least the number of tokens"));
    }
    let epsilon = "llama.attention.layer_norm_rms_epsilon";
    Ok(ModelConfig {
        hidden_size,
        intermediate_size: size(metadata, "llama.feed_forward_length")?,
        num_layers: size(metadata, "llama.block_count")?,
        num_heads,
        num_kv_heads,
        head_dim,
        vocab_size,
        rms_norm_eps: metadata.required(epsilon, metadata.float(epsilon)?)?,
        rope_theta: metadata.float("llama.rope.freq_base")?.unwrap_or(10_000.0),
        rope_scaling: rope_scaling(metadata)?,
        tie_word_embeddings: !presence.output,
        attention_bias: presence.attention_bias,
        mlp_bias: presence.mlp_bias,
        max_position_embeddings: size(metadata, "llama.context_length")?,
        bos_token_id: token(metadata, "tokenizer.ggml.bos_token_id")?,
        eos_token_ids: token(metadata, "tokenizer.ggml.eos_token_id")?.into_iter().collect(),
        initializer_range: DEFAULT_INITIALIZER_RANGE,
    })
}

/// The type of scaling. Llama 3's is a table of factors in tensor `rope_freqs.weight`, which is refused with the
/// other tensors that have no place here.
fn rope_scaling(metadata: &GgufMetadata) -> Result<Option<RopeScaling>, BaseError> {
    let (kind, factor) = ("llama.rope.scaling.type", "llama.rope.scaling.factor");
    // The key of files before the scaling had a type.
    let old = metadata.float("llama.rope.scale_linear")?;
    match metadata.text(kind)? {
        Some("linear") => {
            let factor = metadata.required(factor, metadata.float(factor)?)?;
            Ok(Some(RopeScaling::Linear { factor }))
        }
        Some("none") => Ok(None),
        None => Ok(old.filter(|&factor| factor != 1.0 && factor != 0.0).map(|factor| RopeScaling::Linear { factor })),
        Some(other) => Err(unsupported(metadata, kind, format_args!("`{other}`"), "`none`, `linear`")),
    }
}

fn optional_size(metadata: &GgufMetadata, key: &str) -> Result<Option<usize>, BaseError> {
    // What does not fit is beyond every limit anyway.
    Ok(metadata.unsigned(key)?.map(|size| usize::try_from(size).unwrap_or(usize::MAX)))
}

fn size(metadata: &GgufMetadata, key: &str) -> Result<usize, BaseError> {
    metadata.required(key, optional_size(metadata, key)?)
}

fn token(metadata: &GgufMetadata, key: &str) -> Result<Option<u32>, BaseError> {
    let id = metadata.unsigned(key)?;
    id.map(|id| u32::try_from(id).map_err(|_| metadata.invalid(key, id, "a token id"))).transpose()
}

fn unsupported(metadata: &GgufMetadata, key: &str, found: impl ToString, supported: &'static str) -> BaseError {
    BaseError::UnsupportedSetting {
        file: metadata.file().to_owned(),
        key: key.to_owned(),
        found: found.to_string(),
        supported,
    }
}
