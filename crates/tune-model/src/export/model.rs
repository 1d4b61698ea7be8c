//! A merged model as one GGUF file with weights in f32.
//!
//! Where the base is a GGUF file its metadata are kept, but for what no longer holds: the type of the weights, how they
//! were quantised, the parts they came in. Where it is a Hugging Face folder the metadata are those that llama.cpp's
//! `convert_hf_to_gguf.py` writes for architecture `llama`, less what describes the model to people.

use std::collections::BTreeMap;
use std::io::Write;

use tune_kernels::encoding::Encoding;

use super::adapter::place;
use super::gguf::{GgufWriter, Value, f32_bytes};
use super::merge::Merged;
use super::rows::interleave_halves;
use super::{ExportError, tokenizer};
use crate::base::gguf::GgufMetadata;
use crate::base::{ModelConfig, RopeScaling, TokenizerParts};
use crate::rope;

/// The table of rotary factors that stands for Llama 3's scaling.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// Writes the merged model as GGUF to `out`, one tensor at a time. `name` becomes `general.name`; without it a GGUF
/// base's own stays.
///
/// Llama 3's rotary scaling is written as llama.cpp has it, as tensor `rope_freqs.weight`; this crate's own reader
/// refuses such files.
///
/// # Errors
/// Those of [`Merged::load`]; a tokenizer that llama.cpp has no name for; what `out` cannot take.
pub fn write_merged_gguf(merged: &Merged<'_>, name: Option<&str>, out: &mut dyn Write) -> Result<(), ExportError> {
    let base = merged.base();
    let config = &base.config;
    let mut file = GgufWriter::new();
    match &base.gguf {
        Some(metadata) => put_own(&mut file, metadata, name)?,
        None => put_converted(&mut file, config, &base.tokenizer, name)?,
    }
    let factors = if base.gguf.is_none() { rope_factors(config) } else { None };
    if let Some(factors) = &factors {
        file.tensor(ROPE_FACTORS, &[factors.len()], Encoding::F32)?;
    }
    let mut sources = BTreeMap::new();
    for (source, shape) in merged.shapes() {
        let (target, heads) = place(source, config)?;
        file.tensor(&target, shape, Encoding::F32)?;
        sources.insert(target, (source, shape[0], heads));
    }
    file.write(out, |target| {
        let Some(&(source, rows, heads)) = sources.get(target) else {
            return Ok(f32_bytes(factors.as_deref().unwrap_or_default()));
        };
        let values = merged.load(source)?;
        Ok(heads.map_or_else(|| f32_bytes(&values), |heads| f32_bytes(&interleave_halves(&values, rows, heads))))
    })
}

/// The base's own metadata, sorted by key, with what the new weights are.
fn put_own(file: &mut GgufWriter, metadata: &GgufMetadata, name: Option<&str>) -> Result<(), ExportError> {
    let replaced = |key: &str| {
        matches!(key, "general.alignment" | "general.file_type")
            || key == "general.name" && name.is_some()
            || key.starts_with("split.")
            || key.starts_with("quantize.")
    };
    for (key, value) in metadata.iter().filter(|(key, _)| !replaced(key)) {
        file.put(key, Value::from_read(value))?;
    }
    file.put("general.file_type", Value::U32(0))?;
    name.map_or(Ok(()), |name| file.put("general.name", name))
}

/// The metadata of a model that was none of llama.cpp's before.
fn put_converted(
    file: &mut GgufWriter,
    config: &ModelConfig,
    tokenizer: &TokenizerParts,
    name: Option<&str>,
) -> Result<(), ExportError> {
    file.put("general.architecture", "llama")?;
    file.put("general.type", "model")?;
    if let Some(name) = name {
        file.put("general.name", name)?;
    }
    file.put("general.file_type", Value::U32(0))?;
    file.put("general.quantization_version", Value::U32(2))?;
    for (key, value) in [
        ("llama.block_count", config.num_layers),
        ("llama.context_length", config.max_position_embeddings),
        ("llama.embedding_length", config.hidden_size),
        ("llama.feed_forward_length", config.intermediate_size),
        ("llama.attention.head_count", config.num_heads),
        ("llama.attention.head_count_kv", config.num_kv_heads),
        ("llama.attention.key_length", config.head_dim),
        ("llama.attention.value_length", config.head_dim),
        ("llama.rope.dimension_count", config.head_dim),
        ("llama.vocab_size", config.vocab_size),
    ] {
        let number = u32::try_from(value).map_err(|_| ExportError::TooLarge { key: key.to_owned(), value })?;
        file.put(key, Value::U32(number))?;
    }
    file.put("llama.attention.layer_norm_rms_epsilon", single(config.rms_norm_eps))?;
    file.put("llama.rope.freq_base", single(config.rope_theta))?;
    if let Some(RopeScaling::Linear { factor }) = config.rope_scaling {
        file.put("llama.rope.scaling.type", "linear")?;
        file.put("llama.rope.scaling.factor", single(factor))?;
    }
    for (key, value) in tokenizer::metadata(tokenizer, config)? {
        file.put(key, value)?;
    }
    Ok(())
}

#[expect(clippy::cast_possible_truncation, reason = "the type that llama.cpp reads")]
fn single(number: f64) -> Value {
    Value::F32(number as f32)
}

/// By what llama.cpp divides each rotary frequency, where it is not the same number for all.
#[expect(clippy::cast_possible_truncation, reason = "rounded once")]
fn rope_factors(config: &ModelConfig) -> Option<Vec<f32>> {
    if !matches!(config.rope_scaling, Some(RopeScaling::Llama3 { .. })) {
        return None;
    }
    let plain = rope::frequencies(&ModelConfig { rope_scaling: None, ..config.clone() });
    Some(plain.iter().zip(rope::frequencies(config)).map(|(plain, scaled)| (plain / scaled) as f32).collect())
}
