//! Random shapes and values, from the contract's own generator.

use crate::backend::Target;
use crate::encoding::Encoding;
use crate::layout::{Rows, Span};
use crate::philox::{StreamKey, philox4x32_10};
use crate::stored::StoredMatrix;

/// Random numbers of one test.
#[derive(Debug)]
pub struct Random {
    key: [u32; 2],
    at: u32,
}

impl Random {
    /// Of the test with this number.
    #[must_use]
    pub fn new(test: u32) -> Self {
        Self { key: [test, 7], at: 0 }
    }

    /// Any word.
    pub fn word(&mut self) -> u32 {
        self.at += 1;
        philox4x32_10([self.at, 0, 0, 0], self.key)[0]
    }

    /// A size: 1, a prime, an edge of a tile, or anything up to 70.
    pub fn size(&mut self) -> usize {
        let edges = [1, 1, 2, 3, 5, 7, 11, 12, 13, 15, 16, 17, 23, 24, 25, 31, 32, 33, 37, 48, 61, 63, 64, 65, 67];
        let word = self.word() as usize;
        if word.is_multiple_of(3) { 1 + word / 3 % 70 } else { edges[word / 3 % edges.len()] }
    }

    /// Standard normal numbers.
    pub fn values(&mut self, n: usize) -> Vec<f32> {
        self.at += 1;
        let key = StreamKey([self.key[0] ^ self.at, 99]);
        (0..n as u64).map(|i| key.normal(i)).collect()
    }

    /// Rows that cover `tokens`. Of some of them tokens were left out.
    pub fn rows(&mut self, tokens: usize) -> Rows {
        let mut ranges = Vec::new();
        let mut start = 0;
        while start < tokens {
            let end = (start + 1 + self.word() as usize % 9).min(tokens);
            ranges.push(start..end);
            start = end;
        }
        let mut rows = Rows::whole(ranges, self.word() % 5);
        for row in rows.ranges.clone() {
            let mut left_out = 0;
            for place in &mut rows.places[row] {
                left_out += self.word() % 8 / 6;
                *place += left_out;
            }
        }
        rows
    }

    /// Targets at about two of three tokens.
    #[expect(clippy::cast_possible_truncation, reason = "a vocabulary is far below 2^32")]
    pub fn targets(&mut self, tokens: usize, vocabulary: usize) -> Vec<Target> {
        let mut targets = Vec::new();
        for position in 0..tokens {
            if !self.word().is_multiple_of(3) {
                targets.push(Target { position, label: self.word() % vocabulary as u32 });
            }
        }
        targets
    }

    /// Spans over `tokens` keys, and how many queries they have. By the number of the case: short segments; one long one of
    /// several blocks; or, as with a cache, more keys than queries.
    pub fn spans(&mut self, case: u32, tokens: usize) -> (usize, Vec<Span>) {
        match case % 3 {
            0 => (tokens, self.rows(tokens).ranges.into_iter().map(Span::segment).collect()),
            1 => (tokens, vec![Span::segment(0..tokens)]),
            _ => {
                let queries = 1 + self.word() as usize % tokens;
                (queries, vec![Span { queries: 0..queries, keys: 0..tokens }])
            }
        }
    }

    /// A matrix in a stored type, with numbers of ordinary size, and its values.
    ///
    /// # Panics
    /// If its rows are not whole blocks.
    #[expect(clippy::cast_possible_truncation, reason = "bytes of a word")]
    pub fn stored(&mut self, encoding: Encoding, shape: [usize; 2]) -> (StoredMatrix, Vec<f32>) {
        let size = encoding.block_bytes();
        let count = shape[0] * shape[1] / encoding.block_values() * size;
        let mut bytes: Vec<u8> = (0..count).map(|_| self.word() as u8).collect();
        for block in bytes.chunks_exact_mut(size) {
            // The exponents of binary16 and bfloat16 fields are not the highest.
            for high in [1, 3, size - 1].into_iter().filter(|high| *high < size) {
                block[high] &= 0xbf;
            }
        }
        let mut values = Vec::new();
        encoding.decode(&bytes, &mut values);
        assert!(values.iter().all(|value| value.is_finite()), "{encoding:?}");
        (StoredMatrix::new(encoding, shape, bytes).expect("whole blocks"), values)
    }
}

/// Elementwise `plus + x`, as a residual or the sum of gradients is defined.
#[must_use]
pub fn sum(plus: &[f32], x: &[f32]) -> Vec<f32> {
    plus.iter().zip(x).map(|(plus, x)| plus + x).collect()
}
