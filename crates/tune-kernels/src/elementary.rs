//! `exp`, `ln` and what is made of them, in terms of the allowed operations only.
//!
//! The polynomials are after the Cephes library (S. L. Moshier, `expf` and `logf`); the digits written here are the
//! contract's, of which two differ from Cephes in the last bit. Range reduction and every rounding are stated in `docs/numerics.md`, where the largest error over all f32 inputs is published.

use crate::lanes::{Fma, Lanes, One};

/// 1.5 · 2²³: adding it to a small f32 rounds that to an integer, ties to even.
pub(crate) const ROUND: f32 = 12_582_912.0;
/// The high part of ln 2, exact in few bits so that its product with an integer is exact.
#[expect(clippy::excessive_precision, reason = "the exact value, which f32 holds")]
pub(crate) const LN2_HIGH: f32 = 0.693_359_375;
/// ln 2 minus [`LN2_HIGH`].
pub(crate) const LN2_LOW: f32 = -2.121_944_4e-4;
/// Coefficients of `(exp(r) - 1 - r) / r²`, highest power first.
pub(crate) const EXP: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];

/// `e^x`. NaN gives NaN, overflow gives infinity, results below the smallest denormal give 0.
#[inline(always)]
pub fn exp<L: Lanes>(x: L) -> L {
    // The constant comes first: `max` and `min` give their second operand for a NaN, which lets it through.
    let x = L::splat(-104.0).max(x);
    let x = L::splat(89.0).min(x);
    let round = L::splat(ROUND);
    let n = x.fma(L::splat(std::f32::consts::LOG2_E), round).sub(round);
    let r = n.fma(L::splat(-LN2_HIGH), x);
    let r = n.fma(L::splat(-LN2_LOW), r);
    let mut p = L::splat(EXP[0]);
    for coefficient in &EXP[1..] {
        p = p.fma(r, L::splat(*coefficient));
    }
    p.fma(r.mul(r), r).add(L::splat(1.0)).times_exp2(n)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid<L: Lanes>(x: L) -> L {
    let one = L::splat(1.0);
    one.div(one.add(exp(L::splat(0.0).sub(x))))
}

/// Coefficients of `(ln(1 + r) - r + r²/2) / r³`, highest power first.
pub(crate) const LN: [f32; 9] = [
    7.037_683_6e-2,
    -1.151_461e-1,
    1.167_699_9e-1,
    -1.242_014_1e-1,
    1.424_932_3e-1,
    -1.666_805_8e-1,
    2.000_071_5e-1,
    -2.499_999_4e-1,
    3.333_333e-1,
];

/// Natural logarithm of one value. NaN and negative numbers give NaN, 0 gives -infinity.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_precision_loss, clippy::cast_possible_wrap, reason = "exponents are small integers")]
pub fn ln<F: Fma>(x: f32) -> f32 {
    if x.is_nan() || x < 0.0 {
        return f32::NAN;
    }
    if x == 0.0 {
        return f32::NEG_INFINITY;
    }
    if x == f32::INFINITY {
        return x;
    }
    // A denormal is scaled by 2^24, exactly.
    let (x, bias) = if x < f32::MIN_POSITIVE { (x * 16_777_216.0, -24) } else { (x, 0) };
    let bits = x.to_bits();
    let mut exponent = (bits >> 23) as i32 - 126 + bias;
    let mut mantissa = f32::from_bits((bits & 0x007f_ffff) | 0x3f00_0000);
    if mantissa < std::f32::consts::FRAC_1_SQRT_2 {
        exponent -= 1;
        mantissa += mantissa;
    }
    let r = mantissa - 1.0;
    let e = exponent as f32;
    let z = r * r;
    let mut p = LN[0];
    for coefficient in &LN[1..] {
        p = F::fma(p, r, *coefficient);
    }
    let y = (p * r) * z;
    let y = F::fma(e, LN2_LOW, y);
    let y = F::fma(-0.5, z, y);
    F::fma(e, LN2_HIGH, r + y)
}

/// [`exp`] of one value.
#[inline(always)]
#[must_use]
pub fn exp_one<F: Fma>(x: f32) -> f32 {
    exp(One::<F>::new(x)).0
}

/// [`sigmoid`] of one value.
#[inline(always)]
#[must_use]
pub fn sigmoid_one<F: Fma>(x: f32) -> f32 {
    sigmoid(One::<F>::new(x)).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Fused;

    /// Distance of `got` from the exact `want` in units of the last place of `want` rounded to f32.
    fn ulps(got: f32, want: f64) -> f64 {
        let rounded = want as f32;
        if rounded.is_infinite() || rounded == 0.0 {
            return if got == rounded { 0.0 } else { f64::INFINITY };
        }
        let exponent = ((rounded.to_bits() >> 23) & 0xff).max(1) as i32 - 150;
        (f64::from(got) - want).abs() / libm::ldexp(1.0, exponent)
    }

    /// Every 97th f32, so that all exponents and most patterns of the mantissa are met; the full sweep over all
    /// 2³² inputs is `cargo run --release -p tune-kernels --example elementary_error`.
    #[test]
    fn errors_stay_below_the_published_bounds() {
        let (mut worst_exp, mut worst_ln) = ((0.0, 0.0_f32), (0.0, 0.0_f32));
        for bits in (0..=u32::MAX).step_by(97) {
            let x = f32::from_bits(bits);
            if x.is_nan() {
                continue;
            }
            let e = ulps(exp_one::<Fused>(x), libm::exp(f64::from(x)));
            if e > worst_exp.0 {
                worst_exp = (e, x);
            }
            if x > 0.0 && x.is_finite() {
                let e = ulps(ln::<Fused>(x), libm::log(f64::from(x)));
                if e > worst_ln.0 {
                    worst_ln = (e, x);
                }
            }
        }
        assert!(worst_exp.0 < 1.5, "exp: {worst_exp:?}");
        assert!(worst_ln.0 < 1.5, "ln: {worst_ln:?}");
    }

    #[test]
    fn special_values() {
        assert!(exp_one::<Fused>(f32::NAN).is_nan());
        assert_eq!(exp_one::<Fused>(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp_one::<Fused>(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp_one::<Fused>(0.0).to_bits(), 1.0_f32.to_bits());
        assert!(ln::<Fused>(-1.0).is_nan());
        assert!(ln::<Fused>(f32::NAN).is_nan());
        assert_eq!(ln::<Fused>(0.0), f32::NEG_INFINITY);
        assert_eq!(ln::<Fused>(f32::INFINITY), f32::INFINITY);
        assert_eq!(ln::<Fused>(1.0).to_bits(), 0);
    }
}
