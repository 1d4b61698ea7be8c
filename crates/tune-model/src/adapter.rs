//! Which layers get a LoRA branch, and what its matrices start as.

use burn_tensor::{Tensor, TensorData};
use tune_kernels::KernelBackend;
use tune_kernels::philox::StreamKey;
use tune_schema::recipe::TargetModules;
use tune_schema::seed::{Seed, streams};

use crate::ModelError;
use crate::base::ModelConfig;
use crate::block::LINEARS;
use crate::linear::{Linear, Lora};

/// Settings of a LoRA adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraSpec {
    /// Rank.
    pub rank: usize,
    /// The effective scale.
    pub scale: f32,
    /// Probability of dropout on the branch's input; 0 is none.
    pub dropout: f64,
    /// Which layers.
    pub targets: TargetModules,
}

/// Paths of the layers that `targets` stand for, sorted. `all-linear` is every linear layer of the blocks, not the head,
/// as in PEFT; a name stands for every layer whose path ends in it.
///
/// # Errors
/// A name that is no layer.
pub fn expand_targets(config: &ModelConfig, targets: &TargetModules) -> Result<Vec<String>, ModelError> {
    let all: Vec<String> =
        (0..config.num_layers).flat_map(|n| LINEARS.map(|linear| format!("model.layers.{n}.{linear}"))).collect();
    let mut chosen: Vec<String> = match targets {
        TargetModules::Named(_) => all,
        TargetModules::List(names) => {
            let matches = |path: &str, name: &str| path == name || path.ends_with(&format!(".{name}"));
            if let Some(name) = names.iter().find(|name| !all.iter().any(|path| matches(path, name))) {
                let known = LINEARS.iter().filter_map(|path| path.rsplit('.').next()).map(str::to_owned).collect();
                return Err(ModelError::NoSuchTarget { name: name.clone(), known });
            }
            all.into_iter().filter(|path| names.iter().any(|name| matches(path, name))).collect()
        }
    };
    chosen.sort();
    Ok(chosen)
}

/// A fresh branch for a layer: `A` uniform in ±1/√inputs (what PEFT's Kaiming initialisation with a = √5 comes to) from
/// the stream `adapter-init/<module>`, element by element in row-major order; `B` zero.
pub(crate) fn fresh<B: KernelBackend>(linear: &Linear<B>, spec: &LoraSpec, seed: Seed, device: &B::Device) -> Lora<B> {
    let [outputs, inputs] = linear.weight.dims();
    let key = StreamKey(seed.stream(&format!("{}/{}", streams::ADAPTER_INIT, linear.name)));
    #[expect(clippy::cast_precision_loss, reason = "a feature count")]
    let bound = 1.0 / (inputs as f64).sqrt();
    #[expect(clippy::cast_possible_truncation, reason = "rounded once")]
    let a: Vec<f32> = (0..(spec.rank * inputs) as u64).map(|i| ((2.0 * key.uniform(i) - 1.0) * bound) as f32).collect();
    let dropout = StreamKey(seed.stream(&format!("{}/{}", streams::DROPOUT, linear.name)));
    Lora {
        a: Tensor::from_data(TensorData::new(a, [spec.rank, inputs]), device),
        b: Tensor::zeros([outputs, spec.rank], device),
        scale: spec.scale,
        dropout: (spec.dropout > 0.0).then_some((spec.dropout, dropout)),
    }
}
