//! Row reductions, normalisation, rotation, activation, optimizer.

use std::ops::Range;

use super::Fma;
use crate::elementary::sigmoid_one;
use crate::shapes::AdamW;

/// Sum over a row in 32 interleaved lanes: lane `l` takes terms `l, l + 32, …` in order, `term(acc, i)` adding term `i`;
/// then lanes are added pairwise at distance 16, 8, 4, 2, 1.
#[must_use]
pub fn lane_sum(n: usize, mut term: impl FnMut(f32, usize) -> f32) -> f32 {
    let mut lanes = [0.0_f32; 32];
    for i in 0..n {
        lanes[i % 32] = term(lanes[i % 32], i);
    }
    for distance in [16, 8, 4, 2, 1] {
        for l in 0..distance {
            lanes[l] += lanes[l + distance];
        }
    }
    lanes[0]
}

/// RMS normalisation of each token of `x: [tokens, features]`. Gives `y` and the reciprocal roots, `[tokens]`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a feature count is far below 2^24")]
pub fn rms_norm<F: Fma>(x: &[f32], w: &[f32], epsilon: f32) -> (Vec<f32>, Vec<f32>) {
    let features = w.len();
    let (mut y, mut roots) = (Vec::new(), Vec::new());
    for x in x.chunks_exact(features) {
        let squares = lane_sum(features, |acc, i| F::fma(x[i], x[i], acc));
        let root = 1.0 / (squares / features as f32 + epsilon).sqrt();
        y.extend(x.iter().zip(w).map(|(x, w)| (x * root) * w));
        roots.push(root);
    }
    (y, roots)
}

/// With `g = dy · w`, `n = x · root`: `dx = root · fma(-(lane sum of g · n) / features, n, g)`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a feature count is far below 2^24")]
pub fn rms_norm_input_gradient<F: Fma>(dy: &[f32], x: &[f32], w: &[f32], roots: &[f32]) -> Vec<f32> {
    let features = w.len();
    let mut dx = Vec::new();
    for ((dy, x), root) in dy.chunks_exact(features).zip(x.chunks_exact(features)).zip(roots) {
        let dot = lane_sum(features, |acc, i| F::fma(dy[i] * w[i], x[i] * root, acc));
        let c = dot / features as f32;
        dx.extend((0..features).map(|i| root * F::fma(-c, x[i] * root, dy[i] * w[i])));
    }
    dx
}

/// `dw[i] = chain over the tokens of one row of dy[t, i] · (x[t, i] · root[t])`.
#[must_use]
pub fn rms_norm_weight_gradient<F: Fma>(
    dy: &[f32],
    x: &[f32],
    roots: &[f32],
    features: usize,
    row: &Range<usize>,
) -> Vec<f32> {
    let mut dw = vec![0.0; features];
    for t in row.clone() {
        for i in 0..features {
            dw[i] = F::fma(dy[t * features + i], x[t * features + i] * roots[t], dw[i]);
        }
    }
    dw
}

/// Rotation of the pairs `(i, i + head_dim / 2)` of each head: `y1 = fma(x1, cos, -(x2 · sin))`,
/// `y2 = fma(x2, cos, x1 · sin)`. `inverse` negates the sine. Tables are `[positions, head_dim / 2]`.
#[must_use]
pub fn rope<F: Fma>(
    x: &[f32],
    positions: &[u32],
    cos: &[f32],
    sin: &[f32],
    head_dim: usize,
    inverse: bool,
) -> Vec<f32> {
    let half = head_dim / 2;
    let features = x.len() / positions.len().max(1);
    let mut y = vec![0.0; x.len()];
    for (t, position) in positions.iter().enumerate() {
        for head in (0..features).step_by(head_dim) {
            for i in 0..half {
                let at = t * features + head + i;
                let entry = *position as usize * half + i;
                let (c, s) = (cos[entry], if inverse { -sin[entry] } else { sin[entry] });
                let (x1, x2) = (x[at], x[at + half]);
                y[at] = F::fma(x1, c, -(x2 * s));
                y[at + half] = F::fma(x2, c, x1 * s);
            }
        }
    }
    y
}

/// `(gate · sigmoid(gate)) · up`.
#[must_use]
pub fn swiglu<F: Fma>(gate: &[f32], up: &[f32]) -> Vec<f32> {
    gate.iter().zip(up).map(|(g, u)| (g * sigmoid_one::<F>(*g)) * u).collect()
}

/// With `s = sigmoid(gate)`: `dgate = (dy · up) · (s · fma(gate, 1 - s, 1))`, `dup = dy · (gate · s)`.
#[must_use]
pub fn swiglu_backward<F: Fma>(dy: &[f32], gate: &[f32], up: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let one = |((dy, g), u): ((&f32, &f32), &f32)| {
        let s = sigmoid_one::<F>(*g);
        ((dy * u) * (s * F::fma(*g, 1.0 - s, 1.0)), dy * (g * s))
    };
    dy.iter().zip(gate).zip(up).map(one).unzip()
}

/// One AdamW step in place, as `torch.optim.AdamW`: `g = gradient · factor`; `m = fma(1 - β1, fma(gradient, factor, -m), m)`;
/// `v = fma(g · (1 - β2), g, v · β2)`; `p = fma(-step size, m / (sqrt(v) / root + ε), p · decay)`.
pub fn adamw<F: Fma>(p: &mut [f32], m: &mut [f32], v: &mut [f32], gradient: &[f32], scalars: AdamW) {
    for i in 0..p.len() {
        let g = gradient[i] * scalars.gradient_factor;
        m[i] = F::fma(scalars.one_minus_beta1, F::fma(gradient[i], scalars.gradient_factor, -m[i]), m[i]);
        v[i] = F::fma(g * scalars.one_minus_beta2, g, v[i] * scalars.beta2);
        let denominator = v[i].sqrt() / scalars.root_bias_correction2 + scalars.epsilon;
        p[i] = F::fma(-scalars.step_size, m[i] / denominator, p[i] * scalars.decay);
    }
}

/// Lane sum of squares of each row of a matrix with `columns` columns.
#[must_use]
pub fn row_sums_of_squares<F: Fma>(x: &[f32], columns: usize) -> Vec<f32> {
    x.chunks_exact(columns).map(|x| lane_sum(columns, |acc, i| F::fma(x[i], x[i], acc))).collect()
}
