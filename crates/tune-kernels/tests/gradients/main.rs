//! Gradients of every fused operation against finite differences in f64, and against the same operation composed from
//! burn's own operations and differentiated by its autodiff.
//!
//! The level is the one the machine picks: `levels.rs` shows that all levels have the same bits.

mod attention;
mod head;
mod pointwise;
mod products;

use std::ops::Range;

use burn_autodiff::Autodiff;
use burn_backend::{Backend, TensorData};
use burn_flex::Flex;
use burn_tensor::Tensor;
use tune_kernels::layout::Rows;
use tune_kernels::philox::StreamKey;

/// How far an element may be from its oracle, in units of the gradient's root mean square.
///
/// An f32 chain of `n` products with terms of about the same size is off by about `sqrt(n) · 2⁻²⁴` of its result; the
/// longest chains here have 81 terms, which makes 5e-7, and a gradient of attention passes through four such steps
/// (scores, their sum, `D`, `dq`). That is about 2e-6, for the fused operation and again for burn's. Seen on these
/// inputs: at most 2.2e-6 against finite differences, 2.7e-6 against burn, both in attention, and below 1.4e-6 in the
/// other operations. A wrong index, sign or factor is off by about 1. The inputs are drawn so that no gradient is a
/// difference of nearly equal numbers as a whole, where the tolerance would have to follow the condition.
const TOLERANCE: f64 = 1e-5;

/// Step of the central differences. Being a power of two it adds to an f32 without rounding. The error of the
/// quotient is about `STEP² / 6 ≈ 1e-11` of the third derivative, and `2⁻⁵³ · loss / STEP ≈ 1e-9` for rounding: far
/// below [`TOLERANCE`].
const STEP: f64 = 1.0 / 131_072.0;

/// Values of a matrix; a vector is a matrix of one row.
#[derive(Clone)]
struct Matrix {
    values: Vec<f32>,
    shape: [usize; 2],
}

impl Matrix {
    fn tensor<B: Backend>(&self) -> Tensor<B, 2> {
        Tensor::from_data(TensorData::new(self.values.clone(), self.shape), &B::Device::default())
    }

    fn vector(&self) -> Tensor<Flex, 1> {
        self.tensor::<Flex>().reshape([self.shape[1]])
    }

    fn scaled(mut self, factor: f32) -> Self {
        self.values.iter_mut().for_each(|value| *value *= factor);
        self
    }

    /// The same with 0 outside these rows.
    fn only(&self, rows: &Range<usize>) -> Self {
        let columns = self.shape[1];
        let keep = |i: usize| rows.contains(&(i / columns));
        let values = self.values.iter().enumerate().map(|(i, value)| if keep(i) { *value } else { 0.0 }).collect();
        Self { values, shape: self.shape }
    }
}

/// Random matrices, from the contract's own generator.
struct Random {
    test: u32,
    drawn: u32,
}

impl Random {
    fn new(test: u32) -> Self {
        Self { test, drawn: 0 }
    }

    fn matrix(&mut self, rows: usize, columns: usize) -> Matrix {
        self.drawn += 1;
        let key = StreamKey([self.test, self.drawn]);
        Matrix { values: (0..(rows * columns) as u64).map(|i| key.normal(i)).collect(), shape: [rows, columns] }
    }
}

/// Rows of these lengths. They start at number 3 of their step, so that the number shows in dropout.
fn rows(lengths: &[usize]) -> Rows {
    let starts = lengths.iter().scan(0, |end, length| {
        *end += length;
        Some(*end - length..*end)
    });
    Rows::whole(starts.collect(), 3)
}

fn values<const D: usize>(tensor: &Tensor<Flex, D>) -> Vec<f32> {
    tensor.to_data().to_vec().expect("f32 values")
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

/// `y[t, n] = Σ_k x[t, k] · w[n, k]`, which several definitions need.
fn linear(x: &[f64], w: &[f64], inputs: usize) -> Vec<f64> {
    let dot = |x: &[f64], w: &[f64]| x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>();
    x.chunks_exact(inputs).flat_map(|x| w.chunks_exact(inputs).map(|w| dot(x, w)).collect::<Vec<_>>()).collect()
}

/// The largest difference of an element, in units of the root mean square of `want`. Where `want` is all zeros,
/// anything else is infinitely far; so is a NaN.
fn distance(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len(), "lengths");
    let mean_square = want.iter().map(|want| want * want).sum::<f64>() / want.len() as f64;
    let unit = mean_square.sqrt();
    let one = |(got, want): (&f32, &f64)| {
        let difference = (f64::from(*got) - want).abs();
        if difference == 0.0 {
            0.0
        } else if difference.is_nan() {
            f64::INFINITY
        } else {
            difference / unit
        }
    };
    got.iter().zip(want).map(one).fold(0.0, f64::max)
}

type Differentiable = Tensor<Autodiff<Flex>, 2>;

/// The two definitions that a fused operation is compared with. Both take the inputs and give the output.
struct Operation<'a> {
    name: &'a str,
    inputs: Vec<&'a Matrix>,
    /// Plain loops in f64.
    plain: &'a dyn Fn(&[Vec<f64>]) -> Vec<f64>,
    /// burn's operations.
    composed: &'a dyn Fn(&[Differentiable]) -> Differentiable,
}

impl Operation<'_> {
    /// Central differences of `Σ p · output` with respect to the elements of one input.
    fn finite_differences(&self, input: usize, p: &Matrix) -> Vec<f64> {
        let p = wide(&p.values);
        let loss = |inputs: &[Vec<f64>]| {
            let output = (self.plain)(inputs);
            assert_eq!(output.len(), p.len(), "{}: one factor for each output", self.name);
            output.iter().zip(&p).map(|(y, p)| y * p).sum::<f64>()
        };
        let mut inputs: Vec<Vec<f64>> = self.inputs.iter().map(|input| wide(&input.values)).collect();
        let mut slope = |i: usize| {
            let at = inputs[input][i];
            let [above, below] = [at + STEP, at - STEP].map(|moved| {
                inputs[input][i] = moved;
                loss(&inputs)
            });
            inputs[input][i] = at;
            (above - below) / (2.0 * STEP)
        };
        (0..self.inputs[input].values.len()).map(&mut slope).collect()
    }

    /// The gradient of `Σ p · output` with respect to one input, by burn's autodiff.
    fn autodiff(&self, input: usize, p: &Matrix) -> Vec<f64> {
        let inputs: Vec<Differentiable> = self.inputs.iter().map(|input| input.tensor().require_grad()).collect();
        let gradients = ((self.composed)(&inputs) * p.tensor()).sum().backward();
        wide(&values(&inputs[input].grad(&gradients).expect("every input is used")))
    }

    /// Distances of a gradient from the two oracles.
    fn distances<const D: usize>(&self, input: usize, p: &Matrix, got: &Tensor<Flex, D>) -> [f64; 2] {
        let got = values(got);
        [distance(&got, &self.finite_differences(input, p)), distance(&got, &self.autodiff(input, p))]
    }

    /// Panics where the fused output differs: gradients of another operation would prove nothing.
    fn check_output(&self, got: &Tensor<Flex, 2>) {
        let inputs: Vec<Vec<f64>> = self.inputs.iter().map(|input| wide(&input.values)).collect();
        let tensors: Vec<Differentiable> = self.inputs.iter().map(|input| input.tensor()).collect();
        let (plain, composed) = ((self.plain)(&inputs), (self.composed)(&tensors).inner());
        let distances = [distance(&values(got), &plain), distance(&values(got), &wide(&values(&composed)))];
        assert!(distances.iter().all(|d| *d <= TOLERANCE), "{}: the output is off by {distances:?}", self.name);
    }

    /// Panics where the gradient of `Σ p · output` with respect to one input differs.
    fn check<const D: usize>(&self, input: usize, p: &Matrix, got: &Tensor<Flex, D>) {
        let distances = self.distances(input, p, got);
        assert!(
            distances.iter().all(|d| *d <= TOLERANCE),
            "{}: the gradient of input {input} is off by {distances:?}",
            self.name
        );
    }

    /// The same for a gradient that comes in one part for each row: a row's part is the gradient of its own outputs.
    fn check_rows<const D: usize>(&self, input: usize, p: &Matrix, rows: &Rows, got: &[Tensor<Flex, D>]) {
        assert_eq!(got.len(), rows.ranges.len(), "{}: one gradient a row", self.name);
        for (row, got) in rows.ranges.iter().zip(got) {
            self.check(input, &p.only(row), got);
        }
    }

    /// Panics unless both oracles reject this gradient.
    fn check_rejects<const D: usize>(&self, input: usize, p: &Matrix, wrong: &Tensor<Flex, D>) {
        let distances = self.distances(input, p, wrong);
        assert!(distances.iter().all(|d| *d > TOLERANCE), "{}: wrong, yet within {distances:?}", self.name);
    }
}

#[test]
fn the_distance_sees_one_element_a_sign_and_a_factor() {
    let right = Random::new(1).matrix(7, 11).values;
    let want = wide(&right);
    assert_eq!(distance(&right, &want), 0.0);
    let moved = |at: usize, by: f32| {
        let mut moved = right.clone();
        moved[at] += by;
        distance(&moved, &want)
    };
    // Standard normals have a root mean square of about 1.
    assert!(moved(0, 1e-6) < TOLERANCE && moved(0, 1e-4) > TOLERANCE && moved(76, -1e-4) > TOLERANCE);
    assert!(moved(5, f32::NAN) > TOLERANCE && moved(5, f32::INFINITY) > TOLERANCE);
    let scaled = |factor: f32| distance(&right.iter().map(|value| value * factor).collect::<Vec<_>>(), &want);
    assert!(scaled(-1.0) > 1.0 && scaled(1.001) > TOLERANCE && scaled(0.0) > 1.0);
}

#[test]
fn nothing_but_zero_is_near_zero() {
    assert_eq!(distance(&[0.0, -0.0], &[0.0, 0.0]), 0.0);
    assert!(distance(&[0.0, 1e-30], &[0.0, 0.0]) > TOLERANCE);
}
