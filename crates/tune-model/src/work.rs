//! Floating-point operations of a training step, for `tune bench`.

use crate::base::ModelConfig;
use crate::block::{K, V, linear_shapes};

/// Floating-point operations of the products with weights, a multiply-add counted as two: forward, backward to the input, and
/// to the weight where it is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightProducts {
    /// For each token: of all blocks, but of the last one only its keys and values.
    pub per_token: u64,
    /// For each supervised token beside that: of the rest of the last block, which few others go through
    /// ([`crate::tail::Tail`]), and of the head.
    pub per_supervised_token: u64,
}

/// Values in all matrices of a decoder.
#[must_use]
pub fn parameters(config: &ModelConfig) -> u64 {
    let block: usize = linear_shapes(config).into_iter().map(|(outputs, inputs)| outputs * inputs).sum();
    let heads = if config.tie_word_embeddings { 1 } else { 2 };
    (config.num_layers * block + heads * config.vocab_size * config.hidden_size) as u64
}

/// Operations of a training step with frozen weights, or with trained ones.
#[must_use]
pub fn weight_products(config: &ModelConfig, trained: bool) -> WeightProducts {
    let linears = linear_shapes(config).map(|(outputs, inputs)| outputs * inputs);
    let block: usize = linears.iter().sum();
    let of_all_tokens = linears[K] + linears[V];
    let passes = if trained { 3 } else { 2 };
    WeightProducts {
        per_token: 2 * passes * (config.num_layers.saturating_sub(1) * block + of_all_tokens) as u64,
        per_supervised_token: 2 * passes * (block - of_all_tokens + config.vocab_size * config.hidden_size) as u64,
    }
}
