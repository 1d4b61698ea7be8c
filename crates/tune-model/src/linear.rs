//! A linear layer: frozen, trained, or frozen with a LoRA branch.

use burn_tensor::Tensor;
use tune_kernels::KernelBackend;
use tune_kernels::backend::{InputGradient, Layer, LayerOutput, LoraBranch, LoraGradient, Weight};
use tune_kernels::layout::{Repeat, Rows};
use tune_kernels::philox::StreamKey;
use tune_kernels::shapes::Dropout;

/// Whether a pass belongs to a training step. Dropout acts only there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Optimizer step, from 0: keys dropout.
    Train {
        /// The step.
        step: u32,
    },
    /// Evaluation and generation.
    Evaluate,
}

/// Receives the gradients of a parameter for the rows of a micro-batch, in row order.
pub type GradientSink<'a, B> = dyn FnMut(&str, Vec<Tensor<B, 2>>) + 'a;

/// LoRA matrices of a layer.
#[derive(Debug, Clone)]
pub struct Lora<B: KernelBackend> {
    /// `[rank, inputs]`
    pub a: Tensor<B, 2>,
    /// `[outputs, rank]`
    pub b: Tensor<B, 2>,
    /// The effective scale.
    pub scale: f32,
    /// Probability and stream of dropout, where there is any.
    pub dropout: Option<(f64, StreamKey)>,
}

/// `y = x · Wᵀ (+ bias) (+ scale · dropout(x) · Aᵀ · Bᵀ)`
#[derive(Debug, Clone)]
pub struct Linear<B: KernelBackend> {
    /// Path of the module, as Hugging Face names it.
    pub name: String,
    /// `[outputs, inputs]`
    pub weight: Weight<B>,
    /// `[outputs]`
    pub bias: Option<Tensor<B, 1>>,
    /// The adapter, where there is one.
    pub lora: Option<Lora<B>>,
}

/// What the passes through a layer need to know beside its tensors.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a> {
    /// Places of the tokens within their segments.
    pub(crate) positions: &'a [u32],
    pub(crate) rows: &'a Rows,
    /// Tokens for which everything on the way forward is the same as for earlier ones.
    pub(crate) repeats: &'a [Repeat],
    pub(crate) mode: Mode,
    /// Weights and biases are trained.
    pub(crate) train_weights: bool,
}

impl<B: KernelBackend> Linear<B> {
    /// Whether inputs are dropped at random in this pass.
    pub(crate) fn drops_out(&self, mode: Mode) -> bool {
        matches!(mode, Mode::Train { .. }) && self.lora.as_ref().is_some_and(|lora| lora.dropout.is_some())
    }

    fn branch(&self, lora: &Lora<B>, mode: Mode) -> LoraBranch<B> {
        let dropout = match (mode, lora.dropout) {
            (Mode::Train { step }, Some((p, key))) => Some(Dropout::new(key, step, p)),
            _ => None,
        };
        LoraBranch { a: lora.a.clone(), b: lora.b.clone(), scale: lora.scale, dropout }
    }

    /// The layer as an operation sees it in this pass.
    pub(crate) fn layer(&self, mode: Mode) -> Layer<'_, B> {
        let branch = self.lora.as_ref().map(|lora| self.branch(lora, mode));
        Layer { weight: &self.weight, bias: self.bias.as_ref(), branch }
    }

    /// Output and `dropout(x) · Aᵀ` of this layer alone; `plus + output` where `plus` is given.
    pub(crate) fn forward(
        &self,
        x: &Tensor<B, 2>,
        plus: Option<&Tensor<B, 2>>,
        pass: &Pass<'_>,
    ) -> (Tensor<B, 2>, Option<Tensor<B, 2>>) {
        let LayerOutput { y, h } = B::linears(x, &[self.layer(pass.mode)], plus, pass.rows, pass.repeats)
            .pop()
            .expect("one output for one layer");
        (y, h)
    }

    /// Gives the gradients of what is trained to `sink` and, where it is wanted, that of `x` back.
    pub(crate) fn backward(
        &self,
        dy: &Tensor<B, 2>,
        x: &Tensor<B, 2>,
        h: Option<&Tensor<B, 2>>,
        pass: &Pass<'_>,
        input: InputGradient<'_, B>,
        sink: &mut GradientSink<'_, B>,
    ) -> Option<Tensor<B, 2>> {
        if let Some(h) = h {
            let (dx, gradients) = B::linear_lora_backward(dy, x, h, &self.layer(pass.mode), pass.rows, input);
            self.give(gradients, sink);
            return dx;
        }
        self.weight_gradients(dy, x, pass, sink);
        self.frozen_input_gradient(dy, input)
    }

    /// The first part of [`Self::backward`], which does not need `x`: the input's gradient, and what the second part needs.
    pub(crate) fn input_gradient(
        &self,
        dy: &Tensor<B, 2>,
        pass: &Pass<'_>,
        input: InputGradient<'_, B>,
    ) -> (Option<Tensor<B, 2>>, Option<Tensor<B, 2>>) {
        if self.lora.is_some() {
            let (dx, u) = B::lora_input_gradient(dy, &self.layer(pass.mode), pass.rows, input);
            return (dx, Some(u));
        }
        (self.frozen_input_gradient(dy, input), None)
    }

    /// The second part: gradients of what is trained go to `sink`.
    pub(crate) fn gradients(
        &self,
        dy: &Tensor<B, 2>,
        x: &Tensor<B, 2>,
        [h, u]: [Option<&Tensor<B, 2>>; 2],
        pass: &Pass<'_>,
        sink: &mut GradientSink<'_, B>,
    ) {
        match h.zip(u) {
            Some((h, u)) => {
                self.give(B::lora_gradients(dy, x, h, u, &self.layer(pass.mode), pass.rows), sink);
            }
            None => self.weight_gradients(dy, x, pass, sink),
        }
    }

    pub(crate) fn give(&self, gradients: Vec<LoraGradient<B>>, sink: &mut GradientSink<'_, B>) {
        let (a, b) = gradients.into_iter().map(|LoraGradient { a, b }| (a, b)).unzip();
        sink(&lora_a_name(&self.name), a);
        sink(&lora_b_name(&self.name), b);
    }

    fn weight_gradients(&self, dy: &Tensor<B, 2>, x: &Tensor<B, 2>, pass: &Pass<'_>, sink: &mut GradientSink<'_, B>) {
        if pass.train_weights {
            sink(&format!("{}.weight", self.name), B::linear_weight_gradient(dy, x, pass.rows));
            if self.bias.is_some() {
                sink(&format!("{}.bias", self.name), as_matrices(B::bias_gradient(dy, pass.rows)));
            }
        }
    }

    /// Of a layer without an adapter.
    fn frozen_input_gradient(&self, dy: &Tensor<B, 2>, input: InputGradient<'_, B>) -> Option<Tensor<B, 2>> {
        match input {
            InputGradient::None => None,
            InputGradient::Alone => Some(B::linear_input_gradient(dy, &self.weight, None)),
            InputGradient::Plus(plus) => Some(B::linear_input_gradient(dy, &self.weight, Some(plus))),
        }
    }
}

/// Vectors as matrices of one row: the one shape the optimizer knows.
pub(crate) fn as_matrices<B: KernelBackend>(vectors: Vec<Tensor<B, 1>>) -> Vec<Tensor<B, 2>> {
    vectors.into_iter().map(|vector| vector.unsqueeze::<2>()).collect()
}

/// Name of `A` in a PEFT file.
pub(crate) fn lora_a_name(module: &str) -> String {
    format!("base_model.model.{module}.lora_A.weight")
}

/// Name of `B` in a PEFT file.
pub(crate) fn lora_b_name(module: &str) -> String {
    format!("base_model.model.{module}.lora_B.weight")
}
