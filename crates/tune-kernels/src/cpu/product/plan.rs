//! How products are cut into blocks and tasks. Nothing here changes a bit.

use std::ops::Range;

use super::super::cache::Caches;
use super::view::{Matrix, View};
use super::{LowRank, Output, Shared};
use crate::lanes::Lanes;

/// Below this many multiply-adds a product runs on the calling thread.
const SERIAL_WORK: usize = 1 << 16;
/// With at most this many tiles of rows, a panel that lies in order is read in place: packing it would cost more. Two tiles
/// hold the ranks that most adapters have.
pub(super) const TILES_IN_PLACE: usize = 2;
/// Packing `a` below this many values is not worth another thread.
pub(super) const SERIAL_PACKING: usize = 1 << 14;

/// Most steps of a block whose panels are read in place. The rows of such a panel lie far apart in memory, and a block goes
/// on in the same rows with the next panel, which the processor sees coming. With blocks as long as those of packed panels
/// gradients of adapters took two fifths longer.
const STEPS_IN_PLACE: usize = 64;

/// Most steps of a block of the chains: a tile of `a` takes little more than half of the first cache.
fn block_steps(caches: Caches, tile_rows: usize) -> usize {
    (caches.first * 9 / 16 / size_of::<f32>() / tile_rows).max(1)
}

/// Values of a block of packed panels: half of the second cache. In a small one, twice as many were a tenth slower; in one
/// of 2 MiB, so were a quarter as many with shorter blocks, for the tiles of `a` are read anew for each block.
fn group_values(caches: Caches) -> usize {
    caches.second / 2 / size_of::<f32>()
}

/// As many tiles as the rows ask for, and the rows shared out evenly among them.
fn tiles_of<L: Lanes>(rows: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<L> {
    let (start, len) = (rows.start, rows.len());
    let tiles = len.div_ceil(L::TILE_ROWS);
    (0..tiles).map(move |tile| {
        let part = Plan::part(len, tile, tiles);
        start + part.start..start + part.end
    })
}

/// One product of a call.
pub(super) struct Part<'a> {
    pub(super) j: usize,
    /// Columns of a panel.
    pub(super) lanes: usize,
    pub(super) b: Matrix<'a>,
    pub(super) c: Shared,
    pub(super) c_stride: usize,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) rank: Option<Rank<'a>>,
    pub(super) plus: Option<&'a [f32]>,
}

impl Part<'_> {
    /// Whether anything is added to the product.
    pub(super) fn adds(&self) -> bool {
        self.bias.is_some() || self.rank.is_some() || self.plus.is_some()
    }
}

/// The branch of a part.
pub(super) struct Rank<'a> {
    pub(super) scale: f32,
    pub(super) rank: usize,
    pub(super) down: Option<View<'a>>,
    pub(super) middle: Shared,
    pub(super) up: View<'a>,
    /// Where its middle lies in a packed tile.
    pub(super) at: usize,
}

impl Rank<'_> {
    /// The columns of the middle, as many at a time as a panel holds.
    pub(super) fn panels<L: Lanes>(&self) -> impl Iterator<Item = Range<usize>> + use<L> {
        let rank = self.rank;
        (0..rank).step_by(2 * L::WIDTH).map(move |start| start..(start + 2 * L::WIDTH).min(rank))
    }

    /// Lanes of a panel of the middle.
    pub(super) fn lanes<L: Lanes>(columns: &Range<usize>) -> usize {
        columns.len().next_multiple_of(L::WIDTH)
    }
}

/// Columns of one part that fit a panel.
pub(super) struct Panel {
    pub(super) part: usize,
    pub(super) columns: Range<usize>,
}

/// How products of the same `a` are cut into blocks and tasks.
pub(super) struct Plan<'a> {
    pub(super) depth: usize,
    pub(super) parts: Vec<Part<'a>>,
    /// Those of all parts: a packed tile of `a` is read once for all of them.
    pub(super) panels: Vec<Panel>,
    /// Rows of `a` and `c` in tiles.
    pub(super) tiles: Vec<Range<usize>>,
    /// Whether there are so few of them that panels which lie in order are read in place.
    pub(super) few_tiles: bool,
    /// Most rows of a tile.
    tile_rows: usize,
    /// Steps of a block of the chains; the last one may be shorter.
    pub(super) block: usize,
    /// Whether tiles of `a` are packed.
    pub(super) packs: bool,
    /// Values that a packed tile takes: all its blocks, where they are packed, then the middles.
    pub(super) tile_len: usize,
    /// The highest rank of a branch.
    pub(super) most_rank: usize,
    /// Values that the packed `down` of all branches takes.
    pub(super) downs_len: usize,
    /// Tasks over panels, and over tiles.
    pub(super) tasks: [usize; 2],
}

impl<'a> Plan<'a> {
    #[inline(always)]
    pub(super) fn new<L: Lanes>(
        caches: Caches,
        rows: &[Range<usize>],
        depth: usize,
        a: View<'_>,
        outputs: Vec<Output<'a>>,
    ) -> Self {
        let i = rows.iter().map(Range::len).sum::<usize>();
        let tiles: Vec<Range<usize>> = rows.iter().flat_map(tiles_of::<L>).collect();
        let tile_rows = tiles.iter().map(Range::len).max().unwrap_or_default();
        let few_tiles = tiles.len() <= TILES_IN_PLACE;
        let in_place = few_tiles && outputs.iter().all(|output| output.b.in_order());
        let most = if in_place { STEPS_IN_PLACE } else { block_steps(caches, L::TILE_ROWS) };
        let block = if depth == 0 { 0 } else { depth.div_ceil(depth.div_ceil(most)) };
        // Where rows displace one another in a cache, reading them where they lie costs more than packing them.
        let packs = a.collides();
        // Every block is packed with room for a vector after it.
        let mut tile_len = if packs { depth * tile_rows + depth.div_ceil(block.max(1)).max(1) * L::WIDTH } else { 0 };
        let (mut parts, mut panels, mut most_rank) = (Vec::with_capacity(outputs.len()), Vec::new(), 0);
        for Output { j, b, c, c_stride, bias, branch, plus } in outputs {
            let lanes = if j <= L::WIDTH { L::WIDTH } else { 2 * L::WIDTH };
            for start in (0..j).step_by(lanes) {
                panels.push(Panel { part: parts.len(), columns: start..(start + lanes).min(j) });
            }
            let rank = branch.map(|LowRank { scale, rank, down, middle, up }| {
                let at = tile_len;
                tile_len += rank * tile_rows + L::WIDTH;
                most_rank = rank.max(most_rank);
                Rank { scale, rank, down, middle: Shared::new(middle), up, at }
            });
            parts.push(Part { j, lanes, b, c: Shared::unwritten(c), c_stride, bias, rank, plus });
        }
        let ranks = parts.iter().filter_map(|part| part.rank.as_ref()).filter(|rank| rank.down.is_some());
        let downs_len = ranks.flat_map(Rank::panels::<L>).map(|columns| depth * Rank::lanes::<L>(&columns)).sum();
        let columns: usize = parts.iter().map(|part: &Part<'_>| part.j).sum();
        let threads = if i * columns * depth <= SERIAL_WORK { 1 } else { rayon::current_num_threads() };
        let group = (group_values(caches) / (block.max(1) * 2 * L::WIDTH)).max(1);
        // Whole rounds for all threads; where there are too few panels for that, the tiles are shared out as well.
        let over_panels = panels.len().div_ceil(group).next_multiple_of(threads).min(panels.len());
        let over_tiles = threads.div_ceil(over_panels).min(tiles.len());
        Self {
            depth,
            parts,
            panels,
            tiles,
            few_tiles,
            tile_rows,
            block,
            packs,
            tile_len,
            most_rank,
            downs_len,
            tasks: [over_panels, over_tiles],
        }
    }

    /// Part `index` of `parts` even parts of `0..count`.
    pub(super) fn part(count: usize, index: usize, parts: usize) -> Range<usize> {
        index * count / parts..(index + 1) * count / parts
    }

    /// The blocks of the chains, and where each lies in a packed tile of `L`. Chains without a step are one empty block.
    #[inline(always)]
    pub(super) fn blocks<L: Lanes>(&self) -> impl Iterator<Item = (Range<usize>, usize)> + use<L> {
        let (block, depth, tile_rows) = (self.block.max(1), self.depth, self.tile_rows);
        (0..depth.max(1))
            .step_by(block)
            .enumerate()
            .map(move |(n, start)| (start..(start + block).min(depth), start * tile_rows + n * L::WIDTH))
    }

    /// Whether a panel can be read where it lies.
    pub(super) fn lies_in_order(&self, panel: &Panel) -> bool {
        let part = &self.parts[panel.part];
        self.depth > 0 && part.b.in_order() && panel.columns.len() == part.lanes
    }
}
