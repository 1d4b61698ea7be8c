//! Tokens that no loss depends on are left out, of the whole model or behind the last block's keys and values, and that changes
//! no bit.

use tune_kernels::backend::Target;
use tune_kernels::layout::{Rows, Span};
use tune_model::tail::Tail;
use tune_model::{Batch, Mode};
use tune_schema::recipe::TargetModules;

use super::support::*;

const TRAIN: Mode = Mode::Train { step: 0 };

/// All kinds of rows; answers of one token and of thirty, prompts of one token, a segment and a row without an answer. Some go
/// on after the answer, one has two answers.
fn rows() -> Vec<Row> {
    let mut rows: Vec<Row> = step_of_eight(&wide(true)).iter().map(|examples| Row::pack(examples)).collect();
    for (row, place) in [(0, 6), (1, 6), (1, 12), (4, 14), (4, 17), (4, 18), (7, 21)] {
        rows[row].labels[place] = -1;
    }
    rows
}

/// The rows with every token.
fn everything(rows: &[Row], first: u32) -> Batch {
    let (mut batch, mut ranges) = (Batch::default(), Vec::new());
    for row in rows {
        let start = batch.ids.len();
        let labels = row.labels.iter().enumerate().filter(|(_, label)| **label >= 0);
        batch.targets.extend(labels.map(|(place, label)| Target { position: start + place - 1, label: *label as u32 }));
        batch.ids.extend(&row.ids);
        batch.positions.extend(&row.positions);
        for segment in row.segments.chunk_by(|a, b| a == b) {
            let end = batch.spans.last().map_or(0, |span| span.keys.end);
            batch.spans.push(Span::segment(end..end + segment.len()));
        }
        ranges.push(start..batch.ids.len());
    }
    batch.rows = Rows::whole(ranges, first);
    batch
}

#[test]
fn what_follows_the_last_answer_changes_no_bit() {
    let (kept, all) = (batch(&rows(), 2), everything(&rows(), 2));
    assert_eq!(all.ids.len(), 118, "every token");
    let without = [2, 2 + 5 + 1, 1, 3 + 1, 3, 1 + 1, 0, 1 + 2];
    assert_eq!(kept.ids.len(), 118 - without.iter().sum::<usize>(), "less what follows the answers");
    let kept = Batch { tail: None, repeats: Vec::new(), ..kept };
    for model in models().into_iter().chain([adapted(&wide(true), 0.3, SEED)]) {
        assert_same_step("in training", &Step::of(&model, &kept, TRAIN), &Step::of(&model, &all, TRAIN));
        assert_same_bits("in evaluation", &model.losses(&kept), &model.losses(&all));
    }
    // Dropout goes by places in whole rows, which show.
    let model = adapted(&wide(true), 0.3, SEED);
    let wrong = Batch { rows: Rows::whole(kept.rows.ranges.clone(), 2), ..kept };
    let want = Step::of(&model, &all, TRAIN).losses;
    assert_ne!(bits(&Step::of(&model, &wrong, TRAIN).losses), bits(&want), "places do not show");
}

#[test]
fn the_tail_begins_where_an_answer_is_predicted() {
    let segments = [0..4, 4..5, 5..9, 9..12].map(Span::segment);
    let rows = Rows::whole(vec![0..5, 5..12], 6);
    let target = |position, label| Target { position, label };
    let targets = [target(2, 20), target(6, 21), target(7, 22), target(9, 23), target(10, 24)];
    let positions = [0, 1, 2, 3, 0, 0, 1, 2, 3, 0, 1, 2];
    let tail = Tail::new(&positions, &targets, &rows, &segments).expect("prompts are left out");
    let want = Tail {
        tokens: vec![2, 3, 4, 6, 7, 8, 9, 10, 11],
        positions: vec![2, 3, 0, 1, 2, 3, 0, 1, 2],
        targets: vec![target(0, 20), target(3, 21), target(4, 22), target(6, 23), target(7, 24)],
        rows: Rows { ranges: vec![0..3, 3..9], first: 6, places: vec![2, 3, 4, 1, 2, 3, 4, 5, 6] },
        spans: vec![
            Span { queries: 0..2, keys: 0..4 },
            Span { queries: 2..3, keys: 4..5 },
            Span { queries: 3..6, keys: 5..9 },
            Span { queries: 6..9, keys: 9..12 },
        ],
    };
    assert_eq!(tail, want);
    // Nothing to leave out.
    let all = [target(0, 1), target(4, 1), target(5, 1), target(9, 1)];
    assert_eq!(Tail::new(&positions, &all, &rows, &segments), None);
    assert_eq!(Tail::new(&[], &[], &Rows::default(), &[]), None);
}

#[test]
fn what_the_last_block_leaves_out_changes_no_bit() {
    let narrow = batch(&rows(), 2);
    let tail = narrow.tail.clone().expect("prompts of several tokens");
    assert!(tail.tokens.len() + 20 < narrow.ids.len(), "{} of {}", tail.tokens.len(), narrow.ids.len());
    let all = Batch { tail: None, ..narrow.clone() };
    // Another token in place of the first one that goes on.
    let mut other = tail.clone();
    other.tokens[0] -= 1;
    let wrong = Batch { tail: Some(other), ..narrow.clone() };
    for mut model in models().into_iter().chain([adapted(&wide(true), 0.3, SEED)]) {
        for checkpointing in [false, true] {
            model.set_gradient_checkpointing(checkpointing);
            let want = Step::of(&model, &all, TRAIN);
            assert_same_step("the tail", &Step::of(&model, &narrow, TRAIN), &want);
            assert_same_bits("in evaluation", &model.losses(&narrow), &model.losses(&all));
            assert_ne!(bits(&Step::of(&model, &wrong, TRAIN).losses), bits(&want.losses), "the tail is not used");
        }
    }
}

/// Adapters on the last block alone: nothing below it has a gradient.
#[test]
fn adapters_on_layers_of_the_last_block() {
    let narrow = batch(&rows(), 0);
    let all = Batch { tail: None, ..narrow.clone() };
    for layer in ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"] {
        let part = if layer.starts_with(['q', 'k', 'v', 'o']) { "self_attn" } else { "mlp" };
        let target = format!("model.layers.1.{part}.{layer}");
        let mut model = model(&wide(true));
        model.add_lora(&lora(TargetModules::List(vec![target]), 0.0), SEED).expect("it exists");
        randomize(&mut model, 2);
        assert_same_step(layer, &Step::of(&model, &narrow, TRAIN), &Step::of(&model, &all, TRAIN));
    }
}
