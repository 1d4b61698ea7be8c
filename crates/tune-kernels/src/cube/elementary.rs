//! The elementary functions of [`crate::elementary`] in kernels: the same constants, the same operations.
//!
//! Each rounding counts, and compilers of shaders use what holds for real numbers only: to Mesa's `(a + c) - c` is `a`, and
//! `(a + b) + c` may become `(a + c) + b`; NVRTC contracts a product with the addition that follows it. [`held`] keeps a
//! value out of their sight.

use cubecl::prelude::*;

use crate::elementary::{EXP, LN, LN2_HIGH, LN2_LOW, ROUND};

/// What [`held`] exchanges no bit with: 0, given to kernels at run time, so that no compiler knows it.
pub(super) const ZERO: u32 = 0;

/// The value as it was rounded. Integer work on its bits stands between it and any rule about floating point.
#[cube]
pub(super) fn held(x: f32, zero: u32) -> f32 {
    f32::reinterpret(u32::reinterpret(x) ^ zero)
}

/// `x · factor` rounded to an integer, ties to even.
#[cube]
fn rounded(x: f32, factor: f32, zero: u32) -> f32 {
    held(fma(x, factor, comptime!(ROUND)), zero) - comptime!(ROUND)
}

/// `2^n` for integral `n` from -126 to 127.
#[cube]
fn exp2_integral(n: f32) -> f32 {
    f32::reinterpret(u32::cast_from(i32::cast_from(n) + 127) << 23u32)
}

/// See [`crate::elementary::exp`].
#[cube]
pub(super) fn exp(x: f32, zero: u32) -> f32 {
    // A comparison with a NaN is false, which lets it through.
    let above = select(x < -104.0, -104.0, x);
    let x = held(select(above > 89.0, 89.0, above), zero);
    let n = rounded(x, comptime!(std::f32::consts::LOG2_E), zero);
    let r = held(fma(n, comptime!(-LN2_HIGH), x), zero);
    let r = held(fma(n, comptime!(-LN2_LOW), r), zero);
    let mut p = fma(comptime!(EXP[0]), r, comptime!(EXP[1]));
    #[unroll]
    for i in 0..4usize {
        p = fma(p, r, comptime!(EXP[i + 2]));
    }
    let y = held(held(fma(p, r * r, r), zero) + 1.0, zero);
    let half = rounded(n, 0.5, zero);
    held((y * exp2_integral(half)) * exp2_integral(n - half), zero)
}

/// See [`crate::elementary::sigmoid`].
#[cube]
pub(super) fn sigmoid(x: f32, zero: u32) -> f32 {
    1.0 / held(1.0 + exp(0.0 - x, zero), zero)
}

/// [`crate::elementary::ln`] of a normal number, or of NaN or infinity, which it gives back.
#[cube]
pub(super) fn ln_of_normal(x: f32, zero: u32) -> f32 {
    let bits = u32::reinterpret(x);
    let low = f32::reinterpret((bits & 0x007f_ffffu32) | 0x3f00_0000u32);
    let small = low < comptime!(std::f32::consts::FRAC_1_SQRT_2);
    let exponent = i32::cast_from(bits >> 23u32) - 126;
    let e = f32::cast_from(select(small, exponent - 1, exponent));
    let mantissa = held(select(small, low + low, low), zero);
    let r = held(mantissa - 1.0, zero);
    let z = held(r * r, zero);
    let mut p = fma(comptime!(LN[0]), r, comptime!(LN[1]));
    #[unroll]
    for i in 0..7usize {
        p = fma(p, r, comptime!(LN[i + 2]));
    }
    let y = held((p * r) * z, zero);
    let y = held(fma(e, comptime!(LN2_LOW), y), zero);
    let y = held(fma(-0.5, z, y), zero);
    let y = fma(e, comptime!(LN2_HIGH), held(r + y, zero));
    select(bits >= 0x7f80_0000u32, x, y)
}
