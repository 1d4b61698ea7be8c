//! Floating-point operations of a training step, for `tune bench`.

use crate::base::ModelConfig;
use crate::block::linear_shapes;

/// Floating-point operations of the products with weights, a multiply-add counted as two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightProducts {
    /// Of the blocks' linear layers, for each token: forward, backward to the input, and to the weight where it is trained.
    pub per_token: u64,
    /// The same of the head, for each supervised token.
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
    let block: usize = linear_shapes(config).into_iter().map(|(outputs, inputs)| outputs * inputs).sum();
    let passes = if trained { 3 } else { 2 };
    WeightProducts {
        per_token: 2 * passes * (config.num_layers * block) as u64,
        per_supervised_token: 2 * passes * (config.vocab_size * config.hidden_size) as u64,
    }
}
