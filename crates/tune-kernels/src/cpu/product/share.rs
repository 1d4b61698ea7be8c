//! How threads share the work of a product. A core may be slower than another for a while, and a product is done when its
//! last thread is: so a thread that has nothing left takes half of what another one has not begun.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

/// With fewer tiles left, each counted once for every block, packing the panels once more costs as much as is won.
const LEAST: usize = 8;

/// Panels against tiles, block by block of the chains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) panels: Range<usize>,
    pub(super) tiles: Range<usize>,
    /// The block that is worked on, of `blocks`.
    block: usize,
    blocks: usize,
    /// The tile of that block that comes next.
    next: usize,
}

impl Piece {
    /// All blocks of some panels and tiles.
    pub(super) fn new(panels: Range<usize>, tiles: Range<usize>, blocks: usize) -> Self {
        Self { panels, block: 0, blocks, next: tiles.start, tiles }
    }

    /// The next block and tile.
    fn take(&mut self) -> Option<(usize, usize)> {
        if self.left() == 0 {
            return None;
        }
        if self.next == self.tiles.end {
            (self.block, self.next) = (self.block + 1, self.tiles.start);
        }
        self.next += 1;
        Some((self.block, self.next - 1))
    }

    /// Tiles that are left, each as often as it has blocks left.
    fn left(&self) -> usize {
        (self.blocks - self.block) * self.tiles.len() - (self.next - self.tiles.start)
    }

    /// How many tiles at the end another worker could take: about half of what is left, of those that are not begun in this
    /// block. Few are left for a while at the end of each block.
    fn spare(&self) -> usize {
        let (left, blocks) = (self.left(), self.blocks - self.block);
        if left < LEAST { 0 } else { (left / (2 * blocks)).min(self.tiles.end - self.next) }
    }

    /// The spare tiles, which are done in the blocks before this one.
    fn split(&mut self) -> Option<Self> {
        let middle = self.tiles.end - self.spare();
        let tiles = middle..self.tiles.end;
        if tiles.is_empty() {
            return None;
        }
        self.tiles.end = middle;
        Some(Self { next: tiles.start, tiles, ..self.clone() })
    }
}

/// The work of a product: pieces that no thread has yet, and those that threads work on.
pub(super) struct Shares {
    fresh: Vec<Piece>,
    given: AtomicUsize,
    /// One for each worker; empty pieces before and after.
    held: Vec<Mutex<Piece>>,
}

impl Shares {
    /// These pieces for so many workers.
    pub(super) fn new(fresh: Vec<Piece>, workers: usize) -> Self {
        let held = (0..workers).map(|_| Mutex::new(Piece::new(0..0, 0..0, 0))).collect();
        Self { fresh, given: AtomicUsize::new(0), held }
    }

    fn held(&self, worker: usize) -> MutexGuard<'_, Piece> {
        self.held[worker].lock().expect("nothing panics while it holds a piece")
    }

    /// Gives a worker that has nothing left a piece: one that is fresh, or a part of another worker's. Nothing where none
    /// has tiles to spare: waiting for some would cost more.
    pub(super) fn next(&self, worker: usize) -> Option<Piece> {
        let fresh = self.fresh.get(self.given.fetch_add(1, Ordering::Relaxed)).cloned();
        let piece = fresh.or_else(|| {
            let most = (0..self.held.len()).max_by_key(|other| self.held(*other).spare())?;
            self.held(most).split()
        })?;
        self.held(worker).clone_from(&piece);
        Some(piece)
    }

    /// The next block and tile of a worker's piece.
    pub(super) fn take(&self, worker: usize) -> Option<(usize, usize)> {
        self.held(worker).take()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::compare::Random;

    /// However pieces are split while they are worked on, each tile is done once for each block, in order.
    #[test]
    fn every_block_of_every_tile_is_done_once_and_in_order() {
        let mut random = Random::new(31);
        for _ in 0..2_000 {
            let (tiles, blocks) = (random.word() as usize % 40, 1 + random.word() as usize % 4);
            let mut pieces = vec![Piece::new(0..1, 3..3 + tiles, blocks)];
            let mut done = BTreeMap::<usize, usize>::new();
            let mut count = 0;
            while pieces.iter().any(|piece| piece.left() > 0) {
                let chosen = random.word() as usize % pieces.len();
                if random.word().is_multiple_of(5) {
                    let before = pieces[chosen].left();
                    if let Some(part) = pieces[chosen].split() {
                        assert_eq!(part.left() + pieces[chosen].left(), before, "nothing is lost");
                        pieces.push(part);
                    }
                } else if let Some((block, tile)) = pieces[chosen].take() {
                    assert_eq!(done.insert(tile, block), block.checked_sub(1), "blocks of tile {tile}");
                    count += 1;
                }
            }
            assert_eq!(count, tiles * blocks);
            assert!(done.keys().copied().eq(3..3 + tiles) && done.values().all(|block| block + 1 == blocks));
        }
    }

    /// What is worth splitting is split, in halves; the rest is not.
    #[test]
    fn half_of_what_is_left_is_given_away() {
        let mut piece = Piece::new(0..3, 10..30, 2);
        let part = piece.split().expect("40 tiles are left");
        assert_eq!((piece.left(), part.left(), &part.tiles, &part.panels), (20, 20, &(20..30), &(0..3)));
        let mut few = Piece::new(0..3, 0..2, 64);
        assert_eq!(few.take().and_then(|_| few.split()), None, "two tiles, one of which is begun");
        assert_eq!(Piece::new(0..3, 0..LEAST - 1, 1).split(), None);
    }

    /// Threads that take and split at the same time do everything once, and the blocks of a tile in order.
    #[test]
    fn workers_do_everything_once() {
        for workers in [1, 2, 5] {
            let fresh = (0..3).map(|n| Piece::new(n..n + 1, 0..50, 3)).collect();
            let shares = Shares::new(fresh, workers);
            let done = Mutex::new(vec![0; 3 * 50]);
            std::thread::scope(|scope| {
                for worker in 0..workers {
                    let (shares, done) = (&shares, &done);
                    scope.spawn(move || {
                        while let Some(piece) = shares.next(worker) {
                            while let Some((block, tile)) = shares.take(worker) {
                                let blocks = &mut done.lock().unwrap()[piece.panels.start * 50 + tile];
                                assert_eq!(*blocks, block, "tile {tile}");
                                *blocks += 1;
                                // The first worker is slow.
                                for n in 0..if worker == 0 { 20_000 } else { 1 } {
                                    std::hint::black_box(n);
                                }
                            }
                        }
                    });
                }
            });
            assert!(done.into_inner().unwrap().iter().all(|blocks| *blocks == 3), "{workers} workers");
        }
    }
}
