//! Linear layers with and without a LoRA branch, forward and backward.

#![expect(unsafe_code, reason = "results are written whole, without clearing them first")]

use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use super::Level;
use super::pointwise::add_scaled;
use super::pointwise::rms_norm_again;
use super::product::scratch::written;
use super::product::{LowRank, Matrix, Output, View, product, products, products_of};
use crate::layout::{Repeat, Rows};
use crate::philox::philox4x32_10;
use crate::profile::{Operation, timed};
use crate::shapes::Dropout;
use crate::stored::StoredMatrix;

/// A weight, `[outputs, inputs]`, row-major.
#[derive(Debug, Clone, Copy)]
pub enum Weight<'a> {
    /// Its values.
    Values(&'a [f32]),
    /// As it is stored.
    Stored(&'a StoredMatrix),
}

impl<'a> Weight<'a> {
    /// `[outputs, inputs]` as an operand.
    pub(super) fn matrix(self, inputs: usize) -> Matrix<'a> {
        match self {
            Self::Values(values) => View::rows(values, inputs).into(),
            Self::Stored(matrix) => Matrix::Stored(matrix),
        }
    }

    /// `[inputs, outputs]` as an operand.
    pub(super) fn transposed(self, inputs: usize) -> Matrix<'a> {
        match self {
            Self::Values(values) => View::rows(values, inputs).transposed().into(),
            Self::Stored(matrix) => Matrix::Transposed(matrix),
        }
    }

    /// How many outputs a weight of `inputs` inputs has.
    #[must_use]
    pub fn outputs(self, inputs: usize) -> usize {
        match self {
            Self::Values(values) => values.len() / inputs,
            Self::Stored(matrix) => matrix.shape()[0],
        }
    }
}

impl<'a> From<&'a Vec<f32>> for Weight<'a> {
    fn from(values: &'a Vec<f32>) -> Self {
        Self::Values(values)
    }
}

/// A LoRA branch on the host.
#[derive(Debug, Clone, Copy)]
pub struct Branch<'a> {
    /// `[rank, inputs]`
    pub a: &'a [f32],
    /// `[outputs, rank]`
    pub b: &'a [f32],
    /// The effective scale.
    pub scale: f32,
    /// Dropout on the input.
    pub dropout: Option<Dropout>,
    /// Rows of `a`.
    pub rank: usize,
}

/// A layer on the host.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// `[outputs, inputs]`
    pub weight: Weight<'a>,
    /// Inputs and outputs.
    pub shape: [usize; 2],
    /// `[outputs]`
    pub bias: Option<&'a [f32]>,
    /// The adapter.
    pub branch: Option<Branch<'a>>,
}

/// Output `[tokens, outputs]` of a layer and, with a branch, `dropout(x) · Aᵀ`, `[tokens, rank]`.
pub type LayerOutput = (Vec<f32>, Option<Vec<f32>>);

/// `dropout(x) · Aᵀ` of a branch.
struct Middle {
    values: Vec<f32>,
    /// Whether it is computed already: with dropout the branch has an input of its own, and otherwise that of the layer.
    given: bool,
}

/// Gradients of `A` and `B` for a row.
pub type BranchGradient = (Vec<f32>, Vec<f32>);

/// Several layers of the same input: `y = x · Wᵀ (+ bias) (+ branch)`, and for the first one `plus + y` where `plus` is
/// given. See [`crate::reference::linear`] and [`crate::reference::linear_lora`].
///
/// For `repeats`, whose inputs are the same as those of the tokens they repeat, results are copied.
///
/// # Panics
/// If shapes do not fit.
#[must_use]
pub fn linears(
    level: Level,
    x: &[f32],
    layers: &[Layer<'_>],
    plus: Option<&[f32]>,
    rows: &Rows,
    repeats: &[Repeat],
) -> Vec<LayerOutput> {
    let Some([inputs, _]) = layers.first().map(|layer| layer.shape) else { return Vec::new() };
    let tokens = x.len() / inputs;
    let earlier = |repeat: &Repeat| repeat.of + repeat.at.len() <= repeat.at.start && repeat.at.end <= tokens;
    assert!(repeats.iter().all(earlier), "tokens repeat earlier ones");
    let middle = |branch: Branch<'_>| match branch.dropout {
        None => Middle { values: vec![0.0; tokens * branch.rank], given: false },
        Some(_) => timed(Operation::LoraForward, || {
            let dropped = dropout(x, inputs, branch.dropout, rows);
            let values = linear(level, &dropped, Weight::Values(branch.a), None, inputs, branch.rank);
            Middle { values, given: true }
        }),
    };
    let len = |layer: &Layer<'_>| tokens * layer.shape[1];
    let mut results: Vec<(Vec<f32>, Option<Middle>)> =
        layers.iter().map(|layer| (Vec::with_capacity(len(layer)), layer.branch.map(middle))).collect();
    let outputs = results.iter_mut().zip(layers).enumerate().map(|(n, ((y, middle), layer))| {
        let y = &mut y.spare_capacity_mut()[..len(layer)];
        assert_eq!(layer.shape[0], inputs, "layers of the same input");
        let branch = layer.branch.zip(middle.as_mut()).map(|(branch, middle)| LowRank {
            scale: branch.scale,
            rank: branch.rank,
            down: (!middle.given).then(|| View::rows(branch.a, inputs).transposed()),
            middle: &mut middle.values,
            up: View::rows(branch.b, branch.rank).transposed(),
        });
        Output {
            bias: layer.bias,
            branch,
            plus: plus.filter(|_| n == 0),
            ..Output::new(layer.shape[1], layer.weight.transposed(inputs), y)
        }
    });
    let outputs = outputs.collect();
    timed(Operation::LinearForward, || {
        products_of(&Repeat::rest(repeats, tokens), level, [tokens, inputs], View::rows(x, inputs), outputs);
    });
    timed(Operation::LinearForward, || {
        results.par_iter_mut().zip(layers).for_each(|((y, middle), layer)| {
            repeat(&mut y.spare_capacity_mut()[..len(layer)], layer.shape[1], repeats);
            if let Some((middle, branch)) = middle.as_mut().zip(layer.branch) {
                repeat(&mut middle.values, branch.rank, repeats);
            }
        });
    });
    let results = results.into_iter().zip(layers).map(|((mut y, middle), layer)| {
        // SAFETY: every token's outputs were computed or copied.
        unsafe { y.set_len(len(layer)) };
        (y, middle.map(|middle| middle.values))
    });
    results.collect()
}

/// Gives each token that repeats another one the `features` values of that.
fn repeat<T: Copy>(y: &mut [T], features: usize, repeats: &[Repeat]) {
    for Repeat { of, at } in repeats {
        y.copy_within(of * features..(of + at.len()) * features, at.start * features);
    }
}

/// See [`crate::reference::linear`].
#[must_use]
pub fn linear(level: Level, x: &[f32], w: Weight<'_>, bias: Option<&[f32]>, inputs: usize, outputs: usize) -> Vec<f32> {
    let tokens = x.len() / inputs;
    let write = |y: &mut [MaybeUninit<f32>]| {
        let output = Output { bias, ..Output::new(outputs, w.transposed(inputs), y) };
        products(level, tokens, inputs, View::rows(x, inputs), vec![output]);
    };
    // SAFETY: `products` writes every element.
    unsafe { written(tokens * outputs, write) }
}

/// See [`crate::reference::linear_input_gradient`]; `plus + dx` where `plus` is given.
#[must_use]
pub fn linear_input_gradient(
    level: Level,
    dy: &[f32],
    w: Weight<'_>,
    plus: Option<&[f32]>,
    inputs: usize,
    outputs: usize,
) -> Vec<f32> {
    let tokens = dy.len() / outputs;
    let write = |dx: &mut [MaybeUninit<f32>]| {
        let output = Output { plus, ..Output::new(inputs, w.matrix(inputs), dx) };
        products(level, tokens, outputs, View::rows(dy, outputs), vec![output]);
    };
    // SAFETY: `products` writes every element.
    unsafe { written(tokens * inputs, write) }
}

/// See [`crate::reference::linear_weight_gradient`].
#[must_use]
pub fn linear_weight_gradient(
    level: Level,
    dy: &[f32],
    x: &[f32],
    inputs: usize,
    outputs: usize,
    row: &Range<usize>,
) -> Vec<f32> {
    let dy = View::rows(&dy[row.start * outputs..row.end * outputs], outputs);
    let x = View::rows(&x[row.start * inputs..row.end * inputs], inputs);
    weight_gradient(level, [outputs, inputs, row.len()], dy, x)
}

/// `dyᵀ · x` over `tokens` tokens, `[outputs, inputs]`.
pub(super) fn weight_gradient(
    level: Level,
    [outputs, inputs, tokens]: [usize; 3],
    dy: View<'_>,
    x: View<'_>,
) -> Vec<f32> {
    if inputs <= NARROW && inputs < outputs {
        // As its transpose: so lanes run over the larger operand, which is read where it lies. `fma` does not mind which
        // factor comes first.
        return transposed(&product(level, [inputs, outputs, tokens], x.transposed(), dy), outputs);
    }
    product(level, [outputs, inputs, tokens], dy.transposed(), x)
}

/// Up to this many inputs, as a rank has, a weight's gradient is computed as its transpose.
const NARROW: usize = 64;

/// Rows of `columns` values as columns.
fn transposed(x: &[f32], columns: usize) -> Vec<f32> {
    let mut transposed = Vec::with_capacity(x.len());
    for j in 0..columns {
        transposed.extend(x[j..].iter().step_by(columns));
    }
    transposed
}

/// See [`crate::reference::dropout`]. Borrows `x` where there is no dropout.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "counter words")]
pub fn dropout<'a>(x: &'a [f32], inputs: usize, dropout: Option<Dropout>, rows: &Rows) -> Cow<'a, [f32]> {
    let Some(dropout) = dropout else {
        return Cow::Borrowed(x);
    };
    let mut y = vec![0.0; x.len()];
    for (r, row) in rows.ranges.iter().enumerate() {
        let at = row.start * inputs..row.end * inputs;
        let tokens = y[at.clone()].par_chunks_exact_mut(inputs).zip(x[at].par_chunks_exact(inputs));
        tokens.zip(&rows.places[row.clone()]).for_each(|((y, x), place)| {
            for (block, (y, x)) in y.chunks_mut(4).zip(x.chunks(4)).enumerate() {
                let words = philox4x32_10([block as u32, *place, rows.first + r as u32, dropout.step], dropout.key.0);
                for ((y, x), word) in y.iter_mut().zip(x).zip(words) {
                    *y = if word >= dropout.threshold { x * dropout.scale } else { 0.0 };
                }
            }
        });
    }
    Cow::Owned(y)
}

/// Whether and how the gradient of a layer's input is wanted.
#[derive(Debug, Clone, Copy)]
pub enum InputGradient<'a> {
    /// Not at all.
    None,
    /// By itself.
    Alone,
    /// Added to this, `[tokens, inputs]`.
    Plus(&'a [f32]),
}

/// See [`crate::reference::linear_lora_backward`], for a layer that has a branch.
///
/// # Panics
/// If the layer has no branch.
#[must_use]
pub fn linear_lora_backward(
    level: Level,
    dy: &[f32],
    x: &[f32],
    h: &[f32],
    layer: &Layer<'_>,
    rows: &Rows,
    input: InputGradient<'_>,
) -> (Option<Vec<f32>>, Vec<BranchGradient>) {
    let (dx, u) = lora_input_gradient(level, dy, layer, rows, input);
    (dx, lora_gradients(level, dy, x, [h, &u], layer, rows))
}

/// The first part of [`linear_lora_backward`], which needs no `x`: the input's gradient and `u = dy · B`, `[tokens, rank]`.
///
/// # Panics
/// If the layer has no branch.
#[must_use]
pub fn lora_input_gradient(
    level: Level,
    dy: &[f32],
    layer: &Layer<'_>,
    rows: &Rows,
    input: InputGradient<'_>,
) -> (Option<Vec<f32>>, Vec<f32>) {
    let [inputs, outputs] = layer.shape;
    let branch = layer.branch.expect("the layer has a branch");
    let rank = branch.rank;
    let tokens = dy.len() / outputs;
    let b = Weight::Values(branch.b);
    let plus = match input {
        InputGradient::Plus(plus) => Some(plus),
        InputGradient::None | InputGradient::Alone => None,
    };
    match (input, branch.dropout) {
        (InputGradient::None, _) => {
            (None, timed(Operation::LoraBackward, || linear_input_gradient(level, dy, b, None, rank, outputs)))
        }
        (_, None) => timed(Operation::LinearBackward, || {
            let mut u = vec![0.0; tokens * rank];
            let write = |dx: &mut [MaybeUninit<f32>]| {
                let through = LowRank {
                    scale: branch.scale,
                    rank,
                    down: Some(View::rows(branch.b, rank)),
                    middle: &mut u,
                    up: View::rows(branch.a, inputs),
                };
                let output =
                    Output { branch: Some(through), plus, ..Output::new(inputs, layer.weight.matrix(inputs), dx) };
                products(level, tokens, outputs, View::rows(dy, outputs), vec![output]);
            };
            // SAFETY: `products` writes every element.
            let dx = unsafe { written(tokens * inputs, write) };
            (Some(dx), u)
        }),
        (_, Some(_)) => {
            let mut dx = timed(Operation::LinearBackward, || {
                linear_input_gradient(level, dy, layer.weight, None, inputs, outputs)
            });
            timed(Operation::LoraBackward, || {
                let u = linear_input_gradient(level, dy, b, None, rank, outputs);
                let through = linear_input_gradient(level, &u, Weight::Values(branch.a), None, inputs, rank);
                add_scaled(level, &mut dx, branch.scale, &dropout(&through, inputs, branch.dropout, rows));
                if let Some(plus) = plus {
                    // `fma(1, plus, dx)` is the sum.
                    add_scaled(level, &mut dx, 1.0, plus);
                }
                (Some(dx), u)
            })
        }
    }
}

/// What the gradients of a branch are made of, beside the layer's input: see [`lora_gradients`].
#[derive(Debug, Clone, Copy)]
pub struct BranchPass<'a> {
    /// Gradient of the layer's output.
    pub dy: &'a [f32],
    /// `[tokens, rank]` each.
    pub h_and_u: [&'a [f32]; 2],
    /// The layer, which has a branch.
    pub layer: Layer<'a>,
}

/// [`lora_gradients`] for layers of one input, the output of [`rms_norm`] on `x` with weight `w` and these reciprocal roots:
/// it is made again for each row, and lies in the second cache while the layers read it.
///
/// [`rms_norm`]: super::pointwise::rms_norm
///
/// # Panics
/// If a layer has no branch.
#[must_use]
pub fn lora_gradients_of_normed(
    level: Level,
    [x, w, roots]: [&[f32]; 3],
    passes: &[BranchPass<'_>],
    rows: &Rows,
) -> Vec<Vec<BranchGradient>> {
    let inputs = w.len();
    let row = |(number, row): (usize, &Range<usize>)| -> Vec<BranchGradient> {
        let x = rms_norm_again(level, of_row(x, row, inputs), w, &roots[row.clone()]);
        let alone = rows.alone(number);
        // All gradients of `A` first: those of `B` read as much as would push `x` out of the second cache.
        let a = |pass: &BranchPass<'_>| {
            let branch = pass.layer.branch.expect("the layer has a branch");
            let (x, [_, u]) = (dropout(&x, inputs, branch.dropout, &alone), pass.h_and_u);
            let u = of_row(u, row, branch.rank);
            scaled(linear_weight_gradient(level, u, &x, inputs, branch.rank, &alone.ranges[0]), branch.scale)
        };
        let of_a: Vec<Vec<f32>> = passes.iter().map(a).collect();
        let b = |(a, pass): (Vec<f32>, &BranchPass<'_>)| {
            let branch = pass.layer.branch.expect("the layer has a branch");
            let [h, _] = pass.h_and_u;
            (a, scaled(linear_weight_gradient(level, pass.dy, h, branch.rank, pass.layer.shape[1], row), branch.scale))
        };
        of_a.into_iter().zip(passes).map(b).collect()
    };
    timed(Operation::LoraBackward, || {
        let of_rows: Vec<Vec<BranchGradient>> = rows.ranges.par_iter().enumerate().map(row).collect();
        let mut of_layers: Vec<Vec<BranchGradient>> =
            passes.iter().map(|_| Vec::with_capacity(of_rows.len())).collect();
        for gradients in of_rows {
            of_layers.iter_mut().zip(gradients).for_each(|(layer, gradient)| layer.push(gradient));
        }
        of_layers
    })
}

/// The values of a row's tokens.
fn of_row<'a>(values: &'a [f32], row: &Range<usize>, features: usize) -> &'a [f32] {
    &values[row.start * features..row.end * features]
}

/// Every value times the scale.
fn scaled(mut values: Vec<f32>, scale: f32) -> Vec<f32> {
    values.iter_mut().for_each(|value| *value *= scale);
    values
}

/// The second part of [`linear_lora_backward`]: gradients of `A` and `B` for each row, of `h` and `u`.
///
/// # Panics
/// If the layer has no branch.
#[must_use]
pub fn lora_gradients(
    level: Level,
    dy: &[f32],
    x: &[f32],
    [h, u]: [&[f32]; 2],
    layer: &Layer<'_>,
    rows: &Rows,
) -> Vec<BranchGradient> {
    let [inputs, outputs] = layer.shape;
    let branch = layer.branch.expect("the layer has a branch");
    timed(Operation::LoraBackward, || {
        let dropped = dropout(x, inputs, branch.dropout, rows);
        let row = |row: &Range<usize>| {
            let da = linear_weight_gradient(level, u, &dropped, inputs, branch.rank, row);
            let db = linear_weight_gradient(level, dy, h, branch.rank, outputs, row);
            (scaled(da, branch.scale), scaled(db, branch.scale))
        };
        rows.ranges.par_iter().map(row).collect()
    })
}
