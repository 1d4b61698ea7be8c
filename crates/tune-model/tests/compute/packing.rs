//! Packed equals unpacked.
//!
//! What the contract gives: every operation of the forward pass and the gradient of every activation belong to a token
//! or to a segment, so *losses* have the same bits however examples are packed. The gradient of a *weight* is one chain
//! of `fma` over the tokens of a row. A row's gradient is therefore not the rounded sum of its examples' gradients, and
//! the two are compared within a tolerance; but tokens whose own gradient is 0 leave a chain as it is, so a row in which
//! one example alone is supervised has the gradient of that example, bit for bit.
//!
//! Dropout is keyed by the place in the row, so all this holds without dropout, and for the first example of a row.

use burn_flex::Flex;
use tune_model::{Batch, Mode, Model, ModelError, RowView};

use super::support::*;

const TRAIN: Mode = Mode::Train { step: 0 };

/// Base model, adapter and full training, with tied embeddings and without.
fn models() -> Vec<Model<Flex>> {
    let of = |tied| {
        let mut full = model(&wide(tied));
        full.train_all();
        [full, adapted(&wide(tied), 0.0, SEED)]
    };
    [true, false].into_iter().flat_map(of).collect()
}

/// Examples of all lengths, and single tokens.
fn examples() -> Vec<Example> {
    step_of_eight(&wide(true)).concat()
}

/// The batch of one example by itself.
fn alone(example: &Example) -> Batch {
    batch(&[Row::pack(std::slice::from_ref(example))], 0)
}

fn losses_alone(model: &Model<Flex>, examples: &[Example]) -> Vec<f32> {
    examples.iter().flat_map(|example| model.losses(&alone(example))).collect()
}

#[test]
fn losses_do_not_depend_on_packing() {
    let packed = step_of_eight(&wide(true));
    let rows: Vec<Row> = packed.iter().map(|examples| Row::pack(examples)).collect();
    let unpacked: Vec<Row> = examples().iter().map(|example| Row::pack(std::slice::from_ref(example))).collect();
    let ways = [
        ("packed rows together", batch(&rows, 0)),
        ("one row for all", batch(&[Row::pack(&examples())], 0)),
        ("one row for each", batch(&unpacked, 0)),
    ];
    for model in models() {
        let want = losses_alone(&model, &examples());
        assert!(want.len() > 60 && want.iter().all(|loss| loss.is_finite() && *loss > 0.0));
        for (way, batch) in &ways {
            assert_same_bits(way, &model.losses(batch), &want);
            assert_same_bits(way, &Step::of(&model, batch, TRAIN).losses, &want);
            assert_same_bits(way, &Step::of(&model, batch, Mode::Evaluate).losses, &want);
        }
    }
}

#[test]
fn a_row_with_one_supervised_example_has_its_gradient() {
    let all = &step_of_eight(&wide(true))[1];
    for model in models() {
        for chosen in 0..all.len() {
            let only = |(i, example): (usize, &Example)| {
                if i == chosen { example.clone() } else { example.unsupervised() }
            };
            let examples: Vec<Example> = all.iter().enumerate().map(only).collect();
            let packed = Step::of(&model, &batch(&[Row::pack(&examples)], 0), TRAIN);
            assert_same_step("in a row", &packed, &Step::of(&model, &alone(&all[chosen]), TRAIN));
        }
    }
}

#[test]
fn the_gradient_of_a_row_is_that_of_its_examples() {
    let all = &step_of_eight(&wide(true))[1];
    for model in models() {
        let packed = Step::of(&model, &batch(&[Row::pack(all)], 0), TRAIN);
        let steps: Vec<Step> = all.iter().map(|example| Step::of(&model, &alone(example), TRAIN)).collect();
        for (name, rows) in &packed.gradients {
            let sum = |steps: &[Step]| -> Vec<f64> {
                let element = |i| steps.iter().map(|step| f64::from(step.gradients[name][0][i])).sum();
                (0..rows[0].len()).map(element).collect()
            };
            // Both are chains of at most 22 terms of about the same size; seen: at most 1.7e-6.
            let off = distance(&rows[0], &sum(&steps));
            assert!(off <= 1e-5, "{name}: {off:e}");
            assert!(distance(&rows[0], &sum(&steps[1..])) > 0.01, "{name}: the first example does not show");
        }
    }
}

/// Each mistake in joining examples changes a bit of the later examples, and none of the first one.
#[test]
fn a_wrong_segment_or_position_shows() {
    let all = step_of_eight(&wide(true))[1].clone();
    let right = Row::pack(&all);
    let one_segment = Row { segments: vec![1; right.ids.len()], ..right.clone() };
    let running = Row { positions: (0..right.ids.len() as u32).collect(), ..right.clone() };
    let mut late = right.clone();
    late.segments[all[0].ids.len()] = 1;
    let first = all[0].ids.len() - all[0].answer;
    for model in models() {
        let want = losses_alone(&model, &all);
        for (mistake, row) in [("one segment", &one_segment), ("running positions", &running), ("a late end", &late)] {
            let got = model.losses(&batch(std::slice::from_ref(row), 0));
            assert_same_bits(mistake, &got[..first], &want[..first]);
            assert_ne!(bits(&got[first..]), bits(&want[first..]), "{mistake} does not show");
        }
        // Rotation depends on distances only: running positions change the last bits and nothing else.
        let got = model.losses(&batch(std::slice::from_ref(&running), 0));
        assert!(distance(&got, &want.iter().map(|loss| f64::from(*loss)).collect::<Vec<_>>()) < 1e-5);
    }
}

/// With dropout, an example's mask is that of its place in the row.
#[test]
fn dropout_belongs_to_the_place_in_the_row() {
    let model = adapted(&wide(true), 0.3, SEED);
    let all = &step_of_eight(&wide(true))[1];
    let packed = Step::of(&model, &batch(&[Row::pack(all)], 0), TRAIN).losses;
    let alone: Vec<f32> = all.iter().flat_map(|example| Step::of(&model, &alone(example), TRAIN).losses).collect();
    let first = all[0].ids.len() - all[0].answer;
    assert_same_bits("the first example", &packed[..first], &alone[..first]);
    assert_ne!(bits(&packed[first..]), bits(&alone[first..]));
}

#[test]
fn a_label_at_the_start_of_a_segment_is_refused() {
    let mut row = Row::pack(&step_of_eight(&wide(true))[1]);
    let start = row.segments.iter().position(|segment| *segment == 2).expect("a second segment");
    row.labels[start] = row.ids[start] as i32;
    let Row { ids, labels, positions, segments } = &row;
    let view = RowView { ids, labels, positions, segments };
    let error = Batch::from_rows(&[view], 0).expect_err("nothing predicts that token");
    assert!(matches!(error, ModelError::LabelAtStart { row: 0, place } if place == start), "{error}");
}
