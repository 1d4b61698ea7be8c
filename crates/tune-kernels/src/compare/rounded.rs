//! Products of rounded operands, whose order of additions is the hardware's own, against sums in f64.

use burn_backend::TensorData;
use burn_tensor::Tensor;
use half::bf16;

use super::{Comparison, Random};
use crate::KernelBackend;
use crate::backend::{Layer, Weight};
use crate::cube::product::Shape;
use crate::layout::Rows;

/// The nearest bf16, as f32.
fn nearest(x: f32) -> f32 {
    bf16::from_f32(x).to_f32()
}

/// Whether every `every`-th output lies as near the sum of the products of rounded operands as sums in f32 must: each
/// addition may be wrong by the last place of the sum of magnitudes, for matrix instructions do not round each of them to
/// nearest. `after` is what was added to the products.
///
/// # Errors
/// The first output that lies farther off.
pub fn within(
    found: &[f32],
    [a, b]: [&[f32]; 2],
    shape: Shape,
    after: impl Fn(usize, usize) -> f64,
    every: usize,
) -> Result<(), String> {
    if found.len() != shape.rows * shape.columns {
        return Err(format!("{} values of {shape:?}", found.len()));
    }
    for (i, found) in found.iter().enumerate().step_by(every) {
        let (row, column) = (i / shape.columns, i % shape.columns);
        let (mut sum, mut size) = (after(row, column), after(row, column).abs());
        for step in 0..shape.depth {
            let x = nearest(a[shape.first[0] + row * shape.a[0] + step * shape.a[1]]);
            let y = nearest(b[shape.first[1] + step * shape.b[0] + column * shape.b[1]]);
            sum += f64::from(x) * f64::from(y);
            size += (f64::from(x) * f64::from(y)).abs();
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of additions")]
        let bound = size * (shape.depth as f64 + 2.0) * f64::from(f32::EPSILON);
        let difference = (f64::from(*found) - sum).abs();
        // A NaN is not within anything.
        if difference.is_nan() || difference > bound {
            return Err(format!("{shape:?}: output {row}, {column} is {found:e} instead of {sum:e}"));
        }
    }
    Ok(())
}

/// Compares the products of a backend that rounds their operands, each computed twice, on `shapes` random shapes and on some
/// that are large.
pub fn compare_rounded<B: KernelBackend>(device: &B::Device, shapes: u32) -> Comparison {
    let mut random = Random::new(40_000);
    let mut sizes: Vec<[usize; 3]> = (0..shapes).map(|_| [random.size(), random.size(), random.size()]).collect();
    sizes.extend([[128, 128, 128], [129, 1000, 257], [300, 513, 16], [1024, 16, 640]]);
    let mut comparison =
        Comparison { operations: "products of rounded operands", shapes: 0, values: 0, difference: None };
    for sizes in sizes {
        comparison.shapes += 1;
        let outcome = products::<B>(device, sizes, &mut random);
        comparison.values += outcome.as_ref().copied().unwrap_or(0);
        comparison.difference = comparison.difference.take().or(outcome.err());
    }
    comparison
}

/// The products of a linear layer in every direction; gives the number of values.
fn products<B: KernelBackend>(
    device: &B::Device,
    [tokens, inputs, outputs]: [usize; 3],
    random: &mut Random,
) -> Result<u64, String> {
    let [x, w] = [tokens, outputs].map(|rows| random.values(rows * inputs));
    let (dy, bias) = (random.values(tokens * outputs), random.values(outputs));
    let matrix =
        |values: &[f32], shape: [usize; 2]| Tensor::<B, 2>::from_data(TensorData::new(values.to_vec(), shape), device);
    let (tx, tdy) = (matrix(&x, [tokens, inputs]), matrix(&dy, [tokens, outputs]));
    let tbias = Tensor::<B, 1>::from_data(TensorData::new(bias.clone(), [outputs]), device);
    let weight = Weight::Values(matrix(&w, [outputs, inputs]));
    let ranges = [0..tokens / 3, tokens / 3..tokens].into_iter().filter(|row| !row.is_empty()).collect();
    let rows = Rows::whole(ranges, 0);
    let twice = |name: &str, product: &dyn Fn() -> Tensor<B, 2>| -> Result<Vec<f32>, String> {
        let once = || product().to_data().to_vec::<f32>().expect("tensors of the contract are f32");
        let (found, again) = (once(), once());
        let same = found.iter().zip(&again).all(|(a, b)| a.to_bits() == b.to_bits());
        if same { Ok(found) } else { Err(format!("{name}: the same product twice differs")) }
    };
    // Sums in f64 are slow: of large products some outputs.
    let every = |outputs: usize, depth: usize| 1 + outputs * depth / 4_000_000;
    let layer = || Layer { weight: &weight, bias: Some(&tbias), branch: None };
    let y = twice("y", &|| B::linears(&tx, &[layer()], Some(&tdy), &rows, &[]).remove(0).y)?;
    let shape = Shape::linear(tokens, inputs, outputs);
    let after = |row: usize, column: usize| f64::from(bias[column]) + f64::from(dy[row * outputs + column]);
    within(&y, [&x, &w], shape, after, every(y.len(), inputs))?;
    let dx = twice("dx", &|| B::linear_input_gradient(&tdy, &weight, None))?;
    within(&dx, [&dy, &w], Shape::input_gradient(tokens, inputs, outputs), |_, _| 0.0, every(dx.len(), outputs))?;
    let mut values = y.len() + dx.len();
    for (i, row) in rows.ranges.iter().enumerate() {
        let dw = twice("dw", &|| B::linear_weight_gradient(&tdy, &tx, &rows).swap_remove(i))?;
        let shape = Shape::weight_gradient(row, inputs, outputs);
        within(&dw, [&dy, &x], shape, |_, _| 0.0, every(dw.len(), row.len()))?;
        values += dw.len();
    }
    Ok(values as u64)
}
