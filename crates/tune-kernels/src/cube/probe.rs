//! Whether a device computes as `exact-f32/1` asks. See "Devices" in `docs/numerics.md`.

#![expect(unsafe_code, reason = "kernels are launched without bounds checks of their own")]

use cubecl::prelude::*;

use super::product::{Shape, product_of};
use super::{ReadError, read};
use crate::lanes::{Fma, Fused, Unfused};
use crate::philox::{StreamKey, philox4x32_10};
use crate::reference;

/// Operands tried for each operation.
const CASES: usize = 1 << 16;
/// Units of a cube.
const UNITS: u32 = 256;

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
pub fn probe<R: Runtime>(client: &ComputeClient<R>) -> Result<Report, ReadError> {
    let values = operands();
    let [a, b, c] = values.each_ref().map(|values| client.create_from_slice(bytemuck::cast_slice(values)));
    let results = client.empty(4 * CASES * size_of::<f32>());
    let words = client.empty(CASES * size_of::<u32>());
    #[expect(clippy::cast_possible_truncation, reason = "2^16 cases")]
    let cubes = CASES as u32 / UNITS;
    // SAFETY: each unit reads and writes the elements of its own case, and every buffer has one for each case.
    unsafe {
        probe_kernel::launch_unchecked::<R>(
            client,
            CubeCount::Static(cubes, 1, 1),
            CubeDim::new_1d(UNITS),
            ArrayArg::from_raw_parts(a, CASES),
            ArrayArg::from_raw_parts(b, CASES),
            ArrayArg::from_raw_parts(c, CASES),
            ArrayArg::from_raw_parts(results.clone(), 4 * CASES),
            ArrayArg::from_raw_parts(words.clone(), CASES),
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
        product: wrong_products(client, fma_not_fused == 0)?,
    })
}

/// Outputs of a ragged product that differ from the scalar reference with the device's own kind of `fma`.
fn wrong_products<R: Runtime>(client: &ComputeClient<R>, fused: bool) -> Result<usize, ReadError> {
    let (tokens, inputs, outputs) = (67, 53, 71);
    let (x, w) = (normals(tokens * inputs, 1), normals(outputs * inputs, 2));
    let got = product_of(client, &x, &w, Shape::linear(tokens, inputs, outputs))?;
    let reference = if fused { reference::linear::<Fused> } else { reference::linear::<Unfused> };
    let want = reference(&x, &w, None, inputs, outputs);
    Ok(got.iter().zip(&want).filter(|(got, want)| got.to_bits() != want.to_bits()).count())
}
