//! The operations as an extension of burn's `Backend`.
//!
//! Tensors are contiguous f32. Tokens are the flat list of a micro-batch (see [`crate::layout`]). Every method's
//! arithmetic is defined in `docs/numerics.md`; burn's own operations are used beside these only where they are an
//! elementwise `+` or `*` that feeds no further addition, a copy, or integer work.
//!
//! Backward passes are methods beside their forward pass instead of nodes of burn's autodiff graph: a graph adds
//! gradients in traversal order, keeps what it likes, and has no place for one gradient per row. See
//! `docs/decisions/0002-backward.md`.

use burn_backend::Backend;
use burn_tensor::Tensor;
use tune_schema::recipe::Numerics;

use crate::layout::{Repeat, Rows, Span};
use crate::shapes::{AdamW, Dropout, Heads};
use crate::stored::StoredMatrix;

/// A weight `[outputs, inputs]` on a device.
#[derive(Debug, Clone)]
pub enum Weight<B: KernelBackend> {
    /// Its values; may be trained.
    Values(Tensor<B, 2>),
    /// Frozen, and kept as it is stored in its file.
    Stored(B::Stored),
}

impl<B: KernelBackend> Weight<B> {
    /// Outputs and inputs.
    #[must_use]
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::Values(tensor) => tensor.dims(),
            Self::Stored(stored) => B::stored_shape(stored),
        }
    }
}

impl<B: KernelBackend> From<Tensor<B, 2>> for Weight<B> {
    fn from(values: Tensor<B, 2>) -> Self {
        Self::Values(values)
    }
}

/// A linear layer: `y = x · Wᵀ (+ bias) (+ branch)`.
#[derive(Debug, Clone)]
pub struct Layer<'a, B: KernelBackend> {
    /// `[outputs, inputs]`
    pub weight: &'a Weight<B>,
    /// `[outputs]`
    pub bias: Option<&'a Tensor<B, 1>>,
    /// The adapter.
    pub branch: Option<LoraBranch<B>>,
}

/// What [`KernelBackend::linears`] gives for a layer.
#[derive(Debug, Clone)]
pub struct LayerOutput<B: Backend> {
    /// `[tokens, outputs]`
    pub y: Tensor<B, 2>,
    /// With a branch, `dropout(x) · Aᵀ`, `[tokens, rank]`: the backward pass needs it.
    pub h: Option<Tensor<B, 2>>,
}

/// Whether and how the gradient of a layer's input is wanted.
#[derive(Debug)]
pub enum InputGradient<'a, B: Backend> {
    /// Not at all.
    None,
    /// By itself.
    Alone,
    /// Added to this, `[tokens, inputs]`: one rounded sum for each element.
    Plus(&'a Tensor<B, 2>),
}

/// A LoRA branch: `y += scale · dropout(x) · Aᵀ · Bᵀ`.
#[derive(Debug, Clone)]
pub struct LoraBranch<B: Backend> {
    /// `A`, `[rank, inputs]`.
    pub a: Tensor<B, 2>,
    /// `B`, `[outputs, rank]`.
    pub b: Tensor<B, 2>,
    /// The effective scale.
    pub scale: f32,
    /// Dropout on the branch's input, in training.
    pub dropout: Option<Dropout>,
}

/// Gradients of a LoRA branch for one row.
#[derive(Debug, Clone)]
pub struct LoraGradient<B: Backend> {
    /// Of `A`, `[rank, inputs]`.
    pub a: Tensor<B, 2>,
    /// Of `B`, `[outputs, rank]`.
    pub b: Tensor<B, 2>,
}

/// A layer's input as the normalisation that gives it.
#[derive(Debug, Clone, Copy)]
pub struct Normed<'a, B: Backend> {
    /// What was normalised, `[tokens, inputs]`.
    pub x: &'a Tensor<B, 2>,
    /// Weight of the normalisation, `[inputs]`.
    pub w: &'a Tensor<B, 1>,
    /// As in [`KernelBackend::rms_norm`].
    pub epsilon: f32,
    /// What that gave, `[tokens]`.
    pub reciprocal_roots: &'a Tensor<B, 1>,
}

/// What the gradients of a branch are made of, beside the layer's input: see [`KernelBackend::lora_gradients`].
#[derive(Debug, Clone, Copy)]
pub struct BranchPass<'a, B: KernelBackend> {
    /// Gradient of the layer's output, `[tokens, outputs]`.
    pub dy: &'a Tensor<B, 2>,
    /// `[tokens, rank]`
    pub h: &'a Tensor<B, 2>,
    /// `[tokens, rank]`
    pub u: &'a Tensor<B, 2>,
    /// The layer, which has a branch.
    pub layer: &'a Layer<'a, B>,
}

/// Results of [`KernelBackend::swiglu_backward`].
#[derive(Debug, Clone)]
pub struct SwigluGradients<B: Backend> {
    /// `silu(gate) · up`.
    pub activation: Tensor<B, 2>,
    /// Gradient of gate.
    pub gate: Tensor<B, 2>,
    /// Gradient of up.
    pub up: Tensor<B, 2>,
}

/// Results of [`KernelBackend::cross_entropy`].
#[derive(Debug, Clone)]
pub struct CrossEntropy<B: Backend> {
    /// Loss of each supervised token, in order, on the host.
    pub losses: Vec<f32>,
    /// Gradient of the *sum* of the losses with respect to the input, `[tokens, features]`; 0 at unsupervised tokens.
    pub input_gradient: Option<Tensor<B, 2>>,
    /// Gradient with respect to the head's weight, one `[vocabulary, features]` a row, where asked for.
    pub weight_gradients: Vec<Tensor<B, 2>>,
}

/// What [`KernelBackend::cross_entropy`] should compute beside the losses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gradients {
    /// Nothing: evaluation.
    None,
    /// The input's gradient.
    Input,
    /// The input's gradient and the weight's, per row.
    InputAndWeight,
}

/// A token whose loss counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Index of the token whose output predicts the label.
    pub position: usize,
    /// The token to predict.
    pub label: u32,
}

/// The contract's operations on a device.
pub trait KernelBackend: Backend {
    /// The profile that the operations compute under.
    const NUMERICS: Numerics;

    /// A frozen weight on the device: in its stored type, or rounded where the profile says so.
    type Stored: Clone + std::fmt::Debug + Send + Sync + 'static;

    /// Brings a stored weight to the device.
    fn stored(matrix: StoredMatrix, device: &Self::Device) -> Self::Stored;

    /// Rows and columns of a stored weight.
    fn stored_shape(stored: &Self::Stored) -> [usize; 2];

    /// Layers of the same input `x: [tokens, inputs]`: for each `y[t, n] = Σ_k x[t, k] · w[n, k] (+ bias[n]) (+ branch)`.
    /// With `plus: [tokens, outputs]` the first layer gives `plus + y`.
    ///
    /// `repeats` are tokens whose `x` (and `plus`) is the same as that of the tokens they repeat: a device may copy their
    /// results.
    ///
    /// # Panics
    /// If there are repeats, and a layer drops inputs out.
    fn linears(
        x: &Tensor<Self, 2>,
        layers: &[Layer<'_, Self>],
        plus: Option<&Tensor<Self, 2>>,
        rows: &Rows,
        repeats: &[Repeat],
    ) -> Vec<LayerOutput<Self>>;

    /// Gradient of a layer without branch with respect to `x`: `dx[t, k] = Σ_n dy[t, n] · w[n, k]`, and `plus + dx` where
    /// `plus` is given.
    fn linear_input_gradient(dy: &Tensor<Self, 2>, w: &Weight<Self>, plus: Option<&Tensor<Self, 2>>)
    -> Tensor<Self, 2>;

    /// Gradient of a layer with respect to `w`, one `[outputs, inputs]` a row.
    fn linear_weight_gradient(dy: &Tensor<Self, 2>, x: &Tensor<Self, 2>, rows: &Rows) -> Vec<Tensor<Self, 2>>;

    /// Gradient with respect to a bias, one `[outputs]` a row.
    fn bias_gradient(dy: &Tensor<Self, 2>, rows: &Rows) -> Vec<Tensor<Self, 1>>;

    /// Of a layer with a branch, the gradient of `x`, and `u = dy · B`, `[tokens, rank]`: [`Self::lora_gradients`] needs it.
    ///
    /// # Panics
    /// If the layer has no branch.
    fn lora_input_gradient(
        dy: &Tensor<Self, 2>,
        layer: &Layer<'_, Self>,
        rows: &Rows,
        input: InputGradient<'_, Self>,
    ) -> (Option<Tensor<Self, 2>>, Tensor<Self, 2>);

    /// Gradients of a branch, one a row. `h` is that of [`LayerOutput`], `u` that of [`Self::lora_input_gradient`].
    ///
    /// # Panics
    /// If the layer has no branch.
    fn lora_gradients(
        dy: &Tensor<Self, 2>,
        x: &Tensor<Self, 2>,
        h: &Tensor<Self, 2>,
        u: &Tensor<Self, 2>,
        layer: &Layer<'_, Self>,
        rows: &Rows,
    ) -> Vec<LoraGradient<Self>>;

    /// [`Self::lora_gradients`] for layers of one normalised input, which a device may normalise again where it needs it.
    ///
    /// # Panics
    /// If a layer has no branch.
    fn lora_gradients_of_normed(
        input: Normed<'_, Self>,
        passes: &[BranchPass<'_, Self>],
        rows: &Rows,
    ) -> Vec<Vec<LoraGradient<Self>>> {
        let (x, _) = Self::rms_norm(input.x, input.w, input.epsilon);
        let one = |pass: &BranchPass<'_, Self>| Self::lora_gradients(pass.dy, &x, pass.h, pass.u, pass.layer, rows);
        passes.iter().map(one).collect()
    }

    /// [`Self::lora_input_gradient`] and [`Self::lora_gradients`].
    ///
    /// # Panics
    /// If the layer has no branch.
    fn linear_lora_backward(
        dy: &Tensor<Self, 2>,
        x: &Tensor<Self, 2>,
        h: &Tensor<Self, 2>,
        layer: &Layer<'_, Self>,
        rows: &Rows,
        input: InputGradient<'_, Self>,
    ) -> (Option<Tensor<Self, 2>>, Vec<LoraGradient<Self>>) {
        let (dx, u) = Self::lora_input_gradient(dy, layer, rows, input);
        (dx, Self::lora_gradients(dy, x, h, &u, layer, rows))
    }

    /// `y = x / sqrt(mean(x²) + epsilon) · w` for each token. Gives `y` and the reciprocal roots, `[tokens]`.
    fn rms_norm(x: &Tensor<Self, 2>, w: &Tensor<Self, 1>, epsilon: f32) -> (Tensor<Self, 2>, Tensor<Self, 1>);

    /// Gradient of [`Self::rms_norm`] with respect to `x`; `plus + dx` where `plus` is given.
    fn rms_norm_input_gradient(
        dy: &Tensor<Self, 2>,
        x: &Tensor<Self, 2>,
        w: &Tensor<Self, 1>,
        reciprocal_roots: &Tensor<Self, 1>,
        plus: Option<&Tensor<Self, 2>>,
    ) -> Tensor<Self, 2>;

    /// Gradient of [`Self::rms_norm`] with respect to `w`, one `[features]` a row.
    fn rms_norm_weight_gradient(
        dy: &Tensor<Self, 2>,
        x: &Tensor<Self, 2>,
        reciprocal_roots: &Tensor<Self, 1>,
        rows: &Rows,
    ) -> Vec<Tensor<Self, 1>>;

    /// Rotary position embedding (Su et al. 2021) in the half-split layout of Hugging Face Llama, on
    /// `x: [tokens, heads × head_dim]`. `cos` and `sin`: `[positions, head_dim / 2]`. `inverse` turns the other way,
    /// which is the backward pass.
    ///
    /// # Panics
    /// If a position lies beyond the tables.
    fn rope(
        x: Tensor<Self, 2>,
        positions: &[u32],
        cos: &Tensor<Self, 2>,
        sin: &Tensor<Self, 2>,
        inverse: bool,
    ) -> Tensor<Self, 2>;

    /// Causal attention within each span. Gives the output `[query tokens, heads × head_dim]` and, for each token and
    /// head, the row's maximum and sum: `[query tokens, heads × 2]`.
    fn attention(
        q: &Tensor<Self, 2>,
        k: &Tensor<Self, 2>,
        v: &Tensor<Self, 2>,
        spans: &[Span],
        heads: Heads,
    ) -> (Tensor<Self, 2>, Tensor<Self, 2>);

    /// Gradients of [`Self::attention`] with respect to q, k and v. Scores are computed anew.
    #[expect(clippy::too_many_arguments, reason = "the tensors of one operation")]
    fn attention_backward(
        d_output: &Tensor<Self, 2>,
        q: &Tensor<Self, 2>,
        k: &Tensor<Self, 2>,
        v: &Tensor<Self, 2>,
        output: &Tensor<Self, 2>,
        statistics: &Tensor<Self, 2>,
        spans: &[Span],
        heads: Heads,
    ) -> (Tensor<Self, 2>, Tensor<Self, 2>, Tensor<Self, 2>);

    /// `silu(gate) · up`, elementwise.
    fn swiglu(gate: &Tensor<Self, 2>, up: &Tensor<Self, 2>) -> Tensor<Self, 2>;

    /// Gradients of [`Self::swiglu`], and its output again, which the forward pass need not keep.
    fn swiglu_backward(dy: Tensor<Self, 2>, gate: Tensor<Self, 2>, up: Tensor<Self, 2>) -> SwigluGradients<Self>;

    /// Rows of `table: [vocabulary, features]` for `ids`.
    ///
    /// # Panics
    /// If an id lies beyond the table.
    fn embedding(table: &Weight<Self>, ids: &[u32]) -> Tensor<Self, 2>;

    /// Gradient of [`Self::embedding`] with respect to the table, one `[vocabulary, features]` a row.
    fn embedding_gradient(dy: &Tensor<Self, 2>, ids: &[u32], vocabulary: usize, rows: &Rows) -> Vec<Tensor<Self, 2>>;

    /// A matrix of `count` rows, of which those of `ids` are the rows of `x`, and the others 0.
    ///
    /// # Panics
    /// If the ids do not ascend, lie beyond `count`, or are not as many as `x` has rows.
    fn scatter(x: &Tensor<Self, 2>, ids: &[u32], count: usize) -> Tensor<Self, 2>;

    /// Linear head and softmax cross-entropy at the targets only; nothing of size tokens × vocabulary is kept.
    /// Targets are in ascending order of position. `x: [tokens, features]`, `w: [vocabulary, features]`.
    fn cross_entropy(
        x: &Tensor<Self, 2>,
        w: &Weight<Self>,
        targets: &[Target],
        rows: &Rows,
        gradients: Gradients,
    ) -> CrossEntropy<Self>;

    /// One AdamW step on a tensor viewed as a matrix (a vector is a matrix of one row). Gives parameter, first and
    /// second moment.
    fn adamw<const D: usize>(
        parameter: Tensor<Self, D>,
        first_moment: Tensor<Self, D>,
        second_moment: Tensor<Self, D>,
        gradient: &Tensor<Self, D>,
        scalars: AdamW,
    ) -> [Tensor<Self, D>; 3];

    /// Sum of squares of each row of each matrix (a vector is a matrix of one row), matrix by matrix, on the host.
    fn row_sums_of_squares<const D: usize>(matrices: &[&Tensor<Self, D>]) -> Vec<f32>;

    /// Runs `rounds` rounds of independent multiply-adds on registers alone, on all of the device, waits for them, and gives
    /// the floating-point operations done: a yardstick for benchmarks.
    fn multiply_adds(device: &Self::Device, rounds: u64) -> f64;
}
