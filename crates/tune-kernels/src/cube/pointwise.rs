//! What takes each element by itself, and sums over the tokens of a row.

use std::ops::Range;

use cubecl::prelude::*;
use cubecl::server::Handle;

use super::elementary::{ZERO, held, sigmoid};
use super::{UNITS, argument, cubes, index, room, upload, words};
use crate::layout::Rows;
use crate::shapes::{AdamW, Dropout};

#[cube(launch_unchecked)]
pub(super) fn rope_kernel(
    x: &Array<f32>,
    positions: &Array<u32>,
    cos: &Array<f32>,
    sin: &Array<f32>,
    y: &mut Array<f32>,
    pairs: usize,
    features: usize,
    half: usize,
    #[comptime] inverse: bool,
) {
    if ABSOLUTE_POS < pairs {
        let (token, pair) = (ABSOLUTE_POS / (features / 2), ABSOLUTE_POS % (features / 2));
        let (head, i) = (pair / half, pair % half);
        let at = token * features + head * 2 * half + i;
        let entry = positions[token] as usize * half + i;
        let (c, s) = (cos[entry], if comptime!(inverse) { -sin[entry] } else { sin[entry] });
        let (x1, x2) = (x[at], x[at + half]);
        y[at] = fma(x1, c, -(x2 * s));
        y[at + half] = fma(x2, c, x1 * s);
    }
}

/// See [`crate::reference::rope`].
pub(super) fn rope<R: Runtime>(
    client: &ComputeClient<R>,
    x: &Handle,
    positions: &[u32],
    [cos, sin]: [&Handle; 2],
    features: usize,
    half: usize,
    inverse: bool,
) -> Handle {
    let n = positions.len() * features;
    let y = room(client, n);
    assert!(features.is_multiple_of(2 * half) && words(x) >= n, "rope: sizes");
    let table = positions.iter().max().map_or(0, |last| (*last as usize + 1) * half);
    assert!(words(cos) >= table && words(sin) >= table, "rope: positions within the tables");
    // SAFETY: every index lies within the sizes checked above; each pair belongs to one unit.
    unsafe {
        rope_kernel::launch_unchecked::<R>(
            client,
            cubes(n / 2, UNITS as usize),
            CubeDim::new_1d(UNITS),
            argument(x),
            argument(&upload(client, positions)),
            argument(cos),
            argument(sin),
            argument(&y),
            n / 2,
            features,
            half,
            inverse,
        );
    }
    y
}

#[cube(launch_unchecked)]
pub(super) fn swiglu_kernel(gate: &Array<f32>, up: &Array<f32>, y: &mut Array<f32>, n: usize, zero: u32) {
    let i = ABSOLUTE_POS;
    if i < n {
        let g = gate[i];
        y[i] = (g * sigmoid(g, zero)) * up[i];
    }
}

/// See [`crate::reference::swiglu`].
pub(super) fn swiglu<R: Runtime>(client: &ComputeClient<R>, gate: &Handle, up: &Handle, n: usize) -> Handle {
    let y = room(client, n);
    assert!(words(gate) >= n && words(up) >= n, "swiglu: sizes");
    // SAFETY: the buffers have `n` values; each belongs to one unit.
    unsafe {
        swiglu_kernel::launch_unchecked::<R>(
            client,
            cubes(n, UNITS as usize),
            CubeDim::new_1d(UNITS),
            argument(gate),
            argument(up),
            argument(&y),
            n,
            ZERO,
        );
    }
    y
}

#[cube(launch_unchecked)]
pub(super) fn swiglu_backward_kernel(
    dy: &Array<f32>,
    gate: &Array<f32>,
    up: &Array<f32>,
    d_gate: &mut Array<f32>,
    d_up: &mut Array<f32>,
    n: usize,
    zero: u32,
) {
    let i = ABSOLUTE_POS;
    if i < n {
        let g = gate[i];
        let s = sigmoid(g, zero);
        d_gate[i] = (dy[i] * up[i]) * (s * fma(g, held(1.0 - s, zero), 1.0));
        d_up[i] = dy[i] * (g * s);
    }
}

/// See [`crate::reference::swiglu_backward`].
pub(super) fn swiglu_backward<R: Runtime>(
    client: &ComputeClient<R>,
    [dy, gate, up]: [&Handle; 3],
    n: usize,
) -> [Handle; 2] {
    let (d_gate, d_up) = (room(client, n), room(client, n));
    assert!([dy, gate, up].iter().all(|x| words(x) >= n), "swiglu_backward: sizes");
    // SAFETY: the buffers have `n` values; each belongs to one unit.
    unsafe {
        swiglu_backward_kernel::launch_unchecked::<R>(
            client,
            cubes(n, UNITS as usize),
            CubeDim::new_1d(UNITS),
            argument(dy),
            argument(gate),
            argument(up),
            argument(&d_gate),
            argument(&d_up),
            n,
            ZERO,
        );
    }
    [d_gate, d_up]
}

#[cube(launch_unchecked)]
#[expect(clippy::too_many_arguments, reason = "the operands of one operation")]
pub(super) fn adamw_kernel(
    p: &Array<f32>,
    m: &Array<f32>,
    v: &Array<f32>,
    gradient: &Array<f32>,
    new_p: &mut Array<f32>,
    new_m: &mut Array<f32>,
    new_v: &mut Array<f32>,
    n: usize,
    gradient_factor: f32,
    decay: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    root_bias_correction2: f32,
    epsilon: f32,
    step_size: f32,
) {
    let i = ABSOLUTE_POS;
    if i < n {
        let raw = gradient[i];
        let g = raw * gradient_factor;
        let first = fma(one_minus_beta1, fma(raw, gradient_factor, -m[i]), m[i]);
        let second = fma(g * one_minus_beta2, g, v[i] * beta2);
        let denominator = f32::sqrt(second) / root_bias_correction2 + epsilon;
        new_m[i] = first;
        new_v[i] = second;
        new_p[i] = fma(-step_size, first / denominator, p[i] * decay);
    }
}

/// See [`crate::reference::adamw`]. Gives new parameters and moments.
pub(super) fn adamw<R: Runtime>(
    client: &ComputeClient<R>,
    [p, m, v, gradient]: [&Handle; 4],
    n: usize,
    scalars: AdamW,
) -> [Handle; 3] {
    let new = [0; 3].map(|_| room(client, n));
    assert!([p, m, v, gradient].iter().all(|x| words(x) >= n), "adamw: sizes");
    // SAFETY: the buffers have `n` values; each belongs to one unit.
    unsafe {
        adamw_kernel::launch_unchecked::<R>(
            client,
            cubes(n, UNITS as usize),
            CubeDim::new_1d(UNITS),
            argument(p),
            argument(m),
            argument(v),
            argument(gradient),
            argument(&new[0]),
            argument(&new[1]),
            argument(&new[2]),
            n,
            scalars.gradient_factor,
            scalars.decay,
            scalars.one_minus_beta1,
            scalars.beta2,
            scalars.one_minus_beta2,
            scalars.root_bias_correction2,
            scalars.epsilon,
            scalars.step_size,
        );
    }
    new
}

/// The four words of Philox4x32-10; see [`crate::philox::philox4x32_10`].
#[cube]
fn philox(counter: &mut Array<u32>, key_low: u32, key_high: u32) {
    let mut k0 = key_low;
    let mut k1 = key_high;
    #[unroll]
    for _ in 0..10u32 {
        let (high0, low0) = (counter[0].mul_hi(0xD251_1F53u32), counter[0] * 0xD251_1F53u32);
        let (high1, low1) = (counter[2].mul_hi(0xCD9E_8D57u32), counter[2] * 0xCD9E_8D57u32);
        counter[0] = high1 ^ counter[1] ^ k0;
        counter[1] = low1;
        counter[2] = high0 ^ counter[3] ^ k1;
        counter[3] = low0;
        k0 += 0x9E37_79B9u32;
        k1 += 0xBB67_AE85u32;
    }
}

#[cube(launch_unchecked)]
#[expect(clippy::too_many_arguments, reason = "the operands of one operation")]
pub(super) fn dropout_kernel(
    x: &Array<f32>,
    places: &Array<u32>,
    y: &mut Array<f32>,
    blocks: usize,
    inputs: usize,
    key_low: u32,
    key_high: u32,
    step: u32,
    threshold: u32,
    scale: f32,
) {
    let in_token = inputs.div_ceil(4);
    if ABSOLUTE_POS < blocks {
        let (token, block) = (ABSOLUTE_POS / in_token, ABSOLUTE_POS % in_token);
        let mut counter = Array::<u32>::new(4usize);
        counter[0] = block as u32;
        counter[1] = places[2 * token];
        counter[2] = places[2 * token + 1];
        counter[3] = step;
        philox(&mut counter, key_low, key_high);
        #[unroll]
        for i in 0..4usize {
            let feature = block * 4 + i;
            if feature < inputs {
                let at = token * inputs + feature;
                let kept = x[at] * scale;
                y[at] = select(counter[i] >= threshold, kept, 0.0);
            }
        }
    }
}

/// See [`crate::reference::dropout`].
pub(super) fn dropout<R: Runtime>(
    client: &ComputeClient<R>,
    x: &Handle,
    inputs: usize,
    dropout: Dropout,
    rows: &Rows,
) -> Handle {
    // For each token its place in its row, and the row's number within the step.
    let mut places = Vec::new();
    for (number, row) in rows.ranges.iter().enumerate() {
        places.extend(rows.places[row.clone()].iter().flat_map(|place| [*place, rows.first + index(number)]));
    }
    let tokens = places.len() / 2;
    let y = room(client, tokens * inputs);
    assert!(words(x) >= tokens * inputs, "dropout: sizes");
    let blocks = tokens * inputs.div_ceil(4);
    let [key_low, key_high] = dropout.key.0;
    // SAFETY: tokens and inputs are checked against the buffer; each block of four features belongs to one unit.
    unsafe {
        dropout_kernel::launch_unchecked::<R>(
            client,
            cubes(blocks, UNITS as usize),
            CubeDim::new_1d(UNITS),
            argument(x),
            argument(&upload(client, &places)),
            argument(&y),
            blocks,
            inputs,
            key_low,
            key_high,
            dropout.step,
            dropout.threshold,
            dropout.scale,
        );
    }
    y
}

#[cube(launch_unchecked)]
pub(super) fn bias_gradient_kernel(dy: &Array<f32>, sums: &mut Array<f32>, features: usize, first: usize, end: usize) {
    let i = ABSOLUTE_POS;
    if i < features {
        let mut acc = 0.0f32.runtime();
        for token in first..end {
            acc += dy[token * features + i];
        }
        sums[i] = acc;
    }
}

/// The sum over the tokens of one row, in token order.
pub(super) fn bias_gradient<R: Runtime>(
    client: &ComputeClient<R>,
    dy: &Handle,
    features: usize,
    row: &Range<usize>,
) -> Handle {
    let sums = room(client, features);
    assert!(words(dy) >= row.end * features, "bias_gradient: sizes");
    // SAFETY: the row lies within the buffer; each feature belongs to one unit.
    unsafe {
        bias_gradient_kernel::launch_unchecked::<R>(
            client,
            cubes(features, UNITS as usize),
            CubeDim::new_1d(UNITS),
            argument(dy),
            argument(&sums),
            features,
            row.start,
            row.end,
        );
    }
    sums
}

#[cube(launch_unchecked)]
pub(super) fn rms_norm_weight_gradient_kernel(
    dy: &Array<f32>,
    x: &Array<f32>,
    roots: &Array<f32>,
    dw: &mut Array<f32>,
    features: usize,
    first: usize,
    end: usize,
) {
    let i = ABSOLUTE_POS;
    if i < features {
        let mut acc = 0.0f32.runtime();
        for token in first..end {
            let at = token * features + i;
            acc = fma(dy[at], x[at] * roots[token], acc);
        }
        dw[i] = acc;
    }
}

/// See [`crate::reference::rms_norm_weight_gradient`].
pub(super) fn rms_norm_weight_gradient<R: Runtime>(
    client: &ComputeClient<R>,
    [dy, x, roots]: [&Handle; 3],
    features: usize,
    row: &Range<usize>,
) -> Handle {
    let dw = room(client, features);
    let n = row.end * features;
    assert!(words(dy) >= n && words(x) >= n && words(roots) >= row.end, "rms_norm_weight_gradient: sizes");
    // SAFETY: the row lies within the buffers; each feature belongs to one unit.
    unsafe {
        rms_norm_weight_gradient_kernel::launch_unchecked::<R>(
            client,
            cubes(features, UNITS as usize),
            CubeDim::new_1d(UNITS),
            argument(dy),
            argument(x),
            argument(roots),
            argument(&dw),
            features,
            row.start,
            row.end,
        );
    }
    dw
}
