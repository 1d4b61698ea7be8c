//! A keyed permutation of indices, without state and without a table.
//!
//! A four-round Feistel network over the smallest even number of bits that holds `n`, walked until it lands below `n`
//! (cycle walking). Place `i` of epoch `e` is a function of (key, e, i) alone, so resuming needs no iterator.

use tune_schema::philox::philox4x32_10;

/// A permutation of `0..n`.
#[derive(Debug, Clone, Copy)]
pub struct Permutation {
    n: u64,
    half: u32,
    key: [u32; 2],
    epoch: u32,
}

impl Permutation {
    /// The permutation of `0..n` for an epoch.
    #[must_use]
    pub fn new(n: u64, key: [u32; 2], epoch: u32) -> Self {
        let bits = 64 - n.saturating_sub(1).leading_zeros();
        Self { n, half: bits.div_ceil(2).max(1), key, epoch }
    }

    /// Where index `i` goes.
    ///
    /// # Panics
    /// If `i` is not below `n`.
    #[must_use]
    pub fn get(&self, i: u64) -> u64 {
        assert!(i < self.n, "index {i} is below {}", self.n);
        let mut place = i;
        loop {
            place = self.network(place);
            if place < self.n {
                return place;
            }
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "halves of at most 32 bits")]
    fn network(&self, value: u64) -> u64 {
        let mask = (1_u64 << self.half) - 1;
        let (mut left, mut right) = ((value >> self.half) as u32, (value & mask) as u32);
        for round in 0..4 {
            let word = philox4x32_10([right, round, self.epoch, 0], self.key)[0];
            (left, right) = (right, left ^ (word & mask as u32));
        }
        (u64::from(left) << self.half) | u64::from(right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_comes_once() {
        for n in (1..300).chain([997, 1024, 1025, 7473]) {
            let permutation = Permutation::new(n, [1, 2], 0);
            let mut seen: Vec<u64> = (0..n).map(|i| permutation.get(i)).collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..n), "{n}");
        }
    }

    #[test]
    fn key_and_epoch_change_the_order() {
        let order = |key, epoch| (0..100).map(|i| Permutation::new(100, key, epoch).get(i)).collect::<Vec<_>>();
        assert_eq!(order([1, 2], 0), order([1, 2], 0));
        assert_ne!(order([1, 2], 0), order([1, 3], 0));
        assert_ne!(order([1, 2], 0), order([1, 2], 1));
    }
}
