//! Causal attention within spans, with grouped key-value heads.

use super::Fma;
use crate::elementary::exp_one;
use crate::layout::Span;
use crate::shapes::Heads;

/// One query head of one token against the visible keys of its span: chains over d of `(q · scale) · k`, in key order.
/// The scale goes onto the query, so that no product feeds the subtraction of the maximum.
fn scores<F: Fma>(q: &[f32], k: &[f32], span: &Span, offset: usize, head: usize, heads: Heads) -> Vec<f32> {
    let Heads { head_dim, kv_heads, .. } = heads;
    let query = &q[((span.queries.start + offset) * heads.heads + head) * head_dim..][..head_dim];
    let key_head = head / heads.group();
    (0..span.visible(offset))
        .map(|j| {
            let key = &k[((span.keys.start + j) * kv_heads + key_head) * head_dim..][..head_dim];
            query.iter().zip(key).fold(0.0, |acc, (q, k)| F::fma(q * heads.scale(), *k, acc))
        })
        .collect()
}

/// Row maximum: from -infinity, `if s > max { s } else { max }` over the scores in order.
fn maximum(scores: &[f32]) -> f32 {
    scores.iter().fold(f32::NEG_INFINITY, |max, s| if *s > max { *s } else { max })
}

/// Output `[query tokens, heads × head_dim]` and (maximum, sum) for each token and head. The sum adds `exp(s - max)` over
/// the keys in order; the output is the chain over keys of `exp(s - max) · v`, divided by the sum.
#[must_use]
pub fn attention<F: Fma>(q: &[f32], k: &[f32], v: &[f32], spans: &[Span], heads: Heads) -> (Vec<f32>, Vec<f32>) {
    let Heads { heads: count, kv_heads, head_dim } = heads;
    let tokens = q.len() / (count * head_dim);
    let mut output = vec![0.0; q.len()];
    let mut statistics = vec![0.0; tokens * count * 2];
    for span in spans {
        for (offset, token) in span.queries.clone().enumerate() {
            for head in 0..count {
                let scores = scores::<F>(q, k, span, offset, head, heads);
                let max = maximum(&scores);
                let weights: Vec<f32> = scores.iter().map(|s| exp_one::<F>(s - max)).collect();
                let sum = weights.iter().fold(0.0, |acc, p| acc + p);
                statistics[(token * count + head) * 2..][..2].copy_from_slice(&[max, sum]);
                for d in 0..head_dim {
                    let mut acc = 0.0;
                    for (j, p) in weights.iter().enumerate() {
                        acc = F::fma(
                            *p,
                            v[((span.keys.start + j) * kv_heads + head / heads.group()) * head_dim + d],
                            acc,
                        );
                    }
                    output[(token * count + head) * head_dim + d] = acc / sum;
                }
            }
        }
    }
    (output, statistics)
}

/// Gradients with respect to q, k, v. With `p = exp(s - max) / sum`, `D = chain over d of dO · O` and
/// `dp = chain over d of dO · v`: `ds = p · (dp - D)`; `dq` is the chain over keys of `ds · k`, times the scale; `dk` and
/// `dv` are chains over the heads of the group, and within a head over the queries, of `ds · (q · scale)` and `p · dO`.
#[must_use]
#[expect(clippy::too_many_arguments, reason = "the operands of one operation")]
pub fn attention_backward<F: Fma>(
    d_output: &[f32],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    output: &[f32],
    statistics: &[f32],
    spans: &[Span],
    heads: Heads,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let Heads { heads: count, kv_heads, head_dim } = heads;
    let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
    for span in spans {
        for head in 0..count {
            for (offset, token) in span.queries.clone().enumerate() {
                let at = (token * count + head) * head_dim;
                let [max, sum] = [0, 1].map(|i| statistics[(token * count + head) * 2 + i]);
                let (mut dot, scores) = (0.0, scores::<F>(q, k, span, offset, head, heads));
                for d in 0..head_dim {
                    dot = F::fma(d_output[at + d], output[at + d], dot);
                }
                for (j, s) in scores.iter().enumerate() {
                    let key = ((span.keys.start + j) * kv_heads + head / heads.group()) * head_dim;
                    let p = exp_one::<F>(s - max) / sum;
                    let mut dp = 0.0;
                    for d in 0..head_dim {
                        dp = F::fma(d_output[at + d], v[key + d], dp);
                    }
                    let ds = p * (dp - dot);
                    for d in 0..head_dim {
                        dq[at + d] = F::fma(ds, k[key + d], dq[at + d]);
                        dk[key + d] = F::fma(ds, q[at + d] * heads.scale(), dk[key + d]);
                        dv[key + d] = F::fma(p, d_output[at + d], dv[key + d]);
                    }
                }
            }
        }
    }
    dq.iter_mut().for_each(|dq| *dq *= heads.scale());
    (dq, dk, dv)
}
