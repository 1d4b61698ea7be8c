//! Rows: whole examples side by side, each a segment of its own whose positions start at 0.

use std::collections::VecDeque;

use tune_schema::commitment::StreamKey;
use tune_schema::{Digest, Hasher};

use crate::store::{TokenStore, le_bytes};
use crate::{DataError, Tokenizer};

/// A row of the stream. There is no padding: a row is as long as its examples.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// Token ids.
    pub input_ids: Vec<u32>,
    /// The token itself where it is supervised, -100 where not; never at the first token of a segment.
    pub labels: Vec<i32>,
    /// Place within the segment.
    pub position_ids: Vec<u32>,
    /// Number of the segment, from 1.
    pub segment_ids: Vec<u32>,
}

/// A token of a row, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowToken {
    /// Its text.
    pub text: String,
    /// Whether it is supervised.
    pub supervised: bool,
    /// Its segment.
    pub segment: u32,
}

impl Row {
    /// A row of examples of a store.
    ///
    /// # Errors
    /// A temporary file that cannot be read.
    pub fn of(store: &TokenStore, examples: &[u32]) -> Result<Self, DataError> {
        let length = examples.iter().map(|example| store.length(*example as usize)).sum();
        let mut row = Self {
            input_ids: Vec::with_capacity(length),
            labels: Vec::with_capacity(length),
            position_ids: Vec::with_capacity(length),
            segment_ids: Vec::with_capacity(length),
        };
        for example in examples {
            let tokens = store.read(*example as usize)?;
            row.push(tokens.ids(), tokens.supervised());
        }
        Ok(row)
    }

    /// Adds an example as the next segment.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "ids are below 2^31, rows below 2^32"
    )]
    pub fn push(&mut self, ids: impl IntoIterator<Item = u32>, supervised: impl IntoIterator<Item = bool>) {
        let segment = self.segment_ids.last().map_or(1, |last| last + 1);
        for (i, (id, supervised)) in ids.into_iter().zip(supervised).enumerate() {
            self.input_ids.push(id);
            self.labels.push(if supervised && i > 0 { id as i32 } else { -100 });
            self.position_ids.push(i as u32);
            self.segment_ids.push(segment);
        }
    }

    /// Number of supervised tokens.
    #[must_use]
    pub fn supervised(&self) -> u64 {
        self.labels.iter().filter(|label| **label >= 0).count() as u64
    }

    /// The tokens as text.
    pub fn tokens<'a>(&'a self, tokenizer: &'a Tokenizer) -> impl Iterator<Item = RowToken> + 'a {
        let all = self.input_ids.iter().zip(&self.labels).zip(&self.segment_ids);
        all.map(|((id, label), segment)| RowToken {
            text: tokenizer.token_text(*id),
            supervised: *label >= 0,
            segment: *segment,
        })
    }
}

/// Rows that are filled at the same time.
const OPEN_ROWS: usize = 64;

/// Examples in rows, by their numbers: four bytes an example and four a row, however many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packed {
    /// The examples of all rows, one row after another.
    examples: Vec<u32>,
    /// Where each row ends in them.
    ends: Vec<u32>,
}

impl Packed {
    fn push(&mut self, row: &[u32]) {
        self.examples.extend_from_slice(row);
        self.ends.push(u32::try_from(self.examples.len()).expect("an epoch takes less than 2^32 examples"));
    }

    /// The examples of a row.
    #[must_use]
    pub fn row(&self, i: usize) -> &[u32] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.examples[start as usize..self.ends[i] as usize]
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes that are held in memory.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        4 * (self.examples.capacity() + self.ends.capacity())
    }
}

/// Packs examples of the given lengths, in the order given, into rows of at most `limit` tokens: each goes into the first
/// open row with room; where none has, a new row is opened, and the oldest of 64 is closed. Rows come in the order of
/// closing, then of opening.
#[must_use]
pub fn pack(order: impl ExactSizeIterator<Item = (u32, usize)>, limit: usize, packing: bool) -> Packed {
    let mut packed = Packed { examples: Vec::with_capacity(order.len()), ends: Vec::new() };
    let mut open: VecDeque<(usize, Vec<u32>)> = VecDeque::new();
    for (example, length) in order {
        if !packing {
            packed.push(&[example]);
            continue;
        }
        if let Some((used, row)) = open.iter_mut().find(|(used, _)| used + length <= limit) {
            *used += length;
            row.push(example);
            continue;
        }
        if open.len() == OPEN_ROWS
            && let Some((_, row)) = open.pop_front()
        {
            packed.push(&row);
        }
        open.push_back((length, vec![example]));
    }
    open.iter().for_each(|(_, row)| packed.push(row));
    packed
}

/// Head of the hash chain over rows: `h₀` is the digest of `tune-stream/1`, then `h = sha256(h ‖ row)`, where a row is its
/// length and then ids, labels, positions and segments, each number as four little-endian bytes.
///
/// With a key, `h₀` is the digest of `tune-stream-salted/1`, and `h = sha256(h ‖ salt ‖ row)` with [`StreamKey::salt`]: heads
/// are public, and between two of them a row could be guessed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamHead {
    digest: Digest,
    key: Option<StreamKey>,
}

impl StreamHead {
    /// Before the first row.
    #[must_use]
    pub fn new(key: Option<StreamKey>) -> Self {
        let start: &[u8] = if key.is_some() { b"tune-stream-salted/1" } else { b"tune-stream/1" };
        Self { digest: Digest::of(start), key }
    }

    /// After rows that came to `digest`, with the same key.
    #[must_use]
    pub fn at(&self, digest: Digest) -> Self {
        Self { digest, ..*self }
    }

    /// Takes in the next row.
    #[expect(clippy::cast_possible_truncation, reason = "a row is shorter than 2^32 tokens")]
    pub fn push(&mut self, row: &Row) {
        let mut hasher = Hasher::new();
        hasher.update(self.digest.as_bytes());
        if let Some(key) = &self.key {
            hasher.update(&key.salt(&self.digest));
        }
        hasher.update(&(row.input_ids.len() as u32).to_le_bytes());
        hasher.update(&le_bytes(&row.input_ids));
        // The same four bytes as of a number without a sign.
        hasher.update(&le_bytes(&row.labels.iter().map(|label| label.cast_unsigned()).collect::<Vec<_>>()));
        hasher.update(&le_bytes(&row.position_ids));
        hasher.update(&le_bytes(&row.segment_ids));
        self.digest = hasher.finish();
    }

    /// The digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tune_schema::commitment::{Secret, Secrets};

    use super::*;

    #[test]
    fn the_digest_of_a_row_is_fixed() {
        let mut row = Row::default();
        row.push([5, 6, 7], [true, false, true]);
        row.push([8, 9], [false, true]);
        assert_eq!(row.labels, [-100, -100, 7, -100, 9]);
        assert_eq!((row.position_ids.clone(), row.segment_ids.clone()), (vec![0, 1, 2, 0, 1], vec![1, 1, 1, 2, 2]));
        let mut head = StreamHead::new(None);
        head.push(&row);
        assert_eq!(
            head.digest().to_string(),
            "sha256:5b52de2775f6400878bd99d45a40000f07321a59979344d44039ae88070e6a7c"
        );
        let mut other = StreamHead::new(None);
        row.labels[2] = -100;
        other.push(&row);
        assert_ne!(head, other);
    }

    #[test]
    fn a_key_salts_every_row() {
        let key = |byte: u8| {
            let secrets = Secrets::from([("rows".to_owned(), Secret::from_bytes([byte; 32]))]);
            StreamHead::new(StreamKey::of(&secrets))
        };
        let mut row = Row::default();
        row.push([5, 6], [true, true]);
        let after = |mut head: StreamHead| {
            head.push(&row);
            head.digest()
        };
        // From the same head too, as between two public ones of a chain.
        let here = Digest::of(b"some head");
        let heads = [StreamHead::new(None), key(1), key(2)];
        let digests: Vec<Digest> = heads.iter().map(|head| after(head.at(here))).collect();
        assert!(digests[0] != digests[1] && digests[1] != digests[2]);
        assert_eq!(after(key(1)), after(key(1)));
        assert_ne!(key(1).digest(), StreamHead::new(None).digest());
    }

    proptest! {
        #[test]
        fn packing_keeps_every_example_once_within_the_limit(lengths in prop::collection::vec(1_usize..50, 0..400), packing in any::<bool>()) {
            let order = || lengths.iter().enumerate().map(|(i, n)| (i as u32, *n));
            let packed = pack(order(), 64, packing);
            let rows: Vec<&[u32]> = (0..packed.len()).map(|i| packed.row(i)).collect();
            let mut seen: Vec<u32> = rows.concat();
            seen.sort_unstable();
            prop_assert!(seen.into_iter().eq(0..lengths.len() as u32));
            for row in &rows {
                prop_assert!(row.iter().map(|i| lengths[*i as usize]).sum::<usize>() <= 64);
                prop_assert!(packing || row.len() == 1);
            }
        }
    }
}
