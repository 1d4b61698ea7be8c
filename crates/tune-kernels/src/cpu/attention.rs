//! Causal attention within spans. Scores live in a buffer of a few rows; nothing of size tokens × tokens is kept.
//!
//! A task is one span and one key-value head; its queries are walked in order, with lanes over keys or features.

#![expect(unsafe_code, reason = "tasks write disjoint columns of shared outputs")]

use rayon::prelude::*;

use super::head::{exponentials, maximum};
use super::pointwise::{load, store};
use super::{Level, Shared, dispatch};
use crate::lanes::{Fma, Fused, Lanes};
use crate::layout::Span;
use crate::shapes::Heads;

/// Operands of the forward and the backward pass.
#[derive(Clone, Copy)]
struct Operands<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    heads: Heads,
}

impl Operands<'_> {
    /// Query `token` of `head`, scaled.
    fn query(&self, token: usize, head: usize, out: &mut [f32]) {
        let Heads { heads, head_dim, .. } = self.heads;
        let scale = self.heads.scale();
        let q = &self.q[(token * heads + head) * head_dim..][..head_dim];
        out.iter_mut().zip(q).for_each(|(out, q)| *out = q * scale);
    }

    /// Keys (or values) of a span and key-value head: transposed `[head_dim][keys]`, so that lanes run over keys.
    fn transposed(&self, x: &[f32], span: &Span, kv_head: usize) -> Vec<f32> {
        let Heads { kv_heads, head_dim, .. } = self.heads;
        let keys = span.keys.len();
        let mut out = vec![0.0; keys * head_dim];
        for (j, token) in span.keys.clone().enumerate() {
            let x = &x[(token * kv_heads + kv_head) * head_dim..][..head_dim];
            x.iter().enumerate().for_each(|(d, x)| out[d * keys + j] = *x);
        }
        out
    }
}

/// `out[j] = chain over d of x[d] · columns[d][j]` for the first `out.len()` columns, with `stride` columns in all.
#[inline(always)]
fn row_by_columns<L: Lanes>(x: &[f32], columns: &[f32], stride: usize, out: &mut [f32]) {
    let n = out.len();
    let mut j = 0;
    // Four vectors at a time, so that the latency of one chain is hidden by the others.
    while j + 4 * L::WIDTH <= n {
        let mut acc = [L::splat(0.0); 4];
        for (d, x) in x.iter().enumerate() {
            let column = &columns[d * stride + j..][..4 * L::WIDTH];
            for (v, acc) in acc.iter_mut().enumerate() {
                *acc = L::splat(*x).fma(load(&column[v * L::WIDTH..]), *acc);
            }
        }
        for (v, acc) in acc.into_iter().enumerate() {
            store(acc, &mut out[j + v * L::WIDTH..]);
        }
        j += 4 * L::WIDTH;
    }
    while j < n {
        let width = L::WIDTH.min(n - j);
        let mut acc = L::splat(0.0);
        for (d, x) in x.iter().enumerate() {
            acc = L::splat(*x).fma(load(&columns[d * stride + j..][..width]), acc);
        }
        store(acc, &mut out[j..j + width]);
        j += width;
    }
}

/// `acc[d] = fma(weights[j], rows[j][d], acc[d])` for `j` ascending; row `j` starts at `j · stride`.
#[inline(always)]
fn add_weighted_rows<L: Lanes>(weights: &[f32], rows: &[f32], stride: usize, acc: &mut [f32]) {
    let n = acc.len();
    let mut d = 0;
    while d + 4 * L::WIDTH <= n {
        let mut sum: [L; 4] = std::array::from_fn(|v| load(&acc[d + v * L::WIDTH..]));
        for (j, weight) in weights.iter().enumerate() {
            let row = &rows[j * stride + d..][..4 * L::WIDTH];
            for (v, sum) in sum.iter_mut().enumerate() {
                *sum = L::splat(*weight).fma(load(&row[v * L::WIDTH..]), *sum);
            }
        }
        for (v, sum) in sum.into_iter().enumerate() {
            store(sum, &mut acc[d + v * L::WIDTH..]);
        }
        d += 4 * L::WIDTH;
    }
    while d < n {
        let width = L::WIDTH.min(n - d);
        let mut sum = load::<L>(&acc[d..d + width]);
        for (j, weight) in weights.iter().enumerate() {
            sum = L::splat(*weight).fma(load(&rows[j * stride + d..][..width]), sum);
        }
        store(sum, &mut acc[d..d + width]);
        d += width;
    }
}

/// Every (span, key-value head) pair.
///
/// # Panics
/// If spans share queries or keys, which several tasks would write then.
fn tasks(spans: &[Span], heads: Heads) -> Vec<(&Span, usize)> {
    let apart = |pair: &[Span]| pair[0].queries.end <= pair[1].queries.start && pair[0].keys.end <= pair[1].keys.start;
    assert!(spans.windows(2).all(apart), "spans follow one another");
    spans.iter().flat_map(|span| (0..heads.kv_heads).map(move |kv_head| (span, kv_head))).collect()
}

/// See [`crate::reference::attention`].
#[must_use]
pub fn attention(level: Level, q: &[f32], k: &[f32], v: &[f32], spans: &[Span], heads: Heads) -> (Vec<f32>, Vec<f32>) {
    let operands = Operands { q, k, v, heads };
    let tokens = q.len() / (heads.heads * heads.head_dim);
    let mut output = vec![0.0; q.len()];
    let mut statistics = vec![0.0; tokens * heads.heads * 2];
    let (out, stats) = (Shared::new(&mut output), Shared::new(&mut statistics));
    tasks(spans, heads).into_par_iter().for_each(|(span, kv_head)| {
        dispatch!(level, L => forward_task::<L>(operands, span, kv_head, out, stats));
    });
    (output, statistics)
}

#[inline(always)]
fn forward_task<L: Lanes>(operands: Operands<'_>, span: &Span, kv_head: usize, out: Shared, stats: Shared) {
    let Heads { heads, kv_heads, head_dim } = operands.heads;
    let keys = span.keys.len();
    let columns = operands.transposed(operands.k, span, kv_head);
    let values = &operands.v[(span.keys.start * kv_heads + kv_head) * head_dim..];
    let mut query = vec![0.0; head_dim];
    let mut weights = vec![0.0; keys];
    let mut sum_of_values = vec![0.0; head_dim];
    for head in kv_head * operands.heads.group()..(kv_head + 1) * operands.heads.group() {
        for (offset, token) in span.queries.clone().enumerate() {
            let weights = &mut weights[..span.visible(offset)];
            operands.query(token, head, &mut query);
            row_by_columns::<L>(&query, &columns, keys, weights);
            let max = maximum::<L>(weights);
            exponentials::<L>(weights, max);
            let sum = weights.iter().fold(0.0, |acc, p| acc + p);
            sum_of_values.fill(0.0);
            add_weighted_rows::<L>(weights, values, kv_heads * head_dim, &mut sum_of_values);
            let row = token * heads + head;
            // SAFETY: spans do not share query tokens and a head belongs to one task, so each place is written once.
            unsafe {
                *stats.get().add(row * 2) = max;
                *stats.get().add(row * 2 + 1) = sum;
                for (d, value) in sum_of_values.iter().enumerate() {
                    *out.get().add(row * head_dim + d) = value / sum;
                }
            }
        }
    }
}

/// See [`crate::reference::attention_backward`].
#[must_use]
#[expect(clippy::too_many_arguments, reason = "the operands of one operation")]
pub fn attention_backward(
    level: Level,
    d_output: &[f32],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    output: &[f32],
    statistics: &[f32],
    spans: &[Span],
    heads: Heads,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let operands = Operands { q, k, v, heads };
    let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
    let shared = [Shared::new(&mut dq), Shared::new(&mut dk), Shared::new(&mut dv)];
    let saved = Saved { d_output, output, statistics };
    tasks(spans, heads).into_par_iter().for_each(|(span, kv_head)| {
        dispatch!(level, L => backward_task::<L>(operands, saved, span, kv_head, shared));
    });
    (dq, dk, dv)
}

/// What the backward pass gets beside q, k and v.
#[derive(Clone, Copy)]
struct Saved<'a> {
    d_output: &'a [f32],
    output: &'a [f32],
    statistics: &'a [f32],
}

#[inline(always)]
fn backward_task<L: Lanes>(
    operands: Operands<'_>,
    saved: Saved<'_>,
    span: &Span,
    kv_head: usize,
    [dq, dk, dv]: [Shared; 3],
) {
    let Heads { heads, kv_heads, head_dim } = operands.heads;
    let (keys, scale) = (span.keys.len(), operands.heads.scale());
    let key_columns = operands.transposed(operands.k, span, kv_head);
    let value_columns = operands.transposed(operands.v, span, kv_head);
    let key_rows = &operands.k[(span.keys.start * kv_heads + kv_head) * head_dim..];
    let mut d_keys = vec![0.0; keys * head_dim];
    let mut d_values = vec![0.0; keys * head_dim];
    let (mut query, mut d_query) = (vec![0.0; head_dim], vec![0.0; head_dim]);
    let (mut p, mut ds) = (vec![0.0; keys], vec![0.0; keys]);
    for head in kv_head * operands.heads.group()..(kv_head + 1) * operands.heads.group() {
        for (offset, token) in span.queries.clone().enumerate() {
            let row = token * heads + head;
            let (max, sum) = (saved.statistics[row * 2], saved.statistics[row * 2 + 1]);
            let d_out = &saved.d_output[row * head_dim..][..head_dim];
            let out = &saved.output[row * head_dim..][..head_dim];
            let dot = d_out.iter().zip(out).fold(0.0, |acc, (d, o)| Fused::fma(*d, *o, acc));
            let visible = span.visible(offset);
            let (p, ds) = (&mut p[..visible], &mut ds[..visible]);
            operands.query(token, head, &mut query);
            row_by_columns::<L>(&query, &key_columns, keys, p);
            exponentials::<L>(p, max);
            row_by_columns::<L>(d_out, &value_columns, keys, ds);
            for i in (0..visible).step_by(L::WIDTH) {
                let weight = load::<L>(&p[i..]).div(L::splat(sum));
                store(weight.mul(load::<L>(&ds[i..]).sub(L::splat(dot))), &mut ds[i..]);
                store(weight, &mut p[i..]);
            }
            d_query.fill(0.0);
            add_weighted_rows::<L>(ds, key_rows, kv_heads * head_dim, &mut d_query);
            for (((d_key, d_value), ds), p) in
                d_keys.chunks_exact_mut(head_dim).zip(d_values.chunks_exact_mut(head_dim)).zip(ds.iter()).zip(p.iter())
            {
                add_weighted_rows::<L>(&[*ds], &query, head_dim, d_key);
                add_weighted_rows::<L>(&[*p], d_out, head_dim, d_value);
            }
            for (d, value) in d_query.iter().enumerate() {
                // SAFETY: spans do not share query tokens and a head belongs to one task.
                unsafe { *dq.get().add(row * head_dim + d) = value * scale };
            }
        }
    }
    for (j, token) in span.keys.clone().enumerate() {
        for d in 0..head_dim {
            let place = (token * kv_heads + kv_head) * head_dim + d;
            // SAFETY: spans do not share key tokens and a key-value head belongs to one task.
            unsafe {
                *dk.get().add(place) = d_keys[j * head_dim + d];
                *dv.get().add(place) = d_values[j * head_dim + d];
            }
        }
    }
}
