//! Row reductions, normalisation, rotation, activation, optimizer.

#![expect(unsafe_code, reason = "vector loads and stores on slices")]

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use super::product::scratch::written;
use super::{Level, dispatch};
use crate::elementary::sigmoid;
use crate::lanes::{Fma, Lanes};
use crate::shapes::AdamW;

/// Elements of one task in elementwise work.
const CHUNK: usize = 1 << 14;

/// Loads `WIDTH` values, or fewer at the end of `x`, with zeros beyond.
#[inline(always)]
pub(super) fn load<L: Lanes>(x: &[f32]) -> L {
    if x.len() >= L::WIDTH {
        // SAFETY: the slice is long enough.
        unsafe { L::load(x.as_ptr()) }
    } else {
        let mut padded = [0.0_f32; 16];
        padded[..x.len()].copy_from_slice(x);
        // SAFETY: no level is wider than 16.
        unsafe { L::load(padded.as_ptr()) }
    }
}

/// Stores `WIDTH` values, or as many as `x` holds.
#[inline(always)]
pub(super) fn store<L: Lanes>(value: L, x: &mut [f32]) {
    if x.len() >= L::WIDTH {
        // SAFETY: the slice is long enough.
        unsafe { value.store(x.as_mut_ptr()) }
    } else {
        let mut padded = [0.0_f32; 16];
        // SAFETY: no level is wider than 16.
        unsafe { value.store(padded.as_mut_ptr()) }
        let n = x.len();
        x.copy_from_slice(&padded[..n]);
    }
}

/// [`store`] into memory that was not written before.
#[inline(always)]
fn write<L: Lanes>(value: L, x: &mut [MaybeUninit<f32>]) {
    // SAFETY: `store` only writes, and f32 has no invalid values.
    store(value, unsafe { &mut *(std::ptr::from_mut(x) as *mut [f32]) });
}

/// The contract's row reduction over `n` terms: `vector(acc, i)` adds the terms from `i` on, one a lane; `scalar(acc, i)`
/// the one term `i`.
#[inline(always)]
pub(super) fn lane_sum<L: Lanes>(
    n: usize,
    mut vector: impl FnMut(L, usize) -> L,
    mut scalar: impl FnMut(f32, usize) -> f32,
) -> f32 {
    let vectors = 32 / L::WIDTH;
    let mut acc = [L::splat(0.0); 32];
    let whole = n / 32 * 32;
    for block in (0..whole).step_by(32) {
        for (v, acc) in acc.iter_mut().enumerate().take(vectors) {
            *acc = vector(*acc, block + v * L::WIDTH);
        }
    }
    let mut lanes = [0.0_f32; 32];
    for (v, acc) in acc.iter().enumerate().take(vectors) {
        store(*acc, &mut lanes[v * L::WIDTH..][..L::WIDTH]);
    }
    for i in whole..n {
        lanes[i % 32] = scalar(lanes[i % 32], i);
    }
    for distance in [16, 8, 4, 2, 1] {
        for l in 0..distance {
            lanes[l] += lanes[l + distance];
        }
    }
    lanes[0]
}

/// Runs `f(offset, chunk)` over pieces of `y`, in threads.
fn chunked<T: Send>(y: &mut [T], f: impl Fn(usize, &mut [T]) + Sync) {
    y.par_chunks_mut(CHUNK).enumerate().for_each(|(i, y)| f(i * CHUNK, y));
}

/// See [`crate::reference::rms_norm`].
#[must_use]
pub fn rms_norm(level: Level, x: &[f32], w: &[f32], epsilon: f32) -> (Vec<f32>, Vec<f32>) {
    let features = w.len();
    assert!(x.len().is_multiple_of(features), "whole tokens");
    let mut roots = vec![0.0; x.len() / features];
    let write = |y: &mut [MaybeUninit<f32>]| {
        let tokens = y.par_chunks_exact_mut(features).zip(x.par_chunks_exact(features)).zip(&mut roots);
        tokens.with_min_len(8).for_each(|((y, x), root)| {
            dispatch!(level, L => *root = rms_norm_token::<L>(x, w, epsilon, y));
        });
    };
    // SAFETY: each token writes its features.
    let y = unsafe { written(x.len(), write) };
    (y, roots)
}

#[inline(always)]
#[expect(clippy::cast_precision_loss, reason = "a feature count is far below 2^24")]
fn rms_norm_token<L: Lanes>(x: &[f32], w: &[f32], epsilon: f32, y: &mut [MaybeUninit<f32>]) -> f32 {
    let vector = |acc: L, i: usize| {
        let x = load::<L>(&x[i..]);
        x.fma(x, acc)
    };
    let squares = lane_sum(x.len(), vector, |acc, i| L::Fma::fma(x[i], x[i], acc));
    let root = 1.0 / (squares / x.len() as f32 + epsilon).sqrt();
    scale_token::<L>(x, w, root, y);
    root
}

/// The output of [`rms_norm`] again, from the reciprocal roots that it gave.
#[must_use]
pub fn rms_norm_again(level: Level, x: &[f32], w: &[f32], roots: &[f32]) -> Vec<f32> {
    assert_eq!(x.len(), roots.len() * w.len(), "operands of the same tokens");
    let write = |y: &mut [MaybeUninit<f32>]| {
        let tokens = y.chunks_exact_mut(w.len()).zip(x.chunks_exact(w.len())).zip(roots);
        dispatch!(level, L => tokens.for_each(|((y, x), root)| scale_token::<L>(x, w, *root, y)));
    };
    // SAFETY: each token writes its features.
    unsafe { written(x.len(), write) }
}

/// `(x · root) · w`.
#[inline(always)]
fn scale_token<L: Lanes>(x: &[f32], w: &[f32], root: f32, y: &mut [MaybeUninit<f32>]) {
    for i in (0..x.len()).step_by(L::WIDTH) {
        write(load::<L>(&x[i..]).mul(L::splat(root)).mul(load(&w[i..])), &mut y[i..]);
    }
}

/// See [`crate::reference::rms_norm_input_gradient`]; `plus + dx` where `plus` is given.
#[must_use]
pub fn rms_norm_input_gradient(
    level: Level,
    dy: &[f32],
    x: &[f32],
    w: &[f32],
    roots: &[f32],
    plus: Option<&[f32]>,
) -> Vec<f32> {
    let features = w.len();
    assert!(x.len() == dy.len() && x.len() == roots.len() * features, "operands of the same tokens");
    let write = |dx: &mut [MaybeUninit<f32>]| {
        let tokens = dx
            .par_chunks_exact_mut(features)
            .zip(dy.par_chunks_exact(features))
            .zip(x.par_chunks_exact(features))
            .zip(roots)
            .enumerate();
        tokens.with_min_len(8).for_each(|(token, (((dx, dy), x), root))| {
            let plus = plus.map(|plus| &plus[token * features..][..features]);
            dispatch!(level, L => rms_norm_gradient_token::<L>(dy, x, w, *root, plus, dx));
        });
    };
    // SAFETY: each token writes its features.
    unsafe { written(x.len(), write) }
}

#[inline(always)]
#[expect(clippy::cast_precision_loss, reason = "a feature count is far below 2^24")]
fn rms_norm_gradient_token<L: Lanes>(
    dy: &[f32],
    x: &[f32],
    w: &[f32],
    root: f32,
    plus: Option<&[f32]>,
    dx: &mut [MaybeUninit<f32>],
) {
    let g = |i: usize| load::<L>(&dy[i..]).mul(load(&w[i..]));
    let n = |i: usize| load::<L>(&x[i..]).mul(L::splat(root));
    let dot = lane_sum(x.len(), |acc: L, i| g(i).fma(n(i), acc), |acc, i| L::Fma::fma(dy[i] * w[i], x[i] * root, acc));
    let c = L::splat(-(dot / x.len() as f32));
    for i in (0..x.len()).step_by(L::WIDTH) {
        let gradient = L::splat(root).mul(c.fma(n(i), g(i)));
        write(plus.map_or(gradient, |plus| load::<L>(&plus[i..]).add(gradient)), &mut dx[i..]);
    }
}

/// See [`crate::reference::rms_norm_weight_gradient`].
#[must_use]
pub fn rms_norm_weight_gradient(
    level: Level,
    dy: &[f32],
    x: &[f32],
    roots: &[f32],
    features: usize,
    row: &Range<usize>,
) -> Vec<f32> {
    let mut dw = vec![0.0; features];
    dispatch!(level, L => {
        for t in row.clone() {
            for i in (0..features).step_by(L::WIDTH) {
                let at = t * features + i..(t + 1) * features;
                let n = load::<L>(&x[at.clone()]).mul(L::splat(roots[t]));
                let sum = load::<L>(&dy[at]).fma(n, load(&dw[i..]));
                store(sum, &mut dw[i..]);
            }
        }
    });
    dw
}

/// `y[i] = chain over the tokens of one row of y[i] + dy[t, i]`: a bias gradient.
#[must_use]
pub fn bias_gradient(dy: &[f32], features: usize, row: &Range<usize>) -> Vec<f32> {
    let mut sum = vec![0.0; features];
    for dy in dy[row.start * features..row.end * features].chunks_exact(features) {
        sum.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy);
    }
    sum
}

/// See [`crate::reference::rope`]. In place.
///
/// # Panics
/// If there are not whole heads of whole tokens, or a position lies beyond the tables, `[cos, sin]`.
pub fn rope(level: Level, x: &mut [f32], positions: &[u32], [cos, sin]: [&[f32]; 2], head_dim: usize, inverse: bool) {
    let half = head_dim / 2;
    let features = x.len() / positions.len().max(1);
    assert!(head_dim.is_multiple_of(2), "a head is turned in pairs");
    assert!(features.is_multiple_of(head_dim) && x.len() == features * positions.len(), "whole heads of whole tokens");
    let tokens = x.par_chunks_exact_mut(features.max(1)).zip(positions);
    tokens.with_min_len(16).for_each(|(x, position)| {
        let at = *position as usize * half;
        let (cos, sin) = (&cos[at..at + half], &sin[at..at + half]);
        dispatch!(level, L => {
            let (sign, minus) = (L::splat(if inverse { -1.0 } else { 1.0 }), L::splat(-1.0));
            for x in x.chunks_exact_mut(head_dim) {
                let (x1, x2) = x.split_at_mut(half);
                for i in (0..half).step_by(L::WIDTH) {
                    let (c, s) = (load::<L>(&cos[i..]), load::<L>(&sin[i..]).mul(sign));
                    let (a, b) = (load::<L>(&x1[i..]), load::<L>(&x2[i..]));
                    store(a.fma(c, b.mul(s).mul(minus)), &mut x1[i..]);
                    store(b.fma(c, a.mul(s)), &mut x2[i..]);
                }
            }
        });
    });
}

/// See [`crate::reference::swiglu`].
#[must_use]
pub fn swiglu(level: Level, gate: &[f32], up: &[f32]) -> Vec<f32> {
    let chunk = |at: usize, y: &mut [MaybeUninit<f32>]| {
        dispatch!(level, L => {
            for i in (0..y.len()).step_by(L::WIDTH) {
                let range = at + i..at + y.len();
                let g = load::<L>(&gate[range.clone()]);
                write(g.mul(sigmoid(g)).mul(load(&up[range])), &mut y[i..]);
            }
        });
    };
    // SAFETY: each chunk is written.
    unsafe { written(gate.len(), |y| chunked(y, chunk)) }
}

/// See [`crate::reference::swiglu_backward`]. In place: `gate` and `up` become their gradients, and `dy` becomes the
/// activation, [`swiglu`] itself.
pub fn swiglu_backward(level: Level, dy: &mut [f32], gate: &mut [f32], up: &mut [f32]) {
    assert!(dy.len() == gate.len() && gate.len() == up.len(), "operands of the same shape");
    let chunks = dy.par_chunks_mut(CHUNK).zip(gate.par_chunks_mut(CHUNK)).zip(up.par_chunks_mut(CHUNK));
    chunks.for_each(|((dy, gate), up)| {
        dispatch!(level, L => {
            for i in (0..dy.len()).step_by(L::WIDTH) {
                let (d, g, u) = (load::<L>(&dy[i..]), load::<L>(&gate[i..]), load::<L>(&up[i..]));
                let (s, one) = (sigmoid(g), L::splat(1.0));
                let silu = g.mul(s);
                store(silu.mul(u), &mut dy[i..]);
                store(d.mul(u).mul(s.mul(g.fma(one.sub(s), one))), &mut gate[i..]);
                store(d.mul(silu), &mut up[i..]);
            }
        });
    });
}

/// See [`crate::reference::adamw`].
pub fn adamw(level: Level, p: &mut [f32], m: &mut [f32], v: &mut [f32], gradient: &[f32], scalars: AdamW) {
    let state = p
        .par_chunks_mut(CHUNK)
        .zip(m.par_chunks_mut(CHUNK))
        .zip(v.par_chunks_mut(CHUNK))
        .zip(gradient.par_chunks(CHUNK));
    state.for_each(|(((p, m), v), gradient)| {
        dispatch!(level, L => {
            let splat = L::splat;
            let minus = splat(-1.0);
            for i in (0..p.len()).step_by(L::WIDTH) {
                let raw = load::<L>(&gradient[i..]);
                let factor = splat(scalars.gradient_factor);
                let (g, old_m, old_v) = (raw.mul(factor), load::<L>(&m[i..]), load::<L>(&v[i..]));
                let new_m = splat(scalars.one_minus_beta1).fma(raw.fma(factor, old_m.mul(minus)), old_m);
                let new_v = g.mul(splat(scalars.one_minus_beta2)).fma(g, old_v.mul(splat(scalars.beta2)));
                let denominator = new_v.sqrt().div(splat(scalars.root_bias_correction2)).add(splat(scalars.epsilon));
                let decayed = load::<L>(&p[i..]).mul(splat(scalars.decay));
                store(splat(-scalars.step_size).fma(new_m.div(denominator), decayed), &mut p[i..]);
                store(new_m, &mut m[i..]);
                store(new_v, &mut v[i..]);
            }
        });
    });
}

/// See [`crate::reference::row_sums_of_squares`].
#[must_use]
pub fn row_sums_of_squares(level: Level, x: &[f32], columns: usize) -> Vec<f32> {
    let sum = |x: &[f32]| {
        let vector = |i: usize| &x[i..];
        dispatch!(level, L => lane_sum(
            x.len(),
            |acc: L, i| { let x = load::<L>(vector(i)); x.fma(x, acc) },
            |acc, i| <L as Lanes>::Fma::fma(x[i], x[i], acc),
        ))
    };
    x.par_chunks_exact(columns).with_min_len(16).map(sum).collect()
}

/// `y = fma(scale, branch, y)`, in place.
pub(super) fn add_scaled(level: Level, y: &mut [f32], scale: f32, branch: &[f32]) {
    chunked(y, |at, y| {
        dispatch!(level, L => {
            for i in (0..y.len()).step_by(L::WIDTH) {
                let sum = L::splat(scale).fma(load(&branch[at + i..at + y.len()]), load(&y[i..]));
                store(sum, &mut y[i..]);
            }
        });
    });
}
