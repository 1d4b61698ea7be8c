//! Embedding, and the linear head with softmax cross-entropy over the supervised tokens only.

use std::ops::Range;

use cubecl::prelude::*;
use cubecl::server::Handle;

use super::arithmetic::{Arithmetic, Operand};
use super::elementary::{ZERO, exp, ln_of_normal};
use super::product::{Epilogue, Shape};
use super::rows::sums;
use super::{DeviceFailure, UNITS, argument, cubes, index, read_all, room, upload, words};
use crate::backend::{Gradients, Target};
use crate::layout::Rows;

/// Logits held at a time: no buffer grows with tokens × vocabulary.
const CHUNK_VALUES: usize = 1 << 26;

#[cube(launch_unchecked)]
pub(super) fn gather_kernel(table: &Array<f32>, ids: &Array<u32>, y: &mut Array<f32>, n: usize, features: usize) {
    let i = ABSOLUTE_POS;
    if i < n {
        y[i] = table[ids[i / features] as usize * features + i % features];
    }
}

/// Rows of a table of `features` columns.
pub(super) fn gather<R: Runtime>(client: &ComputeClient<R>, table: &Handle, ids: &[u32], features: usize) -> Handle {
    let n = ids.len() * features;
    let y = room(client, n);
    assert!(ids.iter().all(|id| (*id as usize + 1) * features <= words(table)), "gather: ids within the table");
    // SAFETY: ids lie within the table; each value belongs to one unit.
    unsafe {
        gather_kernel::launch_unchecked::<R>(
            client,
            cubes(n, UNITS as usize),
            CubeDim::new_1d(UNITS),
            argument(table),
            argument(&upload(client, ids)),
            argument(&y),
            n,
            features,
        );
    }
    y
}

#[cube(launch_unchecked)]
pub(super) fn scatter_kernel(x: &Array<f32>, ids: &Array<u32>, table: &mut Array<f32>, n: usize, features: usize) {
    let i = ABSOLUTE_POS;
    if i < n {
        let row = ids[i / features] as usize;
        table[row * features + i % features] = x[i];
    }
}

/// Writes the rows of `x` into those of a table, each id once.
pub(super) fn scatter<R: Runtime>(client: &ComputeClient<R>, x: &Handle, ids: &[u32], table: &Handle, features: usize) {
    let n = ids.len() * features;
    assert!(words(x) >= n, "scatter: sizes");
    assert!(ids.iter().all(|id| (*id as usize + 1) * features <= words(table)), "scatter: ids within the table");
    // SAFETY: ids lie within the table; each value belongs to one unit.
    unsafe {
        scatter_kernel::launch_unchecked::<R>(
            client,
            cubes(n, UNITS as usize),
            CubeDim::new_1d(UNITS),
            argument(x),
            argument(&upload(client, ids)),
            argument(table),
            n,
            features,
        );
    }
}

#[cube(launch_unchecked)]
pub(super) fn zero_kernel(x: &mut Array<f32>, n: usize) {
    if ABSOLUTE_POS < n {
        x[ABSOLUTE_POS] = 0.0;
    }
}

/// Zeros.
pub(super) fn zeros<R: Runtime>(client: &ComputeClient<R>, n: usize) -> Handle {
    let x = room(client, n);
    // SAFETY: the buffer has `n` values; each belongs to one unit.
    unsafe {
        zero_kernel::launch_unchecked::<R>(client, cubes(n, UNITS as usize), CubeDim::new_1d(UNITS), argument(&x), n);
    }
    x
}

#[cube(launch_unchecked)]
pub(super) fn embedding_gradient_kernel(
    dy: &Array<f32>,
    ids: &Array<u32>,
    table: &mut Array<f32>,
    features: usize,
    first: usize,
    end: usize,
) {
    let i = ABSOLUTE_POS;
    if i < features {
        for token in first..end {
            let at = ids[token] as usize * features + i;
            table[at] = table[at] + dy[token * features + i];
        }
    }
}

/// See [`crate::reference::embedding_gradient`].
pub(super) fn embedding_gradient<R: Runtime>(
    client: &ComputeClient<R>,
    dy: &Handle,
    ids: &[u32],
    features: usize,
    vocabulary: usize,
    row: &Range<usize>,
) -> Handle {
    assert!(row.end <= ids.len() && words(dy) >= row.end * features, "embedding_gradient: sizes");
    assert!(ids.iter().all(|id| (*id as usize) < vocabulary), "embedding_gradient: ids within the vocabulary");
    let table = zeros(client, vocabulary * features);
    // SAFETY: the row lies within the buffer and ids within the table; each feature belongs to one unit.
    unsafe {
        embedding_gradient_kernel::launch_unchecked::<R>(
            client,
            cubes(features, UNITS as usize),
            CubeDim::new_1d(UNITS),
            argument(dy),
            argument(&upload(client, ids)),
            argument(&table),
            features,
            row.start,
            row.end,
        );
    }
    table
}

/// One cube a target: replaces the logits by `exp(logit - max)` and gives `logit[label] - max`.
#[cube(launch_unchecked)]
pub(super) fn exponentials_kernel(
    logits: &mut Array<f32>,
    labels: &Array<u32>,
    own: &mut Array<f32>,
    targets: usize,
    vocabulary: usize,
    lowest: f32,
    zero: u32,
) {
    let mut maxima = SharedMemory::<f32>::new(256usize);
    let unit = UNIT_POS as usize;
    let target = CUBE_POS;
    let mut max = lowest;
    if target < targets {
        let mut i = unit;
        while i < vocabulary {
            let value = logits[target * vocabulary + i];
            if value > max {
                max = value;
            }
            i += 256;
        }
    }
    maxima[unit] = max;
    sync_cube();
    for i in 0..256usize {
        if maxima[i] > max {
            max = maxima[i];
        }
    }
    if target < targets {
        let label = labels[target] as usize;
        let mut i = unit;
        while i < vocabulary {
            let shifted = logits[target * vocabulary + i] - max;
            if i == label {
                own[target] = shifted;
            }
            logits[target * vocabulary + i] = exp(shifted, zero);
            i += 256;
        }
    }
}

#[cube(launch_unchecked)]
pub(super) fn losses_kernel(sums: &Array<f32>, own: &Array<f32>, losses: &mut Array<f32>, targets: usize, zero: u32) {
    let i = ABSOLUTE_POS;
    if i < targets {
        losses[i] = ln_of_normal(sums[i], zero) - own[i];
    }
}

/// Exponentials become the gradient of the logits.
#[cube(launch_unchecked)]
pub(super) fn logits_gradient_kernel(
    exponentials: &mut Array<f32>,
    sums: &Array<f32>,
    labels: &Array<u32>,
    n: usize,
    vocabulary: usize,
) {
    let i = ABSOLUTE_POS;
    if i < n {
        let target = i / vocabulary;
        let mut value = exponentials[i] / sums[target];
        if i % vocabulary == labels[target] as usize {
            value -= 1.0;
        }
        exponentials[i] = value;
    }
}

/// What [`cross_entropy`] gives: losses on the host, the gradient of `x`, those of the weight, one a row.
type CrossEntropy = (Vec<f32>, Option<Handle>, Vec<Handle>);

/// See [`crate::reference::cross_entropy`]. `x: [tokens, features]`, `w: [vocabulary, features]`.
///
/// # Errors
/// The device gave no result.
pub(super) fn cross_entropy<R: Runtime>(
    arithmetic: &Arithmetic<'_, R>,
    x: &Handle,
    w: &Operand,
    [tokens, features, vocabulary]: [usize; 3],
    targets: &[Target],
    rows: &Rows,
    gradients: Gradients,
) -> Result<CrossEntropy, DeviceFailure> {
    let client = arithmetic.client;
    let dx = (gradients != Gradients::None).then(|| zeros(client, tokens * features));
    let step = (CHUNK_VALUES / vocabulary).max(1);
    // The weight's gradient is a chain over the tokens of a row, which a chunk may continue but not leave.
    let first_at = |position: usize| targets.partition_point(|target| target.position < position);
    let parts: Vec<Range<usize>> = if gradients == Gradients::InputAndWeight {
        rows.ranges.iter().map(|row| first_at(row.start)..first_at(row.end)).collect()
    } else {
        std::iter::once(0..targets.len()).collect()
    };
    let (mut losses, mut weight_gradients) = (Vec::new(), Vec::new());
    for part in parts {
        let dw = (gradients == Gradients::InputAndWeight).then(|| zeros(client, vocabulary * features));
        for start in part.clone().step_by(step) {
            let targets = &targets[start..(start + step).min(part.end)];
            let count = targets.len();
            let positions: Vec<u32> = targets.iter().map(|target| index(target.position)).collect();
            let labels = upload(client, &targets.iter().map(|target| target.label).collect::<Vec<u32>>());
            let gathered = arithmetic.operand(&gather(client, x, &positions, features), [count, features]);
            let shape = Shape::linear(count, features, vocabulary);
            let logits = arithmetic.product(&gathered, w, shape, Epilogue::default());
            let own = room(client, count);
            // SAFETY: the logits are targets × vocabulary; each row belongs to one cube.
            unsafe {
                exponentials_kernel::launch_unchecked::<R>(
                    client,
                    cubes(count, 1),
                    CubeDim::new_1d(UNITS),
                    argument(&logits),
                    argument(&labels),
                    argument(&own),
                    count,
                    vocabulary,
                    f32::NEG_INFINITY,
                    ZERO,
                );
            }
            let sums = sums(client, &logits, [count, vocabulary], false);
            let loss = room(client, count);
            // SAFETY: each buffer has a value for each target.
            unsafe {
                losses_kernel::launch_unchecked::<R>(
                    client,
                    cubes(count, UNITS as usize),
                    CubeDim::new_1d(UNITS),
                    argument(&sums),
                    argument(&own),
                    argument(&loss),
                    count,
                    ZERO,
                );
            }
            losses.push(loss);
            let Some(dx) = &dx else { continue };
            // SAFETY: the logits are targets × vocabulary; each belongs to one unit.
            unsafe {
                logits_gradient_kernel::launch_unchecked::<R>(
                    client,
                    cubes(count * vocabulary, UNITS as usize),
                    CubeDim::new_1d(UNITS),
                    argument(&logits),
                    argument(&sums),
                    argument(&labels),
                    count * vocabulary,
                    vocabulary,
                );
            }
            let shape = Shape::input_gradient(count, features, vocabulary);
            let logits = arithmetic.operand(&logits, [count, vocabulary]);
            let gradient = arithmetic.product(&logits, w, shape, Epilogue::default());
            scatter(client, &gradient, &positions, dx, features);
            if let Some(dw) = &dw {
                let shape = Shape::weight_gradient(&(0..count), features, vocabulary);
                arithmetic.continue_product(&logits, &gathered, shape, dw);
            }
        }
        weight_gradients.extend(dw);
    }
    Ok((read_all(client, losses)?, dx, weight_gradients))
}
