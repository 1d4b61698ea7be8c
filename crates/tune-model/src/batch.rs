//! The rows of a micro-batch as one flat list of tokens, without padding.

use std::collections::BTreeMap;

use tune_kernels::backend::Target;
use tune_kernels::layout::{Repeat, Rows, Span};

use crate::ModelError;

/// A row of the stream; all four have one entry a token.
#[derive(Debug, Clone, Copy)]
pub struct RowView<'a> {
    /// Token ids.
    pub ids: &'a [u32],
    /// The token itself where it is supervised, below 0 where not.
    pub labels: &'a [i32],
    /// Place within the segment.
    pub positions: &'a [u32],
    /// Number of the segment, from 1; equal numbers are neighbours.
    pub segments: &'a [u32],
}

/// Flat tokens with what belongs together.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Token ids, `[tokens]`.
    pub ids: Vec<u32>,
    /// Places within segments, `[tokens]`.
    pub positions: Vec<u32>,
    /// Tokens whose loss counts, in order.
    pub targets: Vec<Target>,
    /// Rows, for gradients and dropout.
    pub rows: Rows,
    /// Segments, for attention.
    pub spans: Vec<Span>,
    /// Tokens whose past, and so their hidden states, are the same as those of earlier ones: the system prompt that a chat
    /// template begins each example with, for instance.
    pub repeats: Vec<Repeat>,
}

impl Batch {
    /// Joins rows; `first` is the number of the first one within its optimizer step.
    ///
    /// # Errors
    /// A label at the first token of a segment.
    ///
    /// # Panics
    /// If the parts of a row have different lengths.
    #[expect(clippy::cast_sign_loss, reason = "labels below 0 are filtered out")]
    pub fn from_rows(rows: &[RowView<'_>], first: u32) -> Result<Self, ModelError> {
        let mut batch = Self { rows: Rows { ranges: Vec::new(), first }, ..Self::default() };
        for (number, row) in rows.iter().enumerate() {
            let n = row.ids.len();
            assert_eq!(
                [n; 3],
                [row.labels.len(), row.positions.len(), row.segments.len()],
                "one entry a token in every part"
            );
            let start = batch.ids.len();
            let mut segment_start = 0;
            for i in 0..n {
                let begins = i == 0 || row.segments[i] != row.segments[i - 1];
                if begins && i > 0 {
                    batch.spans.push(Span::segment(start + segment_start..start + i));
                    segment_start = i;
                }
                if row.labels[i] >= 0 {
                    if begins {
                        return Err(ModelError::LabelAtStart { row: number, place: i });
                    }
                    batch.targets.push(Target { position: start + i - 1, label: row.labels[i] as u32 });
                }
            }
            batch.spans.push(Span::segment(start + segment_start..start + n));
            batch.ids.extend(row.ids);
            batch.positions.extend(row.positions);
            batch.rows.ranges.push(start..start + n);
        }
        batch.repeats = repeats(&batch);
        Ok(batch)
    }
}

/// Repeats of fewer tokens are not worth cutting products at their ends.
const LEAST: usize = 4;

/// What segments have in common with earlier ones from their beginning on, in a tree of their tokens.
fn repeats(batch: &Batch) -> Vec<Repeat> {
    /// The token after which another one comes, by where it first came.
    type Past = Option<usize>;
    let mut first = BTreeMap::<(Past, u32, u32), usize>::new();
    let mut repeats = Vec::<Repeat>::new();
    for segment in &batch.spans {
        let mut past = None;
        for token in segment.queries.clone() {
            let of = *first.entry((past, batch.positions[token], batch.ids[token])).or_insert(token);
            past = Some(of);
            if of == token {
                continue;
            }
            match repeats.last_mut() {
                Some(last) if last.at.end == token && last.of + last.at.len() == of => last.at.end += 1,
                _ => repeats.push(Repeat { of, at: token..token + 1 }),
            }
        }
    }
    repeats.retain(|repeat| repeat.at.len() >= LEAST);
    repeats
}
