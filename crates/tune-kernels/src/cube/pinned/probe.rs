//! Whether a device computes the products of `pinned-bf16/1`: their values lie where those of an exact computation do, as
//! near as sums in f32 come, and the same product twice has the same bits.

use cubecl::prelude::*;

use super::super::product::{Epilogue, Shape};
use super::super::{DeviceFailure, read, upload};
use super::product::product;
use super::{Rounded, has_matrix_instructions};
use crate::compare::{Random, within};

/// Shapes of the probe: tokens, inputs, outputs. Squares of both sizes, with and without ragged edges, and depths of
/// several tiles.
const SHAPES: [[usize; 3]; 4] = [[128, 64, 128], [131, 293, 149], [77, 515, 16], [200, 17, 300]];

/// What the probe of a device finds.
///
/// # Errors
/// The device gave no result.
pub(in crate::cube) fn probe<R: Runtime>(client: &ComputeClient<R>) -> Result<Vec<String>, DeviceFailure> {
    if !has_matrix_instructions(client) {
        return Ok(vec!["it has no matrix instructions for bf16 with sums in f32".to_owned()]);
    }
    let mut reasons = Vec::new();
    for sizes in SHAPES {
        reasons.extend(compare(client, sizes)?.into_iter().filter_map(Result::err));
    }
    Ok(reasons)
}

/// The three products of a linear layer with drawn values: for each, what is wrong with it.
fn compare<R: Runtime>(
    client: &ComputeClient<R>,
    [tokens, inputs, outputs]: [usize; 3],
) -> Result<[Result<(), String>; 3], DeviceFailure> {
    let mut random = Random::new(30_000);
    let [x, w, dy] = [tokens * inputs, outputs * inputs, tokens * outputs].map(|n| random.values(n));
    let [xs, ws, dys] = [(&x, [tokens, inputs]), (&w, [outputs, inputs]), (&dy, [tokens, outputs])]
        .map(|(values, shape)| Rounded::of(client, &upload(client, values), shape));
    // Some of the tokens only, as a row of several.
    let row = tokens / 3..tokens;
    Ok([
        check(client, [&xs, &ws], [&x, &w], Shape::linear(tokens, inputs, outputs))?,
        check(client, [&dys, &ws], [&dy, &w], Shape::input_gradient(tokens, inputs, outputs))?,
        check(client, [&dys, &xs], [&dy, &x], Shape::weight_gradient(&row, inputs, outputs))?,
    ])
}

/// A product twice, and what is wrong with it.
fn check<R: Runtime>(
    client: &ComputeClient<R>,
    operands: [&Rounded; 2],
    values: [&[f32]; 2],
    shape: Shape,
) -> Result<Result<(), String>, DeviceFailure> {
    let once = || read::<R, f32>(client, product(client, operands[0], operands[1], shape, Epilogue::default()));
    let (found, again) = (once()?, once()?);
    if found.iter().zip(&again).any(|(a, b)| a.to_bits() != b.to_bits()) {
        return Ok(Err("the same product twice differs".to_owned()));
    }
    Ok(within(&found, values, shape, |_, _| 0.0, 1))
}
