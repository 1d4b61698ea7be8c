//! The inner loop of the tool: a tile of outputs in registers.

use std::hint::black_box;
use std::mem::MaybeUninit;

use crate::lanes::{LINE, Lanes, prefetch, prefetch_second};

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

/// What a processor is asked for while it multiplies a tile: a few lines at a time, for it waits for a burst of them as it
/// would for the values themselves.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Ahead {
    /// Whether the tile's own `a`, whose steps lie in order, is read for the first time.
    pub(in crate::cpu) own: bool,
    /// Two rows of the next tile's `a`. Always two: with a loop over as many as are needed the head was 2 % slower.
    pub(in crate::cpu) next: [*const f32; 2],
    /// The outputs that come next, and what they are added to: the first row of each, and how far apart rows are. They are
    /// asked for in the end, or rows of `b` would displace them again.
    pub(in crate::cpu) outputs: [(*const f32, usize); 2],
    /// How many rows of outputs there are.
    pub(in crate::cpu) rows: usize,
}

impl Ahead {
    /// Asks for what belongs to the steps of a tile from `first` on, a multiple of [`LINE`].
    #[inline(always)]
    fn ask(&self, tile: &Operands, first: usize, tile_rows: usize, columns: usize) {
        if self.own {
            (0..tile_rows).for_each(|i| prefetch(tile.a.wrapping_add(i * tile.a_row + first + 2 * LINE)));
        }
        self.next.iter().for_each(|row| prefetch_second(row.wrapping_add(first)));
        let row = (first / LINE + self.rows).checked_sub(tile.depth.div_ceil(LINE).max(self.rows));
        if let Some(row) = row {
            for (output, stride) in self.outputs {
                let at = output.wrapping_add(row * stride);
                (0..columns).step_by(LINE).for_each(|v| prefetch(at.wrapping_add(v)));
            }
        }
    }
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
pub(in crate::cpu) unsafe fn multiply<L: Lanes>(rows: usize, columns: usize, operands: Operands, ahead: Option<Ahead>) {
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
    unsafe { pick::<L>(rows, vectors, to, ahead) };
    if !whole {
        copy(place, stride, c, c_stride);
    }
}

/// Picks the tile compiled for these sizes.
///
/// # Safety
/// As [`multiply`], with `vectors` whole vectors of columns.
#[inline(always)]
unsafe fn pick<L: Lanes>(rows: usize, vectors: usize, operands: Operands, ahead: Option<Ahead>) {
    macro_rules! pick {
        ($($n:literal)*) => {
            match (rows, vectors) {
                // SAFETY: promised by the caller.
                $(($n, 1) if const { $n <= L::TILE_ROWS } => unsafe { tile::<L, $n, 1>(operands, ahead) },)*
                // SAFETY: promised by the caller.
                $(($n, 2) if const { $n <= L::TILE_ROWS } => unsafe { tile::<L, $n, 2>(operands, ahead) },)*
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
unsafe fn tile<L: Lanes, const ROWS: usize, const VECTORS: usize>(operands: Operands, ahead: Option<Ahead>) {
    let Operands { depth, c, c_stride, onto, .. } = operands;
    let mut acc = [[L::splat(0.0); VECTORS]; ROWS];
    if onto == Onto::Resume {
        for (i, acc) in acc.iter_mut().enumerate() {
            for (v, acc) in acc.iter_mut().enumerate() {
                // SAFETY: promised by the caller.
                *acc = unsafe { L::load(c.add(i * c_stride + v * L::WIDTH)) };
            }
        }
    }
    // Steps of narrower vectors are so short that asking costs more than it brings: with AVX2 a training step took 8 % longer.
    match ahead.filter(|_| L::WIDTH >= LINE) {
        None => {
            for p in 0..depth {
                // SAFETY: promised by the caller.
                unsafe { step(&mut acc, &operands, p) };
            }
        }
        Some(ahead) => {
            for first in (0..depth).step_by(LINE) {
                ahead.ask(&operands, first, ROWS, VECTORS * L::WIDTH);
                // As values of their own, distances stay in registers throughout these steps. The compiler may otherwise
                // read one from memory for each row, and a step takes a third longer.
                let [a_row, a_step, b_stride] = black_box([operands.a_row, operands.a_step, operands.b_stride]);
                let operands = Operands { a_row, a_step, b_stride, ..operands };
                for p in first..(first + LINE).min(depth) {
                    // SAFETY: promised by the caller.
                    unsafe { step(&mut acc, &operands, p) };
                }
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

/// Step `p` of a tile's chains.
///
/// # Safety
/// As [`pick`], with `p` below the depth.
#[inline(always)]
unsafe fn step<L: Lanes, const ROWS: usize, const VECTORS: usize>(
    acc: &mut [[L; VECTORS]; ROWS],
    &Operands { a, a_row, a_step, b, b_stride, .. }: &Operands,
    p: usize,
) {
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
