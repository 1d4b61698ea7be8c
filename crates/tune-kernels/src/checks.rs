//! What every backend asks of an operation's tensors before it computes.

use burn_tensor::Tensor;

use crate::KernelBackend;
use crate::backend::{Layer, Target, Weight};
use crate::layout::{Repeat, Span};
use crate::shapes::Heads;

/// Layers of the same input.
pub(crate) fn linears<B: KernelBackend>(x: &Tensor<B, 2>, layers: &[Layer<'_, B>], repeats: &[Repeat]) {
    let [_, inputs] = x.dims();
    let dropping = layers.iter().filter_map(|layer| layer.branch.as_ref()).any(|branch| branch.dropout.is_some());
    assert!(repeats.is_empty() || !dropping, "linears: with dropout no token is the same as another");
    assert!(layers.iter().all(|layer| layer.weight.dims()[1] == inputs), "linears: inputs of x and the weights");
    layers.iter().for_each(branch);
}

/// The adapter of a layer, where it has one.
pub(crate) fn branch<B: KernelBackend>(layer: &Layer<'_, B>) {
    let [outputs, inputs] = layer.weight.dims();
    if let Some(branch) = &layer.branch {
        let rank = branch.a.dims()[0];
        assert_eq!(([rank, inputs], [outputs, rank]), (branch.a.dims(), branch.b.dims()), "shapes of A and B");
    }
}

/// An input's gradient.
pub(crate) fn linear_input_gradient<B: KernelBackend>(dy: &Tensor<B, 2>, w: &Weight<B>) {
    assert_eq!(dy.dims()[1], w.dims()[0], "linear_input_gradient: outputs of dy and w");
}

/// A weight's gradient.
pub(crate) fn linear_weight_gradient<B: KernelBackend>(dy: &Tensor<B, 2>, x: &Tensor<B, 2>) {
    assert_eq!(dy.dims()[0], x.dims()[0], "linear_weight_gradient: tokens of dy and x");
}

/// The input's gradient of a layer with an adapter.
pub(crate) fn lora_input_gradient<B: KernelBackend>(dy: &Tensor<B, 2>, layer: &Layer<'_, B>) {
    assert_eq!(dy.dims()[1], layer.weight.dims()[0], "lora_input_gradient: outputs of dy and the weight");
    branch(layer);
}

/// Gradients of an adapter.
pub(crate) fn lora_gradients<B: KernelBackend>(
    dy: &Tensor<B, 2>,
    x: &Tensor<B, 2>,
    middles: [&Tensor<B, 2>; 2],
    layer: &Layer<'_, B>,
) {
    let ([tokens, outputs], [x_tokens, inputs]) = (dy.dims(), x.dims());
    assert_eq!(
        (tokens, [outputs, inputs]),
        (x_tokens, layer.weight.dims()),
        "lora_gradients: shapes of dy, x and the weight"
    );
    let rank = layer.branch.as_ref().map_or(0, |branch| branch.a.dims()[0]);
    assert!(middles.iter().all(|middle| middle.dims() == [tokens, rank]), "lora_gradients: shapes of h and u");
    branch(layer);
}

/// A normalisation.
pub(crate) fn rms_norm<B: KernelBackend>(x: &Tensor<B, 2>, w: &Tensor<B, 1>) {
    assert_eq!([x.dims()[1]], w.dims(), "rms_norm: shape of w");
}

/// Its backward pass.
pub(crate) fn rms_norm_input_gradient<B: KernelBackend>(dy: &Tensor<B, 2>, x: &Tensor<B, 2>) {
    assert_eq!(dy.dims(), x.dims(), "rms_norm_input_gradient: shapes of dy and x");
}

/// A rotation.
pub(crate) fn rope<B: KernelBackend>(x: &Tensor<B, 2>, positions: &[u32], cos: &Tensor<B, 2>) {
    assert_eq!(x.dims()[0], positions.len(), "rope: one position a token");
    assert!(positions.iter().all(|p| (*p as usize) < cos.dims()[0]), "rope: positions within the tables");
}

/// Attention within spans.
pub(crate) fn attention<B: KernelBackend>(
    q: &Tensor<B, 2>,
    k: &Tensor<B, 2>,
    v: &Tensor<B, 2>,
    spans: &[Span],
    heads: Heads,
) {
    let [tokens, features] = q.dims();
    assert_eq!(features, heads.heads * heads.head_dim, "attention: features of q");
    assert!(heads.kv_heads > 0 && heads.heads.is_multiple_of(heads.kv_heads), "attention: heads share key-value heads");
    assert_eq!((k.dims()[1], k.dims()), (heads.kv_heads * heads.head_dim, v.dims()), "attention: shapes of k and v");
    let within = |s: &Span| s.queries.end <= tokens && s.keys.end <= k.dims()[0] && s.queries.len() <= s.keys.len();
    assert!(spans.iter().all(within), "attention: spans within the tensors");
}

/// Its backward pass.
pub(crate) fn attention_backward<B: KernelBackend>(d_output: &Tensor<B, 2>, q: &Tensor<B, 2>, output: &Tensor<B, 2>) {
    let shapes = (d_output.dims(), q.dims());
    assert_eq!(shapes, (output.dims(), output.dims()), "attention_backward: shapes of q and the outputs");
}

/// An activation.
pub(crate) fn swiglu<B: KernelBackend>(gate: &Tensor<B, 2>, up: &Tensor<B, 2>) {
    assert_eq!(gate.dims(), up.dims(), "swiglu: shapes of gate and up");
}

/// Its backward pass.
pub(crate) fn swiglu_backward<B: KernelBackend>(dy: &Tensor<B, 2>, gate: &Tensor<B, 2>, up: &Tensor<B, 2>) {
    assert_eq!((dy.dims(), gate.dims()), (up.dims(), up.dims()), "swiglu_backward: shapes");
}

/// Rows of a table.
pub(crate) fn embedding<B: KernelBackend>(table: &Weight<B>, ids: &[u32]) {
    let [vocabulary, _] = table.dims();
    assert!(ids.iter().all(|id| (*id as usize) < vocabulary), "embedding: ids within the vocabulary");
}

/// Rows among others.
pub(crate) fn scatter<B: KernelBackend>(x: &Tensor<B, 2>, ids: &[u32], count: usize) {
    assert_eq!(x.dims()[0], ids.len(), "scatter: one id a row");
    assert!(ids.is_sorted_by(|a, b| a < b), "scatter: ids ascend");
    assert!(ids.last().is_none_or(|id| (*id as usize) < count), "scatter: ids within the matrix");
}

/// Head and loss.
pub(crate) fn cross_entropy<B: KernelBackend>(x: &Tensor<B, 2>, w: &Weight<B>, targets: &[Target]) {
    let ([tokens, features], [vocabulary, w_features]) = (x.dims(), w.dims());
    assert_eq!(features, w_features, "cross_entropy: features of x and w");
    assert!(
        targets.iter().all(|t| t.position < tokens && (t.label as usize) < vocabulary),
        "cross_entropy: targets within x and w"
    );
    assert!(targets.is_sorted_by(|a, b| a.position < b.position), "cross_entropy: targets in order");
}

/// An optimizer step: parameter, moments and gradient.
pub(crate) fn adamw<B: KernelBackend, const D: usize>([p, m, v, gradient]: [&Tensor<B, D>; 4]) {
    let dims = p.dims();
    assert_eq!((dims, dims, dims), (m.dims(), v.dims(), gradient.dims()), "adamw: shapes");
}

/// A tensor seen as a matrix, rows and columns: a vector is a matrix of one row.
pub(crate) fn matrix(dims: &[usize]) -> [usize; 2] {
    let columns = dims.last().copied().unwrap_or(1).max(1);
    [dims.iter().product::<usize>() / columns, columns]
}
