//! A LoRA adapter in PEFT's layout as a GGUF adapter.
//!
//! What llama.cpp's `convert_lora_to_gguf.py` writes and `llama-adapter.cpp` reads: for each layer `<name>.weight.lora_a`
//! (`[rank, inputs]`) and `<name>.weight.lora_b` (`[outputs, rank]`), the same numbers in the same order as in PEFT's
//! file. Only the rows of `lora_b` move, and only for query and key projections, because they are the layer's outputs.
//! All values are f32 as trained: nothing is rounded.

use std::collections::BTreeMap;

use tune_kernels::encoding::Encoding;

use super::ExportError;
use super::gguf::{GgufWriter, Value, f32_bytes};
use super::rows::interleave_halves;
use crate::base::ModelConfig;
use crate::base::gguf::{Interleaved, gguf_name};
use crate::block::{LINEARS, linear_shapes};
use crate::linear::{lora_a_name, lora_b_name};
use crate::model::HostTensors;

/// The settings of an adapter that its tensors do not show.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdapterFacts {
    /// The rank `r`, the same for all layers.
    pub rank: usize,
    /// `lora_alpha`.
    pub alpha: f64,
    /// Whether the scale is `alpha / √r` instead of `alpha / r`.
    pub rslora: bool,
}

impl AdapterFacts {
    /// The factor on the branch as it was trained: in f64, rounded once.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a rank")]
    pub fn scale(&self) -> f32 {
        tune_schema::recipe::effective_scale(self.rank as f64, self.alpha, self.rslora)
    }

    /// The number from which llama.cpp computes the scale: it divides by the rank, in f32, whatever the adapter's kind.
    /// For rsLoRA that makes it alpha·√r, and the quotient may differ from [`Self::scale`] in the last bit.
    ///
    /// # Errors
    /// Alpha 0, which llama.cpp takes for "no scale", and numbers that f32 does not have.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a rank; rounded once")]
    fn gguf_alpha(&self) -> Result<f32, ExportError> {
        let alpha = (if self.rslora { self.alpha * (self.rank as f64).sqrt() } else { self.alpha }) as f32;
        if self.rank > 0 && alpha != 0.0 && alpha.is_finite() {
            Ok(alpha)
        } else {
            Err(ExportError::Scale { rank: self.rank, alpha: self.alpha })
        }
    }
}

/// The two matrices of a layer, their shapes checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Branch<'a> {
    /// `[rank, inputs]`
    pub(super) a: &'a [f32],
    /// `[outputs, rank]`
    pub(super) b: &'a [f32],
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

/// The adapter's matrices by the path of their layer.
///
/// # Errors
/// A tensor that is no LoRA matrix of one of the decoder's linear layers, lacks its other half or has another shape.
pub(super) fn branches<'a>(
    facts: &AdapterFacts,
    tensors: &'a HostTensors,
    config: &ModelConfig,
) -> Result<BTreeMap<String, Branch<'a>>, ExportError> {
    if tensors.is_empty() {
        return Err(ExportError::Empty);
    }
    // Names first: a tensor under a wrong name is a clearer message than the half that is missing for it.
    let mut layers = BTreeMap::new();
    for name in tensors.keys() {
        let refuse = |reason| ExportError::NoPlace { tensor: name.clone(), reason };
        let module = module_of(name).map_err(refuse)?;
        layers.insert(module, layer_shape(config, module).map_err(refuse)?);
    }
    let mut result = BTreeMap::new();
    for (module, (outputs, inputs)) in layers {
        let (a, b) = (lora_a_name(module), lora_b_name(module));
        for (tensor, missing) in [(&a, &b), (&b, &a)] {
            if !tensors.contains_key(missing) {
                return Err(ExportError::MissingHalf { tensor: tensor.clone(), missing: missing.clone() });
            }
        }
        let a = matrix(tensors, &a, [facts.rank, inputs])?;
        let b = matrix(tensors, &b, [outputs, facts.rank])?;
        result.insert(module.to_owned(), Branch { a, b, inputs, outputs });
    }
    Ok(result)
}

/// The layer whose matrix tensor `name` is, as Hugging Face names it.
fn module_of(name: &str) -> Result<&str, &'static str> {
    if name.contains(".lora_embedding_") {
        return Err("adapters of embeddings are not supported");
    }
    if name.contains(".lora_magnitude_vector") {
        return Err("GGUF has no DoRA");
    }
    let path = name.strip_prefix("base_model.model.").ok_or("its name does not begin with `base_model.model.`")?;
    let path = path.strip_suffix(".lora_A.weight").or_else(|| path.strip_suffix(".lora_B.weight"));
    path.ok_or("it is neither `lora_A.weight` nor `lora_B.weight` of a layer, and GGUF adapters hold nothing else")
}

/// Outputs and inputs of the decoder's linear layer with this path.
fn layer_shape(config: &ModelConfig, module: &str) -> Result<(usize, usize), &'static str> {
    if module == "lm_head" {
        let tied = config.tie_word_embeddings;
        let shape = (config.vocab_size, config.hidden_size);
        return if tied { Err("the base's head is its embedding, which has no adapter") } else { Ok(shape) };
    }
    let unknown = "the base model has no linear layer of this name";
    let (number, linear) = module.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.')).ok_or(unknown)?;
    let layer: usize = number.parse().map_err(|_| unknown)?;
    // One spelling only, as when names are read.
    if layer.to_string() != number || layer >= config.num_layers {
        return Err(unknown);
    }
    let index = LINEARS.iter().position(|name| *name == linear).ok_or(unknown)?;
    Ok(linear_shapes(config)[index])
}

fn matrix<'a>(tensors: &'a HostTensors, name: &str, expected: [usize; 2]) -> Result<&'a [f32], ExportError> {
    let (shape, values) = &tensors[name];
    if *shape != expected {
        let (expected, found) = (expected.to_vec(), shape.clone());
        return Err(ExportError::WrongShape { tensor: name.to_owned(), expected, found });
    }
    if values.len() != expected[0] * expected[1] {
        let (shape, values) = (shape.clone(), values.len());
        return Err(ExportError::ValueCount { tensor: name.to_owned(), shape, values });
    }
    Ok(values)
}

/// How many heads' rows a weight with Hugging Face name `name` interleaves in GGUF, if it does, and its GGUF name.
///
/// # Errors
/// A name that GGUF does not have.
pub(super) fn place(name: &str, config: &ModelConfig) -> Result<(String, Option<usize>), ExportError> {
    let reason = "GGUF has no name for it";
    let (gguf, rows) = gguf_name(name).ok_or_else(|| ExportError::NoPlace { tensor: name.to_owned(), reason })?;
    let heads = match rows {
        Interleaved::No => None,
        Interleaved::Query => Some(config.num_heads),
        Interleaved::Key => Some(config.num_kv_heads),
    };
    Ok((gguf, heads))
}

/// The bytes of a GGUF adapter with these tensors, which have the names and shapes of PEFT's `adapter_model.safetensors`:
/// `base_model.model.<path>.lora_A.weight`, `[rank, inputs]`, and `….lora_B.weight`, `[outputs, rank]`. `config` is the
/// base model's; `name` becomes `general.name`.
///
/// # Errors
/// A tensor that has no place in a GGUF adapter for this base, a pair that lacks its half, a wrong shape, no tensors, or a
/// scale that GGUF cannot express. Each names the tensor.
pub fn adapter_gguf(
    facts: &AdapterFacts,
    tensors: &HostTensors,
    config: &ModelConfig,
    name: Option<&str>,
) -> Result<Vec<u8>, ExportError> {
    let branches = branches(facts, tensors, config)?;
    let mut file = GgufWriter::new();
    file.put("general.architecture", "llama")?;
    file.put("general.type", "adapter")?;
    if let Some(name) = name {
        file.put("general.name", name)?;
    }
    file.put("general.file_type", Value::U32(0))?;
    file.put("adapter.type", "lora")?;
    file.put("adapter.lora.alpha", Value::F32(facts.gguf_alpha()?))?;

    let mut data = BTreeMap::new();
    for (module, branch) in &branches {
        let (name, heads) = place(&format!("{module}.weight"), config)?;
        let (a, b) = (format!("{name}.lora_a"), format!("{name}.lora_b"));
        file.tensor(&a, &[facts.rank, branch.inputs], Encoding::F32)?;
        file.tensor(&b, &[branch.outputs, facts.rank], Encoding::F32)?;
        data.insert(a, (branch.a, branch.outputs, None));
        data.insert(b, (branch.b, branch.outputs, heads));
    }
    let mut bytes = Vec::new();
    file.write(&mut bytes, |name| {
        let (values, rows, heads) = data[name];
        Ok(heads.map_or_else(|| f32_bytes(values), |heads| f32_bytes(&interleave_halves(values, rows, heads))))
    })?;
    Ok(bytes)
}
