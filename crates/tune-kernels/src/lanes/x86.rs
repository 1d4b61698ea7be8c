//! The registers of x86-64.

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
     $mul:ident, $div:ident, $sqrt:ident, $fma:ident, $max:ident, $min:ident, $exp2:expr, $transpose:ident,
     { $($own:tt)* }) => {
        // SAFETY (all blocks below): the intrinsics need the CPU feature that `crate::cpu::dispatch` detects
        // before any value of this type is made; loads and stores are unaligned and bounded by the caller.
        impl Lanes for $name {
            type Fma = super::Fused;
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
            $($own)*
            #[inline(always)]
            unsafe fn transpose(from: *const f32, from_stride: usize, rows: usize, to: *mut f32, to_stride: usize) {
                debug_assert!(rows <= Self::WIDTH, "a block has at most WIDTH rows");
                // SAFETY: see above, and promised by the caller.
                unsafe {
                    let mut block = [$set1(0.0); $width];
                    for (r, block) in block.iter_mut().enumerate().take(rows) {
                        *block = $loadu(from.add(r * from_stride));
                    }
                    for (c, row) in $transpose(block).into_iter().enumerate() {
                        $storeu(to.add(c * to_stride), row);
                    }
                }
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
    |n| _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvttps_epi32(n), _mm256_set1_epi32(127)))),
    transpose_8,
    {}
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
    |n| _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_add_epi32(_mm512_cvttps_epi32(n), _mm512_set1_epi32(127)))),
    transpose_16,
    {
        // One instruction, which rounds once as well.
        #[inline(always)]
        fn times_exp2(self, n: Self) -> Self {
            // SAFETY: see above.
            Self(unsafe { _mm512_scalef_ps(self.0, n.0) })
        }
    }
);

/// Within each group of four rows, exchanges rows and columns of every block of 4 × 4 values: afterwards register
/// `4 g + c` holds, at block `b`, column `4 b + c` of rows `4 g .. 4 g + 4`.
macro_rules! transpose_blocks {
    ($rows:ident, $low:ident, $high:ident, $low_pairs:ident, $high_pairs:ident, $as_pairs:ident, $as_values:ident) => {
        for group in $rows.chunks_exact_mut(4) {
            let [r0, r1, r2, r3] = [group[0], group[1], group[2], group[3]];
            let pairs = |x, y| ($as_pairs($low(x, y)), $as_pairs($high(x, y)));
            let ((a, b), (c, d)) = (pairs(r0, r1), pairs(r2, r3));
            group[0] = $as_values($low_pairs(a, c));
            group[1] = $as_values($high_pairs(a, c));
            group[2] = $as_values($low_pairs(b, d));
            group[3] = $as_values($high_pairs(b, d));
        }
    };
}

#[inline]
#[target_feature(enable = "avx2")]
fn transpose_8(mut rows: [__m256; 8]) -> [__m256; 8] {
    transpose_blocks!(
        rows,
        _mm256_unpacklo_ps,
        _mm256_unpackhi_ps,
        _mm256_unpacklo_pd,
        _mm256_unpackhi_pd,
        _mm256_castps_pd,
        _mm256_castpd_ps
    );
    let mut out = rows;
    for c in 0..4 {
        out[c] = _mm256_permute2f128_ps::<0x20>(rows[c], rows[4 + c]);
        out[4 + c] = _mm256_permute2f128_ps::<0x31>(rows[c], rows[4 + c]);
    }
    out
}

#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_16(mut rows: [__m512; 16]) -> [__m512; 16] {
    transpose_blocks!(
        rows,
        _mm512_unpacklo_ps,
        _mm512_unpackhi_ps,
        _mm512_unpacklo_pd,
        _mm512_unpackhi_pd,
        _mm512_castps_pd,
        _mm512_castpd_ps
    );
    let mut out = rows;
    for c in 0..4 {
        let even = |x, y| _mm512_shuffle_f32x4::<0x88>(x, y);
        let odd = |x, y| _mm512_shuffle_f32x4::<0xdd>(x, y);
        let (top, bottom) = ((rows[c], rows[4 + c]), (rows[8 + c], rows[12 + c]));
        let (even_top, even_bottom) = (even(top.0, top.1), even(bottom.0, bottom.1));
        let (odd_top, odd_bottom) = (odd(top.0, top.1), odd(bottom.0, bottom.1));
        out[c] = even(even_top, even_bottom);
        out[4 + c] = even(odd_top, odd_bottom);
        out[8 + c] = odd(even_top, even_bottom);
        out[12 + c] = odd(odd_top, odd_bottom);
    }
    out
}
