//! Embedding, and the linear head with softmax cross-entropy.

use std::ops::Range;

use super::{Fma, lane_sum, linear, linear_input_gradient};
use crate::backend::Target;
use crate::elementary::{exp_one, ln};

/// Losses of the targets, the gradient of `dlogits` of each target (`[targets, vocabulary]`) and of `x`
/// (`[tokens, features]`). For each target: `max` of the logits, `e = exp(logit - max)`, `sum` the lane sum of `e`;
/// the loss is `ln(sum) - (logit[label] - max)`, the logits' gradient `e / sum`, less 1 at the label.
#[must_use]
pub fn cross_entropy<F: Fma>(
    x: &[f32],
    w: &[f32],
    features: usize,
    targets: &[Target],
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let vocabulary = w.len() / features;
    let (mut losses, mut d_logits, mut dx) = (Vec::new(), Vec::new(), vec![0.0; x.len()]);
    for target in targets {
        let at = target.position * features..(target.position + 1) * features;
        let logits = linear::<F>(&x[at.clone()], w, None, features, vocabulary);
        let max = logits.iter().fold(f32::NEG_INFINITY, |max, l| if *l > max { *l } else { max });
        let e: Vec<f32> = logits.iter().map(|l| exp_one::<F>(l - max)).collect();
        let sum = lane_sum(vocabulary, |acc, i| acc + e[i]);
        let label = target.label as usize;
        losses.push(ln::<F>(sum) - (logits[label] - max));
        let mut gradient: Vec<f32> = e.iter().map(|e| e / sum).collect();
        gradient[label] -= 1.0;
        dx[at].copy_from_slice(&linear_input_gradient::<F>(&gradient, w, features, vocabulary));
        d_logits.extend(gradient);
    }
    (losses, d_logits, dx)
}

/// Gradient of an embedding lookup over the tokens of one row: `table[id] += dy[t]`, in token order.
#[must_use]
pub fn embedding_gradient(dy: &[f32], ids: &[u32], features: usize, vocabulary: usize, row: &Range<usize>) -> Vec<f32> {
    let mut table = vec![0.0; vocabulary * features];
    for t in row.clone() {
        for i in 0..features {
            table[ids[t] as usize * features + i] += dy[t * features + i];
        }
    }
    table
}
