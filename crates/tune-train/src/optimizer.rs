//! The gradient of a step, its norm, and the AdamW update.

use std::collections::BTreeMap;

use burn_tensor::Tensor;
use tune_kernels::KernelBackend;
use tune_kernels::shapes::AdamW;
use tune_kernels::tree::PairwiseSum;
use tune_schema::recipe::Recipe;

/// Gradients of the rows of a step, added in the contract's tree as they arrive.
#[derive(Debug)]
pub struct StepGradient<B: KernelBackend> {
    sums: BTreeMap<String, PairwiseSum<Tensor<B, 2>>>,
}

impl<B: KernelBackend> Default for StepGradient<B> {
    fn default() -> Self {
        Self { sums: BTreeMap::new() }
    }
}

impl<B: KernelBackend> StepGradient<B> {
    /// Adds the gradients of the next rows of a parameter, in row order.
    pub fn push(&mut self, name: &str, rows: Vec<Tensor<B, 2>>) {
        if !self.sums.contains_key(name) {
            self.sums.insert(name.to_owned(), PairwiseSum::default());
        }
        if let Some(sum) = self.sums.get_mut(name) {
            rows.into_iter().for_each(|row| sum.push(row, |a, b| a + b));
        }
    }

    /// The sums over all rows, by parameter.
    #[must_use]
    pub fn finish(self) -> BTreeMap<String, Tensor<B, 2>> {
        let sums = self.sums.into_iter();
        sums.filter_map(|(name, sum)| sum.finish(|a, b| a + b).map(|gradient| (name, gradient))).collect()
    }
}

/// Root of the sum of squares over all tensors in name order: within a matrix row the contract's 32 lanes in f32, then
/// rows and tensors one after another in f64.
#[must_use]
pub fn global_norm<B: KernelBackend>(gradient: &BTreeMap<String, Tensor<B, 2>>) -> f64 {
    let rows = B::row_sums_of_squares(&gradient.values().collect::<Vec<_>>());
    libm::sqrt(rows.into_iter().fold(0.0, |sum, row| sum + f64::from(row)))
}

/// First and second moments of every trained parameter.
#[derive(Debug)]
pub struct Moments<B: KernelBackend> {
    /// Running means of the gradient.
    pub first: BTreeMap<String, Tensor<B, 2>>,
    /// Running means of its square.
    pub second: BTreeMap<String, Tensor<B, 2>>,
}

impl<B: KernelBackend> Moments<B> {
    /// Zeros in the shapes of `parameters`.
    #[must_use]
    pub fn zeros(parameters: &BTreeMap<String, Tensor<B, 2>>) -> Self {
        let zeros =
            || parameters.iter().map(|(name, p)| (name.clone(), Tensor::zeros(p.dims(), &p.device()))).collect();
        Self { first: zeros(), second: zeros() }
    }
}

/// The host's scalars of a step, in f64, each rounded once. `step` counts from 1; `norm` is the norm of the mean gradient.
///
/// Clipping follows `torch.nn.utils.clip_grad_norm_`: the factor is `max_grad_norm / (norm + 1e-6)`, at most 1.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "rounded once, as the contract says")]
pub fn scalars(recipe: &Recipe, rate: f64, step: u64, supervised: u64, norm: f64) -> AdamW {
    let clip = if recipe.max_grad_norm > 0.0 { (recipe.max_grad_norm / (norm + 1e-6)).min(1.0) } else { 1.0 };
    let power = |beta: f64| 1.0 - libm::pow(beta, step as f64);
    AdamW {
        gradient_factor: (clip / supervised as f64) as f32,
        decay: (1.0 - rate * recipe.weight_decay) as f32,
        one_minus_beta1: (1.0 - recipe.adam_beta1) as f32,
        beta2: recipe.adam_beta2 as f32,
        one_minus_beta2: (1.0 - recipe.adam_beta2) as f32,
        root_bias_correction2: libm::sqrt(power(recipe.adam_beta2)) as f32,
        epsilon: recipe.adam_epsilon as f32,
        step_size: (rate / power(recipe.adam_beta1)) as f32,
    }
}
