//! The inner loop of the tool: a tile of outputs in registers.

use std::mem::MaybeUninit;

use crate::lanes::{LINE, Lanes, prefetch};

/// Most rows that any level's tile has.
pub(in crate::cpu) const MOST_ROWS: usize = 12;
/// Most values that two vectors of any level hold.
pub(in crate::cpu) const MOST_LANES: usize = 32;

/// How many steps before its use a row of `b` is asked for: panels are read from the second cache, a line or two a step.
const STEPS_AHEAD: usize = 16;

/// Where a tile's operands lie: element `(i, p)` of `a` at `i · a_row + p · a_step`, row `p` of `b` at `p · b_stride`, row `i` of
/// `c` at `i · c_stride`.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Operands {
    pub(in crate::cpu) depth: usize,
    pub(in crate::cpu) a: *const f32,
    pub(in crate::cpu) a_row: usize,
    pub(in crate::cpu) a_step: usize,
    pub(in crate::cpu) b: *const f32,
    pub(in crate::cpu) b_stride: usize,
    pub(in crate::cpu) c: *mut f32,
    pub(in crate::cpu) c_stride: usize,
    pub(in crate::cpu) onto: Onto,
}

/// What becomes of the sums.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::cpu) enum Onto {
    /// They start at 0 and replace what `c` holds.
    Replace,
    /// They go on from what `c` holds.
    Resume,
    /// They start at 0, and `c = fma(scale, sum, c)`.
    AddScaled(f32),
}

/// `c[i] = fma(a[p][i], b[p], c[i])` for `p` ascending, for `rows` rows of `columns` outputs.
///
/// # Safety
/// `rows` values of `a` can be read at each of `depth` steps. Each of the `depth` rows of `b` can be read for the vectors that cover `columns`.
/// `c` has `columns` values in each row, which nothing else reads or writes meanwhile.
#[inline(always)]
pub(in crate::cpu) unsafe fn multiply<L: Lanes>(rows: usize, columns: usize, operands: Operands) {
    let vectors = columns.div_ceil(L::WIDTH);
    // A tile whose columns do not fill its vectors goes through a buffer in which they do.
    let whole = columns == vectors * L::WIDTH;
    let mut buffer = MaybeUninit::<[f32; MOST_ROWS * MOST_LANES]>::uninit();
    let (place, stride) = (buffer.as_mut_ptr().cast::<f32>(), vectors * L::WIDTH);
    let copy = |from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize| {
        for i in 0..rows {
            // SAFETY: the buffer holds the largest tile; the caller's `c` holds `columns` values in each row.
            unsafe { std::ptr::copy_nonoverlapping(from.add(i * from_stride), to.add(i * to_stride), columns) };
        }
    };
    let Operands { c, c_stride, onto, .. } = operands;
    if !whole && onto != Onto::Replace {
        // SAFETY: as above; lanes beyond the columns get values that no column sees.
        unsafe { place.write_bytes(0, rows * stride) };
        copy(c, c_stride, place, stride);
    }
    let to = if whole { operands } else { Operands { c: place, c_stride: stride, ..operands } };
    // SAFETY: promised by the caller, or by the size of the buffer.
    unsafe { pick::<L>(rows, vectors, to) };
    if !whole {
        copy(place, stride, c, c_stride);
    }
}

/// Picks the tile compiled for these sizes.
///
/// # Safety
/// As [`multiply`], with `vectors` whole vectors of columns.
#[inline(always)]
unsafe fn pick<L: Lanes>(rows: usize, vectors: usize, operands: Operands) {
    macro_rules! pick {
        ($($n:literal)*) => {
            match (rows, vectors) {
                // SAFETY: promised by the caller.
                $(($n, 1) if const { $n <= L::TILE_ROWS } => unsafe { tile::<L, $n, 1>(operands) },)*
                // SAFETY: promised by the caller.
                $(($n, 2) if const { $n <= L::TILE_ROWS } => unsafe { tile::<L, $n, 2>(operands) },)*
                _ => unreachable!("a tile has at most {MOST_ROWS} rows and two vectors"),
            }
        };
    }
    pick!(1 2 3 4 5 6 7 8 9 10 11 12);
}

/// Which rows of a tile take part in a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::cpu) enum Triangle {
    /// In step `p` those after row `p`: each row has one step more than the one before it.
    After,
    /// In step `p` those up to row `p`: each row has one step less.
    UpTo,
}

/// `c[i] = fma(a[p][i], b[p], c[i])` for `p` ascending, for the rows that take part in each step.
///
/// # Safety
/// As [`multiply`], with `VECTORS` whole vectors of columns.
#[inline(always)]
pub(in crate::cpu) unsafe fn multiply_triangle<L: Lanes, const VECTORS: usize>(
    rows: usize,
    triangle: Triangle,
    operands: Operands,
) {
    let Operands { depth, a, a_row, a_step, b, b_stride, c, c_stride, .. } = operands;
    // One tile for any number of rows, with a branch for each: that costs less than a call for each row.
    let mut acc = [[L::splat(0.0); VECTORS]; MOST_ROWS];
    for (i, acc) in acc.iter_mut().enumerate().take(L::TILE_ROWS) {
        for (v, acc) in acc.iter_mut().enumerate() {
            if i < rows {
                // SAFETY: promised by the caller.
                *acc = unsafe { L::load(c.add(i * c_stride + v * L::WIDTH)) };
            }
        }
    }
    for p in 0..depth {
        let mut row = [L::splat(0.0); VECTORS];
        for (v, row) in row.iter_mut().enumerate() {
            // SAFETY: promised by the caller.
            *row = unsafe { L::load(b.add(p * b_stride + v * L::WIDTH)) };
        }
        let (first, end) = match triangle {
            Triangle::After => (p + 1, rows),
            Triangle::UpTo => (0, rows.min(p + 1)),
        };
        for (i, acc) in acc.iter_mut().enumerate().take(L::TILE_ROWS) {
            if first <= i && i < end {
                // SAFETY: promised by the caller.
                let x = L::splat(unsafe { *a.add(i * a_row + p * a_step) });
                for (row, acc) in row.iter().zip(acc) {
                    *acc = x.fma(*row, *acc);
                }
            }
        }
    }
    for (i, acc) in acc.iter().enumerate().take(L::TILE_ROWS) {
        for (v, acc) in acc.iter().enumerate() {
            if i < rows {
                // SAFETY: promised by the caller.
                unsafe { acc.store(c.add(i * c_stride + v * L::WIDTH)) };
            }
        }
    }
}

/// # Safety
/// As [`pick`].
#[inline(always)]
unsafe fn tile<L: Lanes, const ROWS: usize, const VECTORS: usize>(operands: Operands) {
    let Operands { depth, a, a_row, a_step, b, b_stride, c, c_stride, onto } = operands;
    let mut acc = [[L::splat(0.0); VECTORS]; ROWS];
    if onto == Onto::Resume {
        for (i, acc) in acc.iter_mut().enumerate() {
            for (v, acc) in acc.iter_mut().enumerate() {
                // SAFETY: promised by the caller.
                *acc = unsafe { L::load(c.add(i * c_stride + v * L::WIDTH)) };
            }
        }
    }
    for p in 0..depth {
        let mut row = [L::splat(0.0); VECTORS];
        for (v, row) in row.iter_mut().enumerate() {
            if v * L::WIDTH % LINE == 0 {
                prefetch(b.wrapping_add((p + STEPS_AHEAD) * b_stride + v * L::WIDTH));
            }
            // SAFETY: promised by the caller.
            *row = unsafe { L::load(b.add(p * b_stride + v * L::WIDTH)) };
        }
        for (i, acc) in acc.iter_mut().enumerate() {
            // SAFETY: promised by the caller.
            let x = L::splat(unsafe { *a.add(i * a_row + p * a_step) });
            for (row, acc) in row.iter().zip(acc) {
                *acc = x.fma(*row, *acc);
            }
        }
    }
    for (i, acc) in acc.iter().enumerate() {
        for (v, acc) in acc.iter().enumerate() {
            // SAFETY: promised by the caller.
            unsafe {
                let c = c.add(i * c_stride + v * L::WIDTH);
                match onto {
                    Onto::AddScaled(scale) => L::splat(scale).fma(*acc, L::load(c)).store(c),
                    Onto::Replace | Onto::Resume => acc.store(c),
                }
            }
        }
    }
}
