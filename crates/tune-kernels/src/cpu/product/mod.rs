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
use self::tile::Into;
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

/// One of several products with the same `a`.
#[derive(Debug)]
pub struct Output<'a> {
    /// Columns of `b` and `c`.
    pub j: usize,
    /// The right operand, `[depth, j]`.
    pub b: View<'a>,
    /// The result, `[i, j]`, rows `stride` elements apart.
    pub c: &'a mut [f32],
    /// Elements from one row of `c` to the next.
    pub stride: usize,
    /// `c = fma(scale, product, c)` instead of `c = product`.
    pub add_scaled: Option<f32>,
}

/// Longest block of a chain: a tile of `a` of this depth stays in the first cache.
const DEPTH_BLOCK: usize = 640;
/// Values of a block of packed panels: 512 KiB, half of a usual second cache.
const GROUP_VALUES: usize = 1 << 17;
/// Below this many multiply-adds a product runs on the calling thread.
const SERIAL_WORK: usize = 1 << 16;
/// With at most this many tiles of rows, a panel that lies in order is read in place: packing it would cost more.
const TILES_IN_PLACE: usize = 2;

/// One product of a call.
struct Part<'a> {
    j: usize,
    /// Columns of a panel.
    lanes: usize,
    b: View<'a>,
    c: Shared,
    stride: usize,
    add_scaled: Option<f32>,
}

/// Columns of one part that fit a panel.
#[derive(Clone)]
struct Panel {
    part: usize,
    columns: Range<usize>,
}

/// How products of the same `a` are cut into blocks and tasks.
struct Plan<'a> {
    i: usize,
    depth: usize,
    parts: Vec<Part<'a>>,
    /// Those of all parts: a packed tile of `a` is read once for all of them.
    panels: Vec<Panel>,
    tiles: usize,
    /// Rows of a tile; the last one may have fewer.
    tile_rows: usize,
    /// Steps of a block of the chains; the last one may be shorter.
    block: usize,
    /// Values that a packed tile takes, all its blocks.
    tile_len: usize,
    /// Tasks over panels, and over tiles.
    tasks: [usize; 2],
}

impl<'a> Plan<'a> {
    #[inline(always)]
    fn new<L: Lanes, const N: usize>(i: usize, depth: usize, outputs: [Output<'a>; N]) -> Self {
        // As many tiles as the rows ask for, and the rows shared out evenly among them.
        let tiles = i.div_ceil(L::TILE_ROWS);
        let tile_rows = i.div_ceil(tiles);
        // What is added to the output is a whole chain, so it cannot be parked there.
        let whole = outputs.iter().any(|output| output.add_scaled.is_some());
        let block = if whole { depth } else { depth.div_ceil(depth.div_ceil(DEPTH_BLOCK)) };
        let (mut parts, mut panels) = (Vec::with_capacity(N), Vec::new());
        for Output { j, b, c, stride, add_scaled } in outputs {
            let lanes = if j <= L::WIDTH { L::WIDTH } else { 2 * L::WIDTH };
            for start in (0..j).step_by(lanes) {
                panels.push(Panel { part: parts.len(), columns: start..(start + lanes).min(j) });
            }
            parts.push(Part { j, lanes, b, c: Shared::new(c), stride, add_scaled });
        }
        let columns: usize = parts.iter().map(|part| part.j).sum();
        let threads = if i * columns * depth <= SERIAL_WORK { 1 } else { rayon::current_num_threads() };
        let group = (GROUP_VALUES / (block * 2 * L::WIDTH)).max(1);
        // Whole rounds for all threads; where there are too few panels for that, the tiles are shared out as well.
        let over_panels = panels.len().div_ceil(group).next_multiple_of(threads).min(panels.len());
        let over_tiles = if over_panels == 0 { 0 } else { threads.div_ceil(over_panels).min(tiles) };
        // Every block is packed with room for a vector after it.
        let tile_len = depth * tile_rows + depth.div_ceil(block) * L::WIDTH;
        Self { i, depth, parts, panels, tiles, tile_rows, block, tile_len, tasks: [over_panels, over_tiles] }
    }

    /// Part `index` of `parts` even parts of `0..count`.
    fn part(count: usize, index: usize, parts: usize) -> Range<usize> {
        index * count / parts..(index + 1) * count / parts
    }

    fn rows(&self, tile: usize) -> Range<usize> {
        tile * self.tile_rows..((tile + 1) * self.tile_rows).min(self.i)
    }

    /// The blocks of the chains, and where each lies in a packed tile of `L`.
    #[inline(always)]
    fn blocks<L: Lanes>(&self) -> impl Iterator<Item = (Range<usize>, usize)> + use<L> {
        let (block, depth, tile_rows) = (self.block, self.depth, self.tile_rows);
        (0..depth)
            .step_by(block)
            .enumerate()
            .map(move |(n, start)| (start..(start + block).min(depth), start * tile_rows + n * L::WIDTH))
    }
}

/// Writes `a · b` to `c`, whose rows start `stride` elements apart.
///
/// # Panics
/// If an operand is smaller than the size says, or rows of the output overlap.
pub fn product(level: Level, size: Size, a: View<'_>, b: View<'_>, c: &mut [f32], stride: usize) {
    products(level, size.i, size.depth, a, [Output { j: size.j, b, c, stride, add_scaled: None }]);
}

/// Several products of `a`, `[i, depth]`, which is packed once for all of them.
///
/// # Panics
/// If an operand is smaller than the sizes say, or rows of an output overlap.
pub fn products<const N: usize>(level: Level, i: usize, depth: usize, a: View<'_>, outputs: [Output<'_>; N]) {
    for Output { j, b, c, stride, .. } in &outputs {
        assert!(stride >= j || i <= 1, "every element of the output has a place of its own");
        assert!(View::rows(c, *stride).holds(i, *j), "the output holds every element");
        assert!(b.holds(depth, *j), "b holds every element");
    }
    assert!(a.holds(i, depth), "a holds every element");
    if i > 0 && depth > 0 {
        dispatch!(level, L => run::<L>(level, &Plan::new::<L, N>(i, depth, outputs), a));
        return;
    }
    for Output { j, c, stride, add_scaled, .. } in outputs {
        if add_scaled.is_none() {
            (0..i).for_each(|i| c[i * stride..][..j].fill(0.0));
        }
    }
}

/// Packs `a` and hands out tasks.
#[inline(always)]
fn run<L: Lanes>(level: Level, plan: &Plan<'_>, a: View<'_>) {
    let [over_panels, over_tiles] = plan.tasks;
    let task = |packed: &[f32], index: usize| {
        let panels = Plan::part(plan.panels.len(), index % over_panels, over_panels);
        let tiles = Plan::part(plan.tiles, index / over_panels, over_tiles);
        // A task may run on another thread, outside the code that was compiled for the level.
        dispatch!(level, T => group::<T>(plan, packed, panels.clone(), tiles.clone()));
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
fn pack_tile<L: Lanes>(plan: &Plan<'_>, a: View<'_>, tile: usize, out: &mut [f32]) {
    for (steps, at) in plan.blocks::<L>() {
        pack::tile::<L>(a, plan.rows(tile), steps, &mut out[at..]);
    }
}

/// One task: some tiles against some panels.
#[inline(always)]
fn group<L: Lanes>(plan: &Plan<'_>, packed: &[f32], panels: Range<usize>, tiles: Range<usize>) {
    let panels = &plan.panels[panels];
    let panel_len = plan.block * 2 * L::WIDTH;
    let in_place = |panel: &Panel| {
        let part = &plan.parts[panel.part];
        part.b.column_stride == 1 && tiles.len() <= TILES_IN_PLACE && panel.columns.len() == part.lanes
    };
    let packs = !panels.iter().all(in_place);
    let mut scratch = Scratch::take(if packs { panels.len() * panel_len } else { 0 });
    let buffer = scratch.values();
    for (steps, at) in plan.blocks::<L>() {
        if packs {
            for (panel, out) in panels.iter().zip(buffer.chunks_exact_mut(panel_len)) {
                let part = &plan.parts[panel.part];
                pack::panel::<L>(part.b, panel.columns.clone(), steps.clone(), part.lanes, out);
            }
        }
        for tile in tiles.clone() {
            let rows = plan.rows(tile);
            let a = &packed[tile * plan.tile_len + at..][..rows.len() * steps.len()];
            for (slot, Panel { part, columns }) in panels.iter().enumerate() {
                let part = &plan.parts[*part];
                let (b, b_stride) = if packs {
                    (&buffer[slot * panel_len..][..steps.len() * part.lanes], part.lanes)
                } else {
                    (&part.b.data[steps.start * part.b.row_stride + columns.start..], part.b.row_stride)
                };
                let into = match part.add_scaled {
                    Some(scale) => Into::AddScaled(scale),
                    None if steps.start > 0 => Into::Resume,
                    None => Into::Replace,
                };
                // SAFETY: `products` checked that `b` and the output hold every element. A panel that is read in
                // place fills its vectors, and each pair of tile and panel belongs to one task.
                unsafe {
                    let operands = tile::Operands {
                        depth: steps.len(),
                        a: a.as_ptr(),
                        a_stride: rows.len(),
                        b: b.as_ptr(),
                        b_stride,
                        c: part.c.get().add(rows.start * part.stride + columns.start),
                        c_stride: part.stride,
                        into,
                    };
                    tile::multiply::<L>(rows.len(), columns.len(), operands);
                }
            }
        }
    }
}
