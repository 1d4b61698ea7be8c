//! Every matrix product: `c[i, j] = chain over p of a[i, p] · b[p, j]`, for operands of any strides.
//!
//! Vector lanes run over `j`; a register tile holds some rows `i` and two vectors of lanes. `b` is packed once into panels
//! `[panel][p][lanes]`, `a` tile by tile into `[p][rows]`, so that the inner loop reads both in order. Blocking over `p`
//! only parks the accumulators in memory: the chain over `p` is never broken.

#![expect(unsafe_code, reason = "the inner loop of the whole tool reads and writes through pointers")]

use rayon::prelude::*;

use super::{Level, Shared, dispatch};
use crate::lanes::Lanes;

/// A matrix in memory, element `(i, j)` at `i · rows + j · columns`.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    data: &'a [f32],
    row_stride: usize,
    column_stride: usize,
}

impl<'a> View<'a> {
    /// Row-major: rows of `columns` elements.
    #[must_use]
    pub fn rows(data: &'a [f32], columns: usize) -> Self {
        Self { data, row_stride: columns, column_stride: 1 }
    }

    /// A matrix whose rows start `row_stride` elements apart.
    #[must_use]
    pub fn strided(data: &'a [f32], row_stride: usize) -> Self {
        Self { data, row_stride, column_stride: 1 }
    }

    /// The same memory, rows and columns exchanged.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self { data: self.data, row_stride: self.column_stride, column_stride: self.row_stride }
    }

    #[inline(always)]
    fn at(&self, i: usize, j: usize) -> f32 {
        self.data[i * self.row_stride + j * self.column_stride]
    }
}

/// Where a product goes: element `(i, j)` at `i · row_stride + j · column_stride`.
#[derive(Debug)]
pub struct Output<'a> {
    data: &'a mut [f32],
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Output<'a> {
    /// Row-major with rows `row_stride` apart.
    pub fn rows(data: &'a mut [f32], row_stride: usize) -> Self {
        Self { data, row_stride, column_stride: 1 }
    }

    /// `c` transposed: element `(i, j)` at `j · row_stride + i`.
    pub fn transposed(data: &'a mut [f32], row_stride: usize) -> Self {
        Self { data, row_stride: 1, column_stride: row_stride }
    }
}

/// Sizes of a product: `c` is `[i, j]`, the chains have `depth` steps.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Rows of `a` and `c`.
    pub i: usize,
    /// Columns of `b` and `c`.
    pub j: usize,
    /// Length of every chain.
    pub depth: usize,
}

/// Chains are walked in blocks of this many steps, so that a tile of `a` stays in the first cache.
const DEPTH_BLOCK: usize = 512;
/// Panels of `b` that one task walks with the same tile of `a`.
const PANEL_GROUP: usize = 8;
/// Below this many multiply-adds a product runs on the calling thread.
const SERIAL_WORK: usize = 1 << 16;

/// Writes `a · b` to `c`.
///
/// # Panics
/// If an operand is smaller than the size says, or places of the output coincide.
pub fn product(level: Level, size: Size, a: View<'_>, b: View<'_>, c: Output<'_>) {
    if size.i == 0 || size.j == 0 {
        return;
    }
    let last = |rows: usize, columns: usize, r: usize, s: usize| {
        let place = |n: usize, stride: usize| (n - 1).checked_mul(stride).expect("a place in memory");
        place(rows, r).checked_add(place(columns, s)).expect("a place in memory")
    };
    let disjoint = (c.column_stride == 1 && c.row_stride >= size.j) || (c.row_stride == 1 && c.column_stride >= size.i);
    assert!(disjoint || (size.i == 1 && size.j == 1), "every element of the output has a place of its own");
    assert!(last(size.i, size.j, c.row_stride, c.column_stride) < c.data.len(), "the output holds every element");
    if size.depth > 0 {
        assert!(last(size.i, size.depth, a.row_stride, a.column_stride) < a.data.len(), "a holds every element");
        assert!(last(size.depth, size.j, b.row_stride, b.column_stride) < b.data.len(), "b holds every element");
    }
    dispatch!(level, L => packed::<L>(level, size, a, b, c));
}

/// Packs `b` and hands out tasks.
#[inline(always)]
fn packed<L: Lanes>(level: Level, size: Size, a: View<'_>, b: View<'_>, c: Output<'_>) {
    let lanes = 2 * L::WIDTH;
    let panels = size.j.div_ceil(lanes);
    let panel_len = size.depth * lanes;
    let serial = size.i * size.j * size.depth <= SERIAL_WORK;
    let mut buffer = vec![0.0_f32; panels * panel_len];
    let pack = |(panel, out): (usize, &mut [f32])| {
        pack_panel(b, panel * lanes, (size.j - panel * lanes).min(lanes), lanes, out)
    };
    if serial || panel_len == 0 {
        buffer.chunks_mut(panel_len.max(1)).enumerate().for_each(pack);
    } else {
        buffer.par_chunks_mut(panel_len).enumerate().for_each(pack);
    }
    let tiles = size.i.div_ceil(L::TILE_ROWS);
    let groups = panels.div_ceil(PANEL_GROUP);
    let (row_stride, column_stride) = (c.row_stride, c.column_stride);
    let shared = Shared::new(c.data);
    let task = |index: usize| {
        let (tile, group) = (index / groups, index % groups);
        let target = Target { pointer: shared, row_stride, column_stride };
        let panels = group * PANEL_GROUP..((group + 1) * PANEL_GROUP).min(panels);
        dispatch!(level, T => tile_by_group::<T>(size, a, &buffer, panels.clone(), tile, target));
    };
    if serial {
        (0..tiles * groups).for_each(task);
    } else {
        (0..tiles * groups).into_par_iter().for_each(task);
    }
}

/// Copies columns `first..first + count` of `b` to `out: [depth][lanes]`, zeros beyond `count`.
#[inline(always)]
fn pack_panel(b: View<'_>, first: usize, count: usize, lanes: usize, out: &mut [f32]) {
    if b.column_stride == 1 {
        for (p, out) in out.chunks_exact_mut(lanes).enumerate() {
            out[..count].copy_from_slice(&b.data[p * b.row_stride + first..][..count]);
        }
    } else {
        for j in 0..count {
            for (p, out) in out.chunks_exact_mut(lanes).enumerate() {
                out[j] = b.at(p, first + j);
            }
        }
    }
}

/// Where a task writes.
#[derive(Clone, Copy)]
struct Target {
    pointer: Shared,
    row_stride: usize,
    column_stride: usize,
}

/// One tile of rows against a group of panels.
#[inline(always)]
fn tile_by_group<L: Lanes>(
    size: Size,
    a: View<'_>,
    panels: &[f32],
    group: std::ops::Range<usize>,
    tile: usize,
    target: Target,
) {
    let lanes = 2 * L::WIDTH;
    let first = tile * L::TILE_ROWS;
    let rows = (size.i - first).min(L::TILE_ROWS);
    // Largest tile: 12 rows; largest panel: 32 lanes.
    let mut a_tile = [0.0_f32; 12 * DEPTH_BLOCK];
    let mut parked = [0.0_f32; 12 * 32 * PANEL_GROUP];
    let tile_len = rows * lanes;
    let mut start = 0;
    while start < size.depth {
        let depth = (size.depth - start).min(DEPTH_BLOCK);
        for (p, out) in a_tile[..depth * rows].chunks_exact_mut(rows).enumerate() {
            for (i, out) in out.iter_mut().enumerate() {
                *out = a.at(first + i, start + p);
            }
        }
        for (slot, panel) in group.clone().enumerate() {
            let b = &panels[panel * size.depth * lanes + start * lanes..][..depth * lanes];
            let c = &mut parked[slot * tile_len..][..tile_len];
            tile_of::<L>(rows, depth, &a_tile[..depth * rows], b, c);
        }
        start += depth;
    }
    for (slot, panel) in group.enumerate() {
        let columns = (size.j - panel * lanes).min(lanes);
        let c = &parked[slot * tile_len..][..tile_len];
        // SAFETY: `product` checked that the output holds rows `first..first + rows` and these columns, and every
        // (tile, panel) pair belongs to one task.
        unsafe { write_tile(c, lanes, rows, columns, first, panel * lanes, target) };
    }
}

/// Copies a tile to its place.
///
/// # Safety
/// The target must hold the tile's elements, and no other task may write them.
#[inline(always)]
unsafe fn write_tile(
    c: &[f32],
    lanes: usize,
    rows: usize,
    columns: usize,
    first_row: usize,
    first_column: usize,
    target: Target,
) {
    let place = |i: usize, j: usize| (first_row + i) * target.row_stride + (first_column + j) * target.column_stride;
    if target.column_stride == 1 {
        for i in 0..rows {
            // SAFETY: promised by the caller.
            unsafe {
                std::ptr::copy_nonoverlapping(c[i * lanes..].as_ptr(), target.pointer.get().add(place(i, 0)), columns)
            };
        }
    } else {
        for j in 0..columns {
            for i in 0..rows {
                // SAFETY: promised by the caller.
                unsafe { *target.pointer.get().add(place(i, j)) = c[i * lanes + j] };
            }
        }
    }
}

/// Picks the register tile for `rows`.
#[inline(always)]
fn tile_of<L: Lanes>(rows: usize, depth: usize, a: &[f32], b: &[f32], c: &mut [f32]) {
    debug_assert!(
        a.len() == depth * rows && b.len() == depth * 2 * L::WIDTH && c.len() == rows * 2 * L::WIDTH,
        "tile operands"
    );
    macro_rules! pick {
        ($($n:literal)*) => {
            match rows {
                // SAFETY: the slices were cut to exactly these sizes by the caller.
                $($n => unsafe { tile::<L, $n>(depth, a.as_ptr(), b.as_ptr(), c.as_mut_ptr()) },)*
                _ => unreachable!("a tile has at most TILE_ROWS rows"),
            }
        };
    }
    pick!(1 2 3 4 5 6 7 8 9 10 11 12);
}

/// The register tile: `c[i] = fma(a[p][i], b[p], c[i])` for `p` ascending, over two vectors of lanes.
///
/// # Safety
/// `a` holds `depth × ROWS` values, `b` `depth × 2 · WIDTH`, `c` `ROWS × 2 · WIDTH`.
#[inline(always)]
unsafe fn tile<L: Lanes, const ROWS: usize>(depth: usize, a: *const f32, b: *const f32, c: *mut f32) {
    let w = L::WIDTH;
    // SAFETY (all pointer uses below): offsets stay below the sizes that the caller promises.
    let mut acc: [[L; 2]; ROWS] = std::array::from_fn(|i| {
        // SAFETY: see above.
        unsafe { [L::load(c.add(2 * i * w)), L::load(c.add(2 * i * w + w))] }
    });
    for p in 0..depth {
        // SAFETY: see above.
        let (b0, b1) = unsafe { (L::load(b.add(2 * p * w)), L::load(b.add(2 * p * w + w))) };
        for (i, acc) in acc.iter_mut().enumerate() {
            // SAFETY: see above.
            let x = L::splat(unsafe { *a.add(p * ROWS + i) });
            acc[0] = x.fma(b0, acc[0]);
            acc[1] = x.fma(b1, acc[1]);
        }
    }
    for (i, acc) in acc.iter().enumerate() {
        // SAFETY: see above.
        unsafe {
            acc[0].store(c.add(2 * i * w));
            acc[1].store(c.add(2 * i * w + w));
        }
    }
}
