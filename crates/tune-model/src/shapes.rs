//! Names and shapes of tensors, from the configuration alone.

use std::collections::BTreeMap;

use crate::ModelError;
use crate::adapter::{LoraSpec, expand_targets};
use crate::base::ModelConfig;
use crate::block::{LINEARS, linear_shapes};
use crate::linear::{lora_a_name, lora_b_name};
use crate::model::{EMBEDDING, HEAD, NORM};

/// Names and shapes of the tensors that training changes, as a result's file has them: those of the adapter `spec`, or all
/// weights of the decoder where there is none.
///
/// # Errors
/// A module that the decoder does not have.
pub fn trained_shapes(
    config: &ModelConfig,
    spec: Option<&LoraSpec>,
) -> Result<BTreeMap<String, Vec<usize>>, ModelError> {
    let all = decoder_shapes(config);
    let Some(spec) = spec else { return Ok(all) };
    let branch = |module: String| {
        let shape = &all[&format!("{module}.weight")];
        [(lora_a_name(&module), vec![spec.rank, shape[1]]), (lora_b_name(&module), vec![shape[0], spec.rank])]
    };
    Ok(expand_targets(config, &spec.targets)?.into_iter().flat_map(branch).collect())
}

/// Names and shapes of all weights of a decoder.
pub(crate) fn decoder_shapes(config: &ModelConfig) -> BTreeMap<String, Vec<usize>> {
    let (hidden, vocabulary) = (config.hidden_size, config.vocab_size);
    let mut shapes = BTreeMap::new();
    shapes.insert(EMBEDDING.to_owned(), vec![vocabulary, hidden]);
    shapes.insert(NORM.to_owned(), vec![hidden]);
    if !config.tie_word_embeddings {
        shapes.insert(HEAD.to_owned(), vec![vocabulary, hidden]);
    }
    for layer in 0..config.num_layers {
        let block = format!("model.layers.{layer}");
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            shapes.insert(format!("{block}.{norm}.weight"), vec![hidden]);
        }
        for (index, (linear, (outputs, inputs))) in LINEARS.into_iter().zip(linear_shapes(config)).enumerate() {
            shapes.insert(format!("{block}.{linear}.weight"), vec![outputs, inputs]);
            if if index < 4 { config.attention_bias } else { config.mlp_bias } {
                shapes.insert(format!("{block}.{linear}.bias"), vec![outputs]);
            }
        }
    }
    shapes
}
