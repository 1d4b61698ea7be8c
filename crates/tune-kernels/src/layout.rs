//! Which tokens of a micro-batch belong together.
//!
//! A micro-batch is a flat list of tokens without padding. Rows follow one another, and the segments of a row (the
//! examples packed into it) follow one another: both are contiguous ranges of the flat list.

use std::ops::Range;

/// Rows of a micro-batch, as ranges of its tokens or of those that an operation is about, in order and without gaps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// One range a row.
    pub ranges: Vec<Range<usize>>,
    /// Number of the first row within its optimizer step: keys dropout, so that a split into micro-batches cannot show.
    pub first: u32,
    /// Place of each token in its row: keys dropout, so that what is left out of a row cannot show.
    pub places: Vec<u32>,
}

impl Rows {
    /// Rows of which nothing is left out.
    ///
    /// # Panics
    /// If a row has 2³² tokens.
    #[must_use]
    pub fn whole(ranges: Vec<Range<usize>>, first: u32) -> Self {
        let length = |row: &Range<usize>| u32::try_from(row.len()).expect("a row has less than 2^32 tokens");
        let places = ranges.iter().flat_map(|row| 0..length(row)).collect();
        Self { ranges, first, places }
    }

    /// One of the rows by itself, its tokens counted from 0.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a step has less than 2^32 rows")]
    pub fn alone(&self, row: usize) -> Self {
        let range = self.ranges[row].clone();
        Self {
            ranges: std::iter::once(0..range.len()).collect(),
            first: self.first + row as u32,
            places: self.places[range].to_vec(),
        }
    }
}

/// Tokens that attend to one another: queries are the last of the keys.
///
/// In training both ranges are the segment, or the queries are its last tokens. In generation with a cache, the queries are
/// the new tokens and the keys are all tokens so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Range of the query tensor.
    pub queries: Range<usize>,
    /// Range of the key and value tensors; at least as long as `queries`.
    pub keys: Range<usize>,
}

impl Span {
    /// A segment that attends to itself.
    #[must_use]
    pub fn segment(range: Range<usize>) -> Self {
        Self { queries: range.clone(), keys: range }
    }

    /// How many keys the query at `offset` within `queries` sees: all up to its own place.
    #[must_use]
    #[inline(always)]
    pub fn visible(&self, offset: usize) -> usize {
        self.keys.len() - self.queries.len() + offset + 1
    }
}

/// Tokens with the same past as earlier ones: the same ids at the same positions, from the beginning of a segment on. Without
/// dropout all that a model computes for them on the way forward is the same, bit for bit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeat {
    /// The first of the tokens that came before; as many as `at` has.
    pub of: usize,
    /// The tokens that repeat them. Repeats do not overlap.
    pub at: Range<usize>,
}

impl Repeat {
    /// What `repeats`, in ascending order, leave of `0..tokens`: the tokens to compute.
    #[must_use]
    pub fn rest(repeats: &[Self], tokens: usize) -> Vec<Range<usize>> {
        let starts = std::iter::once(0).chain(repeats.iter().map(|repeat| repeat.at.end));
        let ends = repeats.iter().map(|repeat| repeat.at.start).chain(std::iter::once(tokens));
        starts.zip(ends).map(|(start, end)| start..end).filter(|range| !range.is_empty()).collect()
    }
}
