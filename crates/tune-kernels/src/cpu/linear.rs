//! Linear layers with and without a LoRA branch, forward and backward.

use std::borrow::Cow;
use std::ops::Range;

use rayon::prelude::*;

use super::Level;
use super::pointwise::add_scaled;
use super::product::{Output, Size, View, product, products};
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
    add_bias(&mut y, bias);
    y
}

fn add_bias(y: &mut [f32], bias: Option<&[f32]>) {
    if let Some(bias) = bias {
        y.par_chunks_exact_mut(bias.len())
            .with_min_len(16)
            .for_each(|y| y.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias));
    }
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
    let rank = branch.rank;
    let tokens = x.len() / inputs;
    let (mut y, mut h) = (vec![0.0; tokens * outputs], vec![0.0; tokens * rank]);
    let to_y = output(View::rows(w, inputs).transposed(), &mut y, outputs);
    let to_h = output(View::rows(branch.a, inputs).transposed(), &mut h, rank);
    if branch.dropout.is_none() {
        let x = View::rows(x, inputs);
        timed(Operation::LinearForward, || products(level, tokens, inputs, x, [to_y, to_h]));
    } else {
        timed(Operation::LinearForward, || products(level, tokens, inputs, View::rows(x, inputs), [to_y]));
        timed(Operation::LoraForward, || {
            let dropped = dropout(x, inputs, branch.dropout, rows);
            products(level, tokens, inputs, View::rows(&dropped, inputs), [to_h]);
        });
    }
    timed(Operation::LoraForward, || {
        add_bias(&mut y, bias);
        let b = View::rows(branch.b, rank).transposed();
        let add_scaled = Some(branch.scale);
        let branch = Output { add_scaled, ..output(b, &mut y, outputs) };
        products(level, tokens, rank, View::rows(&h, rank), [branch]);
    });
    (y, h)
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
    let rank = branch.rank;
    let tokens = dy.len() / outputs;
    let mut u = vec![0.0; tokens * rank];
    let mut dx = vec![0.0; if input { x.len() } else { 0 }];
    timed(Operation::LinearBackward, || {
        let dy = View::rows(dy, outputs);
        let to_u = output(View::rows(branch.b, rank), &mut u, rank);
        if input {
            products(level, tokens, outputs, dy, [output(View::rows(w, inputs), &mut dx, inputs), to_u]);
        } else {
            products(level, tokens, outputs, dy, [to_u]);
        }
    });
    timed(Operation::LoraBackward, || {
        if input {
            through_branch(level, &u, branch, inputs, rows, &mut dx);
        }
        let dropped = dropout(x, inputs, branch.dropout, rows);
        let gradients = rows.ranges.par_iter().map(|row| {
            let mut da = linear_weight_gradient(level, &u, &dropped, inputs, rank, row);
            da.iter_mut().for_each(|value| *value *= branch.scale);
            // As its transpose: so `dy`, the larger operand, is read where it lies.
            let db = linear_weight_gradient(level, h, dy, outputs, rank, row);
            (da, transposed_and_scaled(&db, outputs, branch.scale))
        });
        (input.then_some(dx), gradients.collect())
    })
}

/// `dx += scale · dropout(u · A)`.
fn through_branch(level: Level, u: &[f32], branch: Branch<'_>, inputs: usize, rows: &Rows, dx: &mut [f32]) {
    let rank = branch.rank;
    if branch.dropout.is_some() {
        let through = linear_input_gradient(level, u, branch.a, inputs, rank);
        add_scaled(level, dx, branch.scale, &dropout(&through, inputs, branch.dropout, rows));
        return;
    }
    let to_dx = Output { add_scaled: Some(branch.scale), ..output(View::rows(branch.a, inputs), dx, inputs) };
    products(level, u.len() / rank, rank, View::rows(u, rank), [to_dx]);
}

/// A product that goes to the whole of `c`, rows of `j` values.
fn output<'a>(b: View<'a>, c: &'a mut [f32], j: usize) -> Output<'a> {
    Output { j, b, c, stride: j, add_scaled: None }
}

/// Rows of `columns` values as columns, each value times `scale`.
fn transposed_and_scaled(x: &[f32], columns: usize, scale: f32) -> Vec<f32> {
    let column = |j: usize| x[j..].iter().step_by(columns).map(move |value| value * scale);
    (0..columns).flat_map(column).collect()
}
