//! How much memory a run will take, for `tune plan`.

use crate::adapter::{LoraSpec, expand_targets};
use crate::base::ModelConfig;
use crate::block::{LINEARS, linear_shapes};

/// Bytes by purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// Base weights in f32.
    pub weights: u64,
    /// Trained tensors outside the base, moments, and gradients: one for the running sums, one for the newest rows.
    pub training: u64,
    /// What the backward pass keeps of a micro-batch.
    pub activations: u64,
    /// The largest temporary: logits of a chunk, or a layer's activations.
    pub temporary: u64,
    /// The sum.
    pub total: u64,
}

/// Estimate for micro-batches of `tokens` tokens; `spec` is none where all weights are trained.
#[must_use]
pub fn estimate(config: &ModelConfig, spec: Option<&LoraSpec>, tokens: u64, rows: u64) -> MemoryEstimate {
    let bytes = |values: u64| 4 * values;
    let (hidden, mlp, layers) = (config.hidden_size as u64, config.intermediate_size as u64, config.num_layers as u64);
    let (query, key_value) =
        ((config.num_heads * config.head_dim) as u64, (config.num_kv_heads * config.head_dim) as u64);
    let vocabulary = config.vocab_size as u64;
    let shapes = linear_shapes(config).map(|(outputs, inputs)| (outputs as u64, inputs as u64));
    let block: u64 = shapes.iter().map(|(outputs, inputs)| outputs * inputs).sum();
    let heads = if config.tie_word_embeddings { 1 } else { 2 };
    let base = layers * block + heads * vocabulary * hidden;
    // The running sums of a step hold up to log2(rows) + 1 partial gradients beside the newest one of each row.
    let gradients = u64::from(rows.max(1).ilog2()) + 2;
    let (trained, branch) = match spec {
        None => (base, 0),
        Some(spec) => {
            let targets = expand_targets(config, &spec.targets).unwrap_or_default();
            let adapted = |path: &str| {
                LINEARS.iter().position(|name| path.ends_with(name)).map_or(0, |i| shapes[i].0 + shapes[i].1)
            };
            let rank = spec.rank as u64;
            (targets.iter().map(|path| adapted(path) * rank).sum(), targets.len() as u64 * rank * tokens)
        }
    };
    let state = if spec.is_some() { 3 } else { 2 };
    let weights = bytes(base);
    let training = bytes(trained * (state + gradients));
    let saved = 3 * hidden + 2 * query + 2 * key_value + 2 * mlp + 2 * config.num_heads as u64 + 2;
    let activations = bytes(layers * tokens * saved + branch);
    let temporary = bytes((1 << 22) + tokens * (2 * hidden + 3 * mlp));
    MemoryEstimate { weights, training, activations, temporary, total: weights + training + activations + temporary }
}
