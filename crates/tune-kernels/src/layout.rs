//! Which tokens of a micro-batch belong together.
//!
//! A micro-batch is a flat list of tokens without padding. Rows follow one another, and the segments of a row (the
//! examples packed into it) follow one another: both are contiguous ranges of the flat list.

use std::ops::Range;

/// Rows of a micro-batch, as ranges of its tokens, in order and without gaps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// One range a row.
    pub ranges: Vec<Range<usize>>,
    /// Number of the first row within its optimizer step: keys dropout, so that a split into micro-batches cannot show.
    pub first: u32,
}

/// Tokens that attend to one another: queries are the last of the keys.
///
/// In training both ranges are the segment. In generation with a cache, the queries are the new tokens and the keys
/// are all tokens so far.
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
