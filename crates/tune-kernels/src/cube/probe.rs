//! Whether a device computes as `exact-f32/1` asks. See "Devices" in `docs/numerics.md`.

use cubecl::prelude::*;

use super::product::{Shape, product_of};
use super::{DeviceFailure, UNITS, argument, cubes, elementary, read, room, upload};
use crate::elementary::{exp_one, ln, sigmoid_one};
use crate::lanes::{Fma, Fused, Unfused};
use crate::philox::{StreamKey, philox4x32_10};
use crate::reference;

/// Operands tried for each operation.
const CASES: usize = 1 << 16;

/// What a device was found to do, out of [`Report::cases`] operands each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Operands tried, a quarter of them with denormals.
    pub cases: usize,
    /// Results of `fma` that are not `a · b + c` rounded once.
    pub fma_not_fused: usize,
    /// Results of `fma` that are not the product rounded, then the sum rounded.
    pub fma_not_unfused: usize,
    /// Quotients that are not correctly rounded.
    pub division: usize,
    /// Square roots that are not correctly rounded.
    pub square_root: usize,
    /// Products that are not correctly rounded or lose denormals.
    pub multiplication: usize,
    /// High halves of products of integers, as Philox needs them, that are wrong.
    pub integers: usize,
    /// Results of `exp`, `ln` and `sigmoid` that are not those of the scalar reference.
    pub elementary: usize,
    /// Results of a matrix product that are not those of the scalar reference.
    pub product: usize,
}

impl Report {
    /// Why the device may not run `exact-f32/1`; empty where it may.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        let of = self.cases;
        [
            (self.fma_not_fused, "`fma` is not fused"),
            (self.division, "`/` is not correctly rounded"),
            (self.square_root, "`sqrt` is not correctly rounded"),
            (self.multiplication, "`*` is not correctly rounded, or denormals are lost"),
            (self.integers, "integer products are wrong"),
            (self.elementary, "`exp` or `ln` differs from the scalar reference"),
        ]
        .into_iter()
        .filter(|(wrong, _)| *wrong > 0)
        .map(|(wrong, what)| format!("{what} ({wrong} of {of} cases differ)"))
        .chain((self.product > 0).then(|| "a matrix product differs from the scalar reference".to_owned()))
        .collect()
    }
}

#[cube(launch_unchecked)]
pub(super) fn probe_kernel(
    a: &Array<f32>,
    b: &Array<f32>,
    c: &Array<f32>,
    results: &mut Array<f32>,
    words: &mut Array<u32>,
    n: usize,
) {
    let i = ABSOLUTE_POS;
    if i < n {
        results[i] = fma(a[i], b[i], c[i]);
        results[n + i] = a[i] / b[i];
        results[2 * n + i] = f32::sqrt(a[i]);
        results[3 * n + i] = a[i] * b[i];
        words[i] = u32::reinterpret(a[i]).mul_hi(0xD251_1F53u32);
    }
}

/// Operands in which a wrong rounding shows: magnitudes close to one another, every fourth `a` and `c` denormal.
fn operands() -> [Vec<f32>; 3] {
    let value = |operand: u32, i: u32| {
        let word = philox4x32_10([i, operand, 0, 0], [0x7475_6e65, 0])[0];
        let bits = match (i % 4, operand) {
            (0, 0 | 2) => word & 0x807f_ffff,
            (0, _) => word & 0x807f_ffff | 0x3f00_0000,
            _ => word & 0x80ff_ffff | 0x3f00_0000,
        };
        f32::from_bits(bits)
    };
    #[expect(clippy::cast_possible_truncation, reason = "2^16 cases")]
    [0, 1, 2].map(|operand| (0..CASES as u32).map(|i| value(operand, i)).collect())
}

/// Standard normal numbers.
pub(super) fn normals(count: usize, stream: u32) -> Vec<f32> {
    (0..count as u64).map(|i| StreamKey([stream, 0]).normal(i)).collect()
}

/// Runs the probe on a device.
///
/// # Errors
/// The device gave no result.
pub fn probe<R: Runtime>(client: &ComputeClient<R>) -> Result<Report, DeviceFailure> {
    let values = operands();
    let [a, b, c] = values.each_ref().map(|values| upload(client, values));
    let results = room(client, 4 * CASES);
    let words = room(client, CASES);
    // SAFETY: each unit reads and writes the elements of its own case, and every buffer has one for each case.
    unsafe {
        probe_kernel::launch_unchecked::<R>(
            client,
            cubes(CASES, UNITS as usize),
            CubeDim::new_1d(UNITS),
            argument(&a),
            argument(&b),
            argument(&c),
            argument(&results),
            argument(&words),
            CASES,
        );
    }
    let (results, words): (Vec<f32>, Vec<u32>) = (read(client, results)?, read(client, words)?);
    let same = |got: f32, want: f32| got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan());
    let [a, b, c] = &values;
    let wrong = |operation: usize, f: &dyn Fn(f32, f32, f32) -> f32| {
        (0..CASES).filter(|&i| !same(results[operation * CASES + i], f(a[i], b[i], c[i]))).count()
    };
    let fma_not_fused = wrong(0, &Fused::fma);
    let high = |word: u32| ((u64::from(word) * 0xD251_1F53) >> 32) as u32;
    Ok(Report {
        cases: CASES,
        fma_not_fused,
        fma_not_unfused: wrong(0, &Unfused::fma),
        division: wrong(1, &|a, b, _| a / b),
        square_root: wrong(2, &|a, _, _| a.sqrt()),
        multiplication: wrong(3, &|a, b, _| a * b),
        integers: (0..CASES).filter(|&i| words[i] != high(a[i].to_bits())).count(),
        elementary: if fma_not_fused == 0 {
            wrong_elementary::<R, Fused>(client)?
        } else {
            wrong_elementary::<R, Unfused>(client)?
        },
        product: wrong_products(client, fma_not_fused == 0)?,
    })
}

#[cube(launch_unchecked)]
pub(super) fn elementary_kernel(x: &Array<f32>, y: &mut Array<f32>, n: usize, zero: u32) {
    if ABSOLUTE_POS < n {
        y[ABSOLUTE_POS] = elementary::exp(x[ABSOLUTE_POS], zero);
        y[n + ABSOLUTE_POS] = elementary::sigmoid(x[ABSOLUTE_POS], zero);
        y[2 * n + ABSOLUTE_POS] = elementary::ln_of_normal(x[ABSOLUTE_POS], zero);
    }
}

/// Inputs for which `exp`, `sigmoid` or `ln` has other bits than the scalar reference with the device's own kind of `fma`.
fn wrong_elementary<R: Runtime, F: Fma>(client: &ComputeClient<R>) -> Result<usize, DeviceFailure> {
    // Every exponent, with bits from all over the mantissa; ordinary numbers; and the edges.
    let mut x: Vec<f32> = (0..=u32::MAX).step_by(65_521).map(f32::from_bits).collect();
    x.extend(normals(1000, 1).iter().flat_map(|v| [*v, 40.0 * v]));
    x.extend([
        0.0,
        -0.0,
        1.0,
        -104.0,
        -103.97,
        88.72,
        88.73,
        89.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MIN_POSITIVE,
    ]);
    let n = x.len();
    let (input, output) = (upload(client, &x), room(client, 3 * n));
    // SAFETY: the buffers have one and three values for each of `n`.
    unsafe {
        elementary_kernel::launch_unchecked::<R>(
            client,
            cubes(n, UNITS as usize),
            CubeDim::new_1d(UNITS),
            argument(&input),
            argument(&output),
            n,
            elementary::ZERO,
        );
    }
    let got: Vec<f32> = read(client, output)?;
    let same = |got: f32, want: f32| got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan());
    let right = |i: usize, x: f32| {
        // `ln` is for normal numbers, or what is none at all.
        let ln = !(x >= f32::MIN_POSITIVE || x.is_nan()) || same(got[2 * n + i], ln::<F>(x));
        ln && same(got[i], exp_one::<F>(x)) && same(got[n + i], sigmoid_one::<F>(x))
    };
    Ok(x.iter().enumerate().filter(|(i, x)| !right(*i, **x)).count())
}

/// Outputs of a ragged product that differ from the scalar reference with the device's own kind of `fma`.
fn wrong_products<R: Runtime>(client: &ComputeClient<R>, fused: bool) -> Result<usize, DeviceFailure> {
    let (tokens, inputs, outputs) = (67, 53, 71);
    let (x, w) = (normals(tokens * inputs, 1), normals(outputs * inputs, 2));
    let got = product_of(client, &x, &w, Shape::linear(tokens, inputs, outputs))?;
    let reference = if fused { reference::linear::<Fused> } else { reference::linear::<Unfused> };
    let want = reference(&x, &w, None, inputs, outputs);
    Ok(got.iter().zip(&want).filter(|(got, want)| got.to_bits() != want.to_bits()).count())
}
