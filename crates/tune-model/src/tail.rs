//! The tokens that go on after the keys and values of the last block.

use burn_tensor::Tensor;
use tune_kernels::KernelBackend;
use tune_kernels::backend::{Target, Weight};
use tune_kernels::layout::{Rows, Span};

/// In each segment the tokens from the first one on that predicts a supervised token.
///
/// Nothing but the last block's keys and values brings a token before them to a loss. So its query there, its output and all
/// of their gradients need not be computed: the gradients are 0, and such a term leaves a chain as it is. Of a segment
/// without supervised tokens, of which a batch keeps the first one only, the last token stays: each segment has a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// Places in the micro-batch, ascending.
    pub tokens: Vec<u32>,
    /// Places within segments.
    pub positions: Vec<u32>,
    /// What they predict, by index in [`Self::tokens`].
    pub targets: Vec<Target>,
    /// Which of them belong to each row.
    pub rows: Rows,
    /// They ask, and all tokens of the micro-batch are keys.
    pub spans: Vec<Span>,
}

impl Tail {
    /// None where every token is one of them. `targets` and `segments` are in ascending order; `rows` are made of whole
    /// segments.
    #[must_use]
    pub fn new(positions: &[u32], targets: &[Target], rows: &Rows, segments: &[Span]) -> Option<Self> {
        let index = |place: usize| u32::try_from(place).expect("a micro-batch has less than 2^32 tokens");
        let mut tail = Self {
            tokens: Vec::new(),
            positions: Vec::new(),
            targets: Vec::new(),
            rows: Rows { first: rows.first, ..Rows::default() },
            spans: Vec::with_capacity(segments.len()),
        };
        for Span { keys: segment, .. } in segments {
            let next = targets.partition_point(|target| target.position < segment.start);
            let last = segment.end.saturating_sub(1).max(segment.start);
            let first = targets.get(next).map_or(last, |target| target.position.min(last));
            let start = tail.tokens.len();
            tail.tokens.extend((first..segment.end).map(index));
            tail.positions.extend(&positions[first..segment.end]);
            tail.spans.push(Span { queries: start..tail.tokens.len(), keys: segment.clone() });
        }
        if tail.tokens.len() == positions.len() {
            return None;
        }
        let place = |token: usize| tail.tokens.partition_point(|other| (*other as usize) < token);
        tail.rows.ranges = rows.ranges.iter().map(|row| place(row.start)..place(row.end)).collect();
        tail.rows.places = tail.tokens.iter().map(|token| rows.places[*token as usize]).collect();
        let moved = |target: &Target| Target { position: place(target.position), ..*target };
        tail.targets = targets.iter().map(moved).collect();
        Some(tail)
    }

    /// Their rows of `x: [tokens of the micro-batch, features]`.
    pub(crate) fn of<B: KernelBackend>(&self, x: &Tensor<B, 2>) -> Tensor<B, 2> {
        <B as KernelBackend>::embedding(&Weight::Values(x.clone()), &self.tokens)
    }

    /// Their rows `x` among zeros for all other tokens of the micro-batch, whose keys the spans are.
    pub(crate) fn among_all<B: KernelBackend>(&self, x: &Tensor<B, 2>) -> Tensor<B, 2> {
        <B as KernelBackend>::scatter(x, &self.tokens, self.spans.last().map_or(0, |span| span.keys.end))
    }
}
