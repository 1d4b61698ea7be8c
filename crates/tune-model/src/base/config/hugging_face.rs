//! `config.json` as transformers 4 and 5 write it.

use serde::Deserialize;

use super::super::error::BaseError;
use super::{CONFIG_FILE, DEFAULT_INITIALIZER_RANGE, ModelConfig, RopeScaling};

/// The keys that matter; the others say how a model was made or run, not what it computes.
#[derive(Deserialize)]
struct Raw {
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: Option<usize>,
    hidden_act: Option<String>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_scaling: Option<Rope>,
    rope_parameters: Option<Rope>,
    partial_rotary_factor: Option<f64>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    max_position_embeddings: Option<usize>,
    /// Absent is 1 in transformers, null is none.
    #[serde(default = "default_bos")]
    bos_token_id: Option<u32>,
    /// Absent is 2 in transformers, null is none.
    #[serde(default = "default_eos")]
    eos_token_id: Option<OneOrMore>,
    /// Absent is not null: `MistralConfig`'s default is a window of 4096.
    #[serde(default = "default_window")]
    sliding_window: Option<u64>,
    quantization_config: Option<serde::de::IgnoredAny>,
    initializer_range: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(u32),
    More(Vec<u32>),
}

#[derive(Deserialize, PartialEq)]
struct Rope {
    /// `type` is the name of transformers before 4.43.
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
    partial_rotary_factor: Option<f64>,
}

fn default_bos() -> Option<u32> {
    Some(1)
}

#[expect(clippy::unnecessary_wraps, reason = "the field's type")]
fn default_eos() -> Option<OneOrMore> {
    Some(OneOrMore::One(2))
}

fn default_window() -> Option<u64> {
    Some(4096)
}

fn missing(key: &str) -> BaseError {
    BaseError::MissingKey { file: CONFIG_FILE.to_owned(), key: key.to_owned() }
}

fn unsupported(key: &str, found: impl ToString, supported: &'static str) -> BaseError {
    BaseError::UnsupportedSetting {
        file: CONFIG_FILE.to_owned(),
        key: key.to_owned(),
        found: found.to_string(),
        supported,
    }
}

/// The configuration that `bytes` describe, its numbers unchecked.
pub(super) fn read(bytes: &[u8]) -> Result<ModelConfig, BaseError> {
    // First the architecture alone: another one's keys may have other types, and its name is the better message.
    let json = |source| BaseError::Json { file: CONFIG_FILE.to_owned(), source };
    let kind: Kind = serde_json::from_slice(bytes).map_err(json)?;
    kind.check()?;
    let mistral = kind.model_type.as_deref() == Some("mistral");
    let raw: Raw = serde_json::from_slice(bytes).map_err(json)?;
    if mistral && let Some(window) = raw.sliding_window {
        return Err(unsupported("sliding_window", window, "null, written out"));
    }
    if raw.quantization_config.is_some() {
        return Err(unsupported("quantization_config", "set", "weights that are not quantised, or a GGUF file"));
    }
    match raw.hidden_act.as_deref() {
        None | Some("silu" | "swish") => {}
        Some(other) => return Err(unsupported("hidden_act", format_args!("`{other}`"), "`silu`")),
    }

    let hidden_size = raw.hidden_size.ok_or_else(|| missing("hidden_size"))?;
    let num_heads = raw.num_attention_heads.ok_or_else(|| missing("num_attention_heads"))?;
    let num_kv_heads = match raw.num_key_value_heads {
        Some(heads) => heads,
        // `MistralConfig` has 8 here: rather ask than guess.
        None if mistral => return Err(missing("num_key_value_heads")),
        None => num_heads,
    };
    let head_dim = match raw.head_dim {
        Some(size) => size,
        None if num_heads > 0 && hidden_size.is_multiple_of(num_heads) => hidden_size / num_heads,
        None => return Err(missing("head_dim")),
    };
    let (rope_theta, rope_scaling) = rope(&raw)?;
    Ok(ModelConfig {
        hidden_size,
        intermediate_size: raw.intermediate_size.ok_or_else(|| missing("intermediate_size"))?,
        num_layers: raw.num_hidden_layers.ok_or_else(|| missing("num_hidden_layers"))?,
        num_heads,
        num_kv_heads,
        head_dim,
        vocab_size: raw.vocab_size.ok_or_else(|| missing("vocab_size"))?,
        rms_norm_eps: raw.rms_norm_eps.unwrap_or(1e-6),
        rope_theta,
        rope_scaling,
        tie_word_embeddings: raw.tie_word_embeddings.unwrap_or(false),
        attention_bias: raw.attention_bias.unwrap_or(false),
        mlp_bias: raw.mlp_bias.unwrap_or(false),
        max_position_embeddings: raw.max_position_embeddings.unwrap_or(2048),
        bos_token_id: raw.bos_token_id,
        eos_token_ids: match raw.eos_token_id {
            None => Vec::new(),
            Some(OneOrMore::One(id)) => vec![id],
            Some(OneOrMore::More(ids)) => ids,
        },
        initializer_range: raw.initializer_range.unwrap_or(DEFAULT_INITIALIZER_RANGE),
    })
}

/// What decides whether the other keys can be read at all.
#[derive(Deserialize)]
struct Kind {
    architectures: Option<Vec<String>>,
    model_type: Option<String>,
}

impl Kind {
    fn check(&self) -> Result<(), BaseError> {
        let names = self.architectures.as_deref().unwrap_or_default();
        let [name] = names else {
            return Err(if names.is_empty() {
                missing("architectures")
            } else {
                BaseError::UnsupportedArchitecture { file: CONFIG_FILE.to_owned(), found: names.join(", ") }
            });
        };
        match (name.as_str(), self.model_type.as_deref()) {
            ("LlamaForCausalLM", Some("llama")) | ("MistralForCausalLM", Some("mistral")) => Ok(()),
            ("LlamaForCausalLM" | "MistralForCausalLM", None) => Err(missing("model_type")),
            (name, kind) => {
                let found = match kind {
                    Some(kind) => format!("{name} (model type {kind})"),
                    None => name.to_owned(),
                };
                Err(BaseError::UnsupportedArchitecture { file: CONFIG_FILE.to_owned(), found })
            }
        }
    }
}

/// The rotary base and scaling. transformers 4 has `rope_theta` and `rope_scaling`, 5 puts both into
/// `rope_parameters`; where both are given they must agree.
fn rope(raw: &Raw) -> Result<(f64, Option<RopeScaling>), BaseError> {
    let (key, rope) = match (&raw.rope_parameters, &raw.rope_scaling) {
        (Some(new), Some(old)) if new != old => {
            return Err(unsupported("rope_scaling", "different from `rope_parameters`", "one of the two"));
        }
        (Some(new), _) => ("rope_parameters", Some(new)),
        (None, old) => ("rope_scaling", old.as_ref()),
    };
    let partial = raw.partial_rotary_factor.or(rope.and_then(|rope| rope.partial_rotary_factor));
    if let Some(factor) = partial
        && factor != 1.0
    {
        return Err(unsupported("partial_rotary_factor", factor, "1"));
    }
    let theta = rope.and_then(|rope| rope.rope_theta).or(raw.rope_theta).unwrap_or(10_000.0);
    let Some(rope) = rope else { return Ok((theta, None)) };
    let part = |name: &str| format!("{key}.{name}");
    let need = |value: Option<f64>, name: &str| value.ok_or_else(|| missing(&part(name)));
    let scaling = match rope.rope_type.as_deref() {
        Some("default") => None,
        Some("linear") => Some(RopeScaling::Linear { factor: need(rope.factor, "factor")? }),
        Some("llama3") => Some(RopeScaling::Llama3 {
            factor: need(rope.factor, "factor")?,
            low_freq_factor: need(rope.low_freq_factor, "low_freq_factor")?,
            high_freq_factor: need(rope.high_freq_factor, "high_freq_factor")?,
            original_max_position_embeddings: rope
                .original_max_position_embeddings
                .ok_or_else(|| missing(&part("original_max_position_embeddings")))?,
        }),
        Some(other) => {
            let supported = "`default`, `linear`, `llama3`";
            return Err(unsupported(&part("rope_type"), format_args!("`{other}`"), supported));
        }
        None => return Err(missing(&part("rope_type"))),
    };
    Ok((theta, scaling))
}
