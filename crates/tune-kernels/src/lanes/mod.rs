//! The operations that `exact-f32/1` allows, over one or several f32 side by side.
//!
//! Every kernel and every elementary function is written once against [`Lanes`]. A lane never sees another lane, so
//! the width cannot change a bit; it changes only how many outputs are computed at a time.

use std::marker::PhantomData;

use crate::elementary::ROUND;

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

/// Values of a usual cache line.
pub const LINE: usize = 16;

/// Asks for the cache line at `p`, which need not be readable. A hint that changes no bit; does nothing on processors other
/// than x86-64.
#[inline(always)]
pub fn prefetch(p: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults, and every x86-64 processor has it.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// [`prefetch`] into the second cache, for what is used later than what fills the first one now.
#[inline(always)]
pub fn prefetch_second(p: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults, and every x86-64 processor has it.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// `WIDTH` f32 values on which each operation acts lane by lane.
pub trait Lanes: Copy + Send + Sync + 'static {
    /// The `fma` of one lane by itself.
    type Fma: Fma;
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

    /// `self · 2^n` for `self` near 1 and integral `n` from -252 to 254, rounded once.
    #[inline(always)]
    fn times_exp2(self, n: Self) -> Self {
        // Two factors, because 2^n alone may be beyond the range of normal numbers.
        let round = Self::splat(ROUND);
        let half = n.fma(Self::splat(0.5), round).sub(round);
        // The last product is an `fma`, so that no compiler can contract it with an addition of the caller's.
        self.mul(half.exp2_integral()).fma(n.sub(half).exp2_integral(), Self::splat(-0.0))
    }

    /// Copies a block of `WIDTH` by `WIDTH` values with rows and columns exchanged: value `c` of source row `r` becomes
    /// value `r` of target row `c`. Source rows from `rows` on are not read and count as zeros. Target rows are written in
    /// ascending order after everything was read, so each may overlap the one before it.
    ///
    /// # Safety
    /// `rows` is at most `WIDTH`; `from` is valid for reads of `WIDTH` values at each of `rows` rows, `to` for writes of
    /// `WIDTH` values at each of `WIDTH` rows; the two do not overlap.
    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_stride: usize, rows: usize, to: *mut f32, to_stride: usize) {
        for c in 0..Self::WIDTH {
            for r in 0..Self::WIDTH {
                // SAFETY: promised by the caller.
                unsafe { *to.add(c * to_stride + r) = if r < rows { *from.add(r * from_stride + c) } else { 0.0 } };
            }
        }
    }
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
    type Fma = F;
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
    type Fma = Fused;
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
mod x86;
#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};
