//! Embedding, and the linear head with softmax cross-entropy over the supervised tokens only.

use std::ops::Range;

use rayon::prelude::*;

use super::linear::{Weight, weight_gradient};
use super::pointwise::{lane_sum, load, store};
use super::product::scratch::Scratch;
use super::product::{Output, View, product, products, row_stride};
use super::{Level, dispatch};
use crate::backend::{Gradients, Target};
use crate::elementary::{exp, exp_one, ln};
use crate::lanes::Lanes;
use crate::layout::Rows;

/// Logits held at a time: this many values, so that no buffer grows with tokens × vocabulary.
///
/// The weight is read once a chunk and direction: chunks as small as a twelfth of this were a fifth slower.
const CHUNK_VALUES: usize = 9 << 22;

/// The most tokens that a chunk has where the weight is not trained.
#[must_use]
pub fn chunk_tokens(vocabulary: usize) -> usize {
    (CHUNK_VALUES / vocabulary.max(1)).max(1)
}

/// Losses, the gradient of `x` and, where asked for, of the weight for each row. See [`crate::reference::cross_entropy`].
#[must_use]
pub fn cross_entropy(
    level: Level,
    x: &[f32],
    w: Weight<'_>,
    features: usize,
    targets: &[Target],
    rows: &Rows,
    gradients: Gradients,
) -> (Vec<f32>, Option<Vec<f32>>, Vec<Vec<f32>>) {
    let vocabulary = w.outputs(features);
    let mut losses = vec![0.0; targets.len()];
    let mut dx = (gradients != Gradients::None).then(|| vec![0.0; x.len()]);
    let mut weight_gradients = Vec::new();
    // The weight's gradient is a chain over the tokens of a row, so there a chunk is a row.
    let chunks: Vec<Range<usize>> = if gradients == Gradients::InputAndWeight {
        let first_at = |position: usize| targets.partition_point(|target| target.position < position);
        rows.ranges.iter().map(|row| first_at(row.start)..first_at(row.end)).collect()
    } else {
        // As few chunks as may be, all of one size.
        let chunks = targets.len().div_ceil(chunk_tokens(vocabulary));
        let step = targets.len().div_ceil(chunks.max(1)).max(1);
        (0..targets.len()).step_by(step).map(|start| start..(start + step).min(targets.len())).collect()
    };
    // Logits lie in rows that do not displace one another, so the gradient's product reads them in place.
    let stride = row_stride(vocabulary);
    let mut buffer = Scratch::take(chunks.iter().map(Range::len).max().unwrap_or(0) * stride);
    for chunk in chunks {
        let targets = &targets[chunk.clone()];
        let mut gathered = Vec::with_capacity(targets.len() * features);
        targets.iter().for_each(|target| gathered.extend_from_slice(&x[target.position * features..][..features]));
        let gathered = View::rows(&gathered, features);
        let logits = Output::new(vocabulary, w.transposed(features), &mut buffer.unwritten()[..targets.len() * stride]);
        products(level, targets.len(), features, gathered, vec![Output { c_stride: stride, ..logits }]);
        let logits = &mut buffer.values()[..targets.len() * stride];
        let of_tokens = logits.par_chunks_exact_mut(stride).zip(targets).zip(&mut losses[chunk]);
        of_tokens.for_each(|((logits, target), loss)| {
            *loss = dispatch!(level, L => softmax_token::<L>(&mut logits[..vocabulary], target.label as usize));
        });
        let Some(dx) = &mut dx else { continue };
        let logits = View::strided(logits, stride);
        let gradient = product(level, [targets.len(), features, vocabulary], logits, w.matrix(features));
        for (target, gradient) in targets.iter().zip(gradient.chunks_exact(features)) {
            dx[target.position * features..][..features].copy_from_slice(gradient);
        }
        if gradients == Gradients::InputAndWeight {
            weight_gradients.push(weight_gradient(level, [vocabulary, features, targets.len()], logits, gathered));
        }
    }
    (losses, dx, weight_gradients)
}

/// Replaces the logits of one token by their gradient and gives its loss.
#[inline(always)]
fn softmax_token<L: Lanes>(logits: &mut [f32], label: usize) -> f32 {
    let max = maximum::<L>(logits);
    let own = logits[label] - max;
    exponentials::<L>(logits, max);
    let sum = lane_sum(logits.len(), |acc: L, i| acc.add(load(&logits[i..])), |acc, i| acc + logits[i]);
    for i in (0..logits.len()).step_by(L::WIDTH) {
        store(load::<L>(&logits[i..]).div(L::splat(sum)), &mut logits[i..]);
    }
    logits[label] -= 1.0;
    ln::<L::Fma>(sum) - own
}

/// The largest value. Order-free: a NaN is never larger.
#[inline(always)]
pub(super) fn maximum<L: Lanes>(x: &[f32]) -> f32 {
    let mut max = f32::NEG_INFINITY;
    let whole = x.len() / L::WIDTH * L::WIDTH;
    let mut lanes = L::splat(max);
    for i in (0..whole).step_by(L::WIDTH) {
        lanes = load::<L>(&x[i..]).max(lanes);
    }
    let mut buffer = [f32::NEG_INFINITY; 16];
    store(lanes, &mut buffer[..L::WIDTH]);
    for value in buffer[..L::WIDTH].iter().chain(&x[whole..]) {
        max = if *value > max { *value } else { max };
    }
    max
}

/// `exp(x - max)` in place.
#[inline(always)]
pub(super) fn exponentials<L: Lanes>(x: &mut [f32], max: f32) {
    let whole = x.len() / L::WIDTH * L::WIDTH;
    for i in (0..whole).step_by(L::WIDTH) {
        store(exp(load::<L>(&x[i..]).sub(L::splat(max))), &mut x[i..]);
    }
    for value in &mut x[whole..] {
        *value = exp_one::<L::Fma>(*value - max);
    }
}

/// Rows of the table for `ids`.
#[must_use]
pub fn embedding(table: Weight<'_>, ids: &[u32], features: usize) -> Vec<f32> {
    let mut rows = Vec::with_capacity(ids.len() * features);
    for id in ids.iter().map(|id| *id as usize) {
        match table {
            Weight::Values(values) => rows.extend_from_slice(&values[id * features..][..features]),
            Weight::Stored(matrix) => matrix.decode(id, &(0..features), &mut rows),
        }
    }
    rows
}

/// A matrix of `count` rows, zeros but for the rows of `x` at `ids`.
#[must_use]
pub fn scatter(x: &[f32], ids: &[u32], count: usize, features: usize) -> Vec<f32> {
    let mut rows = vec![0.0; count * features];
    for (id, x) in ids.iter().zip(x.chunks_exact(features)) {
        rows[*id as usize * features..][..features].copy_from_slice(x);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Fused;

    /// Results below the normal numbers, infinity and NaN among them: vectors scale by powers of two in their own way.
    #[test]
    fn exponentials_have_the_same_bits_at_every_level() {
        let inputs: Vec<f32> = (0..=u32::MAX).step_by(997).map(f32::from_bits).collect();
        let want: Vec<u32> = inputs.iter().map(|x| exp_one::<Fused>(x - 0.0).to_bits()).collect();
        assert!(want.iter().filter(|bits| (1..0x0080_0000).contains(*bits)).count() > 100, "denormal results");
        for level in Level::ALL.into_iter().filter(|level| level.available()) {
            let mut got = inputs.clone();
            dispatch!(level, L => exponentials::<L>(&mut got, 0.0));
            let different = got.iter().zip(&want).position(|(got, want)| got.to_bits() != *want);
            assert_eq!(different.map(|n| inputs[n]), None, "{level:?}");
        }
    }
}
