//! Matrix products and the LoRA branch.

use std::ops::Range;

use super::Fma;
use crate::layout::Rows;
use crate::philox::philox4x32_10;
use crate::shapes::Dropout;

/// `y[t, n] = chain over k of x[t, k] · w[n, k]`, then `+ bias[n]`. `x: [tokens, inputs]`, `w: [outputs, inputs]`.
#[must_use]
pub fn linear<F: Fma>(x: &[f32], w: &[f32], bias: Option<&[f32]>, inputs: usize, outputs: usize) -> Vec<f32> {
    let tokens = x.len() / inputs;
    let mut y = vec![0.0; tokens * outputs];
    for t in 0..tokens {
        for n in 0..outputs {
            let mut acc = 0.0;
            for k in 0..inputs {
                acc = F::fma(x[t * inputs + k], w[n * inputs + k], acc);
            }
            y[t * outputs + n] = bias.map_or(acc, |bias| acc + bias[n]);
        }
    }
    y
}

/// `dx[t, k] = chain over n of dy[t, n] · w[n, k]`.
#[must_use]
pub fn linear_input_gradient<F: Fma>(dy: &[f32], w: &[f32], inputs: usize, outputs: usize) -> Vec<f32> {
    let tokens = dy.len() / outputs;
    let mut dx = vec![0.0; tokens * inputs];
    for t in 0..tokens {
        for k in 0..inputs {
            let mut acc = 0.0;
            for n in 0..outputs {
                acc = F::fma(dy[t * outputs + n], w[n * inputs + k], acc);
            }
            dx[t * inputs + k] = acc;
        }
    }
    dx
}

/// `dw[n, k] = chain over the tokens of one row of dy[t, n] · x[t, k]`.
#[must_use]
pub fn linear_weight_gradient<F: Fma>(
    dy: &[f32],
    x: &[f32],
    inputs: usize,
    outputs: usize,
    row: &Range<usize>,
) -> Vec<f32> {
    let mut dw = vec![0.0; outputs * inputs];
    for n in 0..outputs {
        for k in 0..inputs {
            let mut acc = 0.0;
            for t in row.clone() {
                acc = F::fma(dy[t * outputs + n], x[t * inputs + k], acc);
            }
            dw[n * inputs + k] = acc;
        }
    }
    dw
}

/// Dropout of `x: [tokens, inputs]`: kept values times the scale, the others 0. Its own backward pass.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "counter words")]
pub fn dropout(x: &[f32], inputs: usize, dropout: Option<Dropout>, rows: &Rows) -> Vec<f32> {
    let Some(dropout) = dropout else {
        return x.to_vec();
    };
    let mut y = vec![0.0; x.len()];
    for (r, row) in rows.ranges.iter().enumerate() {
        for token in row.clone() {
            for f in 0..inputs {
                let counter = [(f / 4) as u32, rows.places[token], rows.first + r as u32, dropout.step];
                let kept = philox4x32_10(counter, dropout.key.0)[f % 4] >= dropout.threshold;
                y[token * inputs + f] = if kept { x[token * inputs + f] * dropout.scale } else { 0.0 };
            }
        }
    }
    y
}

/// Linear with a LoRA branch: `y = fma(scale, (dropout(x) · Aᵀ) · Bᵀ, x · Wᵀ (+ bias))`. Gives `y` and `dropout(x) · Aᵀ`.
#[must_use]
#[expect(clippy::too_many_arguments, reason = "the operands of one operation")]
pub fn linear_lora<F: Fma>(
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    a: &[f32],
    b: &[f32],
    scale: f32,
    drop: Option<Dropout>,
    [inputs, outputs, rank]: [usize; 3],
    rows: &Rows,
) -> (Vec<f32>, Vec<f32>) {
    let mut y = linear::<F>(x, w, bias, inputs, outputs);
    let h = linear::<F>(&dropout(x, inputs, drop, rows), a, None, inputs, rank);
    let branch = linear::<F>(&h, b, None, rank, outputs);
    for (y, branch) in y.iter_mut().zip(branch) {
        *y = F::fma(scale, branch, *y);
    }
    (y, h)
}

/// `(dA, dB)` of a row.
type BranchGradient = (Vec<f32>, Vec<f32>);

/// Backward pass of [`linear_lora`]: `dx`, then `(dA, dB)` for each row. With `u = dy · B`:
/// `dx = fma(scale, dropout(u · A), dy · W)`, `dA = scale · (chain over tokens of u · dropout(x))`,
/// `dB = scale · (chain over tokens of dy · h)`.
#[must_use]
#[expect(clippy::too_many_arguments, reason = "the operands of one operation")]
pub fn linear_lora_backward<F: Fma>(
    dy: &[f32],
    x: &[f32],
    h: &[f32],
    w: &[f32],
    a: &[f32],
    b: &[f32],
    scale: f32,
    drop: Option<Dropout>,
    [inputs, outputs, rank]: [usize; 3],
    rows: &Rows,
) -> (Vec<f32>, Vec<BranchGradient>) {
    let u = linear_input_gradient::<F>(dy, b, rank, outputs);
    let mut dx = linear_input_gradient::<F>(dy, w, inputs, outputs);
    let branch = dropout(&linear_input_gradient::<F>(&u, a, inputs, rank), inputs, drop, rows);
    for (dx, branch) in dx.iter_mut().zip(branch) {
        *dx = F::fma(scale, branch, *dx);
    }
    let dropped = dropout(x, inputs, drop, rows);
    let scaled = |gradient: Vec<f32>| gradient.into_iter().map(|g| g * scale).collect::<Vec<_>>();
    let gradients = rows.ranges.iter().map(|row| {
        let da = linear_weight_gradient::<F>(&u, &dropped, inputs, rank, row);
        let db = linear_weight_gradient::<F>(dy, h, rank, outputs, row);
        (scaled(da), scaled(db))
    });
    (dx, gradients.collect())
}
