//! Every matrix product: `c[i, j] = chain over p of a[i, p] · b[p, j]`, and what a layer adds to it.
//!
//! Lanes run over `j`, which lies in order in `c`; a register tile holds some rows `i` and two vectors of lanes. `a` is
//! read where it lies, unless its rows displace one another in a cache: then it is packed once into tiles `[p][rows]`, for
//! all products of a call. A worker takes a group of panels, packs its part of `b` into `[p][lanes]` and walks all tiles
//! with it; another one that has nothing left may take the last of them (`share`). Blocking over `p` only parks the
//! accumulators in `c`: the chain over `p` is never broken.
//!
//! A low-rank branch `fma(scale, (a · down) · up, ·)` rides along: `a · down` is computed for each tile of `a` before, and
//! its product with `up` is added to a tile of `c` while that is in the first cache.
//!
//! The scheme is that of Goto and van de Geijn, *Anatomy of High-Performance Matrix Multiplication* (2008).

#![expect(unsafe_code, reason = "the inner loop of the whole tool reads and writes through pointers")]

pub(super) mod pack;
mod plan;
pub(super) mod scratch;
mod share;
#[cfg(test)]
mod tests;
pub(super) mod tile;
mod view;

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use self::plan::{Panel, Part, Plan, Rank};
use self::scratch::Scratch;
use self::share::{Piece, Shares};
use self::tile::{Ahead, Onto};
pub(super) use self::view::row_stride;
pub use self::view::{Matrix, View};
use super::cache::Caches;
use super::{Level, Shared, dispatch};
use crate::lanes::Lanes;

/// One of several products with the same `a`.
#[derive(Debug)]
pub struct Output<'a> {
    /// Columns of `b` and `c`.
    pub j: usize,
    /// The right operand, `[depth, j]`.
    pub b: Matrix<'a>,
    /// The result, `[i, j]`; every element of the rows that are asked for is written.
    pub c: &'a mut [MaybeUninit<f32>],
    /// How far apart rows of the result start; what lies between them is not written.
    pub c_stride: usize,
    /// Added to each row of the product: `[j]`.
    pub bias: Option<&'a [f32]>,
    /// The low-rank branch, added after the bias.
    pub branch: Option<LowRank<'a>>,
    /// What the whole is added to, `[i, j]`.
    pub plus: Option<&'a [f32]>,
}

/// A branch of a product: `fma(scale, middle · up, ·)`.
#[derive(Debug)]
pub struct LowRank<'a> {
    /// The scale.
    pub scale: f32,
    /// Columns of `middle`, rows of `up`.
    pub rank: usize,
    /// Where it is given, `middle` becomes `a · down`: `[depth, rank]`.
    pub down: Option<View<'a>>,
    /// `[i, rank]`
    pub middle: &'a mut [f32],
    /// `[rank, j]`
    pub up: View<'a>,
}

impl<'a> Output<'a> {
    /// A product and nothing else.
    #[must_use]
    pub fn new(j: usize, b: impl Into<Matrix<'a>>, c: &'a mut [MaybeUninit<f32>]) -> Self {
        Self { j, b: b.into(), c, c_stride: j, bias: None, branch: None, plus: None }
    }
}

/// Products of `a`, `[i, depth]`, which is read once for all of them.
///
/// # Panics
/// If an operand is smaller than the sizes say.
pub fn products(level: Level, i: usize, depth: usize, a: View<'_>, outputs: Vec<Output<'_>>) {
    products_of(std::slice::from_ref(&(0..i)), level, [i, depth], a, outputs);
}

/// [`products`] of some rows of `a`, in ascending order; rows of the outputs that are not among them are not written.
///
/// # Panics
/// If an operand is smaller than the sizes say, or rows lie beyond them.
pub(super) fn products_of(
    rows: &[Range<usize>],
    level: Level,
    sizes: [usize; 2],
    a: View<'_>,
    outputs: Vec<Output<'_>>,
) {
    products_within(Caches::here(), rows, level, sizes, a, outputs);
}

/// [`products_of`] on a processor that has these caches.
fn products_within(
    caches: Caches,
    rows: &[Range<usize>],
    level: Level,
    [i, depth]: [usize; 2],
    a: View<'_>,
    outputs: Vec<Output<'_>>,
) {
    assert!(rows.windows(2).all(|pair| pair[0].end <= pair[1].start), "rows follow one another");
    assert!(rows.iter().all(|rows| rows.start <= rows.end), "rows are ranges");
    assert!(rows.last().is_none_or(|last| last.end <= i), "rows lie within the outputs");
    for Output { j, b, c, c_stride, bias, branch, plus } in &outputs {
        assert!(c_stride >= j, "rows of the output do not overlap");
        assert_eq!(c.len(), i * c_stride, "the output holds every element");
        assert!(b.holds(depth, *j), "b holds every element");
        assert!(bias.is_none_or(|bias| bias.len() == *j), "one bias for each column");
        assert!(plus.is_none_or(|plus| plus.len() == i * j), "what is added to has the output's shape");
        if let Some(LowRank { rank, down, middle, up, .. }) = branch {
            assert!(*rank > 0 && depth > 0, "a branch has a rank, and something to be computed from");
            assert_eq!(middle.len(), i * rank, "one row of the middle for each row of the output");
            assert!(up.holds(*rank, *j), "up holds every element");
            assert!(down.is_none_or(|down| down.holds(depth, *rank)), "down holds every element");
        }
    }
    assert!(a.holds(i, depth), "a holds every element");
    if rows.iter().any(|rows| !rows.is_empty()) && outputs.iter().any(|output| output.j > 0) {
        run(level, &dispatch!(level, L => Plan::new::<L>(caches, rows, depth, a, outputs)), a);
    }
}

/// The product `a · b` by itself.
///
/// # Panics
/// If an operand is smaller than the sizes say.
#[must_use]
pub fn product<'a>(level: Level, [i, j, depth]: [usize; 3], a: View<'a>, b: impl Into<Matrix<'a>>) -> Vec<f32> {
    let b = b.into();
    // SAFETY: `products` writes every element of its outputs.
    unsafe { scratch::written(i * j, |c| products(level, i, depth, a, vec![Output::new(j, b, c)])) }
}

/// Packs `a` where that pays, computes the middle of branches, and shares out the work. Each worker enters the code of the
/// level by itself: it may run on another thread, and this function is then compiled once, not once a level.
fn run(level: Level, plan: &Plan<'_>, a: View<'_>) {
    let [over_panels, over_tiles] = plan.tasks;
    let mut downs = Scratch::take(plan.downs_len);
    let downs = downs.values();
    dispatch!(level, L => pack_downs::<L>(plan, downs));
    let downs = &*downs;
    let mut packed = Scratch::take(plan.tiles.len() * plan.tile_len);
    let packed = packed.values();
    let blocks = dispatch!(level, L => plan.blocks::<L>().count());
    let pieces = (0..over_panels * over_tiles).map(|index| {
        let panels = Plan::part(plan.panels.len(), index % over_panels, over_panels);
        let tiles = Plan::part(plan.tiles.len(), index / over_panels, over_tiles);
        Piece::new(panels, tiles, blocks)
    });
    let pieces: Vec<Piece> = pieces.collect();
    let workers = rayon::current_num_threads().min(pieces.len());
    let pack = |(tile, out): (usize, &mut [f32])| dispatch!(level, L => pack_tile::<L>(plan, a, downs, tile, out));
    if workers == 1 || packed.len() <= plan::SERIAL_PACKING {
        packed.chunks_mut(plan.tile_len.max(1)).enumerate().for_each(pack);
    } else {
        packed.par_chunks_mut(plan.tile_len).enumerate().for_each(pack);
    }
    let packed = &*packed;
    let shares = Shares::new(pieces, workers);
    let work = |worker: usize| dispatch!(level, L => work::<L>(plan, a, packed, &shares, worker));
    if workers == 1 {
        work(0);
    } else {
        (0..workers).into_par_iter().with_max_len(1).for_each(work);
    }
}

/// A tile's rows at some steps: where the first value is, and how far apart rows and steps are.
#[derive(Clone, Copy)]
struct TileOfLeft {
    first: *const f32,
    row: usize,
    step: usize,
}

impl TileOfLeft {
    /// Tile `tile` of `a` at a block of steps, which begins at `at` of the tile in `packed`.
    #[inline(always)]
    fn new(plan: &Plan<'_>, a: View<'_>, packed: &[f32], tile: usize, (steps, at): (&Range<usize>, usize)) -> Self {
        let rows = plan.tiles[tile].clone();
        if plan.packs {
            let tile = &packed[at..][..rows.len() * steps.len()];
            Self { first: tile.as_ptr(), row: 1, step: rows.len() }
        } else {
            let first = a.data.as_ptr().wrapping_add(rows.start * a.row_stride + steps.start * a.column_stride);
            Self { first, row: a.row_stride, step: a.column_stride }
        }
    }
}

/// The two rows of the next tile of `a`, which begins at `first`, that are asked for while this one is multiplied by the panel
/// `slot`; the last one where all were asked for before.
fn two_rows(first: *const f32, row: usize, slot: usize, rows: usize) -> [*const f32; 2] {
    [0, 1].map(|n| first.wrapping_add((2 * slot + n).min(rows - 1) * row))
}

/// Packs the `down` of each branch: for each of its panels, the whole depth.
#[inline(always)]
fn pack_downs<L: Lanes>(plan: &Plan<'_>, mut out: &mut [f32]) {
    for part in &plan.parts {
        let Some((rank, down)) = part.rank.as_ref().and_then(|rank| Some((rank, rank.down?))) else { continue };
        for columns in rank.panels::<L>() {
            let lanes = Rank::lanes::<L>(&columns);
            let (panel, rest) = out.split_at_mut(plan.depth * lanes);
            pack::panel::<L>(down, columns, 0..plan.depth, lanes, panel);
            out = rest;
        }
    }
}

/// Packs a tile of `a`, where it is to be packed, and, for each branch, the same rows of its middle.
#[inline(always)]
fn pack_tile<L: Lanes>(plan: &Plan<'_>, a: View<'_>, mut downs: &[f32], tile: usize, out: &mut [f32]) {
    let rows = plan.tiles[tile].clone();
    if plan.packs {
        for (steps, at) in plan.blocks::<L>() {
            pack::tile::<L>(a, rows.clone(), steps, &mut out[at..]);
        }
    }
    let mut panels_done = 0;
    for rank in plan.parts.iter().filter_map(|part| part.rank.as_ref()) {
        // SAFETY: `products` checked that the middle holds every row, and each tile belongs to one task.
        let middle = unsafe {
            std::slice::from_raw_parts_mut(rank.middle.get().add(rows.start * rank.rank), rows.len() * rank.rank)
        };
        if rank.down.is_some() {
            for columns in rank.panels::<L>() {
                let lanes = Rank::lanes::<L>(&columns);
                let (panel, rest) = downs.split_at(plan.depth * lanes);
                downs = rest;
                for (steps, at) in plan.blocks::<L>() {
                    let onto = if steps.start > 0 { Onto::Resume } else { Onto::Replace };
                    let a = TileOfLeft::new(plan, a, out, tile, (&steps, at));
                    let next = a.first.wrapping_add(rows.len() * a.row);
                    let ahead = Ahead {
                        own: panels_done == 0 && a.step == 1,
                        next: two_rows(next, a.row, panels_done, rows.len()),
                        outputs: [(next, 0); 2],
                        rows: 0,
                    };
                    // SAFETY: `products` checked that `a` holds the tile, or it was packed for these sizes, as the panel
                    // was; `middle` holds the columns of each row.
                    unsafe {
                        let operands = tile::Operands {
                            depth: steps.len(),
                            a: a.first,
                            a_row: a.row,
                            a_step: a.step,
                            b: panel[steps.start * lanes..steps.end * lanes].as_ptr(),
                            b_stride: lanes,
                            c: middle[columns.start..].as_mut_ptr(),
                            c_stride: rank.rank,
                            onto,
                        };
                        tile::multiply::<L>(rows.len(), columns.len(), operands, Some(ahead));
                    }
                }
                panels_done += 1;
            }
        }
        pack::tile::<L>(View::rows(middle, rank.rank), 0..rows.len(), 0..rank.rank, &mut out[rank.at..]);
    }
}

/// One worker: piece after piece, as long as there is something left.
#[inline(always)]
fn work<L: Lanes>(plan: &Plan<'_>, a: View<'_>, packed: &[f32], shares: &Shares, worker: usize) {
    let blocks: Vec<_> = plan.blocks::<L>().collect();
    while let Some(piece) = shares.next(worker) {
        let panels = &plan.panels[piece.panels];
        let panel_len = plan.block.max(1) * 2 * L::WIDTH;
        let in_place = plan.few_tiles && panels.iter().all(|panel| plan.lies_in_order(panel));
        let mut buffer = Scratch::take(if in_place { 0 } else { panels.len() * panel_len });
        let buffer = buffer.values();
        let up_len = plan.most_rank * 2 * L::WIDTH;
        let mut ups = Scratch::take(panels.len() * up_len);
        let ups = ups.values();
        if up_len > 0 {
            for (panel, out) in panels.iter().zip(ups.chunks_exact_mut(up_len)) {
                let part = &plan.parts[panel.part];
                if let Some(rank) = &part.rank {
                    pack::panel::<L>(rank.up, panel.columns.clone(), 0..rank.rank, part.lanes, out);
                }
            }
        }
        let mut in_buffer = None;
        while let Some((block, tile)) = shares.take(worker) {
            let (steps, at) = &blocks[block];
            if !in_place && in_buffer != Some(block) {
                pack_panels::<L>(plan, panels, steps, buffer);
                in_buffer = Some(block);
            }
            let packed = &packed[tile * plan.tile_len..][..plan.tile_len];
            let a = TileOfLeft::new(plan, a, packed, tile, (steps, *at));
            let panels = Panels { panels, buffer: (!in_place).then_some(&*buffer), panel_len, ups, up_len };
            tile_of_panels::<L>(plan, a, packed, &panels, steps, tile);
        }
    }
}

/// Some panels, packed or where they lie, and the packed `up` of each.
struct Panels<'a> {
    panels: &'a [Panel],
    /// None where the panels are read in place.
    buffer: Option<&'a [f32]>,
    panel_len: usize,
    ups: &'a [f32],
    up_len: usize,
}

/// A tile of rows against panels, for the steps of a block.
#[inline(always)]
fn tile_of_panels<L: Lanes>(
    plan: &Plan<'_>,
    a: TileOfLeft,
    packed: &[f32],
    &Panels { panels, buffer, panel_len, ups, up_len }: &Panels<'_>,
    steps: &Range<usize>,
    tile: usize,
) {
    // Where a tile of a panel lies in the output.
    let place = |panel: &Panel, row: usize| {
        let part = &plan.parts[panel.part];
        part.c.get().wrapping_add(row * part.c_stride + panel.columns.start)
    };
    let onto = if steps.start > 0 { Onto::Resume } else { Onto::Replace };
    let last = steps.end == plan.depth;
    let rows = plan.tiles[tile].clone();
    // Two rows of the next tile are asked for with each panel. A packed one is read from its first value to its last one, as
    // if it had so many rows.
    let (next_tile, next_row) = if plan.packs { (plan.tile_len, steps.len()) } else { (rows.len() * a.row, a.row) };
    for (slot, panel) in panels.iter().enumerate() {
        let part = &plan.parts[panel.part];
        let (b, b_stride) = match buffer {
            Some(buffer) => (&buffer[slot * panel_len..][..steps.len() * part.lanes], part.lanes),
            None => part.b.in_place(steps.start, panel.columns.start),
        };
        let (panel_after, row_after) = match panels.get(slot + 1) {
            Some(panel) => (panel, rows.start),
            None => (&panels[0], plan.tiles.get(tile + 1).map_or(rows.end, |next| next.start)),
        };
        let after = &plan.parts[panel_after.part];
        let output = (place(panel_after, row_after).cast_const(), after.c_stride);
        let plus = after.plus.filter(|_| last);
        let at = row_after * after.j + panel_after.columns.start;
        let ahead = Ahead {
            own: slot == 0 && a.step == 1,
            next: two_rows(a.first.wrapping_add(next_tile), next_row, slot, rows.len()),
            outputs: [output, plus.map_or(output, |plus| (plus.as_ptr().wrapping_add(at), after.j))],
            rows: rows.len(),
        };
        // SAFETY: `products` checked that `a`, `b` and the output hold every element. A panel that is read in place fills
        // its vectors, and each tile of a panel is given to one worker for each block, after the block before it is done.
        unsafe {
            let operands = tile::Operands {
                depth: steps.len(),
                a: a.first,
                a_row: a.row,
                a_step: a.step,
                b: b.as_ptr(),
                b_stride,
                c: place(panel, rows.start),
                c_stride: part.c_stride,
                onto,
            };
            tile::multiply::<L>(rows.len(), panel.columns.len(), operands, Some(ahead));
            if last && part.adds() {
                let up = ups.get(slot * up_len..(slot + 1) * up_len).unwrap_or_default();
                finish::<L>(part, panel, rows.clone(), packed, up, operands);
            }
        }
    }
}

/// Adds to a tile of products what the layer adds.
///
/// # Safety
/// As [`tile::multiply`]; `packed` is the tile with the middles after it, `up` this panel's.
#[inline(always)]
unsafe fn finish<L: Lanes>(
    part: &Part<'_>,
    panel: &Panel,
    rows: Range<usize>,
    packed: &[f32],
    up: &[f32],
    product: tile::Operands,
) {
    let columns = panel.columns.clone();
    let add = |i: usize, values: &[f32]| {
        // SAFETY: the columns were written before, and no other task reads or writes them.
        let c = unsafe { std::slice::from_raw_parts_mut(product.c.add(i * part.c_stride), columns.len()) };
        c.iter_mut().zip(values).for_each(|(c, value)| *c += value);
    };
    if let Some(bias) = part.bias {
        (0..rows.len()).for_each(|i| add(i, &bias[columns.clone()]));
    }
    if let Some(rank) = &part.rank {
        let branch = tile::Operands {
            depth: rank.rank,
            a: packed[rank.at..][..rows.len() * rank.rank].as_ptr(),
            a_row: 1,
            a_step: rows.len(),
            b: up[..rank.rank * part.lanes].as_ptr(),
            b_stride: part.lanes,
            onto: Onto::AddScaled(rank.scale),
            ..product
        };
        // SAFETY: promised by the caller.
        unsafe { tile::multiply::<L>(rows.len(), columns.len(), branch, None) };
    }
    if let Some(plus) = part.plus {
        rows.enumerate().for_each(|(i, row)| add(i, &plus[row * part.j..][columns.clone()]));
    }
}

/// Packs panels of one block, turning stored values into f32 on the way.
#[inline(always)]
fn pack_panels<L: Lanes>(plan: &Plan<'_>, panels: &[Panel], steps: &Range<usize>, buffer: &mut [f32]) {
    let panel_len = plan.block.max(1) * 2 * L::WIDTH;
    let mut decoded = Scratch::take(0);
    let mut buffers = buffer.chunks_exact_mut(panel_len);
    for panels in panels.chunk_by(|a, b| a.part == b.part) {
        let part = &plan.parts[panels[0].part];
        let columns = panels[0].columns.start..panels[panels.len() - 1].columns.end;
        let (view, first) = part.b.values(steps, &columns, decoded.vector());
        let steps = steps.start - first[0]..steps.end - first[0];
        if view.in_order() {
            let columns = columns.start - first[1]..columns.end - first[1];
            let next = || buffers.next().expect("a buffer for each panel");
            pack::panels_in_order::<L>(view, columns, steps, part.lanes, next);
        } else {
            for panel in panels {
                let out = buffers.next().expect("a buffer for each panel");
                let columns = panel.columns.start - first[1]..panel.columns.end - first[1];
                pack::panel::<L>(view, columns, steps.clone(), part.lanes, out);
            }
        }
    }
}
