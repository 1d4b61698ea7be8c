//! The rows of a micro-batch as one flat list of tokens, without padding.

use std::collections::BTreeMap;

use tune_kernels::backend::Target;
use tune_kernels::layout::{Repeat, Rows, Span};

use crate::ModelError;
use crate::tail::Tail;

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
    /// The tokens that go on after the keys and values of the last block; none where all do.
    pub tail: Option<Tail>,
}

impl Batch {
    /// Joins rows; `first` is the number of the first one within its optimizer step.
    ///
    /// What follows the last token of a segment that predicts a supervised one is left out: no loss depends on it, and its
    /// gradients would be 0. Of a segment without supervised tokens the first token stays.
    ///
    /// # Errors
    /// A label at the first token of a segment.
    ///
    /// # Panics
    /// If the parts of a row have different lengths, or a row has 2³² tokens.
    #[expect(clippy::cast_sign_loss, reason = "labels below 0 are filtered out")]
    pub fn from_rows(rows: &[RowView<'_>], first: u32) -> Result<Self, ModelError> {
        let mut batch = Self { rows: Rows { first, ..Rows::default() }, ..Self::default() };
        for (number, row) in rows.iter().enumerate() {
            let RowView { ids, labels, positions, segments } = row;
            assert_eq!(
                [ids.len(); 3],
                [labels.len(), positions.len(), segments.len()],
                "one entry a token in every part"
            );
            let start_of_row = batch.ids.len();
            let mut begin = 0;
            for segment in segments.chunk_by(|a, b| a == b) {
                let places = begin..begin + segment.len();
                begin = places.end;
                if labels[places.start] >= 0 {
                    return Err(ModelError::LabelAtStart { row: number, place: places.start });
                }
                let labelled = |place: &usize| labels[*place] >= 0;
                let start = batch.ids.len();
                batch.targets.extend(
                    places.clone().filter(labelled).map(|place| Target {
                        position: start + place - 1 - places.start,
                        label: labels[place] as u32,
                    }),
                );
                let end = places.clone().rev().find(labelled).unwrap_or(places.start + 1);
                let kept = places.start..end;
                batch.ids.extend(&ids[kept.clone()]);
                batch.positions.extend(&positions[kept.clone()]);
                let place = |place| u32::try_from(place).expect("a row has less than 2^32 tokens");
                batch.rows.places.extend(kept.map(place));
                batch.spans.push(Span::segment(start..batch.ids.len()));
            }
            batch.rows.ranges.push(start_of_row..batch.ids.len());
        }
        batch.repeats = repeats(&batch);
        batch.tail = Tail::new(&batch.positions, &batch.targets, &batch.rows, &batch.spans);
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
