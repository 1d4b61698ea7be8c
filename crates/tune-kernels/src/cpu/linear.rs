//! Linear layers with and without a LoRA branch, forward and backward.

use std::borrow::Cow;
use std::ops::Range;

use rayon::prelude::*;

use super::Level;
use super::pointwise::add_scaled;
use super::product::{Size, View, product};
use crate::layout::Rows;
use crate::philox::philox4x32_10;
use crate::profile::{Operation, timed};
use crate::shapes::Dropout;

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

/// See [`crate::reference::linear`].
#[must_use]
pub fn linear(level: Level, x: &[f32], w: &[f32], bias: Option<&[f32]>, inputs: usize, outputs: usize) -> Vec<f32> {
    let tokens = x.len() / inputs;
    let mut y = vec![0.0; tokens * outputs];
    linear_into(level, x, w, inputs, outputs, &mut y);
    if let Some(bias) = bias {
        y.par_chunks_exact_mut(outputs)
            .with_min_len(16)
            .for_each(|y| y.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias));
    }
    y
}

/// [`linear`] without bias, into `y`.
pub(super) fn linear_into(level: Level, x: &[f32], w: &[f32], inputs: usize, outputs: usize, y: &mut [f32]) {
    let size = Size { i: x.len() / inputs, j: outputs, depth: inputs };
    product(level, size, View::rows(x, inputs), View::rows(w, inputs).transposed(), y, outputs);
}

/// See [`crate::reference::linear_input_gradient`].
#[must_use]
pub fn linear_input_gradient(level: Level, dy: &[f32], w: &[f32], inputs: usize, outputs: usize) -> Vec<f32> {
    let size = Size { i: dy.len() / outputs, j: inputs, depth: outputs };
    let mut dx = vec![0.0; size.i * inputs];
    product(level, size, View::rows(dy, outputs), View::rows(w, inputs), &mut dx, inputs);
    dx
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
    let mut dw = vec![0.0; outputs * inputs];
    let dy = View::rows(&dy[row.start * outputs..row.end * outputs], outputs);
    let x = View::rows(&x[row.start * inputs..row.end * inputs], inputs);
    product(level, Size { i: outputs, j: inputs, depth: row.len() }, dy.transposed(), x, &mut dw, inputs);
    dw
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
        tokens.enumerate().for_each(|(t, (y, x))| {
            for (block, (y, x)) in y.chunks_mut(4).zip(x.chunks(4)).enumerate() {
                let words = philox4x32_10([block as u32, t as u32, rows.first + r as u32, dropout.step], dropout.key.0);
                for ((y, x), word) in y.iter_mut().zip(x).zip(words) {
                    *y = if word >= dropout.threshold { x * dropout.scale } else { 0.0 };
                }
            }
        });
    }
    Cow::Owned(y)
}

/// See [`crate::reference::linear_lora`].
#[must_use]
pub fn linear_lora(
    level: Level,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    branch: Branch<'_>,
    [inputs, outputs]: [usize; 2],
    rows: &Rows,
) -> (Vec<f32>, Vec<f32>) {
    let mut y = timed(Operation::LinearForward, || linear(level, x, w, bias, inputs, outputs));
    timed(Operation::LoraForward, || {
        let h = linear(level, &dropout(x, inputs, branch.dropout, rows), branch.a, None, inputs, branch.rank);
        add_scaled(level, &mut y, branch.scale, &linear(level, &h, branch.b, None, branch.rank, outputs));
        (y, h)
    })
}

/// See [`crate::reference::linear_lora_backward`]; `dx` only where `input` is set.
#[must_use]
#[expect(clippy::too_many_arguments, clippy::type_complexity, reason = "the operands of one operation")]
pub fn linear_lora_backward(
    level: Level,
    dy: &[f32],
    x: &[f32],
    h: &[f32],
    w: &[f32],
    branch: Branch<'_>,
    [inputs, outputs]: [usize; 2],
    rows: &Rows,
    input: bool,
) -> (Option<Vec<f32>>, Vec<(Vec<f32>, Vec<f32>)>) {
    let dx = input.then(|| timed(Operation::LinearBackward, || linear_input_gradient(level, dy, w, inputs, outputs)));
    timed(Operation::LoraBackward, || {
        let u = linear_input_gradient(level, dy, branch.b, branch.rank, outputs);
        let dx = dx.map(|mut dx| {
            let through = linear_input_gradient(level, &u, branch.a, inputs, branch.rank);
            add_scaled(level, &mut dx, branch.scale, &dropout(&through, inputs, branch.dropout, rows));
            dx
        });
        let dropped = dropout(x, inputs, branch.dropout, rows);
        let scaled = |mut gradient: Vec<f32>| {
            gradient.iter_mut().for_each(|g| *g *= branch.scale);
            gradient
        };
        let gradients = rows.ranges.iter().map(|row| {
            let da = linear_weight_gradient(level, &u, &dropped, inputs, branch.rank, row);
            let db = linear_weight_gradient(level, dy, h, branch.rank, outputs, row);
            (scaled(da), scaled(db))
        });
        (dx, gradients.collect())
    })
}
