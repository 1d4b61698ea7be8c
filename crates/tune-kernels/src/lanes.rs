//! The operations that `exact-f32/1` allows, over one or several f32 side by side.
//!
//! Every kernel and every elementary function is written once against [`Lanes`]. A lane never sees another lane, so
//! the width cannot change a bit; it changes only how many outputs are computed at a time.

use std::marker::PhantomData;

/// The one operation devices disagree on: `a * b + c` with one rounding, or with two.
pub trait Fma: Copy + Send + Sync + 'static {
    /// `a * b + c`.
    fn fma(a: f32, b: f32, c: f32) -> f32;
}

/// One rounding, as IEEE 754 `fusedMultiplyAdd`: the contract's `fma`.
#[derive(Debug, Clone, Copy)]
pub struct Fused;

/// Two roundings: what a device without a fused `fma` computes. Only for comparing kernels on such a device.
#[derive(Debug, Clone, Copy)]
pub struct Unfused;

impl Fma for Fused {
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

impl Fma for Unfused {
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
}

/// `WIDTH` f32 values on which each operation acts lane by lane.
pub trait Lanes: Copy + Send + Sync + 'static {
    /// Number of values.
    const WIDTH: usize;
    /// Rows of a product's register tile: with two vectors a row, as many as the registers hold.
    const TILE_ROWS: usize;

    /// Every lane is `x`.
    fn splat(x: f32) -> Self;
    /// Reads `WIDTH` values.
    ///
    /// # Safety
    /// `p` must be valid for reads of `WIDTH` values; no alignment is needed.
    unsafe fn load(p: *const f32) -> Self;
    /// Writes `WIDTH` values.
    ///
    /// # Safety
    /// `p` must be valid for writes of `WIDTH` values; no alignment is needed.
    unsafe fn store(self, p: *mut f32);
    /// `self + other`.
    fn add(self, other: Self) -> Self;
    /// `self - other`.
    fn sub(self, other: Self) -> Self;
    /// `self * other`.
    fn mul(self, other: Self) -> Self;
    /// `self / other`, correctly rounded.
    fn div(self, other: Self) -> Self;
    /// Square root, correctly rounded.
    fn sqrt(self) -> Self;
    /// `self * b + c` with one rounding (for [`Unfused`]: two).
    fn fma(self, b: Self, c: Self) -> Self;
    /// `if self > other { self } else { other }`: a NaN on either side gives `other`.
    fn max(self, other: Self) -> Self;
    /// `if self < other { self } else { other }`: a NaN on either side gives `other`.
    fn min(self, other: Self) -> Self;
    /// `2^self` for integral `self` from -126 to 127, by placing the exponent.
    fn exp2_integral(self) -> Self;
}

/// One value: the width of the scalar reference and of the level `scalar`.
#[derive(Debug)]
pub struct One<F: Fma>(pub f32, PhantomData<F>);

impl<F: Fma> Clone for One<F> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: Fma> Copy for One<F> {}

impl<F: Fma> One<F> {
    /// Wraps `x`.
    #[inline(always)]
    #[must_use]
    pub fn new(x: f32) -> Self {
        Self(x, PhantomData)
    }
}

impl<F: Fma> Lanes for One<F> {
    const WIDTH: usize = 1;
    const TILE_ROWS: usize = 4;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self::new(x)
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller promises one readable value.
        Self::new(unsafe { *p })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller promises one writable value.
        unsafe { *p = self.0 }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self::new(self.0 + other.0)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self::new(self.0 - other.0)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self::new(self.0 * other.0)
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Self::new(self.0 / other.0)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        Self::new(self.0.sqrt())
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        Self::new(F::fma(self.0, b.0, c.0))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        if self.0 > other.0 { self } else { other }
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        if self.0 < other.0 { self } else { other }
    }
    #[inline(always)]
    fn exp2_integral(self) -> Self {
        Self::new(exp2_integral(self.0))
    }
}

/// `2^n` for integral `n` from -126 to 127.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "n is integral and in range")]
fn exp2_integral(n: f32) -> f32 {
    f32::from_bits((((n as i32) + 127) << 23) as u32)
}

/// Lanes in an array: what a compiler turns into vectors on architectures that have no path of their own here.
#[derive(Debug, Clone, Copy)]
pub struct Portable([f32; 8]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl Lanes for Portable {
    const WIDTH: usize = 8;
    const TILE_ROWS: usize = 6;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; 8])
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller promises eight readable values; `read_unaligned` asks for no alignment.
        Self(unsafe { p.cast::<[f32; 8]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller promises eight writable values; `write_unaligned` asks for no alignment.
        unsafe { p.cast::<[f32; 8]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(self.0.map(f32::sqrt))
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].mul_add(b.0[i], c.0[i])))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn exp2_integral(self) -> Self {
        Self(self.0.map(exp2_integral))
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Lanes;

    /// One register of AVX2. Use only where AVX2 and FMA were detected: [`crate::cpu`] sees to that.
    #[derive(Debug, Clone, Copy)]
    pub struct Avx2(__m256);

    /// One register of AVX-512. Use only where AVX-512F was detected: [`crate::cpu`] sees to that.
    #[derive(Debug, Clone, Copy)]
    pub struct Avx512(__m512);

    macro_rules! lanes {
        ($name:ident, $width:literal, $rows:literal, $set1:ident, $loadu:ident, $storeu:ident, $add:ident, $sub:ident,
         $mul:ident, $div:ident, $sqrt:ident, $fma:ident, $max:ident, $min:ident, $exp2:expr) => {
            // SAFETY (all blocks below): the intrinsics need the CPU feature that `crate::cpu::dispatch` detects
            // before any value of this type is made; loads and stores are unaligned and bounded by the caller.
            impl Lanes for $name {
                const WIDTH: usize = $width;
                const TILE_ROWS: usize = $rows;

                #[inline(always)]
                fn splat(x: f32) -> Self {
                    // SAFETY: see above.
                    Self(unsafe { $set1(x) })
                }
                #[inline(always)]
                unsafe fn load(p: *const f32) -> Self {
                    // SAFETY: see above.
                    Self(unsafe { $loadu(p) })
                }
                #[inline(always)]
                unsafe fn store(self, p: *mut f32) {
                    // SAFETY: see above.
                    unsafe { $storeu(p, self.0) }
                }
                #[inline(always)]
                fn add(self, other: Self) -> Self {
                    // SAFETY: see above.
                    Self(unsafe { $add(self.0, other.0) })
                }
                #[inline(always)]
                fn sub(self, other: Self) -> Self {
                    // SAFETY: see above.
                    Self(unsafe { $sub(self.0, other.0) })
                }
                #[inline(always)]
                fn mul(self, other: Self) -> Self {
                    // SAFETY: see above.
                    Self(unsafe { $mul(self.0, other.0) })
                }
                #[inline(always)]
                fn div(self, other: Self) -> Self {
                    // SAFETY: see above.
                    Self(unsafe { $div(self.0, other.0) })
                }
                #[inline(always)]
                fn sqrt(self) -> Self {
                    // SAFETY: see above.
                    Self(unsafe { $sqrt(self.0) })
                }
                #[inline(always)]
                fn fma(self, b: Self, c: Self) -> Self {
                    // SAFETY: see above.
                    Self(unsafe { $fma(self.0, b.0, c.0) })
                }
                #[inline(always)]
                fn max(self, other: Self) -> Self {
                    // SAFETY: see above. `maxps` returns its second operand when either is NaN, as the trait says.
                    Self(unsafe { $max(self.0, other.0) })
                }
                #[inline(always)]
                fn min(self, other: Self) -> Self {
                    // SAFETY: see above. `minps` returns its second operand when either is NaN, as the trait says.
                    Self(unsafe { $min(self.0, other.0) })
                }
                #[inline(always)]
                fn exp2_integral(self) -> Self {
                    // SAFETY: see above.
                    Self(unsafe { $exp2(self.0) })
                }
            }
        };
    }

    lanes!(
        Avx2,
        8,
        6,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_mul_ps,
        _mm256_div_ps,
        _mm256_sqrt_ps,
        _mm256_fmadd_ps,
        _mm256_max_ps,
        _mm256_min_ps,
        |n| _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(
            _mm256_cvttps_epi32(n),
            _mm256_set1_epi32(127)
        )))
    );
    lanes!(
        Avx512,
        16,
        12,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_mul_ps,
        _mm512_div_ps,
        _mm512_sqrt_ps,
        _mm512_fmadd_ps,
        _mm512_max_ps,
        _mm512_min_ps,
        |n| _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_add_epi32(
            _mm512_cvttps_epi32(n),
            _mm512_set1_epi32(127)
        )))
    );
}
