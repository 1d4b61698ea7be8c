//! Every matrix product: `c[i, j] = chain over p of a[i, p] · b[p, j]`.
//!
//! Lanes run over `j`, which lies in order in `c`; a register tile holds some rows `i` and two vectors of lanes. `a` is
//! packed once into tiles `[p][rows]`. A task takes a group of panels, packs its part of `b` into `[p][lanes]` and walks
//! all tiles with it. Blocking over `p` only parks the accumulators in `c`: the chain over `p` is never broken.
//!
//! The scheme is that of Goto and van de Geijn, *Anatomy of High-Performance Matrix Multiplication* (2008).

#![expect(unsafe_code, reason = "the inner loop of the whole tool reads and writes through pointers")]

pub(super) mod pack;
mod scratch;
pub(super) mod tile;

use std::ops::Range;

use rayon::prelude::*;

use self::scratch::Scratch;
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

    /// Whether an element of every place within `rows` by `columns` is there.
    fn holds(&self, rows: usize, columns: usize) -> bool {
        let place = |n: usize, stride: usize| (n - 1).checked_mul(stride);
        rows == 0
            || columns == 0
            || place(rows, self.row_stride)
                .zip(place(columns, self.column_stride))
                .and_then(|(row, column)| row.checked_add(column))
                .is_some_and(|last| last < self.data.len())
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

/// Longest block of a chain: a tile of `a` of this depth stays in the first cache.
const DEPTH_BLOCK: usize = 640;
/// Values of a block of packed panels: 512 KiB, half of a usual second cache.
const GROUP_VALUES: usize = 1 << 17;
/// Below this many multiply-adds a product runs on the calling thread.
const SERIAL_WORK: usize = 1 << 16;
/// With at most this many tiles of rows, a panel that lies in order is read in place: packing it would cost more.
const TILES_IN_PLACE: usize = 2;

/// How a product is cut into blocks and tasks.
struct Plan {
    size: Size,
    /// Rows of a tile.
    tile_rows: usize,
    /// Columns of a panel.
    lanes: usize,
    tiles: usize,
    panels: usize,
    /// Steps of a block of the chains; the last one may be shorter.
    block: usize,
    /// Values that a packed tile takes, all its blocks.
    tile_len: usize,
    /// Tasks over panels, and over tiles.
    tasks: [usize; 2],
}

impl Plan {
    #[inline(always)]
    fn new<L: Lanes>(size: Size) -> Self {
        let lanes = if size.j <= L::WIDTH { L::WIDTH } else { 2 * L::WIDTH };
        let (tiles, panels) = (size.i.div_ceil(L::TILE_ROWS), size.j.div_ceil(lanes));
        let block = size.depth.div_ceil(size.depth.div_ceil(DEPTH_BLOCK).max(1)).max(1);
        let threads = if size.i * size.j * size.depth <= SERIAL_WORK { 1 } else { rayon::current_num_threads() };
        let group = (GROUP_VALUES / (block * lanes)).max(1);
        // Whole rounds for all threads; where there are too few panels for that, the tiles are shared out as well.
        let over_panels = panels.div_ceil(group).next_multiple_of(threads).min(panels);
        let over_tiles = threads.div_ceil(over_panels).min(tiles);
        // Every block is packed with room for a vector after it.
        let tile_len = size.depth * L::TILE_ROWS + size.depth.div_ceil(block) * L::WIDTH;
        Self { size, tile_rows: L::TILE_ROWS, lanes, tiles, panels, block, tile_len, tasks: [over_panels, over_tiles] }
    }

    /// Part `index` of `parts` even parts of `0..count`.
    fn part(count: usize, index: usize, parts: usize) -> Range<usize> {
        index * count / parts..(index + 1) * count / parts
    }

    fn rows(&self, tile: usize) -> Range<usize> {
        tile * self.tile_rows..((tile + 1) * self.tile_rows).min(self.size.i)
    }

    fn columns(&self, panel: usize) -> Range<usize> {
        panel * self.lanes..((panel + 1) * self.lanes).min(self.size.j)
    }

    /// The blocks of the chains, and where each lies in a packed tile of `L`.
    #[inline(always)]
    fn blocks<L: Lanes>(&self) -> impl Iterator<Item = (Range<usize>, usize)> + use<L> {
        let (block, depth) = (self.block, self.size.depth);
        (0..depth)
            .step_by(block)
            .enumerate()
            .map(move |(n, start)| (start..(start + block).min(depth), start * L::TILE_ROWS + n * L::WIDTH))
    }
}

/// Writes `a · b` to `c`, whose rows start `stride` elements apart.
///
/// # Panics
/// If an operand is smaller than the size says, or rows of the output overlap.
pub fn product(level: Level, size: Size, a: View<'_>, b: View<'_>, c: &mut [f32], stride: usize) {
    if size.i == 0 || size.j == 0 {
        return;
    }
    assert!(stride >= size.j || size.i == 1, "every element of the output has a place of its own");
    assert!(View::rows(c, stride).holds(size.i, size.j), "the output holds every element");
    assert!(a.holds(size.i, size.depth), "a holds every element");
    assert!(b.holds(size.depth, size.j), "b holds every element");
    if size.depth == 0 {
        (0..size.i).for_each(|i| c[i * stride..][..size.j].fill(0.0));
        return;
    }
    dispatch!(level, L => run::<L>(level, &Plan::new::<L>(size), a, b, Shared::new(c), stride));
}

/// Packs `a` and hands out tasks.
#[inline(always)]
fn run<L: Lanes>(level: Level, plan: &Plan, a: View<'_>, b: View<'_>, c: Shared, stride: usize) {
    let [over_panels, over_tiles] = plan.tasks;
    let task = |packed: &[f32], index: usize| {
        let panels = Plan::part(plan.panels, index % over_panels, over_panels);
        let tiles = Plan::part(plan.tiles, index / over_panels, over_tiles);
        // A task may run on another thread, outside the code that was compiled for the level.
        dispatch!(level, T => group::<T>(plan, packed, b, c, stride, panels.clone(), tiles.clone()));
    };
    let mut scratch = Scratch::take(plan.tiles * plan.tile_len);
    let packed = scratch.values();
    let tasks = over_panels * over_tiles;
    if tasks == 1 {
        packed.chunks_mut(plan.tile_len).enumerate().for_each(|(tile, out)| pack_tile::<L>(plan, a, tile, out));
        task(packed, 0);
    } else {
        packed
            .par_chunks_mut(plan.tile_len)
            .enumerate()
            .for_each(|(tile, out)| dispatch!(level, T => pack_tile::<T>(plan, a, tile, out)));
        let packed = &*packed;
        (0..tasks).into_par_iter().for_each(|index| task(packed, index));
    }
}

#[inline(always)]
fn pack_tile<L: Lanes>(plan: &Plan, a: View<'_>, tile: usize, out: &mut [f32]) {
    for (steps, at) in plan.blocks::<L>() {
        pack::tile::<L>(a, plan.rows(tile), steps, &mut out[at..]);
    }
}

/// One task: some tiles against some panels.
#[inline(always)]
fn group<L: Lanes>(
    plan: &Plan,
    packed: &[f32],
    b: View<'_>,
    c: Shared,
    stride: usize,
    panels: Range<usize>,
    tiles: Range<usize>,
) {
    let panel_len = plan.block * plan.lanes;
    let whole = plan.columns(panels.end - 1).len() == plan.lanes;
    let in_place = b.column_stride == 1 && tiles.len() <= TILES_IN_PLACE && whole;
    let values = if in_place { 0 } else { panels.len() * panel_len };
    let mut scratch = Scratch::take(values);
    let buffer = scratch.values();
    for (steps, at) in plan.blocks::<L>() {
        if !in_place {
            for (panel, out) in panels.clone().zip(buffer.chunks_exact_mut(panel_len)) {
                pack::panel::<L>(b, plan.columns(panel), steps.clone(), plan.lanes, out);
            }
        }
        for tile in tiles.clone() {
            let rows = plan.rows(tile);
            let a = &packed[tile * plan.tile_len + at..][..rows.len() * steps.len()];
            for (slot, panel) in panels.clone().enumerate() {
                let columns = plan.columns(panel);
                let (b, b_stride) = if in_place {
                    (&b.data[steps.start * b.row_stride + columns.start..], b.row_stride)
                } else {
                    (&buffer[slot * panel_len..][..steps.len() * plan.lanes], plan.lanes)
                };
                // SAFETY: `product` checked that `b` and the output hold every element. A panel that is read in
                // place fills its vectors, and each pair of tile and panel belongs to one task.
                unsafe {
                    let operands = tile::Operands {
                        depth: steps.len(),
                        a: a.as_ptr(),
                        a_stride: rows.len(),
                        b: b.as_ptr(),
                        b_stride,
                        c: c.get().add(rows.start * stride + columns.start),
                        c_stride: stride,
                        resume: steps.start > 0,
                    };
                    tile::multiply::<L>(rows.len(), columns.len(), operands);
                }
            }
        }
    }
}
